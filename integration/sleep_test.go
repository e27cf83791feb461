package integration

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A guest that stands still while its peers send goes on as if nothing had been: when its monitor pauses it, which stops its rings,
// and when its process is stopped, which vring cannot tell from a guest that hangs. For an hour see package nat.
func TestConnectionsOutliveAGuestThatStandsStill(t *testing.T) {
	t.Parallel()
	const n = 32 << 20
	const still = 1500 * time.Millisecond // several repetitions of what is not acknowledged
	server := serveTCP(t, n)
	l := newLab(t, onQEMU(userland.Bookworm), "--allow-host", fmt.Sprintf("tcp:%d", server.Port))
	for _, how := range []struct {
		name       string
		stop, goOn func() error
	}{
		{"stopped", func() error { return l.guest.Signal(syscall.SIGSTOP) }, func() error { return l.guest.Signal(syscall.SIGCONT) }},
		{"paused", l.guest.qemu.QMP.Stop, l.guest.qemu.QMP.Continue},
	} {
		round := func(t *testing.T) (stoodStill bool) {
			out := l.guest.Start("tcp-dial", viaGateway(server.Port), n, guestSeed)
			listen, conn := l.connectIn(n)
			in := make(chan transferred, 1)
			go func() { in <- exchange(conn, n) }()
			l.waitReceived(1 << 20)

			require.NoError(t, how.stop())
			time.Sleep(still)
			stoodStill = len(in) == 0 && len(server.Done) == 0
			require.NoError(t, how.goOn())

			var got proto.Transfer
			require.NoError(t, out.Wait(l.ctx, &got))
			requirePattern(t, hostSeed, n, got)
			requirePattern(t, guestSeed, n, server.next(l.ctx, t))
			done := <-in
			require.NoError(t, done.err)
			requirePattern(t, guestSeed, n, done.got)
			require.NoError(t, listen.Event(l.ctx, &got))
			requirePattern(t, hostSeed, n, got)
			require.NoError(t, listen.Wait(l.ctx, nil))
			return stoodStill
		}
		t.Run(how.name, func(t *testing.T) {
			for tries := 1; !round(t); tries++ {
				require.Less(t, tries, 10, "the transfers end before the guest stands still")
			}
		})
	}
	l.requireNetwork()
}
