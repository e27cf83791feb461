package nat_test

import (
	"fmt"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// caller is a program of the guest with one port, that sends to one service and waits for the echo.
type caller struct {
	*bench
	to, from netip.AddrPort
	n        int
}

func newCaller(b *bench, to string) *caller {
	b.t.Helper()
	if c := at(to); !c.Addr().IsPrivate() {
		awaitRoute(b.t, to)
	}
	c := &caller{bench: b, to: at(to), from: netip.AddrPortFrom(b.IP, 4500)}
	if c.to.Addr().Is6() {
		c.from = netip.AddrPortFrom(b.IP6, 4500)
	}
	return c
}

// send sends one datagram.
func (c *caller) send() (payload []byte) {
	c.n++
	payload = numbered(c.n, 100)
	c.SendDatagram(porttest.Datagram{Src: c.from, Dst: c.to, Payload: payload})
	return payload
}

// call sends a datagram, and waits for its echo. The guest must be told of no error.
func (c *caller) call() {
	c.t.Helper()
	want := c.send()
	c.Until("the echo", func() bool {
		for _, f := range c.Frames() {
			require.False(c.t, f.ICMP != nil && (f.ICMP.Type == 3 || f.ICMP.Type == 1), "an error from %s: %v", f.Src, f.ICMP)
		}
		for _, d := range c.Datagrams() {
			require.Equal(c.t, c.to, d.Src)
			requireSame(c.t, want, d.Payload)
			return true
		}
		return false
	})
}

// reach sends until there is an echo: a network that was just made may need a moment.
func (c *caller) reach() {
	c.t.Helper()
	const patience = 1000
	for range patience {
		c.send()
		echoed, failed := false, false
		c.Until("an echo or an error", func() bool {
			for _, f := range c.Frames() {
				failed = failed || f.ICMP != nil && (f.ICMP.Type == 3 || f.ICMP.Type == 1)
			}
			echoed = echoed || len(c.Datagrams()) > 0
			return echoed || failed
		})
		if echoed {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	require.Fail(c.t, "there is no way", "to %v", c.to)
}

// families are the addresses of a host and of a service, on two links, in both versions of IP.
var families = map[string]struct{ near, other, far, near2, far2, service, all string }{
	"IPv4": {
		"192.0.2.1/24", "192.0.2.60/24", "192.0.2.9/24", "203.0.113.1/24", "203.0.113.9/24", "198.51.100.9", "198.51.100.0/24",
	},
	"IPv6": {
		"2001:db8:1::2/64", "2001:db8:1::60/64", "2001:db8:1::9/64", "2001:db8:2::2/64", "2001:db8:2::9/64", "2001:db8:9::9",
		"2001:db8:9::/64",
	},
}

// addressOf is an address without the length of its network.
func addressOf(prefix string) string { return netip.MustParsePrefix(prefix).Addr().String() }

// An association goes on by a new address as soon as the old one is gone, in whatever way it leaves.
func TestTheGuestsUDPOutlivesTheHostsAddress(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for family, a := range families {
		for _, mapped := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, mapped %v", family, mapped), func(t *testing.T) {
				world := newElsewhere(t)
				link := world.link("near", []string{a.near}, []string{a.far})
				defer func() { require.NoError(t, netlink.LinkDel(link)) }()
				service := netip.AddrPortFrom(netip.MustParseAddr(addressOf(a.far)), 9).String()
				echo := world.echo(service)
				b := newBench(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = mapped }})
				b.Resolve()
				c := newCaller(b, service)
				c.call()
				c.call()
				require.Equal(t, addressOf(a.near), echo.last().Addr().String())
				before := b.Sockets()

				address(t, link, a.near2) // a change just before, so that the next one is not counted yet
				b.Settle()
				c.call()
				removeAddress(t, link, a.near)
				address(t, link, a.other)
				if family == "IPv6" {
					b.Run(time.Second) // IPv4 refuses to send from an address that is gone; in IPv6 only the news tells
				}
				c.call()
				require.Equal(t, addressOf(a.other), echo.last().Addr().String())
				port := echo.last()
				c.call()
				require.Equal(t, port, echo.last(), "what is right stays")
				require.Equal(t, before, b.Sockets())
				if !mapped {
					require.EqualValues(t, 1, b.port.Counters().SourcesMoved)
				}
			})
		}
	}
}

// With another way into the world, answers would not come back to the address of the old one.
func TestTheGuestsUDPFollowsTheRoute(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for family, a := range families {
		t.Run(family, func(t *testing.T) {
			world := newElsewhere(t)
			first := world.link("near", []string{a.near}, []string{a.far})
			second := world.link("near2", []string{a.near2}, []string{a.far2})
			defer func() { require.NoError(t, netlink.LinkDel(first)); require.NoError(t, netlink.LinkDel(second)) }()
			world.do(func() { address(t, up(t, "lo"), a.service+hostBits(a.service)) })
			service := netip.AddrPortFrom(netip.MustParseAddr(a.service), 9).String()
			echo := world.echo(service)
			routeBy(t, first, a.all, addressOf(a.far), 100)
			b := newBench(t, setup{})
			b.Resolve()
			c := newCaller(b, service)
			c.reach()
			require.Equal(t, addressOf(a.near), echo.last().Addr().String())

			routeBy(t, second, a.all, addressOf(a.far2), 50)
			b.Run(time.Second) // news is read a few times a second
			c.call()
			require.Equal(t, addressOf(a.near2), echo.last().Addr().String(), "a better route, both addresses are left")

			require.NoError(t, netlink.LinkSetDown(second))
			b.Run(time.Second) // news is read a few times a second
			c.call()
			require.Equal(t, addressOf(a.near), echo.last().Addr().String(), "the link is gone")
		})
	}
}

