package vhostuser

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// served is a running Server.
type served struct {
	t      *testing.T
	dev    *fakeDevice
	log    *logBuffer
	path   string
	mem    *vqtest.Memory
	cancel context.CancelFunc
	done   chan error
}

// serve runs a server on a socket path, with cfg for the rest. The end of the test stops it and checks for leaks, except
// of inherited descriptors: those are counted by the test that makes them.
func serve(t *testing.T, cfg Config) *served {
	t.Helper()
	return serveEdited(t, cfg, func(*Server) {})
}

// serveEdited is serve with a server that is changed before it runs.
func serveEdited(t *testing.T, cfg Config, edit func(*Server)) *served {
	t.Helper()
	if cfg.FD == 0 {
		checkLeaks(t)
	}
	s := &served{t: t, dev: newFakeDevice(t, 1), log: &logBuffer{}, mem: newMemory(t), done: make(chan error, 1)}
	if cfg.SocketPath == "" && cfg.FD == 0 {
		cfg.SocketPath = filepath.Join(t.TempDir(), "vu.sock")
	}
	s.path = cfg.SocketPath
	cfg.Device, cfg.Log = s.dev, s.log.logger()
	server, err := NewServer(cfg)
	require.NoError(t, err)
	edit(server)
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	go func() { s.done <- server.Serve(ctx) }()
	t.Cleanup(func() {
		s.cancel()
		if err := s.wait(); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return s
}

// wait waits for Serve to return.
func (s *served) wait() error {
	select {
	case err := <-s.done:
		s.done <- err
		return err
	case <-time.After(testLimit):
		s.t.Fatal("Serve did not return")
		return nil
	}
}

// connect brings a front end up, which hangs up at the end of the test.
func (s *served) connect() *frontend.Conn {
	s.t.Helper()
	fe, err := frontend.Dial(s.path)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { fe.Close() })
	s.bringUp(fe)
	return fe
}

func (s *served) bringUp(fe *frontend.Conn) {
	s.t.Helper()
	require.NoError(s.t, fe.Setup(newSetup(s.t, s.mem, 1)))
	_, err := fe.GetFeatures()
	require.NoError(s.t, err)
	s.dev.requireRings(true, true)
}

func (s *served) eventually(what string) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return strings.Contains(s.log.String(), what) }, testLimit, time.Millisecond, what)
}

func TestServerServesOneFrontEndAfterTheOther(t *testing.T) {
	s := serve(t, Config{})
	for range 8 {
		require.NoError(t, s.connect().Close())
	}
}

func TestServerServesTheNextAfterOneThatBrokeTheProtocol(t *testing.T) {
	s := serve(t, Config{})
	fe := s.connect()
	require.NoError(t, fe.Write(make([]byte, 100)))
	s.eventually("front end given up")
	s.connect()
}

func TestServerRemovesItsSocket(t *testing.T) {
	s := serve(t, Config{})
	s.connect()
	s.cancel()
	require.NoError(t, s.wait())
	require.NoFileExists(t, s.path)
}

func TestTheSocketIsItsOwnersUnlessTheConfigurationSaysMore(t *testing.T) {
	for _, tt := range []struct{ mode, want os.FileMode }{{0, 0o600}, {0o660, 0o660}} {
		before := unix.Umask(0)
		s := serve(t, Config{SocketMode: tt.mode})
		unix.Umask(before)
		info, err := os.Lstat(s.path)
		require.NoError(t, err)
		require.Equal(t, tt.want, info.Mode().Perm())
	}
}

func TestServerLeavesTheSocketOfAnother(t *testing.T) {
	s := serve(t, Config{})
	require.NoError(t, os.Remove(s.path))
	require.NoError(t, os.WriteFile(s.path, nil, 0o600))
	s.cancel()
	require.NoError(t, s.wait())
	require.FileExists(t, s.path)
}

func TestThirdFrontEndIsRefusedAndTheOthersDoNotNotice(t *testing.T) {
	s, start := serve(t, Config{}), time.Now()
	first := s.connect()
	s.dev.takeCalls()
	second, err := frontend.Dial(s.path)
	require.NoError(t, err)
	_, err = second.GetFeatures()
	require.NoError(t, err)
	for range 9 {
		third, err := frontend.Dial(s.path)
		require.NoError(t, err)
		_, err = third.GetFeatures()
		require.Error(t, err)
		require.NoError(t, third.Close())
	}
	_, err = first.GetFeatures()
	require.NoError(t, err)
	_, err = second.GetFeatures()
	require.NoError(t, err)
	require.NoError(t, second.Close())
	require.Empty(t, s.dev.takeCalls())
	s.requireFewRefusals(start)
}

