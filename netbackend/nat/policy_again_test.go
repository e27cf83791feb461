package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// newcomers are addresses that are not the host's yet. newcomerBench routes them to a link behind which nobody answers.
var newcomers = map[string]string{"IPv4": "203.0.113.9", "IPv6": "2001:db8:9::9"}

// takeoverBench is an engine on a host that can come to own the addresses of newcomers. Its services are on all its addresses.
type takeoverBench struct {
	*bench
	udp *net.UDPConn
	tcp *net.TCPListener
}

func newTakeoverBench(t *testing.T, s setup) *takeoverBench {
	t.Helper()
	link, far := neighbour(t, "192.0.2.1/24")
	address(t, link, "2001:db8:1::1/64")
	permitPings(t)
	for network, via := range map[string]string{"203.0.113.0/24": "192.0.2.2", "2001:db8:9::/64": "2001:db8:1::2"} {
		dst, err := netlink.ParseIPNet(network)
		require.NoError(t, err)
		require.NoError(t, netlink.NeighAdd(&netlink.Neigh{
			LinkIndex: link.Attrs().Index, State: netlink.NUD_PERMANENT, IP: net.ParseIP(via), HardwareAddr: far.Attrs().HardwareAddr,
		}))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(via)}))
	}
	b := &takeoverBench{bench: newBench(t, s)}
	b.Resolve()
	var err error
	b.udp, err = net.ListenUDP("udp", &net.UDPAddr{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.udp.Close() })
	b.tcp, err = net.ListenTCP("tcp", &net.TCPAddr{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.tcp.Close() })
	return b
}

// serviceAt returns a service of the host as a newcomer's.
func serviceAt(addr string, a net.Addr) netip.AddrPort {
	return netip.AddrPortFrom(netip.MustParseAddr(addr), addrPort(a).Port())
}

// own gives the host an address, and waits until it is there: one of IPv6 comes a moment later.
func own(t *testing.T, addr string) {
	t.Helper()
	a := netip.MustParseAddr(addr)
	address(t, up(t, "lo"), netip.PrefixFrom(a, a.BitLen()).String())
	require.Eventually(t, func() bool {
		routes, err := netlink.RouteGet(net.IP(a.AsSlice()))
		return err == nil && len(routes) == 1 && routes[0].Type == unix.RTN_LOCAL
	}, 2*time.Minute, time.Millisecond)
}

// disown takes it back.
func disown(t *testing.T, addr string) {
	t.Helper()
	a := netip.MustParseAddr(addr)
	parsed, err := netlink.ParseAddr(netip.PrefixFrom(a, a.BitLen()).String())
	require.NoError(t, err)
	require.NoError(t, netlink.AddrDel(up(t, "lo"), parsed))
}

// hearsNothing checks that none of the host's services was reached.
func (b *takeoverBench) hearsNothing() {
	b.t.Helper()
	require.NoError(b.t, b.udp.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, _, err := b.udp.ReadFromUDPAddrPort(make([]byte, 100))
	require.Error(b.t, err, "a datagram has reached the host")
	require.NoError(b.t, b.tcp.SetDeadline(time.Now().Add(50*time.Millisecond)))
	if c, err := b.tcp.Accept(); err == nil {
		require.NoError(b.t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := c.Read(make([]byte, 1))
		require.ErrorIs(b.t, err, unix.ECONNRESET, "a connection has reached the host, and stays")
	}
}

// from is the guest's end of a flow to an address.
func (b *takeoverBench) from(to netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(b.Source(to.Addr()), 1024)
}

func (b *takeoverBench) send(to netip.AddrPort) {
	b.SendDatagram(porttest.Datagram{Src: b.from(to), Dst: to, Payload: []byte("x")})
	b.Settle()
}

func TestDatagramsEndWhenTheirDestinationBecomesTheHosts(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for name, onePort := range map[string]bool{"a socket each": false, "one socket for all": true} {
		t.Run(name, func(t *testing.T) {
			b := newTakeoverBench(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = onePort }})
			defer func() { require.NoError(t, netlink.LinkDel(up(t, "near"))) }()
			before := b.Sockets()
			for _, addr := range newcomers {
				to := serviceAt(addr, b.udp.LocalAddr())
				b.send(to)
				require.Equal(t, before+1, b.Sockets(), "it leaves")
				own(t, addr)
				b.send(to)
				b.hearsNothing()
				require.Equal(t, before, b.Sockets(), "the flow has ended")
				disown(t, addr)
				b.send(to)
				require.Equal(t, before+1, b.Sockets(), "the address is another machine's again")
				own(t, addr)
				b.Settle()
				require.Equal(t, before, b.Sockets(), "without a frame of the guest's, too")
				disown(t, addr)
			}
			require.EqualValues(t, 4, b.port.Counters().Withdrawn)
		})
	}
}

