package nat

import (
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

func TestForwardsOverlapIfTheyWantTheSamePort(t *testing.T) {
	for _, c := range []struct{ a, b, both string }{
		{"80:80", "80:81", "port 80 of the host"},
		{"80:80", "81:80", ""},
		{"0.0.0.0%lo:80:80", "0.0.0.0%eth0:80:80", ""},
		{"0.0.0.0%lo:80:80", "0.0.0.0:80:80", "port 80 of the host"},
		{"80:80", "udp:80:80", ""},
		{"80:80", "127.0.0.2:80:80", ""},
		{"80:80", "0.0.0.0:80:80", "port 80 of the host"},
		{"70-79:70-79", "79-90:79-90", "port 79 of the host"},
		{"70-79:70-79", "80-90:80-90", ""},
		{"1-65535:1-65535", "65535:1", "port 65535 of the host"},
		{"0.0.0.0:80:80", "[::]:80:80", ""},
		{"[::]:80:80", "[::1]:80:[fd00:10:0:2::15]:80", "port 80 of the host"},
		{"unix:/tmp/b:80", "unix:/tmp/./b:81", "the socket /tmp/b"},
		{"unix:/tmp/b:80", "unix:/tmp/c:80", ""},
		{"unix:/tmp/b:80", "80:80", ""},
	} {
		a, err := spec.ParseForward(c.a)
		require.NoError(t, err)
		b, err := spec.ParseForward(c.b)
		require.NoError(t, err)
		cfg := DefaultConfig()
		for _, cfg.Forwards = range [][]spec.Forward{{a, b}, {b, a}} {
			if c.both == "" {
				require.NoError(t, cfg.Check(), "%s %s", a, b)
				continue
			}
			require.ErrorContains(t, cfg.Check(), "both want "+c.both)
		}
	}
}

func TestPortsThatAreTakenAreLeftOutIfTheForwardSaysSo(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	port := taken.Addr().(*net.TCPAddr).AddrPort().Port()
	forwards := func(text string) ([]*forwardset.Forward, error) {
		f, err := spec.ParseForward(text)
		require.NoError(t, err)
		return listenAll(&Config{Forwards: []spec.Forward{f}, Guest: netip.MustParseAddr("10.0.2.15")})
	}
	_, err = forwards(fmt.Sprintf("if-free:%d:80", port))
	require.ErrorContains(t, err, "none of 1 ports", "there is nothing else")
	_, err = forwards(fmt.Sprintf("%d-%d:80-81", port-1, port))
	require.Error(t, err)
	opened, err := forwards(fmt.Sprintf("if-free:%d-%d:80-81", port-1, port))
	require.NoError(t, err)
	require.Len(t, opened, 1)
	require.Equal(t, port-1, opened[0].Spec.Host.Port())
	closeAll(opened)
}

func TestAServiceOfTheHostsLoopbackIsFoundAtTheRouter(t *testing.T) {
	cfg := DefaultConfig()
	require.NoError(t, cfg.SetNetwork6(netip.MustParsePrefix("fd00:10:0:2::/64")))
	for text, want := range map[string]struct{ v4, v6 bool }{
		"tcp:80":           {true, true},
		"tcp:127.0.0.1:80": {true, false},
		"tcp:[::1]:80":     {false, true},
	} {
		var err error
		cfg.AllowHost, err = spec.ParseHostServices(text)
		require.NoError(t, err)
		goesTo := func(to netip.Addr) policy.Verdict { return judged(t, &cfg, netpkt.TCP, netip.AddrPortFrom(to, 80)) }
		require.Equal(t, want.v4, goesTo(cfg.Gateway) == policy.Allowed, text)
		require.Equal(t, want.v6, goesTo(cfg.Gateway6) == policy.Allowed, text)
	}
}
