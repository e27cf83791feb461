package nat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// The process and the guest were stopped for an hour, and both clocks have gone on: all that was due happens at once.
func TestConnectionsOutliveAnHourInOneTurn(t *testing.T) {
	b, guest, host, dial := newBoth(t, nil)
	b.Drop = func(porttest.Direction, *porttest.Segment) bool { return true } // it is under way when the time stops
	for i := range guest {
		guest[i].Send(noise(40_000))
		_, err := host[i].Write(noise(30_000))
		require.NoError(t, err)
	}
	b.Turn()
	b.Drop = nil
	require.Empty(t, guest[0].Received())
	before := b.port.Counters().Retransmits
	b.Advance(time.Hour)
	b.Turn()
	require.LessOrEqual(t, b.port.Counters().Retransmits-before, uint64(len(guest)), "an hour is one time-out for each, and not many")
	for i := range guest {
		requireSame(t, noise(40_000), b.readSome(host[i], 40_000))
		guest[i].WaitFor(30_000)
		requireSame(t, noise(30_000), guest[i].Received())
	}
	require.Empty(t, b.endings())
	for range 30 { // days in which both are asked whether they still know each other
		b.Advance(time.Hour)
		b.Turn()
		b.Run(time.Minute)
	}
	require.Equal(t, []string{"open", "open"}, b.states())
	l := b.Listen(80)
	_, err := dial().Write([]byte("a new one"))
	require.NoError(t, err)
	l.Accept().WaitFor(9)
	require.Empty(t, b.endings())
}

// Thousands of flows whose time has run out in one leap end in portions, so that who has something to say is not kept waiting.
func TestAnHourInOneTurnEndsSilentFlowsInPortions(t *testing.T) {
	const flows, portion = 1000, 256
	b := newUDPBench(t, setup{config: func(c *nat.Config) { c.EndpointIndependent = true }}) // one socket for all
	for i := range flows {
		b.SendDatagram(porttest.Datagram{
			Src: netip.AddrPortFrom(b.IP, uint16(2000+i%4)), Dst: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, 1}), uint16(1000+i/4)),
			Payload: []byte("x"),
		})
	}
	b.Settle()
	count := func() int { return len(b.port.Snapshot(b.Now()).Flows) }
	require.Equal(t, flows, count())
	b.Advance(time.Hour)
	hello := b.datagram(1, 100)
	b.SendDatagram(hello)
	b.Turn()
	require.Equal(t, flows+1-portion, count())
	b.hostGets([][]byte{hello.Payload}) // it went out before the others have ended
	b.Turn()
	require.Equal(t, flows+1-2*portion, count())
	b.Settle()
	require.Equal(t, 1, count())
	require.EqualValues(t, flows, b.port.Counters().UDPExpired)
	_, err := b.host.WriteToUDPAddrPort([]byte("back"), b.from)
	require.NoError(t, err)
	b.guestGets([][]byte{[]byte("back")})
}

// A guest's clock may go on while the host sleeps, and what it was told of its router lapses after half an hour. The resolvers of
// the place where the host wakes up are not those that failed before.
func TestAfterASleepOfTheHostTheRouterIsAdvertisedAndResolversHaveTheirTurn(t *testing.T) {
	slept := time.Duration(0)
	first, second := newResolver(t, "127.0.0.1", silence), newResolver(t, "127.0.0.1", always(noError))
	b := newAsking(t, setup{config: func(c *nat.Config) { c.Slept = func() time.Duration { return slept } }}, first.addr, second.addr)
	b.SendICMP(b.Gateway6, porttest.ICMP{Type: 128}) // the router is advertised from now on
	advertised := func() (n int) {
		b.Settle()
		for _, f := range b.Frames() {
			if f.ICMP != nil && f.ICMP.Type == 134 {
				n++
			}
		}
		return n
	}
	require.Equal(t, 1, advertised())
	b.ask(1024, question(7, "a"))
	b.count(first, 1)
	b.Run(2 * time.Second)
	require.EqualValues(t, noError, b.resolved("the second resolver's answer")[3]&0xf)
	first.answers(always(noError))
	b.Run(2 * time.Second)
	require.Zero(t, advertised())

	slept += 2 * time.Hour
	b.asks(1025, "b") // some traffic
	require.Equal(t, 1, advertised(), "though the last one is a few seconds old by the engine's clock")
	require.EqualValues(t, noError, b.asks(1026, "c"))
	b.count(first, 3) // both times
	b.Run(5 * time.Minute)
	require.Zero(t, advertised(), "once is enough")
	told := 0
	for _, n := range b.Notices() {
		if n.Message == "the host was suspended" {
			require.Equal(t, "2h0m0s", n.Value)
			told++
		}
	}
	require.Equal(t, 1, told)
}
