package nat

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// pingEngine passes echo requests on.
type pingEngine struct {
	icmp      *icmpSender
	sources   *sourceKeeper
	fragments *fragmenter
	policy    *policy.Policy
	requests  flowtable.Slab[pingRequest] // of the guest; all queue pairs share it, and each has what belongs to its own flows
}

// pingUses are the parts that pass echo requests on with it.
type pingUses struct {
	icmp      *icmpSender
	sources   *sourceKeeper
	fragments *fragmenter
	policy    *policy.Policy
}

// setUp makes that of a queue pair.
func (e *pingEngine) setUp(u pingUses, g pingGuest) {
	*e = pingEngine{icmp: u.icmp, sources: u.sources, fragments: u.fragments, policy: u.policy, requests: g.requests}
}

// pingGuest is what the queue pairs of a guest share of it.
type pingGuest struct{ requests flowtable.Slab[pingRequest] }

// newPingGuest returns that of a guest with a table of flows.
func newPingGuest(t *shard.Table) pingGuest {
	return pingGuest{flowtable.NewSlab[pingRequest](t.Table)}
}

// A series of echo requests with one identifier from the guest to one address is a flow. Its socket is a ping socket (icmp(7)): the
// kernel puts an identifier of its own in the place of the guest's, and gives the socket the replies.

// pingRequest is the newest request of a series, for errors to quote.
type pingRequest struct{ head [netpkt.ICMPLen]byte }

// newest returns the header of the newest request of a series.
func (e *pingEngine) newest(f *shard.Flow) []byte { return e.requests.At(f.Index).head[:] }

// pingTimeout ends a series after silence (RFC 5508 section 3.2 asks for at least a minute).
const pingTimeout = int64(60e9)

// pingSocket opens a socket for pings to an address.
func pingSocket(to *ipaddr.Addr) (int, error) {
	return unix.Socket(to.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(netpkt.ICMPProto(to)))
}

// ping passes on an echo request of the guest.
func (e *pingEngine) ping(t *shard.Turn, k *shard.Packet) (retry bool) {
	key := flowtable.Key{
		Guest: k.Src, Remote: k.Dst, Proto: netpkt.ICMP,
		GuestPort: binary.BigEndian.Uint16(k.L4[4:]), // the identifier
	}
	if k.Hops <= 1 && e.icmp.outlived(t, k, &key, k.L4Len) {
		return false
	}
	f, at := t.Find(&key)
	if at == shard.Nowhere {
		f, at = e.openPing(t, &key, k)
	}
	if f == nil {
		return at == shard.Elsewhere
	}
	e.sendPing(t, f, k)
	return false
}

