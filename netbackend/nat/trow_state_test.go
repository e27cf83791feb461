package nat_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// syns are the times at which SYNs came, from the first one on.
func syns(frames []*porttest.Frame) (at []time.Duration) {
	var first int64
	for _, f := range frames {
		if f.TCP == nil || !f.TCP.Has(porttest.SYN) {
			continue
		}
		if at == nil {
			first = f.Time
		}
		at = append(at, time.Duration(f.Time-first).Round(100*time.Millisecond))
	}
	return at
}

// resets counts the resets among frames.
func resets(frames []*porttest.Frame) (n int) {
	for _, f := range frames {
		if f.TCP != nil && f.TCP.Has(porttest.RST) {
			n++
		}
	}
	return n
}

func TestT13GuestThatDoesNotAnswerIsCalledAgainUpToALimit(t *testing.T) {
	b, dial := newForward(t, setup{})
	b.Listen(80).Mute = true
	client := dial()
	b.Settle()
	b.Run(3 * time.Minute)
	const s = time.Second
	require.Equal(t, []time.Duration{0, 1 * s, 3 * s, 7 * s, 15 * s, 31 * s, 63 * s}, syns(b.Frames()))
	require.ErrorContains(t, b.readAll(client).err, "connection reset")
	require.Equal(t, 1, b.Sockets(), "only the listener is left")
}

func TestT13CallersDoNotWaitForeverForAGuestThatTakesNoFrames(t *testing.T) {
	b, dial := newForward(t, setup{guest: porttest.Options{RingSize: 8}})
	b.Listen(80).Mute = true
	b.Withhold = true
	clients := make([]*net.TCPConn, 20)
	for i := range clients {
		clients[i] = dial()
	}
	b.Settle()
	b.Run(3 * time.Minute)
	for _, c := range clients {
		require.ErrorContains(t, b.readAll(c).err, "connection reset")
	}
}

func TestT13CallersThatWaitAreBounded(t *testing.T) {
	const most = 10
	b, dial := newForward(t, setup{config: func(c *nat.Config) { c.MaxFlows = 4 * most }})
	l := b.Listen(80)
	l.Mute = true
	clients := make([]*net.TCPConn, most+5)
	for i := range clients {
		clients[i] = dial()
		b.Settle()
	}
	for _, c := range clients[:5] {
		require.ErrorContains(t, b.readAll(c).err, "connection reset", "the oldest make room")
	}
	require.Equal(t, uint64(5), b.port.Counters().CallsEvicted)
	l.Mute = false
	b.Skip("the others are answered", func() bool { return len(l.Pending()) == most })
}

func TestT14FullBacklogOfTheGuestIsNoRefusal(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	l.Mute = true
	clients := []*net.TCPConn{dial(), dial(), dial()}
	b.Settle()
	b.Run(20 * time.Second)
	require.Zero(t, resets(b.Frames()), "the guest is told nothing but the SYN again")
	l.Mute = false
	b.Skip("all are let in", func() bool { return len(l.Pending()) == len(clients) })
	for i, client := range clients {
		_, err := fmt.Fprintf(client, "client %d", i)
		require.NoError(t, err)
	}
	for range clients {
		c := l.Accept()
		c.WaitFor(len("client 0"))
		require.Regexp(t, "^client [012]$", string(c.Received()))
	}
}

func TestT16ClientsWithTheSamePortAreToldApart(t *testing.T) {
	var host netip.AddrPort
	b, _ := newForward(t, setup{config: func(c *nat.Config) { host = c.Forwards[0].Host }})
	l := b.Listen(80)
	to := net.TCPAddrFromAddrPort(host)
	port := int(porttest.FreePort(t).Port())
	seen := map[netip.AddrPort]bool{}
	for i, from := range []string{"127.0.0.1", "127.0.0.2"} {
		client, err := net.DialTCP("tcp4", &net.TCPAddr{IP: net.ParseIP(from), Port: port}, to)
		require.NoError(t, err)
		defer client.Close()
		c := l.Accept()
		require.Equal(t, b.Gateway, c.Remote.Addr())
		require.Equal(t, i == 0, int(c.Remote.Port()) == port, "the port is kept unless it is in use")
		seen[c.Remote] = true
		c.Send([]byte(from))
		require.Equal(t, from, string(b.readSome(client, len(from))))
	}
	require.Len(t, seen, 2)
}

func TestT28SegmentsKeepToTheGuestsMTU(t *testing.T) {
	for _, mtu := range []int{576, 1280} {
		for name, features := range map[string]uint64{"offloads": 0, "no offloads": vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf} {
			t.Run(fmt.Sprintf("%d, %s", mtu, name), func(t *testing.T) {
				b := newBench(t, setup{guest: porttest.Options{MTU: mtu, Features: features}})
				c, host := b.connect(porttest.TCPOptions{MSS: 1460}) // more than fits
				require.Equal(t, mtu-40, c.PeerMSS, "what the engine tells the guest to send")
				down := noise(100_000)
				go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
				b.Until("the end comes", c.Ended)
				requireSame(t, down, c.Received())
				require.LessOrEqual(t, b.longestSegment(), mtu-40)
			})
		}
	}
}

