package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Fragments of UDP, TCP and echo requests are put together (RFC 791 section 3.2, RFC 8200 section 4.5). To the guest, datagrams
// and echo replies go in fragments; TCP has no need of them.

// assemblyHead is the room in front of a packet that is put together, for the headers that frames have there.
const assemblyHead = vnet.HeaderLen + netpkt.EtherLen + netpkt.IPv6Len

// fragment takes a fragment of the guest's, the packet k. The last one that was missing sends the datagram on its way.
func (p *Port) fragment(t *shard.Turn, k *shard.Packet) (retry bool) {
	f := k.Part
	if !carries(&k.Src, k.Proto) {
		p.unspoken(t, k, k.Proto, f.Start == 0)
		return false
	}
	n, most := k.L4Len, ipfrag.MaxPayload
	if k.Src.Is4() {
		most = netpkt.MaxIPv4Payload
	}
	if n == 0 || f.Start+n > most || (f.More && n%ipfrag.Unit != 0) {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	a, evicted := p.reassembly.Find(&ipfrag.Key{Src: k.Src, Dst: k.Dst, ID: f.ID, Proto: k.Proto}, t.Now)
	t.Counters.FragmentsEvicted += uint64(evicted)
	p.tendAt = min(p.tendAt, p.reassembly.Next())
	if a.Len() == 0 {
		a.Tag = uint8(t.From)
	}
	dropped, ok := a.Add(f.Start, n, f.More)
	if !ok {
		t.Counters.FragmentOverlaps += uint64(dropped)
		return false
	}
	guestmem.CopyFrom(a.Bytes(f.Start, n), k.Chain.Iov, k.L4Offset)
	if f.Start == 0 {
		a.HopLimit, a.TrafficClass = k.Hops, k.TOS
	}
	retry = a.Complete() && p.assembled(t, a)
	if retry {
		a.Undo()
	}
	return retry
}

// assembled handles a packet that is complete, as if it had come in one frame. retry tells that its last fragment has to come
// again.
func (p *Port) assembled(t *shard.Turn, a *ipfrag.Packet) (retry bool) {
	b := a.Buffer()
	p.whole.Iov = append(p.whole.Iov[:0], guestmem.PieceOf(b))
	p.whole.Len = uint32(len(b))
	retry = p.packet(t, &shard.Packet{
		Packet: netpkt.Packet{
			Src: a.Src, Dst: a.Dst, L4: b[assemblyHead:], L4Offset: assemblyHead, L4Len: a.Len(), Proto: a.Proto,
			Hops: a.HopLimit, TOS: a.TrafficClass,
		},
		Chain: &p.whole, Assembled: true,
	}, &vnet.Header{})
	if retry {
		return true
	}
	p.tcp.FlushOutgoing(t)
	p.udp.SendQueued(t) // the next one is put together in the same place
	a.Release()
	return false
}

// forgetFragments drops what is left of datagrams in either direction: the guest is gone.
func (p *Port) forgetFragments() {
	p.reassembly.Forget()
	p.fragments.Forget()
}