// openPing makes a flow for the first request of a series. It returns nil if there is to be none.
func (e *pingEngine) openPing(t *shard.Turn, key *flowtable.Key, k *shard.Packet) (*shard.Flow, shard.Where) {
	to, verdict := e.policy.Judge(policy.DestinationOf(key))
	if verdict != policy.Allowed {
		e.icmp.reject(t, key, verdict, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	if !t.MayBegin() {
		return nil, shard.Nowhere
	}
	if !t.Admit(shard.ClassAssociations) {
		e.icmp.sendUnreachable(t, key, netpkt.CodeHost, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	fd, err := pingSocket(&to.Addr)
	switch {
	case errors.Is(err, unix.EACCES):
		t.Counters.PingForbidden++
		e.icmp.sendUnreachable(t, key, netpkt.CodeProhibited, k.L4Len, k.L4)
		return nil, shard.Nowhere
	case err != nil:
		t.OverLimit(limits.Host)
		e.icmp.sendUnreachable(t, key, netpkt.CodeHost, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	news := e.sources.changes()
	hostsock.WantArrivals(&to.Addr, fd)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		_ = unix.Close(fd)
		e.pingRefused(t, key, err, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	f, at := t.Create(key, fd, shard.StateActive, 0, shard.ClassAssociations)
	t.Began(f, at)
	if f != nil {
		t.Counters.PingFlows++
		e.requests.Make(f.Index)
		f.Sender.V6, f.RouteNews = !to.Addr.Is4(), news
		t.Wheel.Set(f.Index, t.Now+pingTimeout)
	}
	return f, at
}

// pingRefused tells the guest why its echo request was not sent, or not received.
func (e *pingEngine) pingRefused(t *shard.Turn, key *flowtable.Key, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	if code, ok := unreachableCode(errno); ok {
		e.icmp.sendUnreachable(t, key, code, n, l4)
		return
	}
	t.Counters.PingRefused++
}

// sendPing gives a request to the kernel, which fills in identifier and checksum.
func (e *pingEngine) sendPing(t *shard.Turn, f *shard.Flow, k *shard.Packet) {
	t.Touch(f)
	if e.sources.keepUp(f); f.State != shard.StateActive {
		return
	}
	iov, ok := shard.AppendRange(t.Pieces[:0], k.Chain.Iov, k.L4Offset, k.L4Len)
	if !ok {
		t.Counters.Malformed++ // more pieces than one call takes
		return
	}
	f.Sender.Set(f.FD, t.MannerOf(k))
	e.requests.At(f.Index).head = [netpkt.ICMPLen]byte(k.L4)
	for range shard.ErrorBurst {
		_, errno := t.Msg.Send(f.FD, iov, 0)
		switch errno {
		case 0:
			t.Wheel.Set(f.Index, t.Now+pingTimeout)
			return
		case unix.EFAULT:
			t.Worker.Fault(errno)
			return
		}
		if e.sources.recovers(t, f, errno) {
			continue
		}
		if f.State != shard.StateActive {
			return
		}
		// It may tell of earlier requests; then this one was not sent.
		earlier, told := e.readPingErrors(t, f)
		if told {
			return
		}
		if earlier == 0 {
			e.pingRefused(t, &f.Key, errno, k.L4Len, k.L4)
			return
		}
	}
	t.Counters.PingRefused++
}

// servicePing passes the guest the replies to a series, and what became of its requests.
func (e *pingEngine) servicePing(t *shard.Turn, f *shard.Flow) shard.Outcome {
	if f.Bits&shard.SockError != 0 {
		f.Bits &^= shard.SockError
		if n, _ := e.readPingErrors(t, f); n == shard.ErrorBurst {
			f.Bits |= shard.SockError // there may be more
			return shard.Again
		}
	}
	for range shard.DatagramBurst {
		if f.Bits&shard.Readable == 0 {
			return shard.Idle
		}
		lease := e.fragments.reserveDatagram(t)
		if lease.Len() == 0 {
			return shard.NoBuffers
		}
		if errno := e.receivePing(t, f, lease); errno != 0 {
			e.pingFailed(t, f, errno)
		}
	}
	return shard.Again
}

// receivePing reads a message, its header into scratch and the rest to its place in the frame of lease, or beyond, and gives the guest
// what is a reply to it. The kernel looks at identifiers only, and takes replies from anybody.
func (e *pingEngine) receivePing(t *shard.Turn, f *shard.Flow, lease netbackend.Lease) unix.Errno {
	iov := lease.Frame(0)
	head := t.Frame[:netpkt.ICMPLen]
	room := t.MTU - int(f.IPLen) - netpkt.ICMPLen
	pieces := append(t.Pieces[:0], guestmem.PieceOf(head))
	pieces, fits := shard.AppendRange(pieces, iov, netpkt.EtherLen+int(f.IPLen)+netpkt.ICMPLen, room)
	if fits && len(pieces) < cap(pieces) {
		pieces = append(pieces, guestmem.PieceOf(t.BounceFor(0)))
	}
	n, truncated, errno := t.Msg.ReceiveArrival(f.FD, pieces)
	if errno != 0 {
		return errno
	}
	if n < netpkt.ICMPLen || head[0] != netpkt.EchoReply(&f.Key.Guest) || t.Msg.From().Addr != f.Key.Remote {
		return 0
	}
	if f.Bits&shard.IsNew != 0 {
		t.WasAnswered(f)
	}
	t.Wheel.Set(f.Index, t.Now+pingTimeout)
	switch {
	case truncated:
		t.Counters.NoRoom++ // the guest's buffers are too small for even one frame
	case n > netpkt.ICMPLen+room:
		e.longReply(t, f, iov, head, room, n)
	default:
		e.commitPing(t, f, lease, head, n)
	}
	return 0
}

// commitPing writes the headers in front of a reply of n bytes, with the identifier that the guest chose, and gives it
// the frame.
func (e *pingEngine) commitPing(t *shard.Turn, f *shard.Flow, lease netbackend.Lease, head []byte, n int) {
	iov := lease.Frame(0)
	headers := t.PutIP(t.Template[:], &f.Key.Remote, &f.Key.Guest, netpkt.ICMP, n)
	shard.PutArrival(t.Msg.Arrived, t.Template[netpkt.EtherLen:headers])
	b := t.Template[:headers+netpkt.ICMPLen]
	icmp := b[headers:]
	copy(icmp, head)
	icmp[2], icmp[3] = 0, 0
	binary.BigEndian.PutUint16(icmp[4:], f.Key.GuestPort)
	sum := vnet.Sum(icmp, netpkt.ICMPSum(&f.Key.Remote, &f.Key.Guest, n))
	binary.BigEndian.PutUint16(icmp[2:], ^t.SumRange(iov, headers+netpkt.ICMPLen, n-netpkt.ICMPLen, sum))
	guestmem.CopyTo(iov, 0, b)
	var h vnet.Header
	lease.Commit(&h, headers+n)
}

func (e *pingEngine) pingFailed(t *shard.Turn, f *shard.Flow, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		f.Bits &^= shard.Readable
	case unix.EFAULT:
		f.Bits &^= shard.Readable
		t.Worker.Fault(errno)
	default:
		if n, told := e.readPingErrors(t, f); n == 0 && !told {
			e.pingRefused(t, &f.Key, errno, netpkt.ICMPLen, e.newest(f))
		}
	}
}
