package nat_test

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

func TestT7ConnectionsThatTheGuestResetsAtOnceLeaveNothing(t *testing.T) {
	const rounds, atOnce = 30, 100
	b := newBench(t, setup{})
	for range rounds {
		var guests []*porttest.TCP
		for range atOnce {
			guests = append(guests, b.Dial(b.server))
		}
		var hosts []*net.TCPConn
		for _, c := range guests {
			b.Until("it is established", func() bool { return c.State == porttest.Open })
			host, err := b.listen.AcceptTCP()
			require.NoError(t, err)
			hosts = append(hosts, host)
		}
		for _, c := range guests {
			c.Reset()
		}
		b.Work()
		for _, host := range hosts {
			_, err := host.Read(make([]byte, 1))
			require.ErrorIs(t, err, unix.ECONNRESET, "the host sees a reset")
			require.NoError(t, host.Close())
		}
		require.Zero(t, b.Sockets())
	}
	require.EqualValues(t, rounds*atOnce, b.port.Counters().TCPFlows)
	require.Zero(t, b.port.Counters().ConnectsEvicted)
}

func TestT8AnotherSYNWhileConnectingReplacesTheFirst(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	first := b.Dial(b.server, porttest.TCPOptions{LocalPort: 6000, ISS: 1000})
	first.Forget()
	second := b.Dial(b.server, porttest.TCPOptions{LocalPort: 6000, ISS: 500_000})
	b.Until("the second is open", func() bool { return second.State != porttest.SynSent })
	require.Equal(t, porttest.Open, second.State)
	require.Len(t, second.Segments, 1, "no late answer to the first SYN")
	require.Equal(t, 1, b.Sockets())
}

func TestT8GuestThatGivesUpFreesTheSocket(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	c := b.Dial(b.server)
	s := c.Segment(porttest.RST|porttest.ACK, nil)
	s.Seq = c.ISS + 1
	c.Forget()
	b.Deaf = true
	b.SendSegment(s) // in the same turn as the SYN
	b.Settle()
	require.Zero(t, b.Sockets())
}

// withFewFiles runs the rest of a test in a process of its own, whose limit of descriptors the test may lower: it tells the
// caller to return, after that.
func withFewFiles(t *testing.T) (outside bool) {
	const inside = "VRING_TEST_FEW_FILES"
	if os.Getenv(inside) != "" {
		return false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), inside+"=1")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "with few files:\n%s", out)
	return true
}

// leaveFiles lets this process open n descriptors more, until raise is called.
func leaveFiles(t *testing.T, n int) (raise func()) {
	t.Helper()
	const few = 256
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: few, Max: before.Max}))
	var taken []int
	for {
		fd, err := unix.Dup(0)
		if err != nil {
			require.ErrorIs(t, err, unix.EMFILE)
			break
		}
		taken = append(taken, fd)
	}
	for _, fd := range taken[:n] {
		require.NoError(t, unix.Close(fd))
	}
	return func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }
}

func TestT10WithoutDescriptorsTheGuestIsRefusedAndAllRecovers(t *testing.T) {
	if withFewFiles(t) {
		return
	}
	const enough, more = 20, 10
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial() // its descriptor must not be one of the few
	first := l.Accept()
	raise := leaveFiles(t, enough)

	var open, refused []*porttest.TCP
	for range enough + more {
		c := b.Dial(b.server)
		b.Until("it is answered", func() bool { return c.State != porttest.SynSent })
		switch c.State {
		case porttest.Open:
			open = append(open, c)
		case porttest.Refused:
			refused = append(refused, c)
		}
	}
	require.Len(t, open, enough)
	require.Len(t, refused, more)
	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 5000), Dst: b.server, Payload: []byte("x")})
	require.EqualValues(t, 1, b.told().Code, "host unreachable")
	require.EqualValues(t, len(refused)+1, b.port.Counters().SocketErrors)
	require.Len(t, b.Notices(), 1, "the user is told once")
	require.Equal(t, "the host gives no more sockets", b.Notices()[0].Message)

	first.Send([]byte("good"))
	require.Equal(t, "good", string(b.readSome(client, 4)), "who has a connection does not notice")
	open[0].Reset()
	b.Settle()
	b.Connect(b.server)
	raise()
	b.connectAfter(refused)
}

// connectAfter requires that as many connections as were refused can be had now.
func (b *bench) connectAfter(refused []*porttest.TCP) {
	b.t.Helper()
	for range refused {
		b.Connect(b.server)
	}
}

func TestT10ClientsOfAForwardWaitForDescriptorsOfTheHost(t *testing.T) {
	if withFewFiles(t) {
		return
	}
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	raise := leaveFiles(t, 0)
	b.Settle()
	require.Empty(t, l.Pending())
	require.EqualValues(t, 1, b.port.Counters().SocketErrors)
	turns := b.Turns()
	b.Run(time.Second)
	require.LessOrEqual(t, b.Turns()-turns, 15, "it is tried ten times a second")
	raise()
	b.Advance(100 * time.Millisecond)
	c := l.Accept()
	_, err := client.Write([]byte("patience"))
	require.NoError(t, err)
	c.WaitFor(8)
}

