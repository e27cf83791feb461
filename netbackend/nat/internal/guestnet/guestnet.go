package guestnet

import (
	"encoding/binary"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Network is the guest's, in one version of IP.
type Network struct {
	Prefix       netip.Prefix // not valid if the guest has none in that version
	Gateway, DNS ipaddr.Addr  // the zero DNS is none
	Guest        ipaddr.Addr  // the guest's own, for a shared network
	Loopback     ipaddr.Addr  // of the host; what the gateway's address leads to
}

// Networks is the guest's network in both versions, and all addresses that the engine answers for.
type Networks struct {
	V4, V6    Network
	LinkLocal ipaddr.Addr // the gateway's in IPv6; nobody else but the guest has one on its link
	Shared    bool        // only the addresses of the guest are its own: others of its prefixes belong to hosts beyond the engine, the gateway's to a router
}

// New returns the networks of a guest whose gateway has a MAC address. v6 without a prefix is none. Loopback is set here.
func New(v4, v6 Network, mac [6]byte) Networks {
	n := Networks{V4: v4, V6: v6}
	n.V4.Loopback = ipaddr.From4([]byte{127, 0, 0, 1})
	if v6.Prefix.IsValid() {
		n.V6.Loopback, n.LinkLocal = ipaddr.Addr{15: 1}, ipaddr.From(LinkLocal(mac))
	}
	return n
}

// LinkLocal returns the link-local address of a station (RFC 4291 appendix A).
func LinkLocal(mac [6]byte) netip.Addr {
	return netip.AddrFrom16([16]byte{
		0xfe, 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}

// Of returns the network of a's version.
func (n *Networks) Of(a *ipaddr.Addr) *Network {
	if a.Is4() {
		return &n.V4
	}
	return &n.V6
}

// IsGateway reports whether a is an address of the gateway.
func (n *Networks) IsGateway(a *ipaddr.Addr) bool {
	return *a == n.V4.Gateway || !a.Is4() && (*a == n.V6.Gateway || *a == n.LinkLocal)
}

// IsDNS reports whether a is an address of the name server.
func (n *Networks) IsDNS(a *ipaddr.Addr) bool { return *a == n.V4.DNS || !a.Is4() && *a == n.V6.DNS }

// IsOurs reports whether a is an address that the engine itself answers for.
func (n *Networks) IsOurs(a *ipaddr.Addr) bool { return n.IsGateway(a) || n.IsDNS(a) }

// Contains reports whether a is in the guest's own network, in which there is nobody but the guest and the engine.
func (n *Networks) Contains(a *ipaddr.Addr) bool {
	if n.Shared {
		of := n.Of(a)
		return a.IsLinkLocal() || *a == of.Guest || *a == of.DNS && of.DNS != of.Gateway
	}
	return a.IsLinkLocal() || n.Of(a).Prefix.Contains(a.Netip())
}

// IsBroadcast reports whether a is the broadcast address of the guest's network: all bits of the host part are set.
func (n *Networks) IsBroadcast(a *ipaddr.Addr) bool {
	if a[15]&3 != 3 || !a.Is4() {
		return false // without a look at the network: its host part has two bits at least, or there is no such address
	}
	host := ^uint32(0) >> n.V4.Prefix.Bits()
	if host <= 1 {
		return false // two hosts at most: all addresses are theirs (RFC 3021)
	}
	return binary.BigEndian.Uint32(a[12:])&host == host && n.V4.Prefix.Contains(a.Netip())
}

// AsSeen returns the address under which the guest, which is called guest, sees a peer of the host's: itself, if the
// guest's answers can find the way back by it.
func (n *Networks) AsSeen(peer, guest *ipaddr.Addr) ipaddr.Addr {
	if peer.Is4() != guest.Is4() || !peer.IsUnicast() || peer.IsLoopback() || n.Contains(peer) {
		return n.Of(guest).Gateway
	}
	return *peer
}

// Named returns the addresses by which the guest names a host service.
func (n *Networks) Named(addr netip.Addr) []ipaddr.Addr {
	switch {
	case !addr.IsValid():
		return []ipaddr.Addr{n.V4.Gateway, n.V6.Gateway, n.LinkLocal}
	case addr == netip.IPv6Loopback():
		return []ipaddr.Addr{n.V6.Gateway, n.LinkLocal}
	case spec.IsRouterLoopback(addr):
		return []ipaddr.Addr{n.V4.Gateway}
	}
	return []ipaddr.Addr{ipaddr.From(addr)}
}
