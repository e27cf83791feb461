package nat_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/natguest"
)

func TestT7ConnectionsThatTheGuestResetsAtOnceLeaveNothing(t *testing.T) {
	b := newBench(t, setup{})
	for range 100 {
		c, host := b.connect()
		c.Reset()
		require.Error(t, b.readAll(host).err, "the host sees a reset")
		require.NoError(t, host.Close())
	}
	require.Zero(t, b.Sockets())
	require.Zero(t, b.port.Counters().TableFull)
}

func TestT8AnotherSYNWhileConnectingReplacesTheFirst(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	first := b.Dial(b.server, natguest.TCPOptions{LocalPort: 6000, ISS: 1000})
	first.Forget()
	second := b.Dial(b.server, natguest.TCPOptions{LocalPort: 6000, ISS: 500_000})
	b.Until("the second is open", func() bool { return second.State != natguest.SynSent })
	require.Equal(t, natguest.Open, second.State)
	require.Len(t, second.Segments, 1, "no late answer to the first SYN")
	require.Equal(t, 1, b.Sockets())
}

func TestT8GuestThatGivesUpFreesTheSocket(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	c := b.Dial(b.server)
	s := c.Segment(natguest.RST|natguest.ACK, nil)
	s.Seq = c.ISS + 1
	c.Forget()
	b.Deaf = true
	b.SendSegment(s) // in the same turn as the SYN
	b.Settle()
	require.Zero(t, b.Sockets())
}

func TestT54FullTableRefusesAndRecovers(t *testing.T) {
	b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = 4 }})
	var open []*natguest.TCP
	for range 4 {
		c, _ := b.connect()
		open = append(open, c)
	}
	c := b.Dial(b.server)
	b.Until("it is refused", func() bool { return c.State == natguest.Refused })
	require.Equal(t, uint64(1), b.port.Counters().TableFull)

	open[0].Reset()
	b.Settle()
	b.connect()
}
