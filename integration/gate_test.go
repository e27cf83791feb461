package integration

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
	"golang.org/x/sys/unix"
)

// A gated forward refuses while a client in the guest would be refused. Its knocking is not seen by the guest's program,
// which takes exactly one connection here.
func TestAGatedForwardRefusesAsTheGuestDoes(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	l := newLab(t, onUML(userland.Forky), "-p", fmt.Sprintf("gate:%d:%d", port, guestTCPPort))
	requireShut(t, port)

	listen := l.guest.Start("tcp-listen", guestTCPPort, labBytes, guestSeed)
	require.NoError(t, listen.Event(l.ctx, nil))
	done := exchange(dialWhenOpen(t, port), labBytes)
	require.NoError(t, done.err)
	requirePattern(t, guestSeed, labBytes, done.got)
	require.NoError(t, listen.Event(l.ctx, nil))
	require.NoError(t, listen.Wait(l.ctx, nil))
	require.Eventually(t, func() bool { return isRefused(port) }, soon, 5*time.Millisecond)

	listen = l.guest.Start("tcp-listen", guestTCPPort, labBytes, guestSeed)
	require.NoError(t, listen.Event(l.ctx, nil))
	conn := dialWhenOpen(t, port)
	require.NoError(t, l.guest.Kill())
	_, err := io.Copy(io.Discard, conn)
	require.ErrorIs(t, err, unix.ECONNRESET, "the guest's death is no end of file")
	requireShut(t, port)
}

// isRefused tells whether the host refuses a connection to a port.
func isRefused(port int) bool {
	conn, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	if err == nil {
		_ = conn.Close()
	}
	return errors.Is(err, unix.ECONNREFUSED)
}

func requireShut(t *testing.T, port int) {
	t.Helper()
	require.True(t, isRefused(port), "the host's port %d is open", port)
}

// dialWhenOpen connects as soon as the port is open. Package nat shows how soon a gate opens.
func dialWhenOpen(t *testing.T, port int) net.Conn {
	t.Helper()
	var conn net.Conn
	require.Eventually(t, func() (ok bool) {
		c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			conn = c
		}
		return err == nil
	}, soon, 5*time.Millisecond)
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}
