package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/stray"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// fragment takes a fragment of the guest's, the packet k. The last one that was missing sends the datagram on its way.
func (p *Port) fragment(t *shard.Turn, k *shard.Packet) (retry bool) {
	if !stray.Carries(&k.Src, k.Proto) {
		p.strays.Unspoken(t, k, k.Proto, k.Part.Start == 0)
		return false
	}
	whole := p.assembly.Take(t, k)
	p.tendBy(p.assembly.Next())
	if whole == nil {
		return false
	}
	retry = p.packet(t, whole, &vnet.Header{})
	if !retry {
		p.tcp.FlushOutgoing(t)
		p.udp.SendQueued(t) // the next one is put together in the same place
	}
	p.assembly.Done(retry)
	return retry
}
