package nat_test

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/worker"
)

// newPolicy is that of the usual network with what change makes of it.
func newPolicy(t *testing.T, change func(*nat.Config)) *nat.Policy {
	t.Helper()
	c := nat.DefaultConfig()
	c.ResolvConf = ""
	change(&c)
	p, err := c.NewPolicy()
	require.NoError(t, err)
	return p
}

// opening is the policy that opens services of the host behind the router, by TCP and UDP.
func opening(t *testing.T, services ...netip.AddrPort) *nat.Policy {
	t.Helper()
	return newPolicy(t, func(c *nat.Config) {
		for _, s := range services {
			c.AllowHost = append(c.AllowHost, spec.HostService{Proto: tcp, Port: s.Port()}, spec.HostService{Proto: udp, Port: s.Port()})
		}
	})
}

// newService is a listener on the host's loopback, and where the guest finds it.
func (b *bench) newService() (*net.TCPListener, netip.AddrPort) {
	b.t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(porttest.FreePort(b.t)))
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = l.Close() })
	return l, netip.AddrPortFrom(b.Gateway, addrPort(l.Addr()).Port())
}

func TestAConnectionThatANewPolicyClosesEndsAndAnotherGoesOnWhole(t *testing.T) {
	b := newBench(t, setup{})
	second, other := b.newService()
	b.port.SetPolicy(opening(t, b.server, other))
	closed, closedHost := b.connect()
	kept := b.Connect(other)
	keptHost, err := second.AcceptTCP()
	require.NoError(t, err)
	defer keptHost.Close()

	const size = 1 << 20
	up, down := noise(size), noise(size+1)
	kept.Send(up)
	go func() { _, _ = keptHost.Write(down) }()
	b.Until("some bytes have come", func() bool { return len(kept.Received()) > size/8 })
	b.port.SetPolicy(opening(t, other))
	b.Until("the guest is told", func() bool { return closed.State == porttest.WasReset })
	require.NoError(t, closedHost.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = closedHost.Read(make([]byte, 1))
	require.ErrorIs(t, err, unix.ECONNRESET, "so is the host")

	requireSame(t, up, b.readSome(keptHost, size))
	kept.WaitFor(len(down))
	requireSame(t, down, kept.Received())
	kept.Close()
	require.NoError(t, b.readAll(keptHost).err)
	require.EqualValues(t, 1, b.port.Counters().Withdrawn)
	require.EqualValues(t, 1, endsOf(b.port)["ended_denied"])
}

func TestFlowsThatBeginAfterANewPolicyFollowIt(t *testing.T) {
	b := newBench(t, setup{})
	_, other := b.newService()
	state := func(to netip.AddrPort) porttest.State {
		c := b.Dial(to)
		b.Until("an answer to the SYN", func() bool { return c.State != porttest.SynSent })
		return c.State
	}
	require.Equal(t, porttest.Open, state(b.server))
	require.Equal(t, porttest.Refused, state(other))
	b.port.SetPolicy(opening(t, other))
	require.Equal(t, porttest.Refused, state(b.server), "in the turn that adopts it")
	require.Equal(t, porttest.Open, state(other))
	b.port.SetPolicy(opening(t, b.server))
	require.Equal(t, porttest.Open, state(b.server))
	require.Equal(t, porttest.Refused, state(other))
	require.Len(t, b.Notices(), 3, "the user is told of each denial under each policy")
}

func TestAConnectThatIsUnderWayEndsWhenANewPolicyClosesItsDestination(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	before := b.Sockets()
	for _, addr := range newcomers {
		to := netip.AddrPortFrom(netip.MustParseAddr(addr), 80)
		c := b.Dial(to)
		b.Settle()
		b.send(to)
		require.Equal(t, before+2, b.Sockets())
		b.port.SetPolicy(newPolicy(t, func(c *nat.Config) {
			c.Rules = []spec.Rule{{Prefix: netip.PrefixFrom(to.Addr(), to.Addr().BitLen())}}
		}))
		b.Until("it is refused", func() bool { return c.State == porttest.Refused })
		require.Equal(t, before, b.Sockets(), "the datagrams' flow has ended, too")
	}
	require.EqualValues(t, 2, endsOf(b.port)["ended_denied"])
	require.EqualValues(t, 4, b.port.Counters().Withdrawn)
}

// A policy that keeps flows closes their destinations for others only, also when the host's addresses change later. The next one judges
// them as ever.
func TestFlowsThatANewPolicyKeepsGoOn(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	before := b.Sockets()
	to, taken := netip.MustParseAddrPort("203.0.113.9:80"), serviceAt("2001:db8:9::9", b.udp.LocalAddr())
	connecting := b.Dial(to)
	b.Settle()
	b.send(to)
	b.send(taken)
	const flows = 3
	require.Equal(t, before+flows, b.Sockets())
	closed := newPolicy(t, func(c *nat.Config) { c.Restrict = true })
	b.port.SetPolicy(closed.KeepingFlows())
	b.send(to)
	b.send(taken)
	require.Equal(t, porttest.SynSent, connecting.State)
	require.Equal(t, before+flows, b.Sockets(), "they go on")
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 1025), Dst: to, Payload: []byte("x")})
	b.Settle()
	require.Equal(t, before+flows, b.Sockets(), "no others begin")

	dst, err := netlink.ParseIPNet("203.0.113.9/32")
	require.NoError(t, err)
	route := &netlink.Route{LinkIndex: up(t, "near").Attrs().Index, Dst: dst, Gw: net.ParseIP("192.0.2.2")}
	require.NoError(t, netlink.RouteAdd(route))
	require.NoError(t, netlink.RouteDel(route)) // one that ends may have stood in front of a route to the host
	b.send(to)
	require.Equal(t, before+flows, b.Sockets(), "there is news of the destination, which is not the host's")
	own(t, taken.Addr().String())
	b.send(taken)
	b.hearsNothing()
	require.Equal(t, before+flows-1, b.Sockets(), "what has become the host's has ended")
	require.EqualValues(t, 1, b.port.Counters().Withdrawn)

	b.port.SetPolicy(closed)
	b.Until("they have ended", func() bool { return b.Sockets() == before })
	require.Equal(t, porttest.Refused, connecting.State)
}