// longestSegment is the longest that a guest without offloads would have received, of those not asked for yet.
func (b *bench) longestSegment() (n int) {
	for _, f := range b.Frames() {
		switch {
		case f.TCP == nil:
		case f.TCP.GSOSize != 0:
			n = max(n, int(f.TCP.GSOSize))
		default:
			n = max(n, len(f.TCP.Payload))
		}
	}
	return n
}

func TestT28TheGuestsMSSIsKept(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{MSS: 300})
	down := noise(50_000)
	go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
	b.Until("the end comes", c.Ended)
	requireSame(t, down, c.Received())
	require.Equal(t, 300, b.longestSegment())
}

func TestT28AnMTUThatBecomesSmallerCountsForOpenConnections(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	_, err := host.Write(noise(20_000))
	require.NoError(t, err)
	c.WaitFor(20_000)
	require.Equal(t, 1460, b.longestSegment())

	b.port.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true, MTU: 1000})
	_, err = host.Write(noise(20_000))
	require.NoError(t, err)
	c.WaitFor(40_000)
	require.Equal(t, 960, b.longestSegment())
}

func TestT29OptionsThatTheGuestDoesNotOfferAreNotUsed(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{Window: 40_000, ManualAck: true})
	o := header.ParseSynOptions(b.synAck(t).Options, true)
	require.Equal(t, uint16(1460), o.MSS)
	require.Equal(t, -1, o.WS, "no window scale")
	require.False(t, o.TS, "no timestamps")
	require.False(t, o.SACKPermitted, "no selective acknowledgements")

	go func() { _, _ = host.Write(noise(100_000)) }()
	b.Until("the window is full", func() bool { return len(c.Received()) == 40_000 })
	b.Settle()
	require.Len(t, c.Received(), 40_000, "the window counts bytes")
	for _, s := range c.Segments[1:] {
		require.Empty(t, s.Options)
	}
}

// synAck returns the answer to a SYN, of the frames not asked for yet.
func (b *bench) synAck(t *testing.T) *porttest.Segment {
	t.Helper()
	for _, f := range b.Frames() {
		if f.TCP != nil && f.TCP.Has(porttest.SYN|porttest.ACK) {
			return f.TCP
		}
	}
	t.Fatal("there was none")
	return nil
}

func TestT29TheLargestWindowScaleIsUsed(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{WScale: 14, Window: 1 << 29, ManualAck: true})
	require.GreaterOrEqual(t, c.PeerWScale, 0)
	c.SendAck() // the window of the SYN was not scaled
	down := noise(4 << 20)
	go func() { _, _ = host.Write(down) }()
	b.Until("more comes than a window without scale holds", func() bool { return len(c.Received()) > 65_535 })
	c.ManualAck = false
	c.SendAck()
	c.WaitFor(len(down))
	requireSame(t, down, c.Received())
}

func TestT30SmallSegmentsWaitForNothing(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	start := b.Now()
	for i := range 200 {
		_, err := host.Write([]byte{byte(i)})
		require.NoError(t, err)
		b.Settle() // the clock stands still
		require.Equal(t, []byte{byte(i)}, c.Read())
		// Without PSH as well, the host's program has it at once. Two in a row would be Nagle's case.
		c.SendNext(c.Segment(porttest.ACK, []byte{byte(i)}))
		c.SendNext(c.Segment(porttest.ACK, []byte{byte(i + 1)}))
		b.Settle()
		require.NoError(t, host.SetReadDeadline(time.Now().Add(time.Minute)))
		answer := make([]byte, 2)
		_, err = io.ReadFull(host, answer)
		require.NoError(t, err)
		require.Equal(t, []byte{byte(i), byte(i + 1)}, answer)
	}
	require.Equal(t, start, b.Now())
}

// Where a pause falls together with the end of a segment that can hold no more, only another system call would tell that
// it is one; the engine does not make it, for nothing waits for PSH.
func TestT30TheLastSegmentIsPushed(t *testing.T) {
	for name, features := range map[string]uint64{"offloads": 0, "no offloads": vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{guest: porttest.Options{Features: features}})
			c, host := b.connect()
			for _, n := range []int{1, 1459, 1461, 2919, 10_000} {
				c.Read()
				_, err := host.Write(noise(n))
				require.NoError(t, err)
				c.WaitFor(n)
				b.Settle()
				last := lastSegment(c)
				require.True(t, last.Has(porttest.PSH), "after %d bytes", n)
			}
		})
	}
}

