package ndp_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/services/ndp"
)

var (
	routerMAC = [6]byte{0x52, 0x55, 10, 0, 2, 2}
	guestMAC  = [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56}
	router    = netip.MustParseAddr("fe80::5055:aff:fe00:202")
	gateway   = netip.MustParseAddr("fd00:10:0:2::2")
	dns       = netip.MustParseAddr("fd00:10:0:2::3")
	guest     = netip.MustParseAddr("fe80::5054:ff:fe12:3456")
	nobody    = netip.IPv6Unspecified()
	allNodes  = netip.MustParseAddr("ff02::1")
)

func newResponder(domain string) *ndp.Responder {
	return ndp.New(ndp.Config{
		MAC: routerMAC, LinkLocal: router, Addrs: []netip.Addr{gateway, dns},
		Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), DNS: []netip.Addr{dns},
		Search: func() []string { return []string{domain} },
	})
}

// message makes a frame of the guest's.
func message(src, dst netip.Addr, kind header.ICMPv6Type, body ...byte) []byte {
	icmp := append([]byte{byte(kind), 0, 0, 0}, body...)
	frame := make([]byte, 14+40)
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(guestMAC[:]), DstAddr: tcpip.LinkAddress(routerMAC[:]), Type: header.IPv6ProtocolNumber,
	})
	header.IPv6(frame[14:]).Encode(&header.IPv6Fields{
		PayloadLength: uint16(len(icmp)), TransportProtocol: header.ICMPv6ProtocolNumber, HopLimit: 255,
		SrcAddr: tcpip.AddrFrom16(src.As16()), DstAddr: tcpip.AddrFrom16(dst.As16()),
	})
	return append(frame, icmp...)
}

// source is the option that tells where a solicitation comes from.
var source = append([]byte{1, 1}, guestMAC[:]...)

// solicitation is the body of a neighbour solicitation.
func solicitation(target netip.Addr, options ...byte) []byte {
	return slices.Concat(make([]byte, 4), target.AsSlice(), options)
}

// reply is a frame of ours, taken apart.
type reply struct {
	mac      [6]byte
	src, dst netip.Addr
	icmp     header.ICMPv6
}

// parse checks all of a frame that is the same for every message.
func parse(t *testing.T, frame []byte) reply {
	t.Helper()
	require.Equal(t, routerMAC[:], frame[6:12])
	require.EqualValues(t, 0x86dd, binary.BigEndian.Uint16(frame[12:]))
	ip := header.IPv6(frame[14:])
	require.True(t, ip.IsValid(len(ip)))
	require.EqualValues(t, 255, ip.HopLimit())
	icmp := header.ICMPv6(ip.Payload())
	require.Equal(t, len(ip)-40, len(icmp))
	require.Equal(t, header.ICMPv6Checksum(header.ICMPv6ChecksumParams{
		Header: icmp, Src: ip.SourceAddress(), Dst: ip.DestinationAddress(),
	}), icmp.Checksum())
	return reply{[6]byte(frame[:6]), netip.AddrFrom16(ip.SourceAddress().As16()), netip.AddrFrom16(ip.DestinationAddress().As16()), icmp}
}

// options returns those of a message as they are printed, but for the MTU, which the library does not know.
func options(t *testing.T, o header.NDPOptions) (list []string) {
	t.Helper()
	it, err := o.Iter(true)
	require.NoError(t, err)
	for {
		option, done, err := it.Next()
		require.NoError(t, err)
		if done {
			return list
		}
		list = append(list, option.(interface{ String() string }).String())
	}
}

func TestARouterSolicitationIsAnsweredToWhoAsked(t *testing.T) {
	for name, c := range map[string]struct {
		src  netip.Addr
		body []byte
		to   netip.Addr
		mac  [6]byte
	}{
		"with an address":    {guest, append(make([]byte, 4), source...), guest, guestMAC},
		"without an option":  {guest, make([]byte, 4), guest, guestMAC},
		"without an address": {nobody, make([]byte, 4), allNodes, [6]byte{0x33, 0x33, 0, 0, 0, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			frame, _, ok := newResponder("").Answer(message(c.src, netip.MustParseAddr("ff02::2"), header.ICMPv6RouterSolicit, c.body...), 1500)
			require.True(t, ok)
			r := parse(t, frame)
			require.Equal(t, reply{c.mac, router, c.to, r.icmp}, r)
			require.Equal(t, header.ICMPv6RouterAdvert, r.icmp.Type())
		})
	}
}

