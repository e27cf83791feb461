package integration

import (
	"fmt"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A guest is migrated within a host, as when QEMU is upgraded: cancelled first, then there and back, and into a file and out of it.
// Its connections, those that it began and those of forwards, go on, each byte counted.
func TestConnectionsOutliveMigrationsToAnotherQEMU(t *testing.T) {
	t.Parallel()
	const each = 12
	held := newHolding()
	port := acceptAll(t, func(conn net.Conn) { held.exchange(conn) })
	kind := onQEMU(userland.Forky)
	l := newLab(t, kind, graceFlag, "--allow-host", fmt.Sprintf("tcp:%d", port))

	var out [each]*guest.Call
	for i := range out {
		out[i] = l.guest.Start("tcp-dial", viaGateway(port), heldBytes, guestSeed)
	}
	in := l.guest.Start("tcp-listen", guestTCPPort, heldBytes, guestSeed, each)
	require.NoError(t, in.Event(l.ctx, nil))
	for range each {
		conn := dial(l.ctx, t, "tcp4", l.forwardTCP)
		go held.exchange(conn)
	}
	requireProgress := func() {
		t.Helper()
		before := held.moved.Load()
		require.Eventually(t, func() bool { return held.moved.Load() >= before+2*each }, soon, tick, "the connections stand still")
		require.Empty(t, held.done, "none has ended")
	}
	requireProgress()

	cancelled := l.target(l.guest)
	require.ErrorContains(t, cancelled.qemu.RefusesPostcopy(), "ostcopy")
	require.NoError(t, l.guest.qemu.CancelMigrationTo(l.ctx, cancelled.qemu))
	require.NoError(t, cancelled.Kill())
	requireProgress()

	for range 3 {
		target := l.target(l.guest)
		require.NoError(t, l.guest.qemu.MigrateTo(l.ctx, target.qemu))
		l.guest = target
		requireProgress()
	}

	file := filepath.Join(t.TempDir(), "saved")
	require.NoError(t, l.guest.qemu.Save(l.ctx, file))
	target := l.target(l.guest)
	require.NoError(t, target.qemu.Restore(l.ctx, l.guest.qemu, file))
	l.guest = target
	requireProgress()

	close(held.release)
	for range out {
		end := <-held.done
		require.NoError(t, end.err)
		requirePattern(t, guestSeed, heldBytes, end.got)
	}
	for i := range out {
		var got proto.Transfer
		require.NoError(t, out[i].Wait(l.ctx, &got))
		requirePattern(t, hostSeed, heldBytes, got)
		require.NoError(t, in.Event(l.ctx, &got))
		requirePattern(t, hostSeed, heldBytes, got)
	}
	for range each {
		end := <-held.done
		require.NoError(t, end.err)
		requirePattern(t, guestSeed, heldBytes, end.got)
	}
	require.NoError(t, in.Wait(l.ctx, nil))
	l.requireNetwork()
}

// target starts a QEMU at l's vring to which a guest can be migrated.
func (l *lab) target(from *testGuest) *testGuest {
	l.t.Helper()
	return startQEMU(l.ctx, l.t, qemu.Options{
		Userland: l.kind.userland, Initrd: built.image(l.kind.userland, false, l.kind.queues > 1), Socket: l.vring.Socket,
		Reconnect: true, Queues: l.kind.queues, From: from.qemu,
	})
}

// heldBytes is what each side sends on a connection that is held.
const heldBytes = 256 << 10

// holding holds the host's ends of connections up: some data passes all the time, and none of them ends before it is released.
type holding struct {
	release chan struct{}
	moved   atomic.Int64 // pieces
	done    chan transferred
}

func newHolding() *holding {
	return &holding{release: make(chan struct{}), done: make(chan transferred, 64)}
}

// exchange is the function exchange on a connection that is held.
func (h *holding) exchange(conn net.Conn) {
	h.done <- exchange(&heldConn{Conn: conn, holding: h}, heldBytes)
}

// heldConn is a connection on which the last part of what passes does so in small pieces.
type heldConn struct {
	net.Conn
	*holding
	sent, received int
}

const (
	heldBack  = 128 << 10 // bytes that pass slowly, in each direction
	heldPiece = 16
	heldPause = 20 * time.Millisecond
)

// hold waits before a piece that begins behind so many bytes, and returns how long it may be.
func (c *heldConn) hold(at, n int) int {
	if at < heldBytes-heldBack {
		return min(n, heldBytes-heldBack-at)
	}
	pause := time.After(heldPause)
	if at >= heldBytes-heldPiece {
		pause = nil
	}
	select {
	case <-c.release:
		return n
	case <-pause:
		c.moved.Add(1)
		return min(n, heldPiece)
	}
}

func (c *heldConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b[:c.hold(c.received, len(b))])
	c.received += n
	return n, err
}

func (c *heldConn) Write(b []byte) (done int, err error) {
	for done < len(b) && err == nil {
		n := 0
		n, err = c.Conn.Write(b[done:][:c.hold(c.sent, len(b)-done)])
		done += n
		c.sent += n
	}
	return done, err
}

func (c *heldConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// A guest is migrated to a QEMU that has another vring, as on another host, under load and there and back. Its network works at once;
// its connections were the first vring's, and are reset when it next sends.
func TestAGuestThatIsMigratedToAnotherVringHasItsNetworkThere(t *testing.T) {
	t.Parallel()
	const endless = 1 << 50
	server := serveTCP(t, endless)
	kind := onQEMUWithTwo(userland.Forky)
	here := newLab(t, kind, "--queues", "2", "--allow-host", fmt.Sprintf("tcp:%d", server.Port))
	there := *here
	there.forwardTCP, there.forwardUDP = freePort(t), freePort(t)
	there.vring = startVring(t, "nat", "--queues", "2",
		"--allow-host", fmt.Sprintf("tcp:%d", server.Port), "--allow-host", fmt.Sprintf("tcp:%d", here.tcp.Port),
		"--allow-host", fmt.Sprintf("udp:%d", here.udpEcho),
		"-p", fmt.Sprintf("127.0.0.1:%d:%d", there.forwardTCP, guestTCPPort),
		"-p", fmt.Sprintf("udp:127.0.0.1:%d:%d", there.forwardUDP, guestUDPPort))
	there.udpIn = dial(there.ctx, t, "udp4", there.forwardUDP)
	t.Cleanup(func() { require.NoError(t, there.udpIn.Close()) })

	for _, way := range [][2]*lab{{here, &there}, {&there, here}} {
		from, to := way[0], way[1]
		load := from.guest.Start("tcp-dial", viaGateway(server.Port), endless, guestSeed)
		from.waitReceived(64 << 10)
		to.guest = to.target(from.guest)
		require.NoError(t, from.guest.qemu.MigrateTo(from.ctx, to.guest.qemu))
		require.ErrorContains(t, load.Wait(to.ctx, nil), "connection reset")
		to.requireNetwork()
		require.Equal(t, "10.0.2.15/24", to.lease().Address)
	}
}