func TestT46ResetOfAServiceIsOneForItsClient(t *testing.T) {
	for name, before := range map[string]func(b *bench, c *porttest.TCP, client net.Conn){
		"at once":              func(*bench, *porttest.TCP, net.Conn) {},
		"after the client FIN": func(b *bench, _ *porttest.TCP, client net.Conn) { _ = client.(*net.TCPConn).CloseWrite(); b.Settle() },
		"after the guest's FIN": func(b *bench, c *porttest.TCP, _ net.Conn) {
			c.Close()
			b.Until("it is acknowledged", func() bool { return c.FinAcked })
		},
		"with data that the guest has not taken": func(b *bench, c *porttest.TCP, client net.Conn) {
			c.Window, c.ManualAck = 0, true
			_, _ = client.Write(noise(50_000))
			b.Settle()
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, dial := newForward(t, setup{})
			l := b.Listen(80)
			client := dial()
			c := l.Accept()
			before(b, c, client)
			start := b.Now()
			c.Reset()
			b.Settle()
			require.Equal(t, start, b.Now(), "no timer is needed")
			require.Equal(t, 1, b.Sockets(), "only the listener is left")
			require.Error(t, b.writeUntilError(client), "a reset, not a half close")
		})
	}
}

// writeUntilError writes until the kernel says that nobody takes it.
func (b *bench) writeUntilError(c net.Conn) error {
	return await(b, "writing fails", func() error {
		for range 100 {
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
		}
		return nil
	})
}

func TestT47AKilledServiceIsSeenAsItsKernelTells(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	quiet, busy := dial(), dial()
	// The kernel of the guest sends a FIN for a process that had read all, and a reset for one that had not.
	first, second := l.Accept(), l.Accept()
	if first.Remote.Port() != uint16(quiet.LocalAddr().(*net.TCPAddr).Port) {
		first, second = second, first
	}
	start := b.Now()
	first.Send([]byte("last words"))
	first.Close()
	second.Reset()
	b.Settle()
	require.Equal(t, start, b.Now(), "no timer is needed")
	r := b.readAll(quiet)
	require.NoError(t, r.err)
	require.Equal(t, "last words", string(r.data))
	require.ErrorContains(t, b.readAll(busy).err, "connection reset")
}

func TestT49AGuestThatForgotAConnectionIsFoundOutByAsking(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client, other := dial(), dial()
	forgotten, kept := l.Accept(), l.Accept()
	if forgotten.Remote.Port() != uint16(client.LocalAddr().(*net.TCPAddr).Port) {
		forgotten, kept = kept, forgotten
	}
	forgotten.Forget()
	start := b.Now()
	b.Skip("the client is told", func() bool { return b.Sockets() == 2 })
	require.LessOrEqual(t, time.Duration(b.Now()-start), 30*time.Second)
	require.ErrorContains(t, b.readAll(client).err, "connection reset")

	b.Run(time.Hour)
	require.Equal(t, porttest.Open, kept.State, "who answers is left alone")
	kept.Send([]byte("alive"))
	require.Equal(t, "alive", string(b.readSome(other, 5)))
}

func TestT49AGuestThatIsSilentForGoodIsGivenUp(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	l.Accept().Silent = true
	start := b.Now()
	b.Skip("the client is told", func() bool { return b.Sockets() == 1 })
	require.LessOrEqual(t, time.Duration(b.Now()-start), 12*time.Minute)
	require.ErrorContains(t, b.readAll(client).err, "connection reset")
	turns := b.Turns()
	b.Run(time.Hour)
	require.Less(t, b.Turns()-turns, 10, "nothing is looked at when nothing is there")
}

func TestT50TheGuestsKeepaliveIsOneForTheHost(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	local, remote := host.RemoteAddr().(*net.TCPAddr).Port, host.LocalAddr().(*net.TCPAddr).Port
	require.False(t, keptAlive(t, local, remote), "whom the guest does not ask about is left alone")
	c.SendKeepalive()
	b.Settle()
	require.True(t, keptAlive(t, local, remote))
}

// keptAlive tells whether the kernel's keepalive timer runs for the socket with these ports.
func keptAlive(t *testing.T, local, remote int) bool {
	t.Helper()
	const keepaliveTimer = "02:"
	for _, f := range kernelSockets(t) {
		if strings.HasSuffix(f[1], fmt.Sprintf(":%04X", local)) && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", remote)) {
			return strings.HasPrefix(f[5], keepaliveTimer)
		}
	}
	t.Fatalf("no connection from port %d to %d", local, remote)
	return false
}

func TestT55AnEngineThatStopsResetsItsHosts(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	l.Accept()
	_, host := b.connect()
	b.Stop()
	for _, c := range []io.Reader{client, host} {
		_, err := io.ReadAll(c)
		require.ErrorContains(t, err, "connection reset")
	}
}

func TestT55AnEngineThatIsStartedAgainResetsTheGuestsOldConnections(t *testing.T) {
	b := newBench(t, setup{})
	c, _ := b.connect()
	old := c.Segment(porttest.ACK|porttest.PSH, []byte("still there?"))
	b.Stop()

	again := newBench(t, setup{})
	again.Resolve()
	again.Deaf = true
	again.Frames()
	again.SendSegment(old)
	again.Settle()
	frames := again.Frames()
	require.Len(t, frames, 1)
	require.True(t, frames[0].TCP.Has(porttest.RST))
	require.Equal(t, old.Ack, frames[0].TCP.Seq, "the one that the guest's kernel believes")
}
