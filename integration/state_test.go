package integration

import (
	"fmt"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/talk"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The rules of the engine that users notice, with the TCP of a real guest. They have the numbers of those of package nat.
func TestBothEndsSeeTheSameStateOfAConnection(t *testing.T) {
	t.Parallel()
	closed, nobody := freePort(t), freePort(t)
	answered := make(chan talk.Result, 1)
	answers := acceptAll(t, func(conn net.Conn) {
		r, _ := talk.Answer(conn.(*net.TCPConn), soon)
		answered <- r
	})
	parts, heard := []string{"abcX", "Ydef", "plain", "Z"}, talk.Heard{Text: "abcXYdefplainZ", Marks: []int{3, 4, 13}, Told: 3}
	urged := make(chan talk.Heard, 1)
	urgent := acceptAll(t, func(conn net.Conn) { urged <- talk.EchoBack(conn.(*net.TCPConn), parts, soon) })
	l := newLab(t, onUML(userland.Bookworm), "-p", fmt.Sprintf("%d:81", nobody), "--allow-host", fmt.Sprintf("tcp:%d", closed),
		"--allow-host", fmt.Sprintf("tcp:%d", answers), "--allow-host", fmt.Sprintf("tcp:%d", urgent))

	t.Run("T1 a closed port of the host is ECONNREFUSED in the guest", func(t *testing.T) {
		require.ErrorContains(t, l.guest.Do(l.ctx, nil, "tcp-dial", viaGateway(closed), 1, guestSeed), "connection refused")
	})
	t.Run("T11 a closed port of the guest is a reset, and no end", func(t *testing.T) {
		conn, err := net.Dial("tcp4", local(nobody))
		if err == nil { // the reset may come as early as that
			_, err = io.ReadAll(conn)
			require.NoError(t, conn.Close())
		}
		require.ErrorIs(t, err, unix.ECONNRESET)
	})
	t.Run("T15 what a client sends and ends before the guest answers is not lost", func(t *testing.T) {
		listen := l.guest.Start("tcp-listen", guestTCPPort, labBytes, guestSeed)
		require.NoError(t, listen.Event(l.ctx, nil))
		require.NoError(t, l.guest.Signal(syscall.SIGSTOP))
		conn := dial(l.ctx, t, "tcp4", l.forwardTCP)
		_, err := io.Copy(conn, proto.Pattern(hostSeed, 10_000))
		require.NoError(t, err)
		require.NoError(t, conn.(*net.TCPConn).CloseWrite())
		time.Sleep(50 * time.Millisecond) // for vring to take it, and to find nobody
		require.NoError(t, l.guest.Signal(syscall.SIGCONT))
		requirePattern(t, guestSeed, labBytes, proto.Sum(conn))
		var got proto.Transfer
		require.NoError(t, listen.Event(l.ctx, &got))
		requirePattern(t, hostSeed, 10_000, got)
		require.Equal(t, fmt.Sprintf("10.0.2.2:%d", conn.LocalAddr().(*net.TCPAddr).Port), got.Peer,
			"T16: a client on loopback is seen at the gateway, with its own port")
		require.NoError(t, conn.Close())
	})

	t.Run("T57 T59 urgent bytes are urgent at the other end, into the guest", func(t *testing.T) {
		listen := l.guest.Start("urgent-listen", guestTCPPort, parts[0], parts[1], parts[2], parts[3])
		require.NoError(t, listen.Event(l.ctx, nil))
		require.Equal(t, heard, talk.Echo(dial(l.ctx, t, "tcp4", l.forwardTCP).(*net.TCPConn), parts, soon))
		var guest talk.Heard
		require.NoError(t, listen.Wait(l.ctx, &guest))
		require.Equal(t, heard, guest)
	})
	t.Run("T57 T59 urgent bytes are urgent at the other end, out of the guest", func(t *testing.T) {
		var guest talk.Heard
		l.do(&guest, "urgent-dial", viaGateway(urgent), parts[0], parts[1], parts[2], parts[3])
		require.Equal(t, heard, guest)
		require.Equal(t, heard, <-urged)
	})

	listen := l.guest.Start("answer", guestTCPPort)
	require.NoError(t, listen.Event(l.ctx, nil))
	for name, c := range map[string]struct {
		kind             talk.Kind
		caller, answerer talk.Outcome
	}{
		"T40 the caller ends its direction first":   {talk.CallerFirst, talk.Complete, talk.Complete},
		"T40 the answerer ends its direction first": {talk.AnswererFirst, talk.Complete, talk.Complete},
		"T44 T46 the caller resets":                 {talk.CallerResets, talk.Resetting, talk.Broken},
		"T44 T46 the answerer resets":               {talk.AnswererResets, talk.Broken, talk.Resetting},
	} {
		script := talk.Script{ID: 7, Kind: c.kind, Up: 300_000, Down: 500_000}
		check := func(t *testing.T, caller, answerer talk.Result) {
			require.Equal(t, c.caller, caller.Outcome, caller)
			require.Equal(t, c.answerer, answerer.Outcome, answerer)
			for _, r := range []talk.Result{caller, answerer} {
				if r.Outcome == talk.Broken {
					require.Contains(t, r.Error, "connection reset")
				}
			}
		}
		t.Run(name+", into the guest", func(t *testing.T) {
			caller := talk.Call(dial(l.ctx, t, "tcp4", l.forwardTCP).(*net.TCPConn), script, soon)
			var answerer talk.Result
			require.NoError(t, listen.Event(l.ctx, &answerer))
			check(t, caller, answerer)
		})
		t.Run(name+", out of the guest", func(t *testing.T) {
			var caller talk.Result
			l.do(&caller, "talk", viaGateway(answers), script.ID, int(script.Kind), script.Up, script.Down)
			check(t, caller, <-answered)
		})
	}
}

// A service of the guest is killed: its clients learn what a client in the guest would, an end if it had read everything,
// and a reset if not.
func TestT47AKilledServiceIsWhatItsKernelSays(t *testing.T) {
	t.Parallel()
	l := newLab(t, onUML(userland.Forky))
	for name, c := range map[string]struct {
		use  func(t *testing.T, conn net.Conn)
		ends error
	}{
		"that has read everything": {func(t *testing.T, conn net.Conn) {
			_, err := conn.Write([]byte("hello"))
			require.NoError(t, err)
			_, err = io.ReadFull(conn, make([]byte, 5))
			require.NoError(t, err)
		}, nil},
		"that has not": {func(t *testing.T, conn net.Conn) {
			// It sends back what comes, which nobody reads, so in the end it reads no more.
			require.NoError(t, conn.SetWriteDeadline(time.Now().Add(time.Second)))
			_, err := io.Copy(conn, proto.Pattern(hostSeed, 1<<40))
			require.Error(t, err, "the service has stopped reading")
		}, unix.ECONNRESET},
	} {
		t.Run(name, func(t *testing.T) {
			service := l.guest.Start("spawn", "tcp-echo", guestTCPPort)
			var process proto.Spawned
			require.NoError(t, service.Event(l.ctx, &process))
			require.NoError(t, service.Event(l.ctx, nil), "it listens")
			conn := dial(l.ctx, t, "tcp4", l.forwardTCP)
			defer conn.Close()
			c.use(t, conn)
			l.do(nil, "kill", process.Process)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
			_, err := io.Copy(io.Discard, conn)
			require.ErrorIs(t, err, c.ends)
			require.NoError(t, service.Wait(l.ctx, nil))
		})
	}
}

// The machine is reset, and its front end stays. Both ends of the host learn of it though no driver comes: the machine stands
// still after the reset, as if it took long to boot. Then its network is back, and vring holds no more than before.
func TestT49ConnectionsOfARebootedGuestAreReset(t *testing.T) {
	atOnceOnEachQEMU(t, testRebooted)
}

func testRebooted(t *testing.T, kind kind) {
	const endless = 1 << 40
	called := make(chan net.Conn, 1)
	port := acceptAll(t, func(conn net.Conn) { called <- conn })
	l := newLab(t, kind, "--allow-host", fmt.Sprintf("tcp:%d", port))
	before := l.settled()
	l.guest.Start("tcp-dial", viaGateway(port), endless, guestSeed)
	out := <-called
	defer out.Close()
	_, in := l.connectIn(endless)
	defer in.Close()
	require.NoError(t, l.guest.qemu.QMP.Reset())
	require.NoError(t, l.guest.qemu.QMP.Stop())
	for way, conn := range map[string]net.Conn{"out of the guest": out, "into the guest": in} {
		require.NoError(t, conn.SetReadDeadline(time.Now().Add(soon)))
		_, err := io.Copy(io.Discard, conn)
		require.ErrorIs(t, err, unix.ECONNRESET, way)
	}
	require.NoError(t, l.guest.qemu.QMP.Continue())
	l.boot()
	l.requireWhole(before)
}
