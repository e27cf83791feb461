package nat

import (
	"encoding/binary"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// network is the guest's, in one version of IP.
type network struct {
	prefix       netip.Prefix // not valid if the guest has none in that version
	gateway, dns ipaddr.Addr
	loopback     ipaddr.Addr // of the host; what the gateway's address leads to
}

// networks is the guest's network in both versions, and all addresses that the engine answers for.
type networks struct {
	v4, v6    network
	linkLocal ipaddr.Addr // the gateway's in IPv6; nobody else but the guest has one on its link
}

func networksOf(cfg *Config) networks {
	n := networks{v4: network{
		prefix: cfg.Prefix, gateway: ipaddr.From(cfg.Gateway), dns: ipaddr.From(cfg.DNS),
		loopback: ipaddr.From4([]byte{127, 0, 0, 1}),
	}}
	if cfg.Prefix6.IsValid() {
		n.v6 = network{
			prefix: cfg.Prefix6, gateway: ipaddr.From(cfg.Gateway6), dns: ipaddr.From(cfg.DNS6),
			loopback: ipaddr.Addr{15: 1},
		}
		n.linkLocal = ipaddr.From(linkLocal(cfg.GatewayMAC))
	}
	return n
}

// linkLocal returns the link-local address of a station (RFC 4291 appendix A).
func linkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// of returns the network of a's version.
func (n *networks) of(a *ipaddr.Addr) *network {
	if a.Is4() {
		return &n.v4
	}
	return &n.v6
}

// isGateway tells whether a is an address of the gateway.
func (n *networks) isGateway(a *ipaddr.Addr) bool {
	return *a == n.v4.gateway || !a.Is4() && (*a == n.v6.gateway || *a == n.linkLocal)
}

// isDNS tells whether a is an address of the name server.
func (n *networks) isDNS(a *ipaddr.Addr) bool { return *a == n.v4.dns || !a.Is4() && *a == n.v6.dns }

// ours tells whether a is an address that the engine itself answers for.
func (n *networks) ours(a *ipaddr.Addr) bool { return n.isGateway(a) || n.isDNS(a) }

// contains tells whether a is in the guest's own network.
func (n *networks) contains(a *ipaddr.Addr) bool {
	return a.IsLinkLocal() || n.of(a).prefix.Contains(a.Netip())
}

// broadcast tells whether a is the broadcast address of the guest's network: all bits of the host part are set.
func (n *networks) broadcast(a *ipaddr.Addr) bool {
	if !a.Is4() {
		return false
	}
	host := ^uint32(0) >> n.v4.prefix.Bits()
	return binary.BigEndian.Uint32(a[12:])&host == host && n.v4.prefix.Contains(a.Netip())
}

// asSeen returns the address under which the guest, which is called guest, sees a peer of the host's: itself, if the
// guest's answers can find the way back by it.
func (n *networks) asSeen(peer, guest *ipaddr.Addr) ipaddr.Addr {
	if peer.Is4() != guest.Is4() || !peer.IsUnicast() || peer.IsLoopback() || n.contains(peer) {
		return n.of(guest).gateway
	}
	return *peer
}
