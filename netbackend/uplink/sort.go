package uplink

import (
	"encoding/binary"
	"slices"

	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// recipients are who gets a frame of the guest.
type recipients uint8

const (
	forEngine recipients = 1 << iota
	forSwitch
)

// router is the engine as frames are compared with it.
type router struct {
	nat.Router
	mac uint64 // with the first byte in the lowest bits, as it is read from memory
	v4  [][4]byte
	v6  [][16]byte
}

// followPolicy takes over what the engine is to the guest, and tells the switch.
func (p *Port) followPolicy() error {
	p.follows = p.engine.Follows()
	r := router{Router: p.engine.Router()}
	for i, b := range r.MAC {
		r.mac |= uint64(b) << (8 * i)
	}
	for _, a := range r.Addrs {
		if a.Is4() {
			r.v4 = append(r.v4, a.As4())
		} else {
			r.v6 = append(r.v6, a.As16())
		}
	}
	p.router = r
	return p.lan.SetRouter(l2switch.Router{
		MAC: r.MAC, Addrs: r.Addrs, DHCP: r.DHCP, DHCPv6: r.DHCPv6, Advertisements: r.Advertisements,
	})
}

const (
	macMask  = uint64(1)<<48 - 1
	groupBit = uint64(1) // of a MAC address as a number

	// headLen is how much of a frame to many is looked at: the headers of Ethernet and IPv6, and a message that asks for a neighbour.
	headLen = vnet.EthernetHeaderLen + 40 + 24

	etherTypeARP = 0x0806
	protoUDP     = 17
	protoICMPv6  = 58

	dhcpServer, dhcp6Server = 67, 547 // ports
	mdns, ssdp              = 5353, 1900
	routerSolicitation      = 133
	neighbourSolicitation   = 135
)

// whose says who gets a frame. A malformed chain is counted by the switch.
func (p *Port) whose(c *virtqueue.Chain) recipients {
	if int(c.Len) < p.headerLen+vnet.EthernetHeaderLen {
		return forSwitch
	}
	if v := &c.Iov[0]; v.Len >= uint64(p.headerLen+8) {
		switch to := v.Word64(uintptr(p.headerLen)) & macMask; {
		case to == p.router.mac:
			return forEngine
		case to&groupBit == 0:
			return forSwitch
		}
	}
	n := guestmem.CopyFrom(p.head[:], c.Iov, p.headerLen)
	return p.toMany(p.head[:n])
}

// toMany says who gets a frame, by a copy of its beginning.
func (p *Port) toMany(b []byte) recipients {
	to := binary.LittleEndian.Uint64(b) & macMask
	if to == p.router.mac {
		return forEngine
	}
	if to&groupBit == 0 {
		return forSwitch
	}
	packet := b[vnet.EthernetHeaderLen:]
	switch binary.BigEndian.Uint16(b[12:]) {
	case etherTypeARP:
		return p.asksByARP(packet)
	case vnet.EtherTypeIPv4:
		return p.ofIPv4(packet)
	case vnet.EtherTypeIPv6:
		return p.ofIPv6(packet)
	}
	return forSwitch
}

// asksByARP looks at whom a request asks for. One that claims an address is none.
func (p *Port) asksByARP(b []byte) recipients {
	const sender, target, length = 14, 24, 28
	if len(b) >= length && [4]byte(b[target:]) != [4]byte(b[sender:]) && slices.Contains(p.router.v4, [4]byte(b[target:])) {
		return forEngine
	}
	return forSwitch
}

func (p *Port) ofIPv4(b []byte) recipients {
	const shortest = 20
	if len(b) < shortest || b[9] != protoUDP {
		return forSwitch
	}
	header := int(b[0]&0xf) * 4
	if len(b) < header+4 {
		return forSwitch
	}
	return p.ofUDP(binary.BigEndian.Uint16(b[header+2:]), dhcpServer, p.router.DHCP)
}

func (p *Port) ofIPv6(b []byte) recipients {
	const header, target, length = 40, 8, 24
	if len(b) < header+4 {
		return forSwitch
	}
	message := b[header:]
	switch b[6] {
	case protoUDP:
		return p.ofUDP(binary.BigEndian.Uint16(message[2:]), dhcp6Server, p.router.DHCPv6)
	case protoICMPv6:
		switch {
		case message[0] == routerSolicitation && p.router.Advertisements:
			return forEngine
		case message[0] == neighbourSolicitation && len(message) >= length && slices.Contains(p.router.v6, [16]byte(message[target:])):
			return forEngine
		}
	}
	return forSwitch
}

// ofUDP says who gets a datagram to many for a port. server is that of DHCP, and serves that the engine is one.
func (p *Port) ofUDP(port, server uint16, serves bool) recipients {
	switch {
	case port == server && serves:
		return forEngine
	case p.router.Groups && (port == mdns || port == ssdp):
		return forEngine | forSwitch
	}
	return forSwitch
}
