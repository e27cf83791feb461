package nat_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

const (
	echoAt    = 7
	discardAt = 9
	chargenAt = 19
)

// measuring are the options of an engine whose router has services to measure with.
func measuring(guest porttest.Options) setup {
	return setup{guest: guest, config: func(c *nat.Config) { c.Measure = true }}
}

// characters is the beginning of what chargen sends, written as RFC 864 has it: "one popular pattern is 72 character lines of the ASCII
// printing characters".
func characters(n int) []byte {
	var all bytes.Buffer
	for line := 0; all.Len() < n; line++ {
		for i := range 72 {
			all.WriteByte(byte(32 + (line+i)%95))
		}
		all.WriteString("\r\n")
	}
	return all.Bytes()[:n]
}

// eachRouter runs f with each address of the router, for guests that have all offloads, and for guests that have none.
func eachRouter(t *testing.T, f func(t *testing.T, b *bench, router netip.Addr)) {
	for name, o := range map[string]porttest.Options{
		"offloads": {}, "none": {Features: 1<<32 | 1<<15}, "long frames": {MTU: 65520},
	} {
		for _, version := range []string{"IPv4", "IPv6"} {
			t.Run(name+" "+version, func(t *testing.T) {
				b := newBench(t, measuring(o))
				b.Resolve()
				router := b.Gateway
				if version == "IPv6" {
					router = b.Gateway6
				}
				f(t, b, router)
			})
		}
	}
}

// over waits until the engine has no flow.
func (b *bench) over() {
	b.t.Helper()
	b.Skip("the engine forgets the connection", func() bool { return len(b.port.Snapshot(b.Now()).Flows) == 0 })
}

func TestDiscardTakesAllAndEndsWithTheGuest(t *testing.T) {
	eachRouter(t, func(t *testing.T, b *bench, router netip.Addr) {
		const size = 3 << 20
		sockets := b.Sockets()
		c := b.Connect(netip.AddrPortFrom(router, discardAt), porttest.TCPOptions{WScale: 7})
		c.Send(noise(size))
		b.Until("discard has all", func() bool { return c.Unsent() == 0 && c.SndUna == c.SndMax })
		require.Equal(t, sockets, b.Sockets(), "no socket of the host")
		flows := b.port.Snapshot(b.Now()).Flows
		require.Len(t, flows, 1)
		require.Equal(t, "open", flows[0].State)
		require.Equal(t, netip.AddrPortFrom(router, discardAt), flows[0].Remote)
		require.Equal(t, uint64(size), flows[0].FromGuest)
		require.False(t, flows[0].Host.IsValid() || flows[0].Target.IsValid())
		require.Empty(t, c.Received())
		require.False(t, c.Ended())
		c.Close()
		b.Until("discard has ended its stream", func() bool { return c.FinReceived && c.FinAcked })
		b.over()
		require.Equal(t, uint64(1), b.port.Counters().Measured)
		require.Zero(t, c.Retransmits)
	})
}

func TestChargenSendsThePatternAndGoesOnAfterAHalfClose(t *testing.T) {
	eachRouter(t, func(t *testing.T, b *bench, router netip.Addr) {
		const size = 300_000
		c := b.Connect(netip.AddrPortFrom(router, chargenAt), porttest.TCPOptions{WScale: 7})
		c.Send(noise(5000)) // which it throws away
		c.WaitFor(size / 2)
		c.Close()
		c.WaitFor(size)
		got := c.Received()
		requireSame(t, characters(len(got)), got)
		require.True(t, c.FinAcked)
		require.False(t, c.FinReceived)
		c.Reset()
		b.over()
	})
}

func TestEchoSendsBackAllAndThenItsEnd(t *testing.T) {
	eachRouter(t, func(t *testing.T, b *bench, router netip.Addr) {
		const size = 500_000
		c := b.Connect(netip.AddrPortFrom(router, echoAt), porttest.TCPOptions{WScale: 7})
		c.Send(noise(size))
		c.Close()
		b.Until("echo has ended its stream", func() bool { return c.FinReceived && c.FinAcked })
		requireSame(t, noise(size), c.Received())
		b.over()
		require.Zero(t, b.port.Counters().TCPRefused, "the window is what the buffer has room for")
	})
}