// requireFewRefusals checks that refusals since start were told, a few of them at once and then one in ten seconds at most.
func (s *served) requireFewRefusals(start time.Time) {
	s.t.Helper()
	refusals := countLines(s.log.String(), "another front end was refused")
	require.Positive(s.t, refusals)
	require.Less(s.t, refusals, 5+int(time.Since(start)/(10*time.Second)), "the log is limited")
}

// QEMU that is killed and started again may connect before its end was noticed.
func TestFrontEndThatHungUpMakesRoomAtOnce(t *testing.T) {
	s := serve(t, Config{})
	for range 5 {
		fe, err := frontend.Dial(s.path)
		require.NoError(t, err)
		s.bringUp(fe)
		require.NoError(t, fe.Close())
		// No pause: the next Dial races with the end of the session.
	}
	require.NotContains(t, s.log.String(), "refused")
}

func TestNextFrontEndWaitsForTheDeviceToLetGo(t *testing.T) {
	s := serve(t, Config{})
	s.dev.failOn("Reset", errBroken)
	require.NoError(t, s.connect().Close())
	s.eventually("does not let go")
	s.dev.takeCalls()

	next, err := frontend.Dial(s.path)
	require.NoError(t, err)
	defer next.Close()
	third, err := frontend.Dial(s.path)
	require.NoError(t, err)
	defer third.Close()
	_, err = third.GetFeatures()
	require.Error(t, err, "one waits, no more")

	s.dev.failOn("Reset", nil)
	s.bringUp(next)
}

func TestDeviceThatNeverLetsGoIsReported(t *testing.T) {
	checkLeaks(t)
	dev := newFakeDevice(t, 1)
	dev.failOn("Reset", errBroken)
	path := filepath.Join(t.TempDir(), "vu.sock")
	server, err := NewServer(Config{SocketPath: path, Device: dev})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Serve(ctx) }()
	fe, err := frontend.Dial(path)
	require.NoError(t, err)
	_, err = fe.GetFeatures()
	require.NoError(t, err)
	require.NoError(t, fe.Close())
	cancel()
	require.ErrorIs(t, <-done, errBroken)
	require.NoFileExists(t, path)
}

// A front end that shares an eventfd can hold up the goroutine that writes to it. What it does here is what that comes to.
func TestServeEndsThoughASessionDoesNot(t *testing.T) {
	dev := newFakeDevice(t, 1)
	stuck, release := make(chan struct{}), make(chan struct{})
	dev.during = func(method string) {
		if method == "SetMTU" {
			close(stuck)
			<-release
		}
	}
	path := filepath.Join(t.TempDir(), "vu.sock")
	server, err := NewServer(Config{SocketPath: path, Device: dev})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- server.Serve(ctx) }()
	fe, err := frontend.Dial(path)
	require.NoError(t, err)
	defer fe.Close()
	require.NoError(t, fe.Send(wire.Message{Request: wire.NetSetMTU, Value: 1500}))
	<-stuck
	cancel()
	require.ErrorIs(t, <-done, errHeldUp)
	require.NoFileExists(t, path)
	close(release)
}

func TestServerSurvivesManyShortConnections(t *testing.T) {
	s := serve(t, Config{})
	for range 1000 {
		c, err := net.Dial("unix", s.path)
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	s.connect()
}

func TestClientDialsAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "fe.sock")
	s := serve(t, Config{SocketPath: path, Client: true})
	s.eventually("waiting for the front end")
	for range 3 {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		require.NoError(t, err)
		fe := acceptFrontEnd(t, l)
		s.bringUp(fe)
		require.NoError(t, l.Close()) // removes the socket
		require.NoError(t, fe.Close())
		time.Sleep(2 * backoffMin)
	}
	require.LessOrEqual(t, countLines(s.log.String(), "waiting for the front end"), 4, "a reason is logged once")
}

// acceptFrontEnd is a front end that waits for its back end.
func acceptFrontEnd(t *testing.T, l *net.UnixListener) *frontend.Conn {
	t.Helper()
	require.NoError(t, l.SetDeadline(time.Now().Add(testLimit)))
	c, err := l.AcceptUnix()
	require.NoError(t, err)
	f, err := c.File()
	require.NoError(t, err)
	require.NoError(t, c.Close())
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	fe, err := frontend.NewConn(fd)
	require.NoError(t, err)
	return fe
}

