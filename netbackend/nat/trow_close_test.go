package nat_test

import (
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

func TestT40HostClosesFirst(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		down := noise(100_000)
		go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
		b.Until("the end comes", c.Ended)
		require.True(t, c.FinReceived)
		requireSame(t, down, c.Received())

		b.Run(time.Hour) // the guest still may send
		require.Equal(t, porttest.Open, c.State)
		up := noise(50_000)
		c.Send(up)
		c.Close()
		r := b.readAll(host)
		require.NoError(t, r.err)
		requireSame(t, up, r.data)
		b.Until("it is over", func() bool { return c.FinAcked && b.Sockets() == 0 })
	})
}

func TestT40GuestClosesFirst(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		c.Send([]byte("question"))
		c.Close()
		r := b.readAll(host)
		require.NoError(t, r.err)
		require.Equal(t, "question", string(r.data))

		b.Run(time.Hour)
		require.Equal(t, porttest.Open, c.State)
		down := noise(100_000)
		go func() { _, _ = host.Write(down); _ = host.Close() }()
		b.Until("the end comes", c.Ended)
		require.True(t, c.FinReceived, "a FIN, not a reset: state %v", c.State)
		requireSame(t, down, c.Received())
		b.Until("it is over", func() bool { return b.Sockets() == 0 })
	})
}

func TestT41LostFINIsRepeated(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	lost := 0
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		drop := d == porttest.ToGuest && s.Has(porttest.FIN) && lost < 3
		if drop {
			lost++
		}
		return drop
	}
	_, err := host.Write([]byte("bye"))
	require.NoError(t, err)
	require.NoError(t, host.CloseWrite())
	b.Skip("the FIN is repeated", c.Ended)
	require.Equal(t, 3, lost)
	require.Equal(t, "bye", string(c.Received()))
}

func TestT41FINWaitsForUnacknowledgedData(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{ManualAck: true})
	_, err := host.Write(noise(3000))
	require.NoError(t, err)
	require.NoError(t, host.CloseWrite())
	b.Until("the data comes", func() bool { return len(c.Received()) == 3000 })
	b.Settle()
	require.False(t, c.FinReceived)
	c.SendAck()
	b.Turn()
	require.True(t, c.FinReceived, "at once after the acknowledgement")
}

func TestT41FINOfTheGuestBeforeItsTimeIsIgnored(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	early := c.Segment(porttest.ACK|porttest.FIN, nil)
	early.Seq += 5
	c.SendSegment(early)
	b.Settle()
	require.Equal(t, c.SndNxt, lastSegment(c).Ack)
	c.Send([]byte("hello"))
	require.Equal(t, "hello", string(b.readSome(host, 5)))
	c.Close()
	require.NoError(t, b.readAll(host).err)
}

func TestT42HalfClosedConnectionStillRecoversAndUpdatesItsWindow(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: porttest.Options{Features: vnet.FeatureVersion1}})
		c, host := b.connect()
		c.Close()
		b.Until("the guest's FIN is acknowledged", func() bool { return c.FinAcked })
		lost := 0
		b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
			drop := d == porttest.ToGuest && len(s.Payload) > 0 && lost == 0
			if drop {
				lost++
			}
			return drop
		}
		down := noise(20_000)
		_, err := host.Write(down)
		require.NoError(t, err)
		start := b.Now()
		b.Settle()
		require.Equal(t, start, b.Now())
		requireSame(t, down, c.Received())

		require.Equal(t, 1, b.Sockets(), "the flow lives until both ends are acknowledged")
		require.NoError(t, host.Close())
		b.Until("it is over", func() bool { return c.FinReceived && b.Sockets() == 0 })
	})
}

func TestT42HostThatEndedFirstStillOpensTheWindow(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	require.NoError(t, host.CloseWrite())
	b.Until("the end comes", c.Ended)
	up := noise(8 << 20) // far more than the first window
	c.Send(up)
	c.Close()
	r := b.readAll(host)
	require.NoError(t, r.err)
	requireSame(t, up, r.data)
}

func TestT43SimultaneousCloseAndFINWithData(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	require.NoError(t, host.CloseWrite())
	s := c.Segment(porttest.ACK|porttest.FIN|porttest.PSH, []byte("last words"))
	c.Silent = true
	c.SendNext(s)
	r := b.readAll(host)
	require.NoError(t, r.err)
	require.Equal(t, "last words", string(r.data))
	b.Until("the host's end comes", c.Ended)
	require.True(t, c.FinReceived)
	c.SendAck()
	b.Until("it is over", func() bool { return b.Sockets() == 0 })
}

