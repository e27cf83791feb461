package nat

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"
)

// address is an IP address of either version in 16 bytes, IPv4 mapped (RFC 4291 section 2.5.5.2). Unlike netip.Addr it
// holds no pointer, so that the garbage collector has nothing to scan in a table of flows.
type address [16]byte

func addressFrom(a netip.Addr) address { return a.As16() }

func addressFrom4(b []byte) (a address) {
	a[10], a[11] = 0xff, 0xff
	copy(a[12:], b[:4])
	return a
}

func (a *address) netip() netip.Addr { return netip.AddrFrom16(*a).Unmap() }

// is4 tells whether a is an IPv4 address.
func (a *address) is4() bool {
	return binary.BigEndian.Uint64(a[:]) == 0 && binary.BigEndian.Uint32(a[8:]) == 0xffff
}

// bytes returns a as packets carry it, in 4 bytes or 16. They stay a's.
func (a *address) bytes() []byte {
	if a.is4() {
		return a[12:]
	}
	return a[:]
}

// ipLen is the length in bytes of the IP header in front of what goes to a.
func (a *address) ipLen() int {
	if a.is4() {
		return ipv4Len
	}
	return ipv6Len
}

// unicast tells whether a is the address of one host: not 0/8, multicast, or the reserved and broadcast ones above
// (RFC 1122 section 3.2.1.3), and in IPv6 neither unspecified nor multicast (RFC 4291 sections 2.5.2 and 2.7).
func (a *address) unicast() bool {
	if a.is4() {
		return a[12] != 0 && a[12] < 224
	}
	return a[0] != 0xff && *a != address{}
}

func (a *address) isLoopback() bool {
	if a.is4() {
		return a[12] == 127
	}
	return *a == address{15: 1}
}

// isLinkLocal tells whether a is good on one link only, which is not known from it: an IPv6 one of fe80::/10 (RFC 4291
// section 2.5.6).
func (a *address) isLinkLocal() bool { return a[0] == 0xfe && a[1]&0xc0 == 0x80 }

// endpoint is an address and port without pointers. ICMP has port 0.
type endpoint struct {
	addr address
	port uint16
}

func endpointFrom(a netip.AddrPort) endpoint {
	return endpoint{addr: addressFrom(a.Addr()), port: a.Port()}
}

func (e endpoint) netip() netip.AddrPort { return netip.AddrPortFrom(e.addr.netip(), e.port) }

// sockaddr returns e for a system call. Only connections are made so, never a datagram sent.
func (e endpoint) sockaddr() unix.Sockaddr {
	if e.addr.is4() {
		return &unix.SockaddrInet4{Addr: [4]byte(e.addr.bytes()), Port: int(e.port)}
	}
	return &unix.SockaddrInet6{Addr: e.addr, Port: int(e.port)}
}

// domain is that of the sockets for a.
func (a *address) domain() int {
	if a.is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// network is the guest's, in one version of IP.
type network struct {
	prefix       netip.Prefix // not valid if the guest has none in that version
	gateway, dns address
	loopback     address // of the host; what the gateway's address leads to
}

// networks is the guest's network in both versions, and all addresses that the engine answers for.
type networks struct {
	v4, v6    network
	linkLocal address // the gateway's in IPv6; nobody else but the guest has one on its link
}

func networksOf(cfg *Config) networks {
	n := networks{v4: network{
		prefix: cfg.Prefix, gateway: addressFrom(cfg.Gateway), dns: addressFrom(cfg.DNS),
		loopback: addressFrom4([]byte{127, 0, 0, 1}),
	}}
	if cfg.Prefix6.IsValid() {
		n.v6 = network{
			prefix: cfg.Prefix6, gateway: addressFrom(cfg.Gateway6), dns: addressFrom(cfg.DNS6),
			loopback: address{15: 1},
		}
		n.linkLocal = addressFrom(linkLocal(cfg.GatewayMAC))
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
func (n *networks) of(a *address) *network {
	if a.is4() {
		return &n.v4
	}
	return &n.v6
}

// isGateway tells whether a is an address of the gateway.
func (n *networks) isGateway(a *address) bool {
	return *a == n.v4.gateway || !a.is4() && (*a == n.v6.gateway || *a == n.linkLocal)
}

// isDNS tells whether a is an address of the name server.
func (n *networks) isDNS(a *address) bool { return *a == n.v4.dns || !a.is4() && *a == n.v6.dns }

// ours tells whether a is an address that the engine itself answers for.
func (n *networks) ours(a *address) bool { return n.isGateway(a) || n.isDNS(a) }

// contains tells whether a is in the guest's own network.
func (n *networks) contains(a *address) bool {
	return a.isLinkLocal() || n.of(a).prefix.Contains(a.netip())
}

// broadcast tells whether a is the broadcast address of the guest's network: all bits of the host part are set.
func (n *networks) broadcast(a *address) bool {
	if !a.is4() {
		return false
	}
	host := ^uint32(0) >> n.v4.prefix.Bits()
	return binary.BigEndian.Uint32(a[12:])&host == host && n.v4.prefix.Contains(a.netip())
}

// asSeen returns the address under which the guest, which is called guest, sees a peer of the host's: itself, if the
// guest's answers can find the way back by it.
func (n *networks) asSeen(peer, guest *address) address {
	if peer.is4() != guest.is4() || !peer.unicast() || peer.isLoopback() || n.contains(peer) {
		return n.of(guest).gateway
	}
	return *peer
}
