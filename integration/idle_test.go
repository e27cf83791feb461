package integration

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// quietTime is how long vring and the guest get to finish what they were doing before processor time is measured.
const quietTime = 2 * time.Second

func TestAGuestThatIsIdleOrStalledCostsNothing(t *testing.T) {
	t.Parallel()
	onOneOfEach(t, userland.Forky, func(t *testing.T, kind kind) {
		held := make(chan net.Conn, 1)
		port := acceptAll(t, func(conn net.Conn) { held <- conn })
		l := newLab(t, kind, "--allow-host", fmt.Sprintf("tcp:%d", port))
		l.requireNetwork()
		l.idle()
		l.clientDoesNotRead()
		l.serverDoesNotRead(port, held)
		if !kind.uml {
			l.paused()
			l.receivesNothing()
		}
	})
}

// idle measures a guest that does nothing.
func (l *lab) idle() {
	time.Sleep(quietTime)
	// The Go runtime's own monitor may still be settling in the first of them.
	l.requireLittle(10*time.Second, 10*time.Millisecond)
}

// requireLittle checks that vring uses less processor time than limit in one of several intervals. What it does again and again, it
// does in each.
func (l *lab) requireLittle(interval, limit time.Duration) {
	l.t.Helper()
	const intervals = 5
	for i := 1; l.vring.cpuDuring(interval) >= limit; i++ {
		require.Less(l.t, i, intervals, "vring never rests")
	}
}

// What is measured while data waits and cannot go on: 1 % of a processor.
const (
	stalledTime  = 3 * time.Second
	stalledLimit = stalledTime / 100
)

// stalledBytes is more than all the buffers on the way hold: the kernel's grow to 4 MiB and 6 MiB by themselves.
const stalledBytes = 32 << 20

// requireStalled checks that the sender of stalledBytes costs nothing, and is still at it.
func (l *lab) requireStalled(ended func() bool) {
	l.t.Helper()
	time.Sleep(quietTime)
	l.requireLittle(stalledTime, stalledLimit)
	require.False(l.t, ended(), "nothing has stalled: buffers took it all")
}

// ended reports whether a command in the guest has ended.
func ended(call *guest.Call) bool {
	select {
	case <-call.Done():
		return true
	default:
		return false
	}
}

// clientDoesNotRead lets the guest send to a client of a forward.
func (l *lab) clientDoesNotRead() {
	listen, conn := l.connectIn(stalledBytes)
	l.requireStalled(func() bool { return ended(listen) })
	requirePattern(l.t, guestSeed, stalledBytes, exchange(conn, 0).got)
	require.NoError(l.t, listen.Wait(l.ctx, nil))
}

// serverDoesNotRead lets the guest send to a service of the host.
func (l *lab) serverDoesNotRead(port int, held <-chan net.Conn) {
	call := l.guest.Start("tcp-dial", viaGateway(port), stalledBytes, guestSeed)
	conn := <-held
	l.requireStalled(func() bool { return ended(call) })
	requirePattern(l.t, guestSeed, stalledBytes, exchange(conn, 0).got)
	require.NoError(l.t, call.Wait(l.ctx, nil))
}

// paused lets a client of a forward send to a guest that QEMU does not run. The rings are stopped as well.
func (l *lab) paused() {
	l.sendsInto(func() func() {
		require.NoError(l.t, l.guest.qemu.QMP.Stop())
		return func() { require.NoError(l.t, l.guest.qemu.QMP.Continue()) }
	})
}

// receivesNothing lets a client send while QEMU is frozen: the rings stay with vring, but nobody posts receive buffers, so neither
// TCP nor UDP can go on.
func (l *lab) receivesNothing() {
	require.True(l.t, echoed(l.udpIn, []byte("the way is known")))
	receive := l.findRing(receiveQueue)
	l.sendsInto(func() func() {
		thaw := l.freeze()
		l.exhaust(receive)
		return thaw
	})
}

// sendsInto lets a client of a forward send to a guest that stands still. What it has sent comes when the guest goes on.
func (l *lab) sendsInto(stand func() (goOn func())) {
	l.t.Helper()
	listen, conn := l.connectIn(0)
	goOn := stand()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, proto.Pattern(hostSeed, stalledBytes))
		sent <- err
	}()
	l.requireStalled(func() bool { return len(sent) > 0 })
	goOn()
	require.NoError(l.t, <-sent)
	closeBoth(l.t, conn)
	var got proto.Transfer
	require.NoError(l.t, listen.Event(l.ctx, &got))
	requirePattern(l.t, hostSeed, stalledBytes, got)
	require.NoError(l.t, listen.Wait(l.ctx, nil))
}
