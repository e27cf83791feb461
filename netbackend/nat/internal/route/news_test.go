package route

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/routesocket"
)

// routeMessage is what the kernel sends of a route to a network (RFC 3549 section 3.1.1). A default route has no destination.
func routeMessage(message uint16, kind uint8, to string) []byte {
	prefix := netip.MustParsePrefix(to)
	b := make([]byte, unix.SizeofNlMsghdr+unix.SizeofRtMsg)
	binary.NativeEndian.PutUint16(b[nlType:], message)
	b[unix.SizeofNlMsghdr] = unix.AF_INET6
	if prefix.Addr().Is4() {
		b[unix.SizeofNlMsghdr] = unix.AF_INET
	}
	b[unix.SizeofNlMsghdr+1] = uint8(prefix.Bits())
	b[routeType] = kind
	b = appendAttribute(b, unix.RTA_TABLE, []byte{254, 0, 0, 0})
	if prefix.Bits() > 0 {
		b = appendAttribute(b, unix.RTA_DST, prefix.Addr().AsSlice())
	}
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	return b
}

func TestChangesCoverTheNetworksWhoseRoutesMayNowLeadElsewhere(t *testing.T) {
	const add, del = unix.RTM_NEWROUTE, unix.RTM_DELROUTE
	truncated := routeMessage(del, unix.RTN_UNICAST, "192.0.2.0/24")
	tests := []struct {
		what    string
		message []byte
		covered []string
		not     []string
	}{
		{"an address of the host comes", routeMessage(add, unix.RTN_LOCAL, "192.0.2.1/32"), []string{"192.0.2.1"}, []string{"192.0.2.2", "2001:db8::1"}},
		{"an anycast address comes", routeMessage(add, unix.RTN_ANYCAST, "2001:db8::/128"), []string{"2001:db8::"}, []string{"2001:db8::1"}},
		{"a route to others comes", routeMessage(add, unix.RTN_UNICAST, "192.0.2.0/24"), nil, []string{"192.0.2.1"}},
		{"a route to others goes", routeMessage(del, unix.RTN_UNICAST, "192.0.2.0/24"), []string{"192.0.2.1", "192.0.2.255"}, []string{"192.0.3.0"}},
		{"the default route goes", routeMessage(del, unix.RTN_UNICAST, "0.0.0.0/0"), []string{"192.0.2.1"}, []string{"2001:db8::1"}},
		{"the default route of IPv6 goes", routeMessage(del, unix.RTN_UNICAST, "::/0"), []string{"2001:db8::1"}, nil},
		{"a rule comes", routeMessage(unix.RTM_NEWRULE, 0, "0.0.0.0/0"), []string{"192.0.2.1", "2001:db8::1"}, nil},
		{"a rule goes", routeMessage(unix.RTM_DELRULE, 0, "0.0.0.0/0"), []string{"192.0.2.1", "2001:db8::1"}, nil},
		{"an address is told of", routeMessage(unix.RTM_NEWADDR, 0, "192.0.2.1/32"), nil, []string{"192.0.2.1"}},
		{"two messages in one", slices.Concat(routeMessage(add, unix.RTN_LOCAL, "192.0.2.1/32"), routeMessage(add, unix.RTN_LOCAL, "192.0.2.7/32")),
			[]string{"192.0.2.1", "192.0.2.7"}, []string{"192.0.2.2"}},
		{"a message without its end", truncated[:len(truncated)-2], []string{"192.0.2.1", "2001:db8::1"}, nil},
		{"a message without a route", truncated[:unix.SizeofNlMsghdr+4], []string{"192.0.2.1", "2001:db8::1"}, nil},
		{"a message shorter than its header", []byte{8, 0, 0, 0}, nil, []string{"192.0.2.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			var c Changes
			c.note(tt.message)
			require.Equal(t, len(tt.covered) > 0, c.Any())
			for _, text := range tt.covered {
				require.True(t, c.Covers(new(ipaddr.From(netip.MustParseAddr(text)))), text)
			}
			for _, text := range tt.not {
				require.False(t, c.Covers(new(ipaddr.From(netip.MustParseAddr(text)))), text)
			}
			c.Forget()
			require.False(t, c.Any())
			require.False(t, c.Covers(new(ipaddr.From(netip.MustParseAddr("192.0.2.1")))))
		})
	}
}

// A length or a family that cannot be makes all addresses doubtful, and reads nothing behind the message.
func TestMessagesThatLieCoverEverything(t *testing.T) {
	for what, lie := range map[string]func(b []byte){
		"33 bits of IPv4":                  func(b []byte) { b[unix.SizeofNlMsghdr+1] = 33 },
		"a family that is none":            func(b []byte) { b[unix.SizeofNlMsghdr] = unix.AF_UNIX },
		"an attribute longer than it all":  func(b []byte) { binary.NativeEndian.PutUint16(b[unix.SizeofNlMsghdr+unix.SizeofRtMsg:], 9000) },
		"an attribute without a length":    func(b []byte) { binary.NativeEndian.PutUint16(b[unix.SizeofNlMsghdr+unix.SizeofRtMsg:], 0) },
		"an address of the other version":  func(b []byte) { b[unix.SizeofNlMsghdr] = unix.AF_INET6 },
		"a message longer than the packet": func(b []byte) { binary.NativeEndian.PutUint32(b, 9000); b[unix.SizeofNlMsghdr+1] = 200 },
	} {
		t.Run(what, func(t *testing.T) {
			b := routeMessage(unix.RTM_DELROUTE, unix.RTN_UNICAST, "192.0.2.0/24")
			lie(b)
			var c Changes
			c.note(b)
			require.True(t, c.Covers(new(ipaddr.From(netip.MustParseAddr("198.51.100.1")))))
		})
	}
}

func TestMoreChangesThanAreToldApartCoverEverything(t *testing.T) {
	var c Changes
	elsewhere := ipaddr.From(netip.MustParseAddr("198.51.100.1"))
	for i := range maxChanged {
		c.note(routeMessage(unix.RTM_NEWROUTE, unix.RTN_LOCAL, netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}).String()+"/32"))
		require.False(t, c.Covers(&elsewhere))
	}
	c.note(routeMessage(unix.RTM_NEWROUTE, unix.RTN_LOCAL, "192.0.2.200/32"))
	require.True(t, c.Covers(&elsewhere))
}

func TestChangesAreCountedNoFasterThanTheInterval(t *testing.T) {
	var c ChangeCount
	now := int64(5e9)
	require.Zero(t, c.raise(now))
	require.EqualValues(t, 1, c.Number())
	require.Equal(t, now+countInterval, c.raise(now+1), "it is to be counted later")
	require.EqualValues(t, 1, c.Number())
	require.Zero(t, c.raise(now+countInterval))
	require.EqualValues(t, 2, c.Number())
}

// The kernel of this machine answers: its loopback is its own, and an address of a documentation network is not.
func TestTheTableTellsTheHostsAddressesFromOthers(t *testing.T) {
	var table Table
	socket, err := routesocket.Open(false)
	require.NoError(t, err)
	table.Open(socket)
	defer table.Close()
	for range 3 { // answers are told from those to questions before
		require.True(t, table.IsLocal(new(ipaddr.From(netip.MustParseAddr("127.0.0.1")))))
		require.False(t, table.IsLocal(new(ipaddr.From(netip.MustParseAddr("203.0.113.77")))))
	}
	loopback := ipaddr.From(netip.MustParseAddr("127.0.0.1"))
	require.False(t, table.Reaches(&loopback, 0), "a route to the host itself leads to nobody else")
}