// A path that loses every seventh segment either way is the guest's own affair; nothing is missing at the end.
func TestServicesRepeatWhatIsLost(t *testing.T) {
	const size = 200_000
	for name, port := range map[string]uint16{"discard": discardAt, "chargen": chargenAt, "echo": echoAt} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, measuring(porttest.Options{}))
			c := b.Connect(netip.AddrPortFrom(b.Gateway, port), porttest.TCPOptions{NoGSO: true, SACK: true})
			n := 0
			b.Drop = func(porttest.Direction, *porttest.Segment) bool { n++; return n%7 == 0 }
			if port == chargenAt {
				b.Until("chargen", func() bool { return len(c.Received()) >= size })
				requireSame(t, characters(size), c.Received()[:size])
				return
			}
			c.Send(noise(size))
			c.Close()
			b.Skip("the stream's end", func() bool { return c.FinReceived && c.FinAcked })
			if port == echoAt {
				requireSame(t, noise(size), c.Received())
			}
			require.Positive(t, b.port.Counters().Retransmits+uint64(c.Retransmits))
		})
	}
}

func TestAGuestThatDoesNotReadAServiceCostsNothing(t *testing.T) {
	for name, port := range map[string]uint16{"chargen": chargenAt, "echo": echoAt} {
		t.Run(name, func(t *testing.T) {
			const size = 300_000
			b := newBench(t, measuring(porttest.Options{}))
			c := b.Connect(netip.AddrPortFrom(b.Gateway, port), porttest.TCPOptions{ManualAck: true})
			c.Window = 0
			c.SendAck()
			c.Send(noise(size)[:size*int(port%2)])
			b.Settle()
			c.Silent = true // its probes of a closed window are no matter
			turns := b.Turns()
			b.Run(time.Minute)
			require.Less(t, b.Turns()-turns, 50, "but for probes of the closed window")
			flow := b.port.Snapshot(b.Now()).Flows[0]
			if port == echoAt {
				require.LessOrEqual(t, flow.FromGuest, uint64(64<<10), "echo keeps no more")
				require.Greater(t, flow.FromGuest, uint64(32<<10))
			}
			c.Silent, c.ManualAck, c.Window = false, false, 65535
			c.SendAck()
			b.Until("all comes back", func() bool { return len(c.Received()) >= size })
			if port == echoAt {
				requireSame(t, noise(size), c.Received())
			}
		})
	}
}

func TestServicesWaitForReceiveBuffers(t *testing.T) {
	b := newBench(t, measuring(porttest.Options{}))
	b.Resolve()
	c := b.Connect(netip.AddrPortFrom(b.Gateway, chargenAt))
	b.Until("chargen begins", func() bool { return len(c.Received()) > 0 })
	b.Withhold = true
	b.Settle()
	turns := b.Turns()
	b.Run(time.Second)
	require.Less(t, b.Turns()-turns, 20)
	for range 20 {
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 5000), Dst: netip.AddrPortFrom(b.Gateway, echoAt), Payload: noise(100)})
	}
	b.Settle()
	require.EqualValues(t, 20, b.port.Counters().NoRoom, "datagrams are dropped")
	b.Withhold = false
	b.Post(256)
	c.WaitFor(len(c.Received()) + 100_000)
	requireSame(t, characters(len(c.Received())), c.Received())
}

// askService sends a datagram and returns what comes of it.
func (b *bench) askService(to netip.AddrPort, from uint16, payload []byte) []*porttest.Datagram {
	b.t.Helper()
	b.Datagrams()
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.Source(to.Addr()), from), Dst: to, Payload: payload})
	b.Settle()
	return b.Datagrams()
}

func TestServicesAnswerDatagrams(t *testing.T) {
	eachRouter(t, func(t *testing.T, b *bench, router netip.Addr) {
		echo := netip.AddrPortFrom(router, echoAt)
		for _, n := range []int{0, 1, 18, 700, 1452} {
			got := b.askService(echo, 5000, noise(n))
			require.Len(t, got, 1, n)
			require.Equal(t, echo, got[0].Src)
			require.EqualValues(t, 5000, got[0].Dst.Port())
			requireSame(t, noise(n), got[0].Payload)
		}
		require.Empty(t, b.askService(netip.AddrPortFrom(router, discardAt), 5000, noise(700)))
		lengths := map[int]bool{}
		for range 100 {
			got := b.askService(netip.AddrPortFrom(router, chargenAt), 5000, nil)
			require.Len(t, got, 1)
			text := got[0].Payload
			require.LessOrEqual(t, len(text), 512)
			require.True(t, bytes.Contains(characters(4*7030), text), "lines of the pattern")
			lengths[len(text)] = true
		}
		require.Greater(t, len(lengths), 50, "lengths differ")
		require.EqualValues(t, 5+1+100, b.port.Counters().MeasuredDatagrams)
		require.Empty(t, b.port.Snapshot(b.Now()).Flows, "no datagram begins a flow")
	})
}