// Ten thousand clients, a thousand at once, as many as the kernel keeps for us: none is lost, and what else is to be done
// does not wait until all are taken.
func TestT17ARushOfClientsLosesNobodyAndDelaysNobody(t *testing.T) {
	const rounds, atOnce = 3, 1000
	b, dial := newForward(t, setup{})
	good, host := b.connect()
	l := b.Listen(80)
	for range rounds {
		var clients []*net.TCPConn
		for range atOnce {
			clients = append(clients, dial())
		}
		_, err := host.Write([]byte("good"))
		require.NoError(t, err)
		before := b.port.Counters().Accepts
		for len(good.Received()) == 0 {
			b.Turn()
		}
		require.LessOrEqual(t, b.port.Counters().Accepts-before, uint64(2*64), "the data came with the first of them")
		good.Read()
		for range atOnce {
			l.Accept().Reset()
		}
		b.Work()
		for _, c := range clients {
			_, err := c.Read(make([]byte, 1))
			require.ErrorIs(t, err, unix.ECONNRESET)
			require.NoError(t, c.Close())
		}
	}
	require.EqualValues(t, rounds*atOnce, b.port.Counters().Accepts)
	require.Zero(t, b.port.Counters().CallsEvicted)
	require.Equal(t, 2, b.Sockets(), "the good connection's and the forward's")
}

// However many forwards a guest has, only so many get their turn in one of the engine's, and none is forgotten.
func TestT17ManyForwardsTakeTurns(t *testing.T) {
	const ports = 40
	var hosts []string
	b := newBench(t, setup{config: func(c *nat.Config) {
		for len(hosts) < ports {
			host := porttest.FreePort(t).String()
			if slices.Contains(hosts, host) {
				continue // it is free until the forward has it
			}
			f, err := spec.ParseForward(host + ":80")
			require.NoError(t, err)
			c.Forwards = append(c.Forwards, f)
			hosts = append(hosts, host)
		}
	}})
	b.Resolve()
	l := b.Listen(80)
	for _, host := range hosts {
		c, err := net.Dial("tcp4", host)
		require.NoError(t, err)
		defer c.Close()
	}
	b.Turn()
	require.EqualValues(t, 16, b.port.Counters().Accepts)
	b.Turn()
	require.EqualValues(t, 32, b.port.Counters().Accepts)
	for range ports {
		l.Accept()
	}
}

func TestT54FullTableRefusesAndRecovers(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = 4 }})
	var open []*porttest.TCP
	for range 4 {
		c, _ := b.connect()
		open = append(open, c)
	}
	c := b.Dial(b.server)
	b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	require.Equal(t, uint64(1), b.port.Counters().TableFull)
	b.datagrams(1)
	require.EqualValues(t, 1, b.told().Code, "host unreachable")
	require.Equal(t, uint64(2), b.port.Counters().TableFull)

	open[0].Reset()
	b.Settle()
	b.connect()
	for _, c := range open[1:] {
		require.Equal(t, porttest.Open, c.State, "open connections go for nobody")
	}
}

// datagrams sends one datagram each from n ports of the guest.
func (b *bench) datagrams(n int) {
	for i := range n {
		b.SendDatagram(porttest.Datagram{
			Src: netip.AddrPortFrom(b.IP, uint16(10_000+i)), Dst: b.server, Payload: []byte{byte(i)},
		})
	}
	b.Work()
}

func TestT54AssociationsMakeRoomForConnectionsAndForEachOther(t *testing.T) {
	const flows = 16
	for name, config := range map[string]func(*nat.Config){
		"full table":          func(c *nat.Config) { c.MaxFlows = flows },
		"descriptors used up": func(c *nat.Config) { c.MaxFlows, c.MaxSockets = 1000, flows },
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{config: config})
			echo, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", b.server.Port()))
			require.NoError(t, err)
			defer echo.Close()
			b.Resolve()
			b.datagrams(1000)
			require.LessOrEqual(t, b.Sockets(), flows)
			require.Positive(t, b.port.Counters().AssociationsEvicted)
			for range flows - 1 {
				b.connect()
			}
			require.Zero(t, b.port.Counters().TableFull+b.port.Counters().SocketsSpent)
			b.datagrams(10)
			require.Equal(t, flows, b.Sockets(), "the last place is theirs in turn")
		})
	}
}

