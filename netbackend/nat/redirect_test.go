package nat_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// redirects reads redirects.
func redirects(t testing.TB, texts ...string) (all []spec.Redirect) {
	t.Helper()
	for _, text := range texts {
		r, err := spec.ParseRedirect(text)
		require.NoError(t, err)
		all = append(all, r)
	}
	return all
}

// redirecting is the policy with some redirects and nothing else.
func redirecting(t *testing.T, texts ...string) *nat.Policy {
	t.Helper()
	return newPolicy(t, func(c *nat.Config) { c.Redirects = redirects(t, texts...) })
}

func TestAConnectionIsLedToWhereARedirectSays(t *testing.T) {
	for name, c := range map[string]struct{ redirect, dial string }{
		"a port of an address of the guest's network": {"tcp:10.0.2.100:80=HOST", "10.0.2.100:80"},
		"all of such an address":                      {"10.0.2.100=127.0.0.1", "10.0.2.100:PORT"},
		"a port of the router":                        {"tcp:10.0.2.2:80=HOST", "10.0.2.2:80"},
		"all of the router":                           {"10.0.2.2=127.0.0.1", "10.0.2.2:PORT"},
		"a port of an address beyond":                 {"tcp:198.51.100.7:443=HOST", "198.51.100.7:443"},
		"an address of IPv6":                          {"tcp:[fd00:10:0:2::100]:80=HOST", "[fd00:10:0:2::100]:80"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{closed: true, config: func(c *nat.Config) { c.Restrict = true }}) // nothing goes to addresses beyond
			l, service := b.newService()
			fill := strings.NewReplacer("HOST", l.Addr().String(), "PORT", portText(service))
			to := netip.MustParseAddrPort(fill.Replace(c.dial))
			before := b.Dial(to)
			b.Until("the connection is refused", func() bool { return before.State != porttest.SynSent })
			require.Equal(t, porttest.Refused, before.State, "without the redirect nobody is there")

			b.port.SetPolicy(redirecting(t, fill.Replace(c.redirect)))
			conn := b.Connect(to)
			host, err := l.AcceptTCP()
			require.NoError(t, err)
			defer host.Close()
			conn.Send([]byte("up"))
			require.Equal(t, "up", string(b.readSome(host, 2)))
			_, err = host.Write([]byte("down"))
			require.NoError(t, err)
			conn.WaitFor(4)
			require.Equal(t, "down", string(conn.Received()))
		})
	}
}

func portText(a netip.AddrPort) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

func TestADatagramIsLedAndItsAnswerComesFromWhereTheGuestHasSentTo(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.Redirects = redirects(t, "udp:10.0.2.100=127.0.0.1") }})
	b.Resolve()
	to := netip.AddrPortFrom(netip.MustParseAddr("10.0.2.100"), echoDatagrams(t))
	b.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:1024"), Dst: to, Payload: []byte("question")})
	var got []*porttest.Datagram
	b.Until("the answer", func() bool { got = append(got, b.Datagrams()...); return len(got) > 0 })
	require.Equal(t, to, got[0].Src)
	require.Equal(t, "question", string(got[0].Payload))
}

func TestARedirectOpensItsDestinationAlone(t *testing.T) {
	b := newBench(t, setup{closed: true})
	l, service := b.newService()
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) {
		c.Restrict, c.Redirects = true, redirects(t, "tcp:10.0.2.100:80="+l.Addr().String())
	}))
	for to, want := range map[string]porttest.State{
		"10.0.2.100:80":                  porttest.Open, // --restrict does not close what was wanted
		"10.0.2.100:81":                  porttest.Refused,
		"10.0.2.101:80":                  porttest.Refused,
		"10.0.2.2:" + portText(service):  porttest.Refused,
		"127.0.0.1:" + portText(service): porttest.Refused,
	} {
		c := b.Dial(netip.MustParseAddrPort(to))
		b.Until("an answer to the SYN", func() bool { return c.State != porttest.SynSent })
		require.Equal(t, want, c.State, to)
	}
}