func TestEchoSendsLongDatagramsBackInFragments(t *testing.T) {
	for _, addr := range []string{"10.0.2.2", "fd00:10:0:2::2"} {
		b := newBench(t, measuring(porttest.Options{}))
		b.Resolve()
		router := netip.MustParseAddr(addr)
		d := porttest.Datagram{Src: netip.AddrPortFrom(b.Source(router), 5000), Dst: netip.AddrPortFrom(router, echoAt), Payload: noise(20_000)}
		for _, fragment := range d.Cut(1, 1448) {
			b.SendFragment(fragment)
		}
		b.Settle()
		got := b.Datagrams()
		require.Len(t, got, 1)
		requireSame(t, noise(20_000), got[0].Payload)
	}
}

// Two services that answer each other would not end. What asks for more than it sends is limited.
func TestDatagramsToServicesMakeNoLoopAndNoFlood(t *testing.T) {
	b := newBench(t, measuring(porttest.Options{}))
	b.Resolve()
	for _, port := range []uint16{7, 9, 19, 1023} {
		require.Empty(t, b.askService(netip.AddrPortFrom(b.Gateway, echoAt), port, noise(10)))
		require.Empty(t, b.askService(netip.AddrPortFrom(b.Gateway, chargenAt), port, noise(10)))
	}
	require.EqualValues(t, 8, b.port.Counters().MeasuredIgnored)
	answers := 0
	for range 3000 {
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 5000), Dst: netip.AddrPortFrom(b.Gateway, chargenAt)})
		b.Turn()
		answers += len(b.Datagrams())
	}
	require.InDelta(t, 1000, answers, 100)
	require.EqualValues(t, 3000, answers+int(b.port.Counters().ChargenOverBudget))
}

func TestWithoutMeasureTheRouterHasNoServices(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	for _, port := range []uint16{echoAt, discardAt, chargenAt} {
		c := b.Dial(netip.AddrPortFrom(b.Gateway, port))
		b.Until("the refusal", func() bool { return c.State == porttest.Refused })
		require.Empty(t, b.askService(netip.AddrPortFrom(b.Gateway, port), 5000, noise(10)))
	}
	require.Zero(t, b.port.Counters().Measured+b.port.Counters().MeasuredDatagrams)
}

func TestServicesAreTheRoutersOnly(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.Measure, c.Redirects = true, redirects(t, "tcp:10.0.2.2:19=127.0.0.1:1")
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_TCP, Port: discardAt}) // where nobody listens
	}})
	b.Resolve()
	for _, to := range []string{"10.0.2.3:7", "10.0.2.2:8", "10.0.2.2:263", "127.0.0.1:7", "10.0.2.2:9", "10.0.2.2:19"} {
		c := b.Dial(netip.MustParseAddrPort(to))
		b.Until("the refusal of "+to, func() bool { return c.State == porttest.Refused })
	}
	require.Zero(t, b.port.Counters().Measured)
	require.Contains(t, b.explain("tcp:10.0.2.2:7").Why, "it is echo, a service to measure with")
	require.Contains(t, b.explain("udp:[fd00:10:0:2::2]:19").Why, "it is chargen")
	require.Equal(t, "--allow-host tcp:9", b.explain("tcp:10.0.2.2:9").By, "whom the user names goes first")
	require.False(t, b.explain("udp:10.0.2.3:7").Allowed)
	shared := nat.DefaultConfig()
	shared.Measure, shared.Shared = true, true
	require.ErrorContains(t, shared.Check(), "--measure and --shared-network")
}

// A policy is not about the router's own services: --restrict leaves them, and a new policy ends no connection to them.
func TestAPolicyLeavesServicesOpen(t *testing.T) {
	b := newBench(t, measuring(porttest.Options{}))
	c := b.Connect(netip.AddrPortFrom(b.Gateway, echoAt))
	b.port.SetPolicy(newPolicy(t, func(c *nat.Config) { c.Restrict = true }))
	c.Send(noise(1000))
	c.WaitFor(1000)
	b.Connect(netip.AddrPortFrom(b.Gateway, discardAt))
	require.Zero(t, b.port.Counters().Withdrawn)
}

