package gate

import (
	"encoding/binary"
	"net"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/porttest"
)

const ms = int64(1e6)

// gated is a guest with a gate.
type gated struct {
	Keeper
	*shardtest.Shard
	t       *testing.T
	forward *listeners.Listener
	port    string // of the host
}

// port8080 is the guest's.
func port8080() ipaddr.Endpoint {
	return ipaddr.Endpoint{Addr: shardtest.Addr("10.0.2.15"), Port: 8080}
}

// shutPort is a forward of a port of the host, which refuses connections, and leads to the guest's.
func shutPort(t *testing.T) (l *listeners.Listener, port string) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	at := porttest.FreePort(t) // by its number: one that the kernel has chosen is lost when the port is shut
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}))
	l = &listeners.Listener{Socket: forward.Opened(fd), Guest: port8080(), ShutNow: new(atomic.Bool)}
	l.ShutNow.Store(true)
	return l, at.String()
}

func newGated(t *testing.T) *gated {
	g := &gated{Shard: shardtest.New(t, 64), t: t}
	g.forward, g.port = shutPort(t)
	gates, layer := new(Gates), new(link.Layer)
	layer.SetUp(link.Config{}, &g.Turn.Shard, nil, nil, nil)
	gates.Begin([]*listeners.Listener{g.forward, {Guest: ipaddr.Endpoint{Addr: port8080().Addr, Port: 9}}})
	g.Keeper.SetUp(&g.Turn.Shard, layer, gates)
	return g
}

// meet lets it be known where the guest's address is.
func (g *gated) meet() {
	a := port8080().Addr
	g.LearnAddress(&a, g.Meet(shardtest.HostMAC()))
}

// at runs the timers of a time in milliseconds.
func (g *gated) at(when int64) {
	g.At(1 + when*ms)
	g.RunGateTimers(g.Turn)
}

// probe is the one that the guest has got: its flow and its sequence number.
func (g *gated) probe() (flowtable.Key, seqnum.Value) {
	g.t.Helper()
	frames := g.Frames()
	require.Len(g.t, frames, 1)
	tcp := frames[0][netpkt.EtherLen+netpkt.IPv4Len:]
	require.EqualValues(g.t, netpkt.SYN, tcp[13])
	from := binary.BigEndian.Uint16(tcp)
	require.True(g.t, from >= 512 && from < 1024, "%d: clients do not begin connections there", from)
	require.EqualValues(g.t, 8080, binary.BigEndian.Uint16(tcp[2:]))
	return flowtable.Key{Guest: port8080().Addr, GuestPort: 8080, Remote: shardtest.Addr("10.0.2.2"), RemotePort: from, Proto: netpkt.TCP},
		seqnum.From(binary.BigEndian.Uint32(tcp[4:]))
}

// open answers a probe as a port that takes connections.
func (g *gated) open(when int64) {
	g.t.Helper()
	g.at(when)
	key, iss := g.probe()
	require.True(g.t, g.OnProbeReply(g.Turn, &key, netpkt.SYN|netpkt.ACK, iss.Plus(1)))
	require.True(g.t, g.takes())
}

// takes reports whether the host's port takes connections.
func (g *gated) takes() bool {
	c, err := net.Dial("tcp4", g.port)
	if err == nil {
		_ = c.Close()
	}
	require.Equal(g.t, err != nil, g.forward.IsShut(), "%v", err)
	return err == nil
}

func TestAGateIsProbedSoonAndThenLessOften(t *testing.T) {
	g := newGated(t)
	require.Zero(t, g.Next(), "there is no guest yet")
	g.meet()
	g.CloseGates()
	now := int64(0)
	for _, wait := range []int64{0, 50, 100, 200, 400, 800, 1000, 1000, 1000} {
		require.EqualValues(t, 1+(now+wait)*ms, g.Next())
		g.at(now + wait - 1)
		require.Empty(t, g.Frames())
		now += wait
		g.at(now)
		g.probe()
		require.False(t, g.takes())
	}
	require.EqualValues(t, 9, g.Counters.Knocks)
}

func TestWhoHasThePortIsAskedFirst(t *testing.T) {
	g := newGated(t)
	g.CloseGates()
	g.at(0)
	frames := g.Frames()
	require.Len(t, frames, 1)
	require.EqualValues(t, netpkt.EtherARP, binary.BigEndian.Uint16(frames[0][12:]))
	require.Equal(t, []byte{10, 0, 2, 15}, frames[0][38:42])
	require.Zero(t, g.Counters.Knocks)
	g.meet()
	g.at(50)
	g.probe()
}

