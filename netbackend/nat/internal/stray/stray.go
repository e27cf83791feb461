package stray

import (
	"fmt"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/groups"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Keeper deals with them for a queue pair.
type Keeper struct {
	shard  *shard.Shard
	icmp   *icmperr.Sender
	groups *groups.Reflector
	told   *Guest
}

// SetUp makes that of a queue pair.
func (e *Keeper) SetUp(s *shard.Shard, icmp *icmperr.Sender, groups *groups.Reflector, g *Guest) {
	*e = Keeper{shard: s, icmp: icmp, groups: groups, told: g}
}

const protoNoNextHeader = unix.IPPROTO_NONE

// Carries reports whether packets of an IP protocol go on to the host.
func Carries(a *ipaddr.Addr, proto uint8) bool {
	return proto == netpkt.TCP || proto == netpkt.UDP || proto == netpkt.ICMPProto(a)
}

// Unspoken handles a packet of an IP protocol that no socket of ours can carry. The guest is told, as by a host that does not know
// the protocol. first is false for fragments behind the first, which are not answered (RFC 1122 section 3.2.2).
func (e *Keeper) Unspoken(t *shard.Turn, k *shard.Packet, proto uint8, first bool) {
	if !t.IsUnicastPeer(k) || t.Nets.IsBroadcast(&k.Dst) {
		e.Misaddressed(t, k, proto)
		return
	}
	t.Drop(&t.Counters.OtherProtocols)
	if proto == protoNoNextHeader && !k.Src.Is4() {
		return // there is nothing in it (RFC 8200 section 4.7)
	}
	e.tellProtocol(k, proto)
	if !first {
		return
	}
	var l4 [netpkt.ICMPLen]byte // a packet of these protocols may be shorter
	copy(l4[:], k.L4)
	m := icmperr.Error{
		Message: netpkt.UnknownProtocol(k.Src.Is4()), From: t.Nets.Of(&k.Src).Gateway,
		Key: &flowtable.Key{Guest: k.Src, Remote: k.Dst, Proto: proto}, Len: k.L4Len, L4: l4[:],
	}
	if t.Nets.IsOurs(&k.Dst) {
		m.From = k.Dst
	}
	if !k.Src.Is4() {
		m.Rest = netpkt.PointerToNextHeader
	}
	e.icmp.SendError(t, m)
}

// Misaddressed counts a packet whose addresses or ports cannot be those of a conversation.
func (e *Keeper) Misaddressed(t *shard.Turn, k *shard.Packet, proto uint8) {
	switch {
	case k.Dst.IsMulticast():
		if proto == netpkt.UDP && e.groups.ToGroup(t, k) {
			return
		}
		t.Drop(&t.Counters.Multicast)
		e.tellMulticast(k, proto)
	case k.Dst == everybody || t.Nets.IsBroadcast(&k.Dst):
		t.Drop(&t.Counters.Broadcast)
	default:
		t.Drop(&t.Counters.BadAddress)
	}
}

// everybody is the limited broadcast address.
var everybody = ipaddr.Addr{10: 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// Guest is what the user was told of a guest, once. The queue pairs of the guest share it.
type Guest struct {
	multicast atomic.Bool
	protocols atomic.Uint32 // how many there were
	seen      [256 / 32]atomic.Uint32
}

// maxProtocolsTold bounds how many protocols of one guest the user is told of.
const maxProtocolsTold = 4

// newProtocol reports whether the user is to be told of a protocol now.
func (g *Guest) newProtocol(proto uint8) bool {
	bit := uint32(1) << (proto % 32)
	return g.seen[proto/32].Load()&bit == 0 && g.seen[proto/32].Or(bit)&bit == 0 && g.protocols.Add(1) <= maxProtocolsTold
}

func (e *Keeper) tellProtocol(k *shard.Packet, proto uint8) {
	if e.told.newProtocol(proto) {
		e.shard.Warn("the guest uses an IP protocol other than TCP, UDP and ICMP, which cannot be passed on", "protocol",
			fmt.Sprintf("%d%s", proto, nameOfProtocol(proto)))
	}
}

// nameOfProtocol returns the name of a protocol that guests use, in parentheses.
func nameOfProtocol(proto uint8) string {
	switch proto {
	case unix.IPPROTO_IGMP:
		return " (IGMP)"
	case unix.IPPROTO_IPIP:
		return " (IP in IP)"
	case unix.IPPROTO_IPV6:
		return " (IPv6 in IP)"
	case unix.IPPROTO_GRE:
		return " (GRE)"
	case unix.IPPROTO_ESP, unix.IPPROTO_AH:
		return " (IPsec)"
	case unix.IPPROTO_SCTP:
		return " (SCTP)"
	}
	return ""
}

// tellMulticast tells the user once that groups end at the engine. Most guests look for neighbours, so this is no warning; what is
// not UDP asks routers, of which the engine is the only one.
func (e *Keeper) tellMulticast(k *shard.Packet, proto uint8) {
	if proto != netpkt.UDP || len(k.L4) < netpkt.UDPLen || e.told.multicast.Swap(true) {
		return
	}
	e.shard.Worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "the guest sends multicast, which does not leave its own network", Key: "group",
		Value: k.Dst.Netip().String() + nameOfGroup(uint16(k.L4[2])<<8|uint16(k.L4[3])),
	})
}

// nameOfGroup returns what a port of a group is for, in parentheses.
func nameOfGroup(port uint16) string {
	switch port {
	case 1900:
		return " (SSDP)"
	case 3702:
		return " (WS-Discovery)"
	case 5353:
		return " (mDNS)"
	case 5355:
		return " (LLMNR)"
	}
	return ""
}