func TestWhatTheHostBeganGoesOnUnderANewPolicy(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	host := dial()
	guest := l.Accept()
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Restrict = true }))
	guest.Send(noise(100))
	requireSame(t, noise(100), b.readSome(host, 100))
	require.Zero(t, b.port.Counters().Withdrawn)
}

func TestANewPolicyChoosesWhichResolversAreAsked(t *testing.T) {
	first, second := newResolver(t, "127.0.0.1", always(noError)), newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{}, first.addr)
	require.EqualValues(t, noError, b.asks(1024, "a"))
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Restrict, c.Resolvers = true, dns.Plain(second.addr) }))
	require.EqualValues(t, noError, b.asks(1025, "b"))
	require.Equal(t, []int{1, 1}, []int{first.queries(), second.queries()})
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Restrict = true }))
	require.NotEqualValues(t, noError, b.asks(1026, "c"), "nobody is asked")
	require.Equal(t, []int{1, 1}, []int{first.queries(), second.queries()})
}

func TestAPolicyThatIsWrongIsRefused(t *testing.T) {
	c := nat.DefaultConfig()
	c.AllowHost = []spec.HostService{{Proto: tcp, Addr: netip.MustParseAddr("10.0.2.77"), Port: 80}}
	c.Rules = []spec.Rule{{}}
	c.Resolvers = dns.Plain(netip.MustParseAddrPort("10.0.2.77:53"))
	p, err := c.NewPolicy()
	require.ErrorContains(t, err, "3 errors occurred")
	require.Nil(t, p)
}

// follow has all threads of the bench take a turn.
func (h *hopper) follow() {
	for i := range h.ports {
		require.NoError(h.t, h.device.Do(i, func(*worker.Thread) {}))
	}
}

func TestAllQueuePairsFollowANewPolicy(t *testing.T) {
	b, h := newQueues(t, 4)
	second, other := b.newService()
	go echo(b.listen)
	go echo(second)
	b.port.SetPolicy(opening(t, b.server, other))
	h.follow()
	const each = 40
	var closed, kept []*porttest.TCP
	for range each {
		closed, kept = append(closed, b.Connect(b.server)), append(kept, b.Connect(other))
	}
	for i, c := range kept {
		c.Send(noise(5000 + i))
	}
	h.ports[3].SetPolicy(opening(t, other))
	h.follow()
	b.Until("all that is closed has ended", func() bool {
		return !slices.ContainsFunc(closed, func(c *porttest.TCP) bool { return c.State != porttest.WasReset })
	})
	for i, c := range kept {
		c.WaitFor(5000 + i)
		requireSame(t, noise(5000+i), c.Received())
	}
	withdrawn, pairs := uint64(0), 0
	for _, c := range h.counters() {
		withdrawn += c.Withdrawn
		if c.Withdrawn > 0 {
			pairs++
		}
	}
	require.EqualValues(t, each, withdrawn)
	require.Greater(t, pairs, 1, "the connections were on several pairs")
}

