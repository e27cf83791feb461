package groups

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/multicast"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
)

// reflecting is a Reflector of a guest, without the sockets of one.
func reflecting(t *testing.T) (*shardtest.Shard, *Reflector) {
	s, e := shardtest.New(t, 64), new(Reflector)
	e.SetUp(&s.Turn.Shard, nil, nil)
	return s, e
}

func TestWhatTheNetworkSaysComesFromWhoTheGuestCanAsk(t *testing.T) {
	at := netip.MustParseAddrPort
	for name, c := range map[string]struct {
		d        multicast.Datagram
		from, to string // as the guest sees it
		mac      []byte // nil for the guest's host
		hops     uint8  // 0 for the usual
	}{
		"mDNS, to the group":      {multicast.Datagram{Group: multicast.MDNS, From: at("192.0.2.9:5353")}, "10.0.2.2:5353", "224.0.0.251:5353", []byte{1, 0, 0x5e, 0, 0, 251}, 255},
		"mDNS, to who has asked":  {multicast.Datagram{Group: multicast.MDNS, From: at("192.0.2.9:5353"), Asked: true, To: at("10.0.2.15:4000")}, "10.0.2.2:5353", "10.0.2.15:4000", nil, 255},
		"mDNS of IPv6":            {multicast.Datagram{Group: multicast.MDNS, From: at("[fe80::9]:5353"), Is6: true}, "[fe80::ff:fe00:1]:5353", "[ff02::fb]:5353", []byte{0x33, 0x33, 0, 0, 0, 0xfb}, 255},
		"SSDP, by the device":     {multicast.Datagram{Group: multicast.SSDP, From: at("192.0.2.9:1900")}, "192.0.2.9:1900", "239.255.255.250:1900", []byte{1, 0, 0x5e, 0x7f, 0xff, 0xfa}, 0},
		"SSDP, a link-local one":  {multicast.Datagram{Group: multicast.SSDP, From: at("[fe80::9]:1900"), Is6: true}, "[fe80::ff:fe00:1]:1900", "[ff02::c]:1900", []byte{0x33, 0x33, 0, 0, 0, 0xc}, 0},
		"SSDP, link-local, IPv4":  {multicast.Datagram{Group: multicast.SSDP, From: at("169.254.1.1:1900")}, "169.254.1.1:1900", "239.255.255.250:1900", []byte{1, 0, 0x5e, 0x7f, 0xff, 0xfa}, 0},
		"SSDP, to who has asked":  {multicast.Datagram{Group: multicast.SSDP, From: at("192.0.2.9:1234"), Asked: true, To: at("10.0.2.15:4000")}, "192.0.2.9:1234", "10.0.2.15:4000", nil, 0},
		"SSDP of IPv6, a network": {multicast.Datagram{Group: multicast.SSDP, From: at("[2001:db8::9]:1900"), Is6: true}, "[2001:db8::9]:1900", "[ff02::c]:1900", []byte{0x33, 0x33, 0, 0, 0, 0xc}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := reflecting(t)
			mine := shardtest.Addr("10.0.2.15")
			s.LearnAddress(&mine, s.Meet(shardtest.HostMAC()))
			other := shardtest.Addr("10.0.2.20")
			s.LearnAddress(&other, s.Meet(hosts.PackMAC([6]byte{0x52, 0x54, 0, 0, 0, 8}))) // another host, which is who spoke last
			c.d.Payload = []byte("what there is")
			e.giveFromGroup(s.Turn, &c.d)
			frames := s.Frames()
			require.Len(t, frames, 1)
			f := frames[0]
			var k netpkt.Packet
			if c.d.Is6 {
				require.True(t, k.ParseIPv6(f[netpkt.EtherLen:], netpkt.EtherLen, int64(len(f))))
			} else {
				require.True(t, k.ParseIPv4(f[netpkt.EtherLen:], netpkt.EtherLen, int64(len(f))))
			}
			end := func(a *ipaddr.Addr, port []byte) string {
				return netip.AddrPortFrom(a.Netip(), binary.BigEndian.Uint16(port)).String()
			}
			require.Equal(t, c.from, end(&k.Src, k.L4))
			require.Equal(t, c.to, end(&k.Dst, k.L4[2:]))
			if c.mac == nil {
				c.mac = []byte{0x52, 0x54, 0, 0, 0, 9}
			}
			require.Equal(t, c.mac, f[:6])
			if c.hops != 0 {
				require.Equal(t, c.hops, k.Hops)
			}
			require.Equal(t, "what there is", string(k.L4[netpkt.UDPLen:k.L4Len]))
			require.EqualValues(t, 1, s.Counters.MulticastReceived)
		})
	}
}

func TestWhatDoesNotFitTheGuestIsDropped(t *testing.T) {
	s, e := reflecting(t)
	d := multicast.Datagram{Group: multicast.MDNS, From: netip.MustParseAddrPort("192.0.2.9:5353"), Payload: make([]byte, 1473)}
	e.giveFromGroup(s.Turn, &d)
	require.EqualValues(t, 1, s.Counters.MulticastDistorted)
	d.Payload = d.Payload[:1472]
	s.Receiving = false
	e.giveFromGroup(s.Turn, &d)
	require.EqualValues(t, 1, s.Counters.NoRoom)
	require.Empty(t, s.Frames())
	s.Receiving = true
	e.giveFromGroup(s.Turn, &d)
	require.Len(t, s.Frames(), 1)
}

// Without Config.Multicast no datagram is one for the host's networks, and nothing is watched.
func TestAGuestWithoutMulticastHasNoReflector(t *testing.T) {
	s, e := reflecting(t)
	require.False(t, e.ToGroup(s.Turn, s.Packet("10.0.2.15", "224.0.0.251", netpkt.UDP, make([]byte, 8))))
	require.NoError(t, e.Listen())
	e.Refresh(1)
	e.SetLoop(true)
	e.Close(true)
}

func TestTheUserIsToldWhatBecomesOfInterfaces(t *testing.T) {
	s, e := reflecting(t)
	e.tellLinks([]multicast.Change{{Interface: "eth0", Gone: true}, {Interface: "eth0"}, {Interface: "eth0", Fault: errors.New("no buffers")}})
	var told []string
	for _, n := range s.Notices {
		told = append(told, n.Message+": "+n.Value)
	}
	require.Equal(t, []string{
		"an interface of --multicast is gone; it is used again when it comes back: eth0",
		"an interface of --multicast is there again: eth0",
		"an interface of --multicast is there again, but cannot be used: no buffers",
	}, told)
}
