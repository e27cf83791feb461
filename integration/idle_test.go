package integration

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/guest"
	"github.com/vringnet/vring/integration/guest/proto"
	"github.com/vringnet/vring/integration/userland"
)

// quietTime is how long vring and the guest get to finish what they were doing before processor time is measured.
const quietTime = 2 * time.Second

func TestAnIdleGuestCostsNothing(t *testing.T) {
	onOneOfEach(t, userland.Forky, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		l.requireNetwork()
		time.Sleep(quietTime)
		// The Go runtime's own monitor may still be settling in the first of them.
		const intervals, limit = 3, 10 * time.Millisecond
		for i := 1; l.vring.cpuDuring(10*time.Second) >= limit; i++ {
			require.Less(t, i, intervals, "vring is never idle")
		}
	})
}

// What is measured while data waits and cannot go on: 1 % of a processor.
const (
	stalledTime  = 3 * time.Second
	stalledLimit = stalledTime / 100
)

// stalledBytes is more than all the buffers on the way hold: the kernel's grow to 4 MiB and 6 MiB by themselves.
const stalledBytes = 32 << 20

// requireStalled checks that the sender of stalledBytes is still at it.
func requireStalled(t *testing.T, ended bool) {
	t.Helper()
	require.False(t, ended, "nothing has stalled: buffers took it all")
}

// ended tells whether a command in the guest has ended.
func ended(call *guest.Call) bool {
	select {
	case <-call.Done():
		return true
	default:
		return false
	}
}

func TestAPausedGuestWithDataWaitingCostsNothing(t *testing.T) {
	l := newLab(t, onQEMU(userland.Forky))
	listen, conn := l.connectIn(0)
	require.NoError(t, l.guest.qemu.QMP.Stop())
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, proto.Pattern(hostSeed, stalledBytes))
		sent <- err
	}()
	time.Sleep(quietTime)
	require.Less(t, l.vring.cpuDuring(stalledTime), stalledLimit)
	requireStalled(t, len(sent) > 0)

	require.NoError(t, l.guest.qemu.QMP.Continue())
	require.NoError(t, <-sent)
	closeBoth(t, conn)
	var got proto.Transfer
	require.NoError(t, listen.Event(l.ctx, &got))
	requirePattern(t, hostSeed, stalledBytes, got)
}

// With QEMU frozen the rings stay with vring, but nobody posts receive buffers: neither TCP nor UDP can go on.
func TestAnEmptyReceiveRingCostsNothing(t *testing.T) {
	l := newLab(t, onQEMU(userland.Forky))
	listen, conn := l.connectIn(0)
	require.True(t, echoed(l.udpIn, []byte("the way is known")))
	receive := l.findRing(receiveQueue)
	thaw := l.freeze()
	l.exhaust(receive)
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, proto.Pattern(hostSeed, stalledBytes))
		sent <- err
	}()
	time.Sleep(quietTime)
	require.Less(t, l.vring.cpuDuring(stalledTime), stalledLimit)
	requireStalled(t, len(sent) > 0)

	thaw()
	require.NoError(t, <-sent)
	closeBoth(t, conn)
	var got proto.Transfer
	require.NoError(t, listen.Event(l.ctx, &got))
	requirePattern(t, hostSeed, stalledBytes, got)
}

func TestAClientThatDoesNotReadCostsNothing(t *testing.T) {
	onOneOfEach(t, userland.Bookworm, func(t *testing.T, kind kind) {
		l := newLab(t, kind)
		listen, conn := l.connectIn(stalledBytes)
		time.Sleep(quietTime)
		require.Less(t, l.vring.cpuDuring(stalledTime), stalledLimit)
		requireStalled(t, ended(listen))
		requirePattern(t, guestSeed, stalledBytes, exchange(conn, 0).got)
		require.NoError(t, listen.Wait(l.ctx, nil))
	})
}

func TestAServerThatDoesNotReadCostsNothing(t *testing.T) {
	onOneOfEach(t, userland.Forky, func(t *testing.T, kind kind) {
		held := make(chan net.Conn, 1)
		port := acceptAll(t, func(conn net.Conn) { held <- conn })
		l := newLab(t, kind, "--allow-host", fmt.Sprintf("tcp:%d", port))
		call := l.guest.Start("tcp-dial", viaGateway(port), stalledBytes, guestSeed)
		conn := <-held
		time.Sleep(quietTime)
		require.Less(t, l.vring.cpuDuring(stalledTime), stalledLimit)
		requireStalled(t, ended(call))
		requirePattern(t, guestSeed, stalledBytes, exchange(conn, 0).got)
		require.NoError(t, call.Wait(l.ctx, nil))
	})
}
