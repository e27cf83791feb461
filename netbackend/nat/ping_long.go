package nat

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// An echo request may be longer than the guest's MTU: it then comes in fragments, and so does the reply. The reply is put
// together with what else the guest gets in fragments (datagram).

// assembledICMP handles an ICMP message that came in fragments. Only echo requests do: neighbour discovery must not (RFC 6980),
// and errors are short.
func (p *Port) assembledICMP(t *shard.Turn, k *shard.Packet) (retry bool) {
	switch {
	case p.icmpOff:
		t.Drop(&t.Counters.Unsupported)
	case len(k.L4) < netpkt.ICMPLen:
		t.Drop(&t.Counters.Malformed)
	case !t.IsUnicastPeer(k):
		p.strays.Misaddressed(t, k, netpkt.ICMP)
	case !netpkt.IsEchoRequest(&k.Src, k.L4):
		t.Drop(&t.Counters.Unsupported)
	case !t.Nets.IsOurs(&k.Dst) && !p.policy.IsAlias(&k.Dst):
		return p.ping.Request(t, k)
	case t.Allow(limits.Echo):
		p.fragments.SendEchoReply(t, &flowtable.Key{Guest: k.Src, Remote: k.Dst, Proto: netpkt.ICMP}, hostsock.Arrival{}, k.L4)
	}
	return false
}
