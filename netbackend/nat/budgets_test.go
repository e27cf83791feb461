package nat_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
)

// stateOf is how many flows have a state.
func (b *bench) inState(name string) int {
	for _, s := range b.port.States() {
		if s.State == name {
			return s.Flows
		}
	}
	require.Fail(b.t, "there is no state "+name)
	return 0
}

// Each connection is counted where it stands: while it is open, when one end has closed it, and no more when both have. The end of newBench's tests
// compares with the flows that there are.
func TestFlowsAreCountedByTheirStates(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.datagrams(3)
	require.Equal(t, 3, b.inState("associated"))
	first, host := b.connect()
	b.connect()
	b.Until("both are open", func() bool { return b.inState("open") == 2 })
	first.Close()
	b.Until("the guest's FIN", func() bool { return b.inState("guest-closed") == 1 })
	require.Equal(t, 1, b.inState("open"))
	require.NoError(t, host.Close())
	b.Until("both ends", func() bool { return b.inState("guest-closed")+b.inState("closing") == 0 })
	_, other := b.connect()
	require.NoError(t, other.CloseWrite())
	b.Until("the host's FIN", func() bool { return b.inState("host-closed") == 1 })
	b.requireStates()
}

// below returns how many of a distribution took no longer than d.
func below(in counting.Distribution, d time.Duration) (n uint64) {
	for _, b := range in.Buckets {
		if b.Bound <= d {
			n = b.Count
		}
	}
	return n
}

// A handshake takes until the other end has answered: with a guest that answers late, until then.
func TestHandshakesOfBothDirectionsAreTimed(t *testing.T) {
	b, dial := newForward(t, setup{})
	b.connect()
	b.connect()
	out, in := b.port.Handshakes()
	require.EqualValues(t, 2, out.Count)
	require.Zero(t, in.Count)
	require.EqualValues(t, 2, below(out, 10*time.Second))

	dial()
	const late = 700 * time.Millisecond
	b.Listen(80)
	b.Advance(late)
	b.Until("the guest's answer", func() bool { _, in = b.port.Handshakes(); return in.Count > 0 })
	out, _ = b.port.Handshakes()
	require.EqualValues(t, 2, out.Count)
	require.EqualValues(t, 1, in.Count)
}

// budget is what is used of a budget.
func (b *bench) budget(name string) nat.Usage {
	for _, u := range b.port.Budgets(b.Now()) {
		if u.Name == name {
			return u
		}
	}
	require.Fail(b.t, "there is no budget of "+name)
	return nat.Usage{}
}

// What is taken out of a budget of a second is used, until time gives it back.
func TestBudgetsTellWhatIsLeftOfASecond(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.Advance(10 * time.Second)
	require.Zero(t, b.budget("echo").Used)
	for i := range uint16(300) {
		b.echoTo("10.0.2.2", 7, i, nil)
	}
	b.Settle()
	used := b.budget("echo")
	require.Equal(t, 1000, used.Most)
	require.InDelta(t, 300, used.Used, 20)
	b.Advance(2 * time.Second)
	require.Zero(t, b.budget("echo").Used)
	require.Positive(t, b.budget("new flows").Most)
}

// Who asks for limits and states needs neither the thread nor its time.
func TestStatesAndLimitsAreForAnybody(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				b.port.States()
				b.port.Limits()
				b.port.Budgets(1)
				b.port.KernelMemory()
				b.port.Handshakes()
			}
		}
	}()
	for range 20 {
		b.connect()
	}
	b.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("10.0.2.15:1024"), Dst: b.server, Payload: noise(3)})
	b.Settle()
	close(stop)
	<-done
}
