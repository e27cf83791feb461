package ndp_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/services/ndp"
)

func TestMessagesTellWhichHostHasWhichAddress(t *testing.T) {
	second := netip.MustParseAddr("fd00:10:0:2::77")
	advert := func(target netip.Addr) []byte { return append(make([]byte, 4), target.AsSlice()...) }
	for name, c := range map[string]struct {
		src, dst netip.Addr
		kind     header.ICMPv6Type
		body     []byte
		ip       netip.Addr
		ok       bool
	}{
		"a host looks for the router":             {guest, netip.MustParseAddr("ff02::2"), header.ICMPv6RouterSolicit, make([]byte, 4), guest, true},
		"a host looks for a neighbour":            {second, netip.MustParseAddr("ff02::1:ff00:99"), header.ICMPv6NeighborSolicit, advert(netip.MustParseAddr("fd00:10:0:2::99")), second, true},
		"a host answers, or announces":            {guest, allNodes, header.ICMPv6NeighborAdvert, advert(second), second, true},
		"a host looks whether an address is free": {nobody, netip.MustParseAddr("ff02::1:ff00:77"), header.ICMPv6NeighborSolicit, advert(second), netip.Addr{}, true},
		"a host says that it is the router":       {guest, allNodes, header.ICMPv6NeighborAdvert, advert(gateway), netip.Addr{}, true},
		"a host has nobody's address":             {guest, allNodes, header.ICMPv6NeighborAdvert, advert(netip.MustParseAddr("ff02::5")), netip.Addr{}, false},
		"an advertisement ends early":             {guest, allNodes, header.ICMPv6NeighborAdvert, advert(second)[:12], netip.Addr{}, false},
	} {
		t.Run(name, func(t *testing.T) {
			frame := message(c.src, c.dst, c.kind, c.body...)
			_, sender, ok := newResponder("").Answer(frame, 1500)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.ip, sender.IP)
			if c.ip.IsValid() {
				require.Equal(t, ndp.Sender{MAC: [6]byte(frame[6:12]), IP: c.ip}, sender)
			}
		})
	}
}

func TestAllSearchDomainsAreAdvertisedAndTheAdvertisementFits(t *testing.T) {
	many := make([]string, 100)
	for i := range many {
		many[i] = "a-domain-of-some-length.example.org"
	}
	for domains, want := range map[*[]string]int{{"a.example.org", "example.org"}: 28, &many: 37 * (512 / 37)} {
		r := ndp.New(ndp.Config{MAC: routerMAC, LinkLocal: router, Prefix: netip.MustParsePrefix("fd00:10:0:2::/64"), DNS: []netip.Addr{dns},
			Search: func() []string { return *domains }})
		frame := r.Advertisement(1280)
		require.LessOrEqual(t, len(frame), 14+1280)
		list := parse(t, frame).icmp[len(parse(t, frame).icmp)-((want+7)/8)*8-8:]
		require.Equal(t, []byte{31, byte((want+7)/8 + 1)}, []byte(list[:2]))
		require.Equal(t, []byte{0, 0, 7, 8}, []byte(list[4:8]), "half an hour")
	}
}
