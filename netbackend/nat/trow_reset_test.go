package nat_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// What a Port is told when the guest's driver has reset its device, and when the guest is paused.
var (
	driverReset = netbackend.RingState{Connected: true, Reset: true}
	paused      = netbackend.RingState{Connected: true}
)

// stop stops the rings, and goOn starts them.
func (b *bench) stop(s netbackend.RingState) {
	b.StopRings(s)
	b.Turn()
}

func (b *bench) goOn(restarted bool) {
	b.Reconnect(restarted)
	b.Turn()
	b.Settle()
}

// newBoth is a bench with a connection of the guest's, one of a forward, and what dials another.
func newBoth(t *testing.T, config func(*nat.Config)) (b *bench, guest []*porttest.TCP, host []net.Conn, dial func() *net.TCPConn) {
	t.Helper()
	b, dial = newForward(t, setup{config: config})
	out, peer := b.connect()
	l := b.Listen(80)
	client := dial()
	return b, []*porttest.TCP{out, l.Accept()}, []net.Conn{peer, client}, dial
}

// states are those of all flows.
func (b *bench) states() (all []string) {
	for _, f := range b.port.Snapshot(b.Now()).Flows {
		all = append(all, f.State)
	}
	return all
}

func TestT70AGuestThatRebootsLosesItsConnectionsBeforeItsDriverIsBack(t *testing.T) {
	b, _, host, dial := newBoth(t, nil)
	b.stop(driverReset)
	require.Equal(t, []string{"open (no driver)", "open (no driver)"}, b.states())
	b.Run(4 * time.Second)
	require.Len(t, b.states(), 2, "it may be another driver for the same guest")
	b.stop(driverReset) // told again, as when something else of the rings changes
	b.Run(2 * time.Second)
	require.Empty(t, b.states())
	for _, c := range host {
		require.ErrorContains(t, b.readAll(c).err, "connection reset")
	}
	require.ErrorContains(t, b.readAll(dial()).err, "connection reset", "who calls meanwhile need not wait")
	require.Equal(t, map[string]int{"ended_driver_gone": 2, "ended_no_guest": 1}, b.endings())
	b.stop(driverReset)
	b.Run(time.Minute)

	b.goOn(true)
	b.SendICMP(b.Gateway, porttest.ICMP{Type: 8}) // the guest is heard of
	l := b.Listen(80)
	_, err := dial().Write([]byte("hello"))
	require.NoError(t, err)
	l.Accept().WaitFor(5)
}

func TestT71ADriverThatIsSoonBackKeepsConnections(t *testing.T) {
	b, guest, host, _ := newBoth(t, nil)
	b.stop(driverReset)
	b.Run(4 * time.Second)
	guest[1].Forget()
	b.goOn(true)
	require.ErrorContains(t, b.readAll(host[1]).err, "connection reset", "unless the guest has forgotten them")
	b.Run(time.Hour)
	guest[0].Send([]byte("alive"))
	require.Equal(t, "alive", string(b.readSome(host[0], 5)))
}

func TestT71TheGraceHoldsForTheDriverToo(t *testing.T) {
	b, guest, host, _ := newBoth(t, func(c *nat.Config) { c.ReconnectGrace = grace })
	b.stop(driverReset)
	b.Run(grace - time.Second)
	require.Len(t, b.states(), 2)
	b.goOn(true)
	guest[0].Send([]byte("alive"))
	require.Equal(t, "alive", string(b.readSome(host[0], 5)))
	b.stop(driverReset)
	b.Run(grace + time.Second)
	require.Empty(t, b.states())
}

func TestT72APausedGuestKeepsConnections(t *testing.T) {
	b, guest, host, dial := newBoth(t, nil)
	b.stop(paused)
	require.Equal(t, []string{"open (paused)", "open (paused)"}, b.states())
	caller := dial()
	b.Run(time.Hour)
	require.ErrorContains(t, b.readAll(caller).err, "connection reset", "who calls is not answered")
	require.Len(t, b.states(), 2)
	b.goOn(false)
	require.Equal(t, []string{"open", "open"}, b.states())
	for i := range guest {
		guest[i].Send([]byte("alive"))
		require.Equal(t, "alive", string(b.readSome(host[i], 5)))
	}
}

func TestT72AFrontEndThatGoesAfterItsDriverEndsConnectionsAtOnce(t *testing.T) {
	b, _, host, _ := newBoth(t, nil)
	b.stop(driverReset)
	b.Disconnect()
	b.Turn()
	for _, c := range host {
		require.ErrorContains(t, b.readAll(c).err, "connection reset")
	}
	require.Equal(t, map[string]int{"ended_guest_gone": 2}, b.endings())
}