func TestAPortIsAnExceptionFromARedirectOfAllPorts(t *testing.T) {
	b := newBench(t, setup{closed: true})
	one, _ := b.newService()
	_, at := b.newService()
	b.port.SetPolicy(redirecting(t, "10.0.2.100=127.0.0.1", "tcp:10.0.2.100:"+portText(at)+"="+one.Addr().String()))
	b.Connect(netip.AddrPortFrom(netip.MustParseAddr("10.0.2.100"), at.Port()))
	require.NoError(t, one.SetDeadline(time.Now().Add(time.Minute)))
	host, err := one.AcceptTCP()
	require.NoError(t, err)
	require.NoError(t, host.Close())
}

func TestAConnectionEndsWithItsRedirect(t *testing.T) {
	b := newBench(t, setup{closed: true})
	l, _ := b.newService()
	b.port.SetPolicy(redirecting(t, "tcp:10.0.2.100:80="+l.Addr().String()))
	c := b.Connect(netip.MustParseAddrPort("10.0.2.100:80"))
	b.port.SetPolicy(redirecting(t))
	b.Until("the guest is told", func() bool { return c.State == porttest.WasReset })
}

func TestRedirectedAddressesOfTheGuestsNetworkAnswerAsTheRouterDoes(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.Redirects = redirects(t, "tcp:10.0.2.100:80=127.0.0.1:80") }})
	b.Resolve()
	for address, want := range map[string]uint8{"10.0.2.100": 0, "10.0.2.101": 3} { // echo reply, or unreachable
		b.SendICMP(netip.MustParseAddr(address), porttest.ICMP{Type: 8, Rest: 7, Payload: noise(9)})
		kind := uint8(255)
		b.Until("an answer", func() bool {
			for _, f := range b.Frames() {
				if f.ICMP != nil {
					kind = f.ICMP.Type
				}
			}
			return kind != 255
		})
		require.Equal(t, want, kind, address)
	}
}

func TestARedirectThatCannotBeIsRefused(t *testing.T) {
	for text, part := range map[string]string{
		"10.0.2.15=127.0.0.1":                           "10.0.2.15 is the guest itself",
		"10.0.2.100=10.0.2.2":                           "10.0.2.2 is in the guest's own network",
		"tcp:10.0.2.100:80=127.0.0.1":                   "write a port on both sides",
		"10.0.2.100=127.0.0.1 tcp:10.0.2.100=127.0.0.2": "says otherwise where that leads",
		"127.0.0.1=127.0.0.1":                           "127.0.0.1 is no address of one host that the guest can name",
		"224.0.0.1=127.0.0.1":                           "224.0.0.1 is no address of one host that the guest can name",
		"10.0.2.100=0.0.0.0":                            "0.0.0.0 is no address of one host",
	} {
		c := nat.DefaultConfig()
		c.Redirects = redirects(t, strings.Fields(text)...)
		require.ErrorContains(t, c.Check(), part, text)
	}
	c := nat.DefaultConfig()
	c.Redirects = make([]spec.Redirect, nat.MaxRedirects+1)
	require.ErrorContains(t, c.Check(), "1025 redirects: there may be 1024")
	c.Redirects, c.EndpointIndependent = redirects(t, "10.0.2.100=127.0.0.1"), true
	require.ErrorContains(t, c.Check(), "redirect TCP only")
	c.Redirects = redirects(t, "tcp:10.0.2.100=127.0.0.1")
	require.NoError(t, c.Check())
}

func TestAnAddressIsAnsweredForByARPAsLongAsARedirectNamesIt(t *testing.T) {
	b := newBench(t, setup{})
	asked := netip.MustParseAddr("10.0.2.100")
	answered := func() (yes bool) {
		b.Frames()
		b.SendFrame(slices.Concat([]byte{255, 255, 255, 255, 255, 255}, b.MAC[:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1}, b.MAC[:],
			b.IP.AsSlice(), make([]byte, 6), asked.AsSlice()))
		b.Settle()
		for _, f := range b.Frames() {
			yes = yes || f.ARP != nil && netip.AddrFrom4([4]byte(f.ARP.ProtocolAddressSender())) == asked
		}
		return yes
	}
	require.False(t, answered())
	b.port.SetPolicy(redirecting(t, "tcp:10.0.2.100:80=127.0.0.1:80"))
	require.True(t, answered())
	b.port.SetPolicy(redirecting(t))
	require.False(t, answered())
}
