package nat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// manyFlows lets the guest have so many associations with the host's socket, from port 2000 on.
func (b *udpBench) manyFlows(n int) {
	b.t.Helper()
	for i := range n {
		b.SendDatagram(b.from2000(i))
	}
	b.Until("all flows are there", func() bool { return flowsOf(b.bench) == n })
}

// from2000 is a datagram of the guest's i-th association.
func (b *udpBench) from2000(i int) porttest.Datagram {
	return porttest.Datagram{Src: netip.AddrPortFrom(b.IP, uint16(2000+i)), Dst: b.server, Payload: []byte("x")}
}

// endsInSlices gives the Port turns until all flows have ended, of which no one ends more than ten.
func (b *udpBench) endsInSlices(flows int) {
	b.t.Helper()
	left := flowsOf(b.bench)
	require.GreaterOrEqual(b.t, left, flows-10, "it does not end them all at once")
	turns := 0
	for ; left > 0; turns++ {
		require.Less(b.t, turns, flows, "each turn ends some")
		b.Turn()
		now := flowsOf(b.bench)
		require.LessOrEqual(b.t, left-now, 10, "200 µs, of which each takes 20")
		require.Less(b.t, now, left)
		left = now
	}
	b.Settle()
	require.Zero(b.t, b.Sockets())
}

func TestT47TheFlowsOfAGuestThatIsGoneEndInSlices(t *testing.T) {
	const flows = 200
	t.Run("front end gone", func(t *testing.T) {
		b := newUDPBench(t, setup{})
		b.manyFlows(flows)
		b.Disconnect()
		b.endsInSlices(flows)
	})
	t.Run("after the grace", func(t *testing.T) {
		b := newUDPBench(t, setup{config: func(c *nat.Config) { c.ReconnectGrace = grace }})
		b.manyFlows(flows)
		b.Disconnect()
		b.Turn()
		b.Advance(grace)
		b.Turn()
		b.endsInSlices(flows)
	})
	t.Run("driver gone", func(t *testing.T) {
		b := newUDPBench(t, setup{})
		b.manyFlows(flows)
		b.StopRings(netbackend.RingState{Connected: true, Reset: true})
		b.Turn()
		require.Equal(t, flows, flowsOf(b.bench))
		b.Advance(5 * time.Second)
		b.Turn()
		b.endsInSlices(flows)
	})
	t.Run("the engine ends", func(t *testing.T) {
		b := newUDPBench(t, setup{})
		b.manyFlows(flows)
		b.Disconnect()
		b.Stop()
		require.Zero(t, b.Sockets(), "there is no turn after that")
	})
}

// What another guest sends is not taken for the last one's, however soon it comes.
func TestT47AnotherGuestMeetsNothingOfTheLast(t *testing.T) {
	const flows = 200
	b := newUDPBench(t, setup{})
	b.manyFlows(flows)
	var old netip.AddrPort // of the last one that came
	for range flows {
		require.NoError(t, b.host.SetReadDeadline(time.Now().Add(time.Minute)))
		_, from, err := b.host.ReadFromUDPAddrPort(make([]byte, 10))
		require.NoError(t, err)
		old = from
	}
	b.Disconnect()
	b.Reconnect(true)
	_, err := b.host.WriteToUDPAddrPort([]byte("for the last guest"), old)
	require.NoError(t, err)
	for i := range flows {
		b.SendDatagram(b.from2000(i))
	}
	b.Turn()
	require.NoError(t, b.host.SetReadDeadline(time.Now().Add(time.Millisecond)))
	_, err = b.host.Read(make([]byte, 10))
	require.Error(t, err, "its frames wait")
	before := b.port.Counters().UDPFlows
	b.Until("its flows have begun", func() bool { return b.port.Counters().UDPFlows == before+flows })
	require.Equal(t, flows, flowsOf(b.bench), "and none of the others is left")
	require.Empty(t, b.Datagrams(), "of which it gets nothing")
}

func TestT47AClientWaitsForTheGuestThatComes(t *testing.T) {
	const flows = 200
	inner, dial := newForward(t, setup{})
	b := &udpBench{bench: inner, host: inner.listenUDP()}
	b.manyFlows(flows)
	l := b.Listen(80)
	b.Disconnect()
	b.Reconnect(false)
	client := dial()
	guest := l.Accept()
	require.Equal(t, 1, flowsOf(b.bench))
	guest.Send([]byte("hello"))
	require.Equal(t, "hello", string(b.readSome(client, 5)))
	b.Run(time.Minute)
	require.Equal(t, porttest.Open, guest.State, "no slice takes it for one of the last guest's")
}
