package integration

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// graceFlag is longer than any test waits for a front end that is to come back.
const graceFlag = "--reconnect-grace=2m"

// QEMU loses its connection to vring in the middle of transfers, and comes back by itself a second later, with the same
// guest. Connections that either side began go on as if nothing had been.
func TestConnectionsOutliveTheFrontEndsConnection(t *testing.T) {
	atOnceOnAll(t, testOutliving, onQEMUWithTwo(userland.Bookworm), onQEMU(userland.Forky))
}

func testOutliving(t *testing.T, kind kind) {
	const n = 48 << 20
	server := serveTCP(t, n)
	var between *relay
	start := func(t *testing.T, command string, args ...string) *daemon {
		d := startVring(t, command, args...)
		between, d.Socket = startRelay(t, d.Socket)
		return d
	}
	l := newLabWith(t, kind, start, graceFlag, "--queues", strconv.Itoa(max(1, kind.queues)), "--allow-host", fmt.Sprintf("tcp:%d", server.Port))

	round := func() (outlived bool) {
		out := l.guest.Start("tcp-dial", viaGateway(server.Port), n, guestSeed)
		listen, conn := l.connectIn(n)
		in := make(chan transferred, 1)
		go func() { in <- exchange(conn, n) }()
		l.waitReceived(8 << 20)

		between.cut()
		l.waitCarrier(false)
		outlived = len(in) == 0 && len(server.Done) == 0
		l.waitCarrier(true)

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
		return outlived
	}
	for tries := 1; !round(); tries++ {
		require.Less(t, tries, 10, "the transfers end before their connection is lost")
	}
	l.requireNetwork()
}

// Within the grace nobody is told anything. A new guest knows none of the connections: then both are reset.
func TestANewGuestWithinTheGraceEndsTheConnectionsOfTheOld(t *testing.T) {
	t.Parallel()
	const endless = 1 << 40
	called := make(chan net.Conn, 1)
	port := acceptAll(t, func(conn net.Conn) { called <- conn })
	l := newLab(t, onUML(userland.Forky), graceFlag, "--allow-host", fmt.Sprintf("tcp:%d", port))
	l.guest.Start("tcp-dial", viaGateway(port), endless, guestSeed)
	out := <-called
	_, in := l.connectIn(endless)
	conns := map[string]net.Conn{"out of the guest": out, "into the guest": in}
	for way, conn := range conns { // one that the guest has not taken yet ends with the guest
		_, err := io.ReadFull(conn, make([]byte, 1))
		require.NoError(t, err, way)
	}

	require.NoError(t, l.guest.Kill())
	for way, conn := range conns {
		defer conn.Close()
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(500*time.Millisecond)))
		_, err := io.Copy(io.Discard, conn)
		require.ErrorIs(t, err, os.ErrDeadlineExceeded, way)
	}
	l.startGuest()
	for way, conn := range conns {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
		_, err := io.Copy(io.Discard, conn)
		require.ErrorIs(t, err, unix.ECONNRESET, way)
	}
	l.requireNetwork()
}
