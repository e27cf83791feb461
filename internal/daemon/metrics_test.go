package daemon

import (
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAPortAloneIsOneOfTheLoopback(t *testing.T) {
	for text, want := range map[string]string{
		"9100": "127.0.0.1:9100", "127.0.0.2:9100": "127.0.0.2:9100", "0.0.0.0:9100": "0.0.0.0:9100", "[::]:1": "[::]:1", "[::ffff:127.0.0.1]:80": "127.0.0.1:80",
		"65536": "", "-1": "", "": "", ":9100": "", "localhost:9100": "", "127.0.0.1": "", "::1": "", "127.0.0.1:": "", "127.0.0.1:99999": "", "9100/tcp": "",
	} {
		at, err := ParseMetrics(text)
		if want == "" {
			require.Error(t, err, text)
			continue
		}
		require.NoError(t, err, text)
		require.Equal(t, want, at.String())
	}
}

func TestAnAddressOfMetricsIsChecked(t *testing.T) {
	for at, want := range map[netip.AddrPort]string{
		{}:                                     "",
		netip.MustParseAddrPort("127.0.0.1:0"): "want a port from 1 to 65535",
		netip.AddrPortFrom(netip.Addr{}, 5):    "want an address of this host",
		netip.MustParseAddrPort("224.0.0.1:9100"): "want an address of this host",
		netip.MustParseAddrPort("[::1]:9100"):     "",
	} {
		c := stubs(filepath.Join(shortDir(t), "s"))
		c.Metrics = at
		_, err := c.Check()
		if want == "" {
			require.NoError(t, err, at)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

// ownLoopback is an address of the loopback that other tests which run at the same time do not use.
func ownLoopback() netip.Addr {
	pid := os.Getpid()
	return netip.AddrFrom4([4]byte{127, byte(64 + pid>>16&63), byte(pid >> 8), byte(pid&127 + 1)})
}

func TestTheAddressOfMetricsIsTakenFromTheStartToTheEnd(t *testing.T) {
	c := stubs(filepath.Join(shortDir(t), "s"))
	c.Metrics = netip.AddrPortFrom(ownLoopback(), 9100)
	p, _ := program()
	d := open(t, c, p)
	require.Equal(t, c.Metrics.String(), d.Metrics().Addr().String())
	_, err := net.Listen("tcp4", c.Metrics.String())
	require.ErrorContains(t, err, "address already in use")
	other := stubs(filepath.Join(shortDir(t), "s"))
	other.Metrics = c.Metrics
	checked, err := other.Check()
	require.NoError(t, err)
	_, err = Open(checked, p)
	require.EqualError(t, err, "metrics "+c.Metrics.String()+": address already in use")
	require.IsType(t, new(Fault), err.(interface{ Unwrap() []error }).Unwrap()[0])
	require.NoError(t, d.Close())
	again := open(t, c, p)
	require.NoError(t, again.Close())
}

func TestNobodyIsToldMetricsByDefault(t *testing.T) {
	p, _ := program()
	d := open(t, stubs(filepath.Join(shortDir(t), "s")), p)
	require.Nil(t, d.Metrics())
	require.NoError(t, d.Close())
}
