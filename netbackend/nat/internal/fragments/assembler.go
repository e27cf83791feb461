package fragments

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Fragments of UDP, TCP and echo requests are put together (RFC 791 section 3.2, RFC 8200 section 4.5). To the guest, datagrams
// and echo replies go in fragments; TCP has no need of them.

// assemblyHead is the room in front of a packet that is put together, for the headers that frames have there.
const assemblyHead = vnet.HeaderLen + netpkt.EtherLen + netpkt.IPv6Len

// Assembler puts the guest's packets together.
type Assembler struct {
	packets ipfrag.Reassembler
	chain   virtqueue.Chain // the packet that is complete, as if it had come in one frame
	packet  shard.Packet
	last    *ipfrag.Packet // that packet
}

// SetUp makes that of a queue pair.
func (e *Assembler) SetUp() { *e = Assembler{packets: ipfrag.Reassembler{Headroom: assemblyHead}} }

// Take takes a fragment of the guest's, the packet k. If it was the last one that was missing, Take returns the packet, as if it had come
// in one frame. It is valid until Done, which must be called then.
func (e *Assembler) Take(t *shard.Turn, k *shard.Packet) (whole *shard.Packet) {
	f := k.Part
	n, most := k.L4Len, ipfrag.MaxPayload
	if k.Src.Is4() {
		most = netpkt.MaxIPv4Payload
	}
	if n == 0 || f.Start+n > most || (f.More && n%ipfrag.Unit != 0) {
		t.Drop(&t.Counters.Malformed)
		return nil
	}
	a, evicted := e.packets.Find(&ipfrag.Key{Src: k.Src, Dst: k.Dst, ID: f.ID, Proto: k.Proto}, t.Now)
	t.DropPart(&t.Counters.FragmentsEvicted, evicted, false)
	if a.Len() == 0 {
		a.Tag = uint8(t.From)
	}
	dropped, ok := a.Add(f.Start, n, f.More)
	if !ok {
		t.DropPart(&t.Counters.FragmentOverlaps, dropped, true)
		return nil
	}
	guestmem.CopyFrom(a.Bytes(f.Start, n), k.Chain.Iov, k.L4Offset)
	if f.Start == 0 {
		a.HopLimit, a.TrafficClass = k.Hops, k.TOS
	}
	if !a.Complete() {
		return nil
	}
	return e.assembled(a)
}

// assembled returns a packet that is complete.
func (e *Assembler) assembled(a *ipfrag.Packet) *shard.Packet {
	b := a.Buffer()
	e.last = a
	e.chain.Iov = append(e.chain.Iov[:0], guestmem.PieceOf(b))
	e.chain.Len = uint32(len(b))
	e.packet = shard.Packet{
		Packet: netpkt.Packet{
			Src: a.Src, Dst: a.Dst, L4: b[assemblyHead:], L4Offset: assemblyHead, L4Len: a.Len(), Proto: a.Proto,
			Hops: a.HopLimit, TOS: a.TrafficClass,
		},
		Chain: &e.chain, Assembled: true,
	}
	return &e.packet
}

// Done ends the use of the packet that Take has returned last. retry tells that its last fragment comes again.
func (e *Assembler) Done(retry bool) {
	if retry {
		e.last.Undo()
		return
	}
	e.last.Release()
}

// Expire gives packets up of which fragments have not come in time, and calls fn for each.
func (e *Assembler) Expire(t *shard.Turn, fn func(*ipfrag.Packet)) {
	if e.packets.Due(t.Now) { // what comes too late joins nothing
		t.DropPart(&t.Counters.FragmentTimeouts, int(e.packets.Expire(t.Now, fn)), false)
	}
}

// Next returns when Expire has something to do, 0 for never.
func (e *Assembler) Next() int64 { return e.packets.Next() }

// Forget drops all fragments.
func (e *Assembler) Forget() { e.packets.Forget() }