func TestT54MappingsCountAsSockets(t *testing.T) {
	const sockets = 30
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.EndpointIndependent, c.MaxSockets = true, sockets
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_UDP, Port: 9})
	}})
	echo, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", b.server.Port()))
	require.NoError(t, err)
	defer echo.Close()
	b.Resolve()
	b.datagrams(10 * sockets)
	require.Equal(t, sockets, b.Sockets())
	require.EqualValues(t, 9*sockets, b.port.Counters().AssociationsEvicted)
	b.SendDatagram(porttest.Datagram{
		Src: netip.AddrPortFrom(b.IP, 10_000+10*sockets-1), Dst: netip.AddrPortFrom(b.Gateway, 9), Payload: []byte("x"),
	})
	b.Settle()
	require.Len(t, b.port.Snapshot(b.Now()).Flows, sockets+1)
	require.EqualValues(t, 9*sockets, b.port.Counters().AssociationsEvicted, "one more peer of a port needs no socket")
	for range sockets {
		b.connect()
	}
	require.Equal(t, sockets, b.Sockets(), "each of which took the place of a mapping")
	require.Zero(t, b.port.Counters().SocketsSpent)
}

func TestT54TheOneThatWasIdleLongestGoes(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = 16 }}) // so four associations
	peers := make([]net.Addr, 5)
	host, err := net.ListenPacket("udp4", fmt.Sprintf("127.0.0.1:%d", b.server.Port()))
	require.NoError(t, err)
	defer host.Close()
	b.Resolve()
	receive := func() {
		buf := make([]byte, 1)
		_, from, err := host.ReadFrom(buf)
		require.NoError(t, err)
		peers[buf[0]] = from
	}
	b.datagrams(4)
	for range 4 {
		receive()
	}
	_, err = host.WriteTo([]byte("x"), peers[1]) // use in either direction counts
	require.NoError(t, err)
	b.Until("the guest has it", func() bool { return len(b.Datagrams()) == 1 })
	b.datagrams(1)
	receive()

	b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 10_004), Dst: b.server, Payload: []byte{4}})
	b.Work()
	receive()
	require.EqualValues(t, 1, b.port.Counters().AssociationsEvicted)
	b.Datagrams()
	for _, peer := range peers {
		_, _ = host.WriteTo([]byte("answer"), peer) // a refusal of an earlier one is no news
	}
	b.Settle()
	ports := map[uint16]bool{}
	for _, d := range b.Datagrams() {
		ports[d.Dst.Port()] = true
	}
	require.Equal(t, map[uint16]bool{10_000: true, 10_001: true, 10_003: true, 10_004: true}, ports, "that of 10002 was idle longest")
}

func TestT54ClientsAreResetWhenTheGuestsShareOfDescriptorsIsUsedUp(t *testing.T) {
	const sockets = 20
	b, dial := newForward(t, setup{config: func(c *nat.Config) { c.MaxSockets = 1 + sockets }})
	l := b.Listen(80)
	for range sockets {
		dial()
		l.Accept()
	}
	r := b.readAll(dial())
	require.ErrorIs(t, r.err, unix.ECONNRESET)
	require.EqualValues(t, 1, b.port.Counters().SocketsSpent)
	c := b.Dial(b.server)
	b.Until("it is refused", func() bool { return c.State == porttest.Refused })
	require.EqualValues(t, 2, b.port.Counters().SocketsSpent)
}

// Strangers who send to a forward's port take each other's places, never the guest's.
func TestT54StrangersTakeNoPlaceOfTheGuests(t *testing.T) {
	const flows = 40
	host := porttest.FreePort(t)
	b := newBench(t, setup{config: func(c *nat.Config) {
		f, err := spec.ParseForward("udp:" + host.String() + ":7")
		require.NoError(t, err)
		c.Forwards, c.MaxFlows = []spec.Forward{f}, flows
	}})
	good, peer := b.connect()
	b.datagrams(flows / 4)
	before := b.Sockets()
	for range 3 * flows {
		stranger, err := net.Dial("udp4", host.String())
		require.NoError(t, err)
		defer stranger.Close() // not before, or the kernel gives its port to the next one
		_, err = stranger.Write([]byte("hello"))
		require.NoError(t, err)
		b.Settle()
	}
	require.Equal(t, before, b.Sockets())
	c := b.port.Counters()
	require.EqualValues(t, 3*flows-flows/4, c.PeersEvicted)
	require.Zero(t, c.AssociationsEvicted+c.ConnectsEvicted+c.TableFull)
	good.Send([]byte("good"))
	require.Equal(t, "good", string(b.readSome(peer, 4)))
}

// A guest that takes no frames cannot pile up what is left of its flows.
func TestT53FlowsOfAGuestThatTakesNoFramesAreBounded(t *testing.T) {
	const flows = 100
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = flows }})
	b.Resolve()
	b.Settle()
	b.Withhold, b.Deaf = true, true
	for i := range 3000 {
		b.SendSegment(porttest.Segment{
			Src: netip.AddrPortFrom(b.IP, uint16(1024+i)), Dst: b.server, Flags: porttest.SYN, Window: 65535,
		})
		if i%10 == 0 {
			b.Settle() // the host connects, and there is no room for the answer
		}
	}
	require.LessOrEqual(t, b.Sockets(), flows)
	require.Positive(t, b.port.Counters().TableFull, "even what is over has a limit")
	b.Withhold = false
	b.Post(256)
	b.Settle()
	b.Run(2 * time.Minute)
	b.connect()
}