// Connections move between pairs while each of these adopts the policy in its own turn.
func TestFlowsThatMoveBetweenQueuePairsFollowANewPolicy(t *testing.T) {
	b, h := newQueues(t, 4)
	second, other := b.newService()
	go echo(second)
	both, one := opening(t, b.server, other), opening(t, b.server)
	for range 10 {
		b.port.SetPolicy(both)
		h.follow()
		var all []*porttest.TCP
		for range 8 {
			c := b.Connect(other)
			c.Send(noise(20000))
			all = append(all, c)
		}
		var change sync.WaitGroup
		change.Go(func() { b.port.SetPolicy(one) })
		b.Until("they have ended", func() bool {
			h.follow()
			return !slices.ContainsFunc(all, func(c *porttest.TCP) bool { return !c.Ended() })
		})
		change.Wait()
	}
	require.NotZero(t, h.moved())
}

// A connection that moves between pairs right after two policies, of which the first has judged flows, is kept by the second one.
func TestFlowsThatMoveBetweenQueuePairsAreKept(t *testing.T) {
	b, h := newQueues(t, 4)
	second, other := b.newService()
	go echo(second)
	b.port.SetPolicy(opening(t, b.server, other))
	h.follow()
	var all []*porttest.TCP
	for range 8 {
		all = append(all, b.Connect(other))
	}
	b.port.SetPolicy(opening(t, other))
	h.follow()
	b.port.SetPolicy(opening(t, b.server).KeepingFlows())
	h.follow()
	before := h.moved()
	for i, c := range all {
		c.Send(noise(20000 + i))
	}
	for i, c := range all {
		c.WaitFor(20000 + i)
		requireSame(t, noise(20000+i), c.Received())
	}
	require.Greater(t, h.moved(), before)
}

// manyClosed are rules that close n addresses, none of which is asked for.
func manyClosed(n int) (list []spec.Rule) {
	for i := range n {
		list = append(list, spec.Rule{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32)})
	}
	return list
}

func TestAPolicyOfTenThousandRulesIsAdoptedWithFlowsOpen(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	before := b.Sockets()
	kept := netip.MustParseAddrPort("203.0.113.9:80")
	const flows = 500
	for i := range flows {
		b.SendDatagram(porttest.Datagram{
			Src: netip.AddrPortFrom(b.IP, uint16(2000+i)), Dst: netip.AddrPortFrom(netip.MustParseAddr("203.0.113.10"), 80), Payload: []byte("x"),
		})
		b.Work()
	}
	b.send(kept)
	require.Equal(t, before+flows+1, b.Sockets())
	list := append(manyClosed(10000), spec.Rule{Prefix: netip.MustParsePrefix("203.0.113.10/32")})
	after := newPolicy(t, func(c *nat.Config) { c.Rules = list })
	b.port.SetPolicy(after)
	b.Until("all that are closed have ended", func() bool { return b.Sockets() == before+1 })
	require.EqualValues(t, flows, b.port.Counters().Withdrawn)
}

// A turn judges few flows, whatever there is to judge, and the next one goes on.
func TestANewPolicyJudgesFlowsInSlices(t *testing.T) {
	b := newBench(t, setup{})
	second, other := b.newService()
	b.port.SetPolicy(opening(t, b.server, other))
	const flows = 400
	for i := range flows {
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(netip.MustParseAddr("10.0.2.15"), uint16(2000+i)), Dst: b.server, Payload: []byte("x")})
	}
	b.Until("all are there", func() bool { return flowsOf(b) == flows })
	kept := b.Connect(other)
	keptHost, err := second.AcceptTCP()
	require.NoError(t, err)
	defer keptHost.Close()

	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) {
		c.Rules = manyClosed(nat.MaxRules)
		c.AllowHost = []spec.HostService{{Proto: tcp, Port: other.Port()}}
	}))
	turns, before := 0, uint64(0)
	for ; before < flows; turns++ {
		b.Turn()
		now := b.port.Counters().Withdrawn
		require.LessOrEqual(t, now-before, uint64(10), "200 µs, of which one that ends takes 20")
		before = now
		require.Less(t, turns, 10*flows)
	}
	require.GreaterOrEqual(t, turns, flows/10)
	kept.Send([]byte("still here"))
	require.Equal(t, "still here", string(b.readSome(keptHost, 10)))
	require.Equal(t, 1, flowsOf(b))
}