func TestAnAdvertisementTellsPrefixMTUAndNameServer(t *testing.T) {
	r := parse(t, newResponder("lab.example.org").Advertisement(9000))
	require.Equal(t, allNodes, r.dst)
	ad := header.NDPRouterAdvert(r.icmp.MessageBody())
	require.EqualValues(t, 64, ad.CurrHopLimit())
	require.True(t, ad.ManagedAddrConfFlag() && ad.OtherConfFlag(), "there is DHCPv6")
	require.EqualValues(t, 1800, ad.RouterLifetime().Seconds())
	require.Zero(t, ad.ReachableTime())
	require.Zero(t, ad.RetransTimer())
	require.Equal(t, []string{
		"header.NDPSourceLinkLayerAddressOption(52:55:0a:00:02:02)",
		"header.NDPPrefixInformation(O=true, A=true, PL=45m0s, VL=1h30m0s, Prefix=fd00:10:0:2::/64)",
		"header.NDPRecursiveDNSServer([fd00:10:0:2::3] valid for 30m0s)",
		"header.NDPDNSSearchList([lab.example.org] valid for 30m0s)",
	}, options(t, ad.Options()))
	mtu := []byte{5, 1, 0, 0, 0, 0, 9000 >> 8, 9000 & 0xff} // RFC 4861 section 4.6.4
	require.Equal(t, mtu, []byte(ad.Options()[8:16]))
}

func TestANeighbourSolicitationForOneOfOursIsAnswered(t *testing.T) {
	for _, target := range []netip.Addr{router, gateway, dns} {
		t.Run(target.String(), func(t *testing.T) {
			frame, _, ok := newResponder("").Answer(message(guest, target, header.ICMPv6NeighborSolicit, solicitation(target, source...)...), 1500)
			require.True(t, ok)
			r := parse(t, frame)
			require.Equal(t, reply{guestMAC, target, guest, r.icmp}, r)
			ad := header.NDPNeighborAdvert(r.icmp.MessageBody())
			require.True(t, ad.RouterFlag() && ad.SolicitedFlag() && ad.OverrideFlag())
			require.Equal(t, target.AsSlice(), frame[14+40+8:14+40+24])
			require.Equal(t, []string{"header.NDPTargetLinkLayerAddressOption(52:55:0a:00:02:02)"}, options(t, ad.Options()))
		})
	}
}

// A guest that tries whether one of our addresses is free learns that it is not (RFC 4862 section 5.4.4).
func TestAnAddressOfOursIsDefended(t *testing.T) {
	frame, _, ok := newResponder("").Answer(message(nobody, netip.MustParseAddr("ff02::1:ff00:2"), header.ICMPv6NeighborSolicit, solicitation(gateway)...), 1500)
	require.True(t, ok)
	r := parse(t, frame)
	require.Equal(t, allNodes, r.dst)
	require.False(t, header.NDPNeighborAdvert(r.icmp.MessageBody()).SolicitedFlag())
}

func TestWhatIsNotForUsIsNotAnswered(t *testing.T) {
	other := netip.MustParseAddr("fd00:10:0:2::99")
	for name, frame := range map[string][]byte{
		"somebody else's address": message(guest, other, header.ICMPv6NeighborSolicit, solicitation(other)...),
		"the guest's own address": message(nobody, netip.MustParseAddr("ff02::1:ff12:3456"), header.ICMPv6NeighborSolicit, solicitation(guest)...),
		"an advertisement":        message(guest, allNodes, header.ICMPv6NeighborAdvert, solicitation(guest)...),
		"another router":          message(guest, allNodes, header.ICMPv6RouterAdvert, make([]byte, 12)...),
		"a redirect":              message(guest, router, header.ICMPv6RedirectMsg, make([]byte, 36)...),
	} {
		t.Run(name, func(t *testing.T) {
			answer, _, ok := newResponder("").Answer(frame, 1500)
			require.True(t, ok)
			require.Nil(t, answer)
		})
	}
}

