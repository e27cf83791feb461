package l2switch_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/porttest"
)

// arp returns a packet of ARP that says where sender is.
func arp(sender netip.Addr) []byte {
	b := []byte{0, 1, 8, 0, 6, 4, 0, 2, 0x52, 0x54, 0, 0, 0, 0}
	return append(append(b, sender.AsSlice()...), make([]byte, 10)...)
}

// packet4 returns a packet of IPv4 from an address.
func packet4(from netip.Addr) []byte {
	b := append([]byte{0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0}, from.AsSlice()...)
	return append(b, 192, 0, 2, 9, 0, 1, 0, 2, 0, 8, 0, 0)
}

// packet6 returns a packet of IPv6 from an address.
func packet6(from netip.Addr, next byte, payload ...byte) []byte {
	b := []byte{0x60, 0, 0, 0, 0, 0, next, 255}
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	return append(append(append(b, from.AsSlice()...), make([]byte, 16)...), payload...)
}

// advertisement is a neighbour advertisement that says where target is.
func advertisement(target netip.Addr) []byte {
	return append([]byte{136, 0, 0, 0, 0, 0, 0, 0}, target.AsSlice()...)
}

// frameOf returns a frame of guest 0 to guest 1.
func frameOf(typ uint16, packet []byte, tags ...uint16) []byte {
	f := ethernet(macOf(1), macOf(0), 0, tags...)
	binary.BigEndian.PutUint16(f[len(f)-2:], typ)
	return append(f, packet...)
}

// What a guest claims that is bound to addresses of IP gets to another one only if it is about one of these.
func TestAGuestHasTheAddressesThatItIsBoundTo(t *testing.T) {
	const typeARP, type4, type6, typeTag, typeOther = 0x0806, 0x0800, 0x86dd, 0x8100, 0x88b5
	own4, own6, wide6, other4, other6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("fe80::1234"),
		netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	none4, none6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	hopByHop := func(payload []byte) []byte { return append([]byte{58, 0, 1, 4, 0, 0, 0, 0}, payload...) }
	tests := map[string]struct {
		frame  []byte
		passes bool
	}{
		"its ARP":        {frameOf(typeARP, arp(own4)), true},
		"ARP of another": {frameOf(typeARP, arp(other4)), false},
		"ARP that asks whether an address is free": {frameOf(typeARP, arp(none4)), true},
		"ARP that is cut short":                    {frameOf(typeARP, arp(own4)[:27]), true}, // it is filled up with zeros
		"its packet":                               {frameOf(type4, packet4(own4)), true},
		"a packet of another":                      {frameOf(type4, packet4(other4)), false},
		"a packet of nobody, as DHCP":              {frameOf(type4, packet4(none4)), true},
		"its packet of IPv6":                       {frameOf(type6, packet6(own6, 17, 0, 1, 0, 2, 0, 8, 0, 0)), true},
		"a packet of IPv6 of a network":            {frameOf(type6, packet6(wide6, 59)), true},
		"a packet of IPv6 of another":              {frameOf(type6, packet6(other6, 59)), false},
		"a packet of IPv6 that is cut short":       {frameOf(type6, packet6(other6, 59)[:23]), false},
		"its advertisement":                        {frameOf(type6, packet6(own6, 58, advertisement(own6)...)), true},
		"an advertisement of another":              {frameOf(type6, packet6(own6, 58, advertisement(other6)...)), false},
		"an advertisement behind an extension":     {frameOf(type6, packet6(own6, 0, hopByHop(advertisement(other6))...)), false},
		"its own behind an extension":              {frameOf(type6, packet6(own6, 0, hopByHop(advertisement(own6))...)), true},
		"headers without an end":                   {frameOf(type6, packet6(own6, 0, slices.Repeat([]byte{0, 0, 1, 4, 0, 0, 0, 0}, 9)...)), false},
		"a solicitation from nobody":               {frameOf(type6, packet6(none6, 58, append([]byte{135}, make([]byte, 23)...)...)), true},
		"its packet in a VLAN":                     {frameOf(type4, packet4(own4), 20), true},
		"a packet of another in a VLAN":            {frameOf(type4, packet4(other4), 20), false},
		"a tag behind a tag":                       {frameOf(typeTag, append([]byte{0, 9, 8, 0}, packet4(own4)...), 20), false},
		"another protocol":                         {frameOf(typeOther, make([]byte, 46)), true},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			l := newLAN(t, nil)
			trunk := l2switch.PortConfig{VLAN: 1, Tagged: []uint16{20}}
			trunk.IP = []netip.Prefix{netip.PrefixFrom(own4, 32), netip.PrefixFrom(own6, 128), netip.MustParsePrefix("fe80::/64")}
			l.join(trunk, porttest.Options{})
			l.join(l2switch.PortConfig{VLAN: 1, Tagged: []uint16{20}}, porttest.Options{})
			l.join(l2switch.PortConfig{VLAN: 20}, porttest.Options{Features: plain})
			for _, to := range [][6]byte{macOf(1), broadcast} {
				l.got(1)
				copy(c.frame, to[:])
				before := l.ports[0].Counters().Spoofed
				l.send(0, c.frame)
				want := 0
				if c.passes {
					want = 1
				}
				require.Len(t, l.got(1), want)
				require.EqualValues(t, 1-want, l.ports[0].Counters().Spoofed-before)
			}
		})
	}
}

// A guest that is not bound can claim each address; so can others than the bound one.
func TestWhoIsNotBoundToAddressesOfIPMayHaveAll(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.join(l2switch.PortConfig{IP: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}}, porttest.Options{})
	l.send(0, frameOf(0x0806, arp(netip.MustParseAddr("192.0.2.1"))))
	require.Len(t, l.got(1), 1)
}
