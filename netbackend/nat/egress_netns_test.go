package nat_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// twoWays is a host with two interfaces that both lead to somebody elsewhere, who answers there by UDP and TCP at the same addresses. The
// host's routes lead by the one called near.
type twoWays struct {
	*elsewhere
	near, tunnel netlink.Link
	echoes       *echoService
	accepted     chan *net.TCPConn
}

// served are where services answer.
const served4, served6 = "203.0.113.7:7", "[2001:db8:7::7]:7"

func newTwoWays(t *testing.T) *twoWays {
	t.Helper()
	permitPings(t)
	w := &twoWays{elsewhere: newElsewhere(t), accepted: make(chan *net.TCPConn, 16)}
	w.near = w.link("near", []string{"198.18.1.2/24", "2001:db8:1::2/64"}, []string{"198.18.1.9/24", "2001:db8:1::9/64"})
	w.tunnel = w.link("tun", []string{"198.18.2.2/24", "198.18.2.3/24", "2001:db8:2::2/64"}, []string{"198.18.2.9/24", "2001:db8:2::9/64"})
	w.do(func() {
		lo := up(t, "lo")
		address(t, lo, "203.0.113.7/32")
		address(t, lo, "2001:db8:7::7/128")
		for _, at := range []string{served4, served6} {
			l, err := net.Listen("tcp", at)
			require.NoError(t, err)
			t.Cleanup(func() { _ = l.Close() })
			go func() {
				for {
					c, err := l.Accept()
					if err != nil {
						return
					}
					w.accepted <- c.(*net.TCPConn)
				}
			}()
		}
	})
	w.echoes = w.echo(served4)
	for gateway, link := range map[string]netlink.Link{"198.18.1.9": w.near, "198.18.2.9": w.tunnel} {
		metric := 1
		if link == w.tunnel {
			metric = 100
		}
		routeBy(t, link, "203.0.113.0/24", gateway, metric)
	}
	routeBy(t, w.near, "2001:db8:7::/64", "2001:db8:1::9", 1)
	routeBy(t, w.tunnel, "2001:db8:7::/64", "2001:db8:2::9", 100)
	return w
}

// leaving is a guest whose packets leave by a way.
func (w *twoWays) leaving(text string, change func(*nat.Config)) *bench {
	b := newBench6(w.t, setup{config: func(c *nat.Config) {
		c.Way = way(w.t, text, nil)
		if change != nil {
			change(c)
		}
	}})
	b.Resolve()
	b.Frames()
	return b
}

// from returns who has connected elsewhere.
func (w *twoWays) from(b *bench, to string) string {
	w.t.Helper()
	b.Connect(at(to))
	select {
	case c := <-w.accepted:
		w.t.Cleanup(func() { _ = c.Close() })
		return addrPort(c.RemoteAddr()).Addr().String()
	case <-time.After(time.Minute):
		w.t.Fatal("nobody has connected")
		return ""
	}
}

// sends lets the guest send a datagram, and returns who sent it elsewhere.
func (w *twoWays) sends(b *bench, port uint16) string {
	w.t.Helper()
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, port), Dst: at(served4), Payload: []byte("x")})
	b.Until("the answer", func() bool { return len(b.Datagrams()) > 0 })
	return w.echoes.last().Addr().String()
}

func TestWhatTheGuestSendsLeavesByItsInterface(t *testing.T) {
	if inNamespace(t) {
		return
	}
	w := newTwoWays(t)
	b := w.leaving("", nil)
	require.Equal(t, "198.18.1.2", w.from(b, served4), "without a way the routes decide")
	b = w.leaving("interface=tun", nil)
	require.Equal(t, "198.18.2.2", w.from(b, served4))
	require.Equal(t, "2001:db8:2::2", w.from(b, served6))
	require.Equal(t, "198.18.2.2", w.sends(b, 4000))
	x := b.explain("tcp:" + served4)
	require.Equal(t, "198.18.2.2", x.Source.String())
	require.Equal(t, "interface=tun", x.Way.String())
	b = w.leaving("interface6=tun", nil)
	require.Equal(t, "198.18.1.2", w.from(b, served4))
	require.Equal(t, "2001:db8:2::2", w.from(b, served6))
	b = w.leaving("address=198.18.2.3", nil)
	require.Equal(t, "198.18.2.3", w.from(b, served4))
	require.Equal(t, "198.18.2.3", w.sends(b, 4000))
	b = w.leaving("", func(c *nat.Config) {
		r, err := spec.ParseRule("203.0.113.0/24;interface=tun", true)
		require.NoError(t, err)
		c.Rules = []spec.Rule{r}
	})
	require.Equal(t, "198.18.2.2", w.from(b, served4), "by rule")
	require.Equal(t, "2001:db8:1::2", w.from(b, served6), "which is about IPv4")
}

// With its interface down, or away, nothing of the guest's leaves by another one, whatever has begun before and whatever changes: no
// connection, datagram, ping or query.
func TestNothingLeavesBesideAnInterfaceThatIsDown(t *testing.T) {
	if inNamespace(t) {
		return
	}
	w := newTwoWays(t)
	resolver := at("203.0.113.7:7")
	b := w.leaving("interface=tun", func(c *nat.Config) { c.Resolvers = dns.Plain(resolver) })
	require.Equal(t, "198.18.2.2", w.sends(b, 4000), "a flow that goes on")
	before := w.received(t)
	try := func(what string) {
		b.Settle()
		b.Frames()
		conn := b.Dial(at(served4))
		b.Until("the guest is told", func() bool {
			return len(unreachables(b.Frames())) > 0 || conn.State == porttest.Refused
		})
		conn.Forget()
		conn = b.Dial(at(served6))
		b.Settle()
		conn.Forget()
		for port := range uint16(3) {
			b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 4000+port), Dst: at(served4), Payload: []byte(what)})
			b.Settle()
		}
		b.echo("203.0.113.7", 1, 1, []byte(what))
		b.ask(4100, question(1, "example.org"))
		b.Settle()
		for _, d := range b.Datagrams() {
			require.Equal(t, nameServer, d.Src, what)
		}
		require.Equal(t, before, w.received(t), what)
	}
	require.NoError(t, netlink.LinkSetDown(w.tunnel))
	b.Settle()
	try("down")
	require.NoError(t, netlink.LinkDel(w.tunnel))
	b.Settle()
	try("away")
	address(t, w.near, "198.18.1.3/24") // news of routes
	b.Settle()
	try("after a change of addresses")
	require.Empty(t, w.accepted)
}

// received is what has come elsewhere: connections and their segments, datagrams and echo requests.
func (w *twoWays) received(t *testing.T) (counters []string) {
	w.do(func() {
		text, err := os.ReadFile("/proc/thread-self/net/snmp")
		require.NoError(t, err)
		lines := strings.Split(string(text), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j, name := range names {
				if slices.Contains([]string{"InEchos", "InDatagrams", "PassiveOpens", "InSegs"}, name) {
					counters = append(counters, names[0]+name+"="+values[j])
				}
			}
		}
	})
	require.Len(t, counters, 5) // UdpLite is there, too
	return counters
}