func TestMalformedMessagesAreRefused(t *testing.T) {
	change := func(frame []byte, at int, to byte) []byte { frame[at] = to; return frame }
	ask := func(options ...byte) []byte {
		return message(guest, gateway, header.ICMPv6NeighborSolicit, solicitation(gateway, options...)...)
	}
	for name, frame := range map[string][]byte{
		"nothing":                               {},
		"half a header":                         ask()[:14+39],
		"another protocol":                      change(ask(), 12, 8),
		"it came by a router":                   change(ask(), 14+7, 254),
		"it is no ICMPv6":                       change(ask(), 14+6, 17),
		"it is longer than the frame":           change(ask(), 14+5, 200),
		"a code":                                change(ask(), 14+40+1, 1),
		"from everybody":                        change(ask(), 14+8, 0xff),
		"cut off":                               message(guest, gateway, header.ICMPv6NeighborSolicit, make([]byte, 19)...),
		"the target is everybody":               message(guest, gateway, header.ICMPv6NeighborSolicit, solicitation(allNodes)...),
		"an option of no length":                ask(1, 0, 0, 0, 0, 0, 0, 0),
		"an option longer than the message":     ask(1, 2, 0, 0, 0, 0, 0, 0),
		"half an option":                        ask(1, 1, 0),
		"nobody at an address":                  message(nobody, netip.MustParseAddr("ff02::1:ff00:2"), header.ICMPv6NeighborSolicit, solicitation(gateway, source...)...),
		"nobody asks one only":                  message(nobody, gateway, header.ICMPv6NeighborSolicit, solicitation(gateway)...),
		"nobody at an address asks for routers": message(nobody, netip.MustParseAddr("ff02::2"), header.ICMPv6RouterSolicit, append(make([]byte, 4), source...)...),
	} {
		t.Run(name, func(t *testing.T) {
			answer, _, ok := newResponder("").Answer(frame, 1500)
			require.False(t, ok)
			require.Nil(t, answer)
		})
	}
}

func TestTheGuestIsAskedForByItsSolicitedNodeAddress(t *testing.T) {
	target := netip.MustParseAddr("fd00:10:0:2::15")
	r := parse(t, newResponder("").Ask(target))
	require.Equal(t, reply{[6]byte{0x33, 0x33, 0xff, 0, 0, 0x15}, router, netip.MustParseAddr("ff02::1:ff00:15"), r.icmp}, r)
	ask := header.NDPNeighborSolicit(r.icmp.MessageBody())
	require.Equal(t, target.AsSlice(), []byte(r.icmp[8:24]))
	require.Equal(t, []string{"header.NDPSourceLinkLayerAddressOption(52:55:0a:00:02:02)"}, options(t, ask.Options()))
}

func TestANameThatIsNoneIsNotTold(t *testing.T) {
	long := slices.Repeat([]byte("a"), 64) // a label has 63 characters at most
	r := parse(t, newResponder(string(long)).Advertisement(1500))
	require.Len(t, options(t, header.NDPRouterAdvert(r.icmp.MessageBody()).Options()), 3)
}

func FuzzAnswer(f *testing.F) {
	f.Add(message(guest, gateway, header.ICMPv6NeighborSolicit, solicitation(gateway, source...)...))
	f.Add(message(nobody, netip.MustParseAddr("ff02::2"), header.ICMPv6RouterSolicit, make([]byte, 4)...))
	r := newResponder("example.org")
	f.Fuzz(func(t *testing.T, frame []byte) {
		before := slices.Clone(frame)
		answer, _, ok := r.Answer(frame, 1500)
		require.Equal(t, before, frame)
		if answer != nil {
			require.True(t, ok)
			parse(t, answer)
		}
	})
}

// In a shared network the engine answers for other hosts, but not for addresses that the guest may have, or looks whether it may.
func TestNeighboursOfASharedNetworkAreAnsweredFor(t *testing.T) {
	own, other := netip.MustParseAddr("fd00:10:0:2::15"), netip.MustParseAddr("fd00:10:0:2::77")
	r := ndp.New(ndp.Config{MAC: routerMAC, LinkLocal: router, Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), Guest: own})
	for name, c := range map[string]struct {
		src, target netip.Addr
		answered    bool
	}{
		"another host": {guest, other, true}, "the guest's address": {guest, own, false}, "who asks": {guest, guest, false},
		"a tentative address": {nobody, other, false}, "the router": {guest, router, true},
	} {
		to := netip.AddrFrom16(header.SolicitedNodeAddr(tcpip.AddrFrom16(c.target.As16())).As16())
		reply, _, ok := r.Answer(message(c.src, to, header.ICMPv6NeighborSolicit, solicitation(c.target)...), 1500)
		require.True(t, ok, name)
		require.Equal(t, c.answered, reply != nil, name)
	}
}

func TestAnAdvertisementTellsWhatThereIs(t *testing.T) {
	cfg := ndp.Config{MAC: routerMAC, LinkLocal: router, Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), Stateless: true}
	r := parse(t, ndp.New(cfg).Advertisement(1500))
	require.Zero(t, r.icmp[5], "nobody is sent to a DHCPv6 server that there is not")
	require.Len(t, options(t, header.NDPOptions(r.icmp[16:])), 2, "the router's address and the prefix, but no name server")
	cfg.Silent = true
	frame, _, ok := ndp.New(cfg).Answer(message(guest, netip.MustParseAddr("ff02::2"), header.ICMPv6RouterSolicit, make([]byte, 4)...), 1500)
	require.True(t, ok)
	require.Nil(t, frame)
}