// A guest that opens ten thousand connections, reads none of them and ends them in every way has those that it may have. The good
// connection of newHostile goes on.
func TestAFloodOfConnectionsToServicesIsBounded(t *testing.T) {
	h := newHostile(t, measuring(porttest.Options{}))
	const most = 128
	ports := []uint16{echoAt, discardAt, chargenAt}
	var open, closed []*porttest.TCP
	for i := range 10_000 {
		c := h.Dial(netip.AddrPortFrom(h.Gateway, ports[i%3]), porttest.TCPOptions{ManualAck: i%2 == 0})
		c.Window = 0
		if h.Turn(); i%50 == 0 {
			h.Settle()
		}
		switch c.State {
		case porttest.Open:
			open = append(open, c)
			c.Send(noise(3000))
		default:
			c.Forget()
		}
		if i%400 == 399 {
			for j, c := range open {
				switch j % 3 {
				case 0:
					c.Close()
					closed = append(closed, c)
				case 1:
					c.Reset()
				case 2:
					c.Forget()
				}
			}
			open = open[:0]
			h.Settle()
		}
		require.LessOrEqual(t, used(h.port, "measuring connections"), most)
	}
	require.Greater(t, h.port.Counters().MeasuredTooMany, uint64(1000))
	require.Greater(t, h.port.Counters().Measured, uint64(most))
	require.Equal(t, h.sockets, h.Sockets())
	for _, c := range append(closed, open...) {
		c.Reset()
	}
	h.Skip("all are over", func() bool { return used(h.port, "measuring connections") == 0 })
	h.Frames()
}

// A connection goes to the queue pair that the guest sends on, with what echo keeps of it.
func TestServicesFollowAConnectionThatHopsBetweenQueues(t *testing.T) {
	b, h := newQueues(t, 4, func(c *nat.Config) { c.Measure = true })
	const size = 300_000
	var conns []*porttest.TCP
	for range 6 {
		c := b.Connect(netip.AddrPortFrom(b.Gateway, echoAt))
		c.Send(noise(size))
		c.Close()
		conns = append(conns, c)
	}
	for _, c := range conns {
		b.Until("echo has ended its stream", func() bool { return c.FinReceived })
		requireSame(t, noise(size), c.Received())
	}
	require.NotZero(t, h.moved())
	c := b.Connect(netip.AddrPortFrom(b.Gateway, discardAt))
	c.Send(noise(size))
	b.Until("discard has all", func() bool { return c.SndUna == c.SndMax && c.Unsent() == 0 })
}

// used returns how much of a limit is used up.
func used(p *nat.Port, limit string) int {
	all := p.Limits()
	return all[slices.IndexFunc(all, func(u nat.Usage) bool { return u.Name == limit })].Used
}

func TestServicesAllocateNothing(t *testing.T) {
	cfg := nat.DefaultConfig()
	cfg.Measure = true
	engine, err := nat.New(cfg)
	require.NoError(t, err)
	m := &meter{Port: engine}
	g := porttest.New(t, m, porttest.Options{})
	const size = 256 << 10
	discard, echo, chargen := g.Connect(netip.AddrPortFrom(cfg.Gateway, discardAt)), g.Connect(netip.AddrPortFrom(cfg.Gateway, echoAt)), g.Connect(netip.AddrPortFrom(cfg.Gateway, chargenAt))
	for name, round := range map[string]func(){
		"discard": func() {
			discard.Send(noise(size))
			g.Until("discard has all", func() bool { return discard.SndUna == discard.SndMax && discard.Unsent() == 0 })
		},
		"echo": func() {
			echo.Send(noise(size))
			echo.WaitFor(size)
			echo.Read()
		},
		"chargen": func() {
			chargen.WaitFor(size)
			chargen.Read()
		},
		"datagrams": func() {
			for _, port := range []uint16{echoAt, discardAt, chargenAt} {
				for range 20 {
					g.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(cfg.Guest, 5000), Dst: netip.AddrPortFrom(cfg.Gateway, port), Payload: noise(1000)})
				}
			}
			g.Turn()
			got := 0
			g.Until("the answers", func() bool { got += len(g.Datagrams()); return got == 40 })
		},
	} {
		t.Run(name, func(t *testing.T) {
			round() // grows what grows once
			least := uint64(1 << 62)
			for i := 0; i < 5 && least > 0; i++ {
				m.allocs, m.frames = 0, 0
				round()
				least = min(least, m.allocs)
				require.Positive(t, m.frames)
			}
			require.Zero(t, least, "allocations in the turns of a round")
		})
	}
}
