package ipaddr

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"pgregory.net/rapid"
)

func TestKindsOfAddresses(t *testing.T) {
	tests := []struct {
		text                                    string
		unicast, multicast, loopback, linkLocal bool
	}{
		{text: "0.0.0.0"},
		{text: "0.255.255.255"},
		{text: "1.0.0.0", unicast: true},
		{text: "126.255.255.255", unicast: true},
		{text: "127.0.0.0", unicast: true, loopback: true},
		{text: "127.255.255.255", unicast: true, loopback: true},
		{text: "128.0.0.0", unicast: true},
		{text: "169.254.1.1", unicast: true}, // link-local, which is for the policy to judge
		{text: "223.255.255.255", unicast: true},
		{text: "224.0.0.0", multicast: true},
		{text: "239.255.255.255", multicast: true},
		{text: "240.0.0.0"},
		{text: "255.255.255.255"},
		{text: "::"},
		{text: "::1", unicast: true, loopback: true},
		{text: "::2", unicast: true},
		{text: "2001:db8::1", unicast: true},
		{text: "fe7f:ffff::", unicast: true},
		{text: "fe80::", unicast: true, linkLocal: true},
		{text: "febf:ffff::1", unicast: true, linkLocal: true},
		{text: "fec0::", unicast: true},
		{text: "feff::1", unicast: true},
		{text: "ff00::", multicast: true},
		{text: "ff02::fb", multicast: true},
	}
	for _, tt := range tests {
		t.Run(tt.text, func(t *testing.T) {
			a := From(netip.MustParseAddr(tt.text))
			require.Equal(t, tt.unicast, a.IsUnicast(), "unicast")
			require.Equal(t, tt.multicast, a.IsMulticast(), "multicast")
			require.Equal(t, tt.loopback, a.IsLoopback(), "loopback")
			require.Equal(t, tt.linkLocal, a.IsLinkLocal(), "link-local")
		})
	}
}

// The standard library is the oracle of all conversions.
func TestAnEndpointIsTheSameThereAndBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
		addr, _ := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address"))
		at := netip.AddrPortFrom(addr.Unmap(), rapid.Uint16().Draw(t, "port"))
		e := EndpointFrom(at)
		require.Equal(t, at, e.Netip())
		require.Equal(t, at.Addr().AsSlice(), e.Addr.Bytes())
		require.Equal(t, at.Addr().Is4(), e.Addr.Is4())
		words := e.Addr.Words()
		require.Equal(t, words[0] == 0 && words[1]>>32 == 0xffff, e.Addr.Is4())
		if at.Addr().Is4() {
			require.Equal(t, e.Addr, From4(addr.Unmap().AsSlice()))
			require.Equal(t, unix.AF_INET, e.Addr.Domain())
			require.Equal(t, 20, e.Addr.HeaderLen())
			require.Equal(t, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}, e.Sockaddr())
			return
		}
		require.Equal(t, unix.AF_INET6, e.Addr.Domain())
		require.Equal(t, 40, e.Addr.HeaderLen())
		require.Equal(t, &unix.SockaddrInet6{Addr: at.Addr().As16(), Port: int(at.Port())}, e.Sockaddr())
	})
}
