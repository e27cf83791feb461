package ipaddr

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// The standard library is the oracle. Addresses are near the network's, so that both answers are frequent.
func TestANetworkContainsWhatItsPrefixDoes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.SampledFrom([]int{4, 16}).Draw(t, "bytes")
		text := rapid.SliceOfN(rapid.Byte(), n, n).Draw(t, "address")
		addr, _ := netip.AddrFromSlice(text)
		if addr.Is4In6() {
			return
		}
		bits := rapid.IntRange(0, 8*n).Draw(t, "bits")
		prefix := netip.PrefixFrom(addr, bits)
		text[rapid.IntRange(0, n-1).Draw(t, "byte")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		near, _ := netip.AddrFromSlice(text)
		a := From(near)
		words := a.Words()
		for _, network := range []Network{NetworkFrom(prefix), NetworkOf(new(From(addr)), bits)} {
			require.Equal(t, prefix.Contains(near), network.Contains(&words), "%s in %s", near, prefix)
		}
	})
}

// Of IPv4 all is in one network of IPv6, ::ffff:0:0/96, and the rest of IPv6 is not in those of IPv4.
func TestNetworksOfOneVersionContainNothingOfTheOther(t *testing.T) {
	four, six := From(netip.MustParseAddr("192.0.2.1")), From(netip.MustParseAddr("2001:db8::1"))
	w4, w6 := four.Words(), six.Words()
	all4, some6 := NetworkFrom(netip.MustParsePrefix("0.0.0.0/0")), NetworkFrom(netip.MustParsePrefix("2000::/3"))
	require.True(t, all4.Contains(&w4))
	require.False(t, all4.Contains(&w6))
	require.True(t, some6.Contains(&w6))
	require.False(t, some6.Contains(&w4))
}