func TestT44HostsResetIsOneForTheGuest(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		require.NoError(t, host.SetLinger(0))
		require.NoError(t, host.Close())
		start := b.Now()
		b.Settle()
		require.Equal(t, start, b.Now(), "no timer is needed")
		require.Equal(t, porttest.WasReset, c.State, "with exactly the sequence number that the guest expects (T45)")
		require.Zero(t, b.Sockets())
	})
}

func TestT44ProcessThatDiesWithUnreadDataResets(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Send([]byte("never read"))
	b.Until("it is delivered", func() bool { return c.Unsent() == 0 })
	b.Settle()
	require.NoError(t, host.Close())
	b.Settle()
	require.Equal(t, porttest.WasReset, c.State)
}

func TestT44DataBeforeTheResetIsDeliveredIfItFits(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Send([]byte("never read"))
	b.Until("it is delivered", func() bool { return c.Unsent() == 0 })
	_, err := host.Write([]byte("last words"))
	require.NoError(t, err)
	c.WaitFor(10)
	require.NoError(t, host.Close())
	b.Settle()
	require.Equal(t, "last words", string(c.Received()))
	require.Equal(t, porttest.WasReset, c.State)
}

func TestT45ChallengeIsAnsweredByTheRightReset(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Silent = true
	lost := false
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		drop := d == porttest.ToGuest && s.Has(porttest.RST) && !lost
		lost = lost || drop
		return drop
	}
	require.NoError(t, host.SetLinger(0))
	require.NoError(t, host.Close())
	b.Settle()
	require.True(t, lost)
	require.Equal(t, porttest.Open, c.State)
	c.SendAck()
	b.Settle()
	require.Equal(t, porttest.WasReset, c.State)
}

func TestT47LostFrontEndResetsEveryConnection(t *testing.T) {
	b := newBench(t, setup{})
	_, first := b.connect()
	_, second := b.connect()
	b.Disconnect()
	require.Zero(t, b.Sockets())
	for _, host := range []io.Reader{first, second} {
		_, err := io.ReadAll(host)
		require.ErrorContains(t, err, "connection reset")
	}
}

func TestT47ForwardsRefuseWithoutAGuest(t *testing.T) {
	b, dial := newForward(t, setup{})
	b.Disconnect()
	r := b.readAll(dial())
	require.ErrorContains(t, r.err, "connection reset")
}

func TestT49NewSYNReplacesAConnectionThatTheGuestForgot(t *testing.T) {
	b := newBench(t, setup{})
	c, old := b.connect(porttest.TCPOptions{LocalPort: 5000, ISS: 1000})
	c.Forget()
	d, host := b.connect(porttest.TCPOptions{LocalPort: 5000, ISS: 900_000})
	_, err := io.ReadAll(old)
	require.ErrorContains(t, err, "connection reset")
	d.Send([]byte("new"))
	require.Equal(t, "new", string(b.readSome(host, 3)))
	require.Equal(t, 1, b.Sockets())
}

func TestT49ANewDriverTellsConnectionsThatTheGuestForgot(t *testing.T) {
	b := newBench(t, setup{})
	forgotten, old := b.connect()
	kept, host := b.connect()
	forgotten.Forget()
	lost := 0
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		lost++
		return lost <= 4 // the guest has no address yet
	}
	up := netbackend.RingState{Connected: true, Transmit: true, Receive: true, Restarted: true}
	b.port.RingsChanged(netbackend.RingState{Connected: true})
	b.port.RingsChanged(up)
	b.Turn()
	b.Skip("only one connection is left", func() bool { return b.Sockets() == 1 })
	_, err := io.ReadAll(old)
	require.ErrorContains(t, err, "connection reset")

	b.Run(time.Hour)
	segments := len(kept.Segments)
	b.Run(time.Hour)
	require.Len(t, kept.Segments, segments, "an answered probe is not repeated")
	kept.Send([]byte("alive"))
	require.Equal(t, "alive", string(b.readSome(host, 5)))
}

func TestT50KeepaliveIsAnsweredWhileTheHostLives(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	b.Run(2 * time.Hour)
	n := len(c.Segments)
	c.SendKeepalive()
	b.Settle()
	require.Len(t, c.Segments, n+1)
	require.Equal(t, c.SndNxt, lastSegment(c).Ack)

	require.NoError(t, host.SetLinger(0))
	require.NoError(t, host.Close())
	b.Settle()
	require.Equal(t, porttest.WasReset, c.State)
}

func TestT51IdleConnectionLives(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	turns := b.Turns()
	b.Run(24 * time.Hour)
	require.Less(t, b.Turns()-turns, 100, "idle costs nothing")
	c.Send([]byte("hi"))
	require.Equal(t, "hi", string(b.readSome(host, 2)))
}