func TestInheritedListener(t *testing.T) {
	checkLeaks(t)
	path := filepath.Join(t.TempDir(), "vu.sock")
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	require.NoError(t, unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	require.NoError(t, unix.Listen(fd, 8))
	func() {
		s := serve(t, Config{FD: fd})
		s.path = path
		s.connect()
		s.cancel()
		require.NoError(t, s.wait())
	}()
	require.FileExists(t, path, "it belongs to whoever made it")
}

func TestInheritedConnectionEndsTheServer(t *testing.T) {
	checkLeaks(t)
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	s := serve(t, Config{FD: ends[1]})
	fe, err := frontend.NewConn(ends[0])
	require.NoError(t, err)
	s.bringUp(fe)
	require.NoError(t, fe.Close())
	require.NoError(t, s.wait())
}

func TestOneOffEndsTheServerWithItsFirstFrontEnd(t *testing.T) {
	s := serve(t, Config{OneOff: true})
	require.NoError(t, s.connect().Close())
	require.NoError(t, s.wait())
	require.NoFileExists(t, s.path)
}

func TestNewServerRefuses(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	live := filepath.Join(dir, "live")
	l, err := net.Listen("unix", live)
	require.NoError(t, err)
	defer l.Close()
	datagram, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	require.NoError(t, err)
	defer unix.Close(datagram)
	internet, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	require.NoError(t, err)
	defer unix.Close(internet)
	pipe, end, err := os.Pipe()
	require.NoError(t, err)
	defer pipe.Close()
	defer end.Close()
	dev := newFakeDevice(t, 1)

	tests := []struct {
		name string
		cfg  Config
		want string
	}{
		{"no device", Config{SocketPath: filepath.Join(dir, "s")}, "no device"},
		{"too many queue pairs", Config{SocketPath: filepath.Join(dir, "s"), Device: newFakeDevice(t, 129)}, "129 queue pairs"},
		{"a client of nobody", Config{Client: true, Device: dev}, "without a socket path"},
		{"a path that is too long", Config{SocketPath: filepath.Join(dir, strings.Repeat("x", 108)), Device: dev}, "unix sockets allow 107"},
		{"the same for a client", Config{SocketPath: strings.Repeat("x", 108), Client: true, Device: dev}, "unix sockets allow 107"},
		{"a mode that is more than permissions", Config{SocketPath: filepath.Join(dir, "s"), SocketMode: os.ModeSetuid | 0o600, Device: dev}, "permission bits only"},
		{"a file", Config{SocketPath: file, Device: dev}, "is not a socket"},
		{"a directory", Config{SocketPath: dir, Device: dev}, "is not a socket"},
		{"a socket in use", Config{SocketPath: live, Device: dev}, "in use by another process"},
		{"a directory that does not exist", Config{SocketPath: filepath.Join(dir, "a", "b"), Device: dev}, "no such file"},
		{"a datagram socket", Config{FD: datagram, Device: dev}, "is not a stream socket"},
		{"an internet socket", Config{FD: internet, Device: dev}, "is not a unix socket"},
		{"a pipe", Config{FD: int(pipe.Fd()), Device: dev}, "socket operation on non-socket"},
		{"a closed descriptor", Config{FD: 19999, Device: dev}, "bad file descriptor"},
		{"no descriptor", Config{FD: -1, Device: dev}, "bad file descriptor"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := NewServer(tt.cfg)
			require.ErrorContains(t, err, tt.want)
		})
	}
	require.FileExists(t, file)
}

func TestStaleSocketIsReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vu.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.FileExists(t, path)
	s := serve(t, Config{SocketPath: path})
	s.connect()
}

func TestLimitedLogTellsHowMuchItLeftOut(t *testing.T) {
	now := time.Unix(0, 0)
	b := &logBuffer{}
	l := newLimitedLog(b.logger(), logLimit{burst: 5, interval: time.Minute}, func() time.Time { return now })
	for range 5 + 7 {
		l.Warn("again")
	}
	require.Equal(t, 5, countLines(b.String(), "again"))
	now = now.Add(time.Minute)
	l.Warn("once more")
	l.Warn("not this one")
	require.Contains(t, b.String(), `msg="once more" lines_left_out=7`)
	require.NotContains(t, b.String(), "not this one")
}

func TestLogIsOptional(t *testing.T) {
	server, err := NewServer(Config{SocketPath: filepath.Join(t.TempDir(), "s"), Device: newFakeDevice(t, 1)})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	require.NoError(t, server.Serve(ctx))
}
