package l2switch

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Router is a router that a guest has beside the switch: its own, which no other guest can pretend to be. Nothing of it is for frames
// with a tag.
type Router struct {
	MAC [6]byte
	// Addrs are the addresses at which the router answers. No frame that claims one of them reaches the guest: by ARP (RFC 826), by
	// neighbour discovery (RFC 4861), or as the source of a packet.
	Addrs []netip.Addr
	// DHCP, DHCPv6 and Advertisements are what the router does by itself. What other servers and routers send of it does not reach the
	// guest (RFC 7610, RFC 6105).
	DHCP, DHCPv6, Advertisements bool
}

// guard is a Router in the form in which frames are compared with it. It does not change.
type guard struct {
	Router
	mac mac
	v4  [][4]byte
	v6  [][16]byte
}

// SetRouter gives the guest a router beside the switch, in the place of the one before. No frame of a Port may come from its MAC address
// any more. Any goroutine may call it. The error is that a Port is bound to this address.
func (p *Port) SetRouter(r Router) error {
	g := &guard{Router: r, mac: fdb.MACOf(r.MAC)}
	g.Addrs = slices.Clone(r.Addrs)
	for _, a := range r.Addrs {
		if a.Is4() {
			g.v4 = append(g.v4, a.As4())
		} else {
			g.v6 = append(g.v6, a.As16())
		}
	}
	return p.sw.setRouter(p, g)
}

// setRouter makes the router's address one that no Port has.
func (s *Switch) setRouter(p *Port, g *guard) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if number, bound := (*s.owner.Load())[g.mac]; bound && number != noPort {
		return fmt.Errorf("%s is the router's address, and a port of the switch is bound to it", text(g.Router.MAC))
	}
	p.guard.Store(g)
	s.setOwners(*s.ports.Load())
	s.table.ForgetElsewhere(g.mac, noPort)
	return nil
}

// refuses reports whether a frame must not get to the guest. frame begins with the type of what is behind the Ethernet header, and is a copy
// that no guest can change, or the beginning of one with all headers.
func (g *guard) refuses(frame []byte) bool {
	if len(frame) < 2 {
		return false
	}
	switch packet := frame[2:]; binary.BigEndian.Uint16(frame) {
	case etherTypeARP:
		return g.refusesARP(packet)
	case vnet.EtherTypeIPv4:
		return g.refusesIPv4(packet)
	case vnet.EtherTypeIPv6:
		return g.refusesIPv6(packet)
	}
	return false
}

const (
	etherTypeARP = 0x0806
	protoUDP     = 17
	protoICMPv6  = 58

	dhcpServer, dhcpClient   = 67, 68   // ports (RFC 2131)
	dhcp6Server, dhcp6Client = 547, 546 // ports (RFC 8415)
	ndpAdvertisesRouter      = 134
	ndpAdvertises            = 136
	ndpRedirect              = 137
)

// refusesARP looks at whom a packet of ARP tells of, be it asked or not.
func (g *guard) refusesARP(b []byte) bool {
	const sender, length = 14, 28
	return len(b) >= length && slices.Contains(g.v4, [4]byte(b[sender:]))
}

func (g *guard) refusesIPv4(b []byte) bool {
	const shortest = 20
	if len(b) < shortest {
		return false
	}
	if slices.Contains(g.v4, [4]byte(b[12:])) {
		return true
	}
	const offset = 0x1fff // of a fragment
	header := int(b[0]&0xf) * 4
	if !g.DHCP || b[9] != protoUDP || binary.BigEndian.Uint16(b[6:])&offset != 0 || len(b) < header+4 {
		return false
	}
	return binary.BigEndian.Uint16(b[header:]) == dhcpServer || binary.BigEndian.Uint16(b[header+2:]) == dhcpClient
}

func (g *guard) refusesIPv6(b []byte) bool {
	const header, source = 40, 8
	if len(b) < header {
		return false
	}
	if slices.Contains(g.v6, [16]byte(b[source:])) {
		return true
	}
	proto, at, whole := upperLayer(b)
	switch {
	case !whole:
		return true // who hides what a packet carries is refused (RFC 7113)
	case at < 0:
		return false
	case proto == protoICMPv6:
		return g.refusesNDP(b[at:])
	case proto == protoUDP && g.DHCPv6:
		return len(b) >= at+4 && (binary.BigEndian.Uint16(b[at:]) == dhcp6Server || binary.BigEndian.Uint16(b[at+2:]) == dhcp6Client)
	}
	return false
}

// refusesNDP looks at a message of ICMPv6.
func (g *guard) refusesNDP(b []byte) bool {
	const target, length = 8, 24
	if len(b) == 0 {
		return true
	}
	switch b[0] {
	case ndpAdvertisesRouter, ndpRedirect:
		return g.Advertisements
	case ndpAdvertises:
		return len(b) < length || slices.Contains(g.v6, [16]byte(b[target:]))
	}
	return false
}

// maxExtensions bounds the extension headers that are walked over.
const maxExtensions = 8

// upperLayer returns what a packet of IPv6 carries, and where that begins. at is negative for a fragment behind the first one, which no host
// takes for neighbour discovery without that (RFC 6980). whole reports whether the headers were all there.
func upperLayer(b []byte) (proto byte, at int, whole bool) {
	const (
		hopByHop, routing, fragment, authentication, destination = 0, 43, 44, 51, 60
		fragmentLen                                              = 8
	)
	proto, at = b[6], 40
	for range maxExtensions {
		switch proto {
		case hopByHop, routing, destination, authentication:
		case fragment:
			if len(b) < at+fragmentLen {
				return 0, 0, false
			}
			if binary.BigEndian.Uint16(b[at+2:])&^7 != 0 {
				return 0, -1, true
			}
		default:
			return proto, at, true
		}
		if len(b) < at+2 {
			return 0, 0, false
		}
		next, length := b[at], 0
		switch proto {
		case fragment:
			length = fragmentLen
		case authentication:
			length = (int(b[at+1]) + 2) * 4
		default:
			length = (int(b[at+1]) + 1) * 8
		}
		proto, at = next, at+length
		if at > len(b) {
			return 0, 0, false
		}
	}
	return 0, 0, false
}
