package reports

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/gate"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/pathmtu"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// A guest answers packets of the engine by ICMP errors: one is too big for a link behind the guest, nobody listens on a port,
// a container is gone. Each quotes the packet, by which its flow is found. The guest is not believed everything: what is
// quoted must be something that was sent and is still under way, or whoever is behind the guest could end or slow down
// conversations of others there (RFC 5927).

// report is an ICMP error of the guest.
type report struct {
	netpkt.Complaint
	mtu  int           // too big: what fits, in bytes, 0 if that was not told
	key  flowtable.Key // of the flow that the packet belongs to, by its quote
	size int           // of the packet in bytes
	seq  seqnum.Value  // TCP: its sequence number
}

// Reports deals with them for a queue pair.
type Reports struct {
	tcp   *tcp.Engine
	udp   *udp.Engine
	gates *gate.Keeper
}

// SetUp makes that of a queue pair.
func (e *Reports) SetUp(tcp *tcp.Engine, udp *udp.Engine, gates *gate.Keeper) {
	*e = Reports{tcp: tcp, udp: udp, gates: gates}
}

// shortly is how much longer a UDP flow may be silent of which a datagram did not get there, in nanoseconds.
const shortly = int64(10e9)

// ComplaintIn returns what an ICMP message of the guest says of a packet.
func ComplaintIn(k *shard.Packet) netpkt.Complaint {
	return netpkt.Message{Kind: k.L4[0], Code: k.L4[1]}.Complaint(&k.Src)
}

// readReport reads an ICMP error; !ok if the packet that it quotes cannot be one of the engine's.
func readReport(k *shard.Packet) (r report, ok bool) {
	r.Complaint = ComplaintIn(k)
	rest := binary.BigEndian.Uint32(k.L4[4:])
	if k.Src.Is4() {
		r.mtu = int(uint16(rest)) // RFC 1191 section 4
	} else {
		r.mtu = int(min(rest, ipfrag.MaxPayload))
	}
	q, ok := netpkt.ParseQuote(k.L4[netpkt.ICMPLen:], k.Src.Is4())
	if !ok || q.Src != k.Dst { // who is told of a packet has sent it
		return r, false
	}
	r.key = flowtable.Key{Guest: q.Dst, Remote: q.Src, GuestPort: q.DstPort, RemotePort: q.SrcPort, Proto: q.Proto}
	r.size, r.seq = q.Size, q.Seq
	return r, true
}

// Handle deals with an ICMP error of the guest about a packet of the engine's.
func (e *Reports) Handle(t *shard.Turn, k *shard.Packet) (retry bool) {
	r, ok := readReport(k)
	if !ok {
		t.Drop(&t.Counters.StrayReports)
		return false
	}
	f, at := t.Find(&r.key)
	switch {
	case at == shard.Elsewhere:
		return true
	case f == nil && r.Complaint != netpkt.DoesNotFit && e.gates.ProbeFailed(&r.key, r.seq):
	case f == nil || !e.mayHaveSent(f, &r):
		t.Drop(&t.Counters.StrayReports)
	case r.Complaint == netpkt.DoesNotFit:
		e.tooBig(t, f, &r)
	default:
		e.unreached(t, f, &r)
	}
	return false
}

// mayHaveSent tells whether what r quotes may have been sent for f, and is under way still. Datagrams have nothing to tell
// that by.
func (e *Reports) mayHaveSent(f *shard.Flow, r *report) bool {
	return f.Key.Proto != netpkt.TCP || e.tcp.IsUnderWay(f, r.seq)
}

// tooBig makes a flow's packets fit a path, if it is news that they do not. A path is never believed to be so narrow that
// what its version of IP promises does not pass (RFC 8201 section 4).
func (e *Reports) tooBig(t *shard.Turn, f *shard.Flow, r *report) {
	size := t.PathMTU(&f.Key.Guest)
	if f.Key.Proto == netpkt.TCP {
		size = e.tcp.PacketSize(f)
	}
	size = min(size, r.size)
	least := pathmtu.Least
	if !f.Key.Guest.Is4() {
		least = netpkt.MinMTU6
	}
	mtu := max(r.mtu, pathmtu.Least)
	if r.mtu == 0 {
		mtu = pathmtu.Plateau(size)
	}
	if mtu >= size || mtu < least {
		t.Drop(&t.Counters.StrayReports)
		return
	}
	if !t.Allow(limits.PathMTU) {
		return
	}
	narrower := t.Pairs.Paths.Narrow(&f.Key.Guest, mtu, t.Now)
	shorter := f.Key.Proto == netpkt.TCP && e.tcp.ObeyPath(f)
	if !narrower && !shorter {
		t.Drop(&t.Counters.StrayReports)
		return
	}
	t.Counters.PathsNarrowed++
	e.tcp.KeepaliveSoon(t)
	if f.Key.Proto == netpkt.TCP {
		e.tcp.SendShorter(t, f)
	}
}

// unreached deals with a packet that did not arrive. A connection that is not open yet ends, as it does in the kernel of a host
// that connects; an open one does not (RFC 5927 section 5.2). A UDP flow to a closed port ends, so that the kernel tells
// the peer what it sends next; but a port of the host that other flows share stays. If a datagram was lost on the way, the
// flow has a while to show that it is alive.
func (e *Reports) unreached(t *shard.Turn, f *shard.Flow, r *report) {
	mapped := e.udp.IsOfMapping(f)
	switch {
	case e.tcp.IsHandshake(f):
		t.Counters.ReportsHeeded++
		e.gates.OnGuestRefused(&f.Key)
		e.tcp.Drop(f, stats.EndUnreachable)
	case f.Key.Proto == netpkt.UDP && r.Complaint == netpkt.NobodyTakes && !mapped:
		t.Counters.ReportsHeeded++
		t.Remove(f)
	case f.Key.Proto == netpkt.UDP && t.Wheel.Deadline(f.Index) > t.Now+shortly:
		t.Counters.ReportsHeeded++
		t.Wheel.Set(f.Index, t.Now+shortly)
	default:
		t.Drop(&t.Counters.StrayReports)
	}
}