// hostBits is the length of a network that is one address.
func hostBits(addr string) string {
	return fmt.Sprintf("/%d", netip.MustParseAddr(addr).BitLen())
}

// An address that is only not preferred any more is kept as long as the host has it, for peers know the guest by it.
func TestTheGuestsUDPKeepsAnAddressThatIsStillGood(t *testing.T) {
	if inNamespace(t) {
		return
	}
	a := families["IPv6"]
	world := newElsewhere(t)
	link := world.link("near", []string{a.near}, []string{a.far})
	service := "[" + addressOf(a.far) + "]:9"
	echo := world.echo(service)
	b := newBench(t, setup{})
	b.Resolve()
	c := newCaller(b, service)
	c.call()
	known := echo.last()

	address(t, link, a.other)
	old, err := netlink.ParseAddr(a.near)
	require.NoError(t, err)
	old.PreferedLft, old.ValidLft = 0, math.MaxUint32 // for ever
	require.NoError(t, netlink.AddrReplace(link, old))
	b.Run(time.Second)
	c.call()
	require.Equal(t, known, echo.last())
	fresh := newCaller(b, service)
	fresh.from = netip.AddrPortFrom(b.IP6, 4501)
	fresh.call()
	require.Equal(t, addressOf(a.other), echo.last().Addr().String(), "what begins now has the preferred one")

	removeAddress(t, link, a.near)
	b.Run(time.Second)
	c.call()
	require.Equal(t, addressOf(a.other), echo.last().Addr().String())
}

// Without a network the guest is told, and a flow that gets nothing through ends though the guest goes on sending.
func TestAFlowThatLeadsNowhereIsNotProlonged(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for _, mapped := range []bool{false, true} {
		t.Run(fmt.Sprintf("mapped %v", mapped), func(t *testing.T) {
			a := families["IPv4"]
			world := newElsewhere(t)
			link := world.link("near", []string{a.near}, []string{a.far})
			defer func() { require.NoError(t, netlink.LinkDel(link)) }()
			service := addressOf(a.far) + ":9"
			world.echo(service)
			b := newBench(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = mapped }})
			b.Resolve()
			c := newCaller(b, service)
			for range 30 {
				c.call()
				b.Run(10 * time.Second)
			}
			require.EqualValues(t, 1, b.port.Counters().UDPFlows, "what gets through prolongs")

			require.NoError(t, netlink.LinkSetDown(link))
			for range 12 {
				b.Frames()
				c.send()
				require.EqualValues(t, 0, b.told().Code)
				b.Run(10 * time.Second)
			}
			require.Zero(t, b.port.Counters().UDPExpired)
			require.NoError(t, netlink.LinkSetUp(link))
			b.Frames()
			c.call()
			require.EqualValues(t, 1, b.port.Counters().UDPFlows, "after two minutes the network is back")

			require.NoError(t, netlink.LinkSetDown(link))
			for range 20 {
				c.send()
				b.Run(10 * time.Second)
			}
			require.EqualValues(t, 1, b.port.Counters().UDPExpired)
			require.Equal(t, mapped, b.Sockets() == 1, "a mapping needs no route to begin anew")
			require.NoError(t, netlink.LinkSetUp(link))
			b.Frames()
			c.call()
		})
	}
}

func TestPingsOutliveTheHostsAddress(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	a := families["IPv4"]
	world := newElsewhere(t)
	link := world.link("near", []string{a.near}, []string{a.far})
	b := newBench(t, setup{})
	b.Resolve()
	b.echo(addressOf(a.far), 7, 1, noise(56))
	b.reply()
	removeAddress(t, link, a.near)
	address(t, link, a.other)
	b.Frames()
	b.echo(addressOf(a.far), 7, 2, noise(56))
	require.EqualValues(t, 7<<16|2, b.reply().ICMP.Rest)
	require.EqualValues(t, 1, b.port.Counters().PingFlows)
	require.Zero(t, b.port.Counters().Unreachables)

	require.NoError(t, netlink.LinkSetDown(link))
	for range 8 {
		b.echo(addressOf(a.far), 7, 3, nil)
		b.Run(10 * time.Second)
	}
	require.Zero(t, b.Sockets(), "what is refused does not prolong a series")
}

// A query that is repeated from the same port reaches the resolver by the new address: it has a socket of its own.
func TestQueriesOutliveTheHostsAddress(t *testing.T) {
	if inNamespace(t) {
		return
	}
	a := families["IPv4"]
	world := newElsewhere(t)
	link := world.link("near", []string{a.near}, []string{a.far})
	resolver := addressOf(a.far) + ":53"
	echo := world.echo(resolver)
	b := newBench(t, setup{config: func(c *nat.Config) { c.Resolvers = dns.Plain(at(resolver)) }})
	b.Resolve()
	from := func(addr string) func() bool {
		return func() bool { return echo.last().Addr().String() == addressOf(addr) }
	}
	b.ask(1024, question(1, "a"))
	b.Until("the query arrives", from(a.near))
	removeAddress(t, link, a.near)
	address(t, link, a.other)
	b.ask(1024, question(1, "a"))
	b.Until("it is repeated by the new address", from(a.other))
	require.Empty(t, b.Datagrams(), "it has not failed")
}