func TestPingsEndWhenTheirDestinationBecomesTheHosts(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	before := b.Sockets()
	b.echo("203.0.113.9", 1, 1, []byte("x"))
	b.Settle()
	require.Equal(t, before+1, b.Sockets())
	own(t, "203.0.113.9")
	b.echo("203.0.113.9", 1, 2, []byte("x"))
	require.EqualValues(t, 13, b.told().Code, "prohibited, as a series that begins now")
	require.Equal(t, before, b.Sockets())
}

func TestConnectsThatAreUnderWayEndWhenTheirDestinationBecomesTheHosts(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	before := b.Sockets()
	for _, addr := range newcomers {
		service := serviceAt(addr, b.tcp.Addr())
		closed := netip.AddrPortFrom(service.Addr(), 9) // which the host itself would refuse, for another cause
		for _, to := range []netip.AddrPort{service, closed} {
			c := b.Dial(to)
			b.Settle()
			require.Equal(t, before+1, b.Sockets())
			own(t, addr)
			b.Until("it is refused", func() bool { return c.State == porttest.Refused })
			require.Equal(t, before, b.Sockets())
			b.hearsNothing()
			disown(t, addr)
		}
	}
	require.EqualValues(t, 4, endsOf(b.port)["ended_address_taken_over"])
}

// Who has sent to a forward of the guest's gets no answer where the address is the host's now: the guest would reach a service of
// the host that nobody opened.
func TestAnswersOfAForwardEndWhenTheirPeerBecomesTheHost(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	world.link("near", []string{"198.18.1.2/24"}, []string{"198.18.1.9/24"})
	a := newAnswering(t, world, setup{}, "udp:0.0.0.0:20020:80")
	client := a.client("198.18.1.9:4000", "198.18.1.2:20020")
	a.ask(client, numbered(1, 100))
	require.Len(t, a.port.Snapshot(a.Now()).Flows, 1)
	own(t, "198.18.1.9")
	host, err := net.ListenUDP("udp4", &net.UDPAddr{Port: 4000})
	require.NoError(t, err)
	defer host.Close()
	a.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(a.IP, 80), Dst: a.seen[0], Payload: []byte("late")})
	a.Settle()
	require.EqualValues(t, 1, a.port.Counters().Withdrawn)
	require.NoError(t, host.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	_, _, err = host.ReadFromUDPAddrPort(make([]byte, 100))
	require.Error(t, err, "the answer has reached the host")
}

// News that was lost is news of everything.
func TestDatagramsEndThoughTheNewsOfTheirDestinationIsLost(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	to := serviceAt("203.0.113.9", b.udp.LocalAddr())
	b.send(to)
	flood := &netlink.Route{LinkIndex: up(t, "near").Attrs().Index, Dst: prefix(t, "198.51.100.0/24"), Scope: netlink.SCOPE_LINK}
	for range 1500 { // the kernel keeps what fits the socket's buffer
		require.NoError(t, netlink.RouteAdd(flood))
		require.NoError(t, netlink.RouteDel(flood))
	}
	own(t, "203.0.113.9")
	b.send(to)
	b.hearsNothing()
	require.EqualValues(t, 1, b.port.Counters().Withdrawn)
}

// endsOf returns how connections have ended.
func endsOf(p *nat.Port) map[string]uint64 {
	ends := map[string]uint64{}
	for name, n := range p.Counters().Ends.All() {
		ends[name] = n
	}
	return ends
}

func TestAConnectIsJudgedAgainWhenItSucceeds(t *testing.T) {
	if inNamespace(t) {
		return
	}
	b := newTakeoverBench(t, setup{})
	c := b.Dial(serviceAt("203.0.113.9", b.tcp.Addr()))
	b.Settle()
	// The thread is away while the address comes and the kernel repeats its SYN. That the news is lost makes no difference: it
	// was read, and then the address came.
	own(t, "203.0.113.9")
	b.DropNews()
	require.NoError(t, b.tcp.SetDeadline(time.Now().Add(time.Minute)))
	host, err := b.tcp.Accept()
	require.NoError(t, err, "the kernel has connected to the host's own listener")
	b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	require.NoError(t, host.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = host.Read(make([]byte, 1))
	require.ErrorIs(t, err, unix.ECONNRESET)
}