func TestTheAnswerToAProbeDecides(t *testing.T) {
	for name, c := range map[string]struct {
		flags uint8
		lie   func(*flowtable.Key, *seqnum.Value)
		is    bool // an answer
		open  bool
	}{
		"it takes connections":     {netpkt.SYN | netpkt.ACK, nil, true, true},
		"it refuses":               {netpkt.RST | netpkt.ACK, nil, true, false},
		"what says neither":        {netpkt.ACK, nil, true, false},
		"without acknowledgement":  {netpkt.SYN, nil, false, false},
		"of another number":        {netpkt.SYN | netpkt.ACK, func(_ *flowtable.Key, ack *seqnum.Value) { *ack = ack.Plus(1) }, false, false},
		"to another port":          {netpkt.SYN | netpkt.ACK, func(k *flowtable.Key, _ *seqnum.Value) { k.RemotePort++ }, false, false},
		"from a port without gate": {netpkt.SYN | netpkt.ACK, func(k *flowtable.Key, _ *seqnum.Value) { k.GuestPort = 9 }, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGated(t)
			g.meet()
			g.CloseGates()
			g.at(0)
			key, iss := g.probe()
			ack := iss.Plus(1)
			if c.lie != nil {
				c.lie(&key, &ack)
			}
			require.Equal(t, c.is, g.OnProbeReply(g.Turn, &key, c.flags, ack))
			require.Equal(t, c.open, g.takes())
		})
	}
}

func TestAGateThatIsOpenIsShutByARefusalAndNotBySilence(t *testing.T) {
	shutBy := map[string]func(*gated, *flowtable.Key, seqnum.Value) bool{
		"a reset": func(g *gated, k *flowtable.Key, iss seqnum.Value) bool {
			return g.OnProbeReply(g.Turn, k, netpkt.RST|netpkt.ACK, iss.Plus(1))
		},
		"an ICMP error": func(g *gated, k *flowtable.Key, iss seqnum.Value) bool { return g.ProbeFailed(k, iss) },
		"a client that was refused": func(g *gated, k *flowtable.Key, _ seqnum.Value) bool {
			g.OnGuestRefused(k)
			return true
		},
		"a guest that is gone": func(g *gated, _ *flowtable.Key, _ seqnum.Value) bool {
			g.CloseGates()
			return true
		},
	}
	for name, shut := range shutBy {
		t.Run(name, func(t *testing.T) {
			g := newGated(t)
			g.meet()
			g.CloseGates()
			g.open(0)
			require.EqualValues(t, 1+5000*ms, g.gates.of(&flowtable.Key{Guest: port8080().Addr, GuestPort: 8080}).at)
			g.at(5000)
			key, iss := g.probe()
			require.False(t, g.ProbeFailed(&key, iss.Plus(1)), "another one's")
			require.True(t, g.takes(), "silence means nothing")
			require.True(t, shut(g, &key, iss))
			require.False(t, g.takes())
			require.LessOrEqual(t, g.Next(), 1+5050*ms)
			g.OnGuestRefused(&key)
			require.EqualValues(t, 1, g.Counters.GatesShut, "it is shut already")
			g.open(5100)
			require.EqualValues(t, 2, g.Counters.GatesOpened)
		})
	}
}

// It may have been the last that is heard of a service. A guest that ends connections all the time is not asked all the time.
func TestThePortIsProbedWhenTheGuestEndsAConnection(t *testing.T) {
	g := newGated(t)
	g.meet()
	g.CloseGates()
	g.open(0)
	key := flowtable.Key{Guest: port8080().Addr, GuestPort: 8080}
	g.At(1 + 10*ms)
	g.OnGuestClosed(g.Turn, &key)
	require.EqualValues(t, 1+50*ms, g.Next())
	g.At(1 + 2000*ms)
	g.OnGuestClosed(g.Turn, &key)
	require.EqualValues(t, 1+50*ms, g.Next(), "it is earlier")
	g.at(2000)
	g.probe()
}

func TestGatesComeAndGoWithTheirForwards(t *testing.T) {
	g := newGated(t)
	g.meet()
	g.CloseGates()
	g.open(0)
	key := flowtable.Key{Guest: port8080().Addr, GuestPort: 8080}
	second, port := shutPort(t)
	g.ReplaceGates(nil, []*listeners.Listener{second})
	require.EqualValues(t, 1, g.Next(), "it is probed at once")
	g.open(10)
	require.False(t, second.IsShut())
	c, err := net.Dial("tcp4", port)
	require.NoError(t, err)
	require.NoError(t, c.Close())

	g.ReplaceGates([]*listeners.Listener{second}, nil)
	require.NotNil(t, g.gates.of(&key))
	g.ReplaceGates([]*listeners.Listener{g.forward}, nil)
	require.Nil(t, g.gates.of(&key), "none leads there")
	g.at(10000)
	require.Empty(t, g.Frames())
	require.Zero(t, g.Next())
}

func TestOnlyThePairWithTheListenersProbes(t *testing.T) {
	g := newGated(t)
	g.CloseGates()
	g.Listening = false
	require.Zero(t, g.Next())
}
