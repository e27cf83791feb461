package framesocket

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vringnet/vring/internal/vfkit"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/worker"
	"golang.org/x/sys/unix"
)

// generous bounds waits that take microseconds. It is for a test that hangs, not for a machine that is busy.
const generous = 2 * time.Minute

// echoing is a device whose Port sends frames back.
func echoing(t *testing.T) *worker.Device {
	t.Helper()
	return deviceOf(t, stub.NewEcho())
}

func deviceOf(t *testing.T, p netbackend.Port) *worker.Device {
	t.Helper()
	d, err := worker.New(worker.Config{Ports: []netbackend.Port{p}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

// serving is a server that serves.
type serving struct {
	*Server
	path   string
	cancel context.CancelFunc
	ended  chan error
}

func serve(t *testing.T, cfg Config, edits ...func(*Server)) *serving {
	t.Helper()
	if cfg.SocketPath == "" && cfg.FD == 0 {
		cfg.SocketPath = filepath.Join(t.TempDir(), "s")
	}
	s, err := NewServer(cfg)
	require.NoError(t, err)
	for _, edit := range edits {
		edit(s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	one := &serving{Server: s, path: cfg.SocketPath, cancel: cancel, ended: make(chan error, 1)}
	go func() { one.ended <- s.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		one.wait(t)
	})
	return one
}

// wait waits until it serves no more.
func (s *serving) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-s.ended:
		s.ended <- err
		return err
	case <-time.After(generous):
		t.Fatal("Serve has not returned")
		return nil
	}
}

func dial(t *testing.T, network, path string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial(network, path)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(generous)))
	return c.(*net.UnixConn)
}

// ethernet is a frame of n bytes, which tells apart from others.
func ethernet(n, number int) []byte {
	b := bytes.Repeat([]byte{byte(number)}, n)
	copy(b, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0})
	if n >= 18 {
		binary.BigEndian.PutUint32(b[14:], uint32(number))
	}
	return b
}

// echoed is what comes back for a frame.
func echoed(frame []byte) []byte {
	b := bytes.Clone(frame)
	if len(b) < netbackend.MinFrame {
		b = append(b, make([]byte, netbackend.MinFrame-len(b))...)
	}
	return b
}

// framed is a frame as a stream has it.
func framed(frame []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(frame))), frame...)
}

func readFramed(t *testing.T, r io.Reader) []byte {
	t.Helper()
	var head [4]byte
	_, err := io.ReadFull(r, head[:])
	require.NoError(t, err)
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err = io.ReadFull(r, b)
	require.NoError(t, err)
	return b
}

func TestFramesOfAnySizeGoThroughAStreamInOrder(t *testing.T) {
	s := serve(t, Config{Device: echoing(t)})
	c := dial(t, "unix", s.path)
	sizes := []int{14, 60, 61, 1514, 4148, 4149, 9014, 65534, 65553, 60}
	const rounds = 40
	go func() {
		var all []byte
		for i := range rounds * len(sizes) {
			all = append(all, framed(ethernet(sizes[i%len(sizes)], i))...)
		}
		for step := 1; len(all) > 0; step = step%70000 + 7 { // so that every kind of cut comes
			n := min(step*step%90001+1, len(all))
			if _, err := c.Write(all[:n]); err != nil {
				return
			}
			all = all[n:]
		}
	}()
	for i := range rounds * len(sizes) {
		require.Equal(t, echoed(ethernet(sizes[i%len(sizes)], i)), readFramed(t, c), "frame %d", i)
	}
}

// A front end that sends and does not read is held up, and nothing is lost when it reads.
func TestAFloodIsHeldUpUntilTheFrontEndReads(t *testing.T) {
	for network, f := range map[string]Framing{"unix": Stream, "unixpacket": Packets} {
		s := serve(t, Config{Device: echoing(t), Framing: f})
		c := dial(t, network, s.path)
		var sent int
		const most = 64 << 20
		one := func(i int) []byte {
			if f == Packets {
				return ethernet(1514, i)
			}
			return framed(ethernet(1514, i))
		}
		for ; sent*1514 < most; sent++ {
			require.NoError(t, c.SetWriteDeadline(time.Now().Add(time.Second)))
			n, err := c.Write(one(sent))
			if err != nil {
				require.ErrorIs(t, err, os.ErrDeadlineExceeded)
				if n > 0 { // the rest of the frame, when there is room
					rest := one(sent)[n:]
					sent++
					require.NoError(t, c.SetWriteDeadline(time.Now().Add(generous)))
					go func() { _, _ = c.Write(rest) }()
				}
				break
			}
		}
		require.Less(t, sent*1514, 8<<20, "what waits has a bound")
		buf := make([]byte, 1518)
		for i := range sent {
			got := buf[:len(one(i))]
			_, err := io.ReadFull(c, got)
			require.NoError(t, err)
			require.Equal(t, one(i), got, "%s: frame %d of %d", network, i, sent)
		}
	}
}

// logged is a log whose lines can be waited for.
type logged struct {
	mu    sync.Mutex
	lines []string
}

func (l *logged) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, string(line))
	return len(line), nil
}

func (l *logged) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// wait waits for a line with a text.
func (l *logged) wait(t *testing.T, text string) {
	t.Helper()
	require.Eventually(t, func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		return strings.Contains(strings.Join(l.lines, ""), text)
	}, generous, time.Millisecond, text)
}

// requireEnd waits until the other side has hung up.
func requireEnd(t *testing.T, c net.Conn) {
	t.Helper()
	_, err := io.Copy(io.Discard, c)
	if err != nil {
		require.ErrorIs(t, err, unix.ECONNRESET)
	}
}

// requireEcho sends a frame and gets it back.
func requireEcho(t *testing.T, c net.Conn, number int) {
	t.Helper()
	_, err := c.Write(framed(ethernet(100, number)))
	require.NoError(t, err)
	require.Equal(t, ethernet(100, number), readFramed(t, c))
}

// Whatever a front end leaves behind, the next one begins with a stream and rings of its own.
func TestTheNextFrontEndFindsNothingOfTheLastOne(t *testing.T) {
	var log logged
	s := serve(t, Config{Device: echoing(t), Log: log.logger()})
	for i, left := range [][]byte{
		framed(ethernet(1514, 1))[:700], // a part of a frame
		{0, 0},                          // a part of a length
		bytes.Repeat(framed(ethernet(60, 1)), 50), // and does not read the answers
		{0xff, 0xff, 0xff, 0xff},
	} {
		c := dial(t, "unix", s.path)
		requireEcho(t, c, i)
		_, err := c.Write(left)
		require.NoError(t, err)
		if left[0] == 0xff {
			requireEnd(t, c)
		}
		require.NoError(t, c.Close())
	}
	log.wait(t, "a frame of 4294967295 bytes was announced")
	requireEcho(t, dial(t, "unix", s.path), 9)
	require.Eventually(t, s.Connected, generous, time.Millisecond)
}

func TestOneFrontEndIsServedAtATime(t *testing.T) {
	var log logged
	s := serve(t, Config{Device: echoing(t), Log: log.logger()})
	first := dial(t, "unix", s.path)
	requireEcho(t, first, 1)
	requireEnd(t, dial(t, "unix", s.path))
	log.wait(t, "another front end was refused")
	requireEcho(t, first, 2)
}

func TestAFrontEndThatComesWaitsForTheEndOfTheLastOne(t *testing.T) {
	s := serve(t, Config{Device: echoing(t)}, func(s *Server) { s.patience = generous })
	first := dial(t, "unix", s.path)
	requireEcho(t, first, 1)
	next := dial(t, "unix", s.path)
	requireEcho(t, first, 2)
	require.NoError(t, first.Close())
	requireEcho(t, next, 3)
}

func TestOneOffServesOneFrontEnd(t *testing.T) {
	for wrong, left := range map[bool][]byte{false: {0}, true: {0xff, 0xff, 0xff, 0xff}} {
		s := serve(t, Config{Device: echoing(t), OneOff: true})
		c := dial(t, "unix", s.path)
		requireEcho(t, c, 1)
		_, err := c.Write(left)
		require.NoError(t, err)
		if wrong {
			requireEnd(t, c)
			require.ErrorContains(t, s.wait(t), "another protocol")
		} else {
			require.NoError(t, c.Close())
			require.NoError(t, s.wait(t))
		}
		require.NoFileExists(t, s.path)
	}
}

// pair is a connection of which the server has the other end, inherited.
func pairOf(t *testing.T, kind int) (own *net.UnixConn, inherited int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	f := os.NewFile(uintptr(fds[0]), "front end")
	defer f.Close()
	c, err := net.FileConn(f)
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(generous)))
	return c.(*net.UnixConn), fds[1]
}

func TestAnInheritedConnectionIsTheOnlyOne(t *testing.T) {
	for _, f := range []Framing{Stream, Packets} {
		c, fd := pairOf(t, f.kind())
		s := serve(t, Config{Device: echoing(t), Framing: f, FD: fd})
		frame := ethernet(100, 1)
		if f == Stream {
			frame = framed(frame)
		}
		_, err := c.Write(frame)
		require.NoError(t, err)
		got := make([]byte, len(frame))
		_, err = io.ReadFull(c, got)
		require.NoError(t, err)
		require.Equal(t, frame, got)
		require.NoError(t, c.Close())
		require.NoError(t, s.wait(t), f)
	}
}

func TestAnInheritedListenerAndDatagramsAreServed(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	f, err := l.File()
	require.NoError(t, err)
	fd, err := unix.Dup(int(f.Fd()))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	serve(t, Config{Device: echoing(t), FD: fd})
	for i := range 2 {
		c := dial(t, "unix", path)
		requireEcho(t, c, i)
		require.NoError(t, c.Close())
	}

	c, fd := pairOf(t, unix.SOCK_DGRAM)
	serve(t, Config{Device: echoing(t), Framing: Datagrams, FD: fd})
	for _, d := range [][]byte{[]byte(vfkit.Greeting), ethernet(100, 1)} {
		_, err := c.Write(d)
		require.NoError(t, err)
	}
	got := make([]byte, 2000)
	n, err := c.Read(got)
	require.NoError(t, err)
	require.Equal(t, ethernet(100, 1), got[:n])
}

func TestWhatCannotBeAFrontEndsSocketIsRefused(t *testing.T) {
	d := echoing(t)
	_, fd := pairOf(t, unix.SOCK_STREAM)
	t.Cleanup(func() { unix.Close(fd) })
	file, err := os.Open(os.DevNull)
	require.NoError(t, err)
	t.Cleanup(func() { file.Close() })
	for name, cfg := range map[string]Config{
		"another type":      {Framing: Packets, FD: fd},
		"no socket":         {FD: int(file.Fd())},
		"not open":          {FD: 1 << 20},
		"a path too long":   {SocketPath: strings.Repeat("x", 200)},
		"nothing to dial":   {Client: true},
		"dialled datagrams": {Framing: Datagrams, SocketPath: filepath.Join(t.TempDir(), "s"), Client: true},
	} {
		cfg.Device = d
		_, err := NewServer(cfg)
		require.Error(t, err, name)
	}
	_, err = NewServer(Config{FD: fd})
	require.ErrorContains(t, err, "no device")
}

// A server that connects does so again when the front end has gone.
func TestAClientConnectsAgainAndAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	dial := func(ctx context.Context, path string) (*net.UnixConn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err != nil {
			return nil, err
		}
		return c.(*net.UnixConn), nil
	}
	serve(t, Config{Device: echoing(t), SocketPath: path, Client: true, Dial: dial})
	for i := range 3 {
		require.NoError(t, l.SetDeadline(time.Now().Add(generous)))
		c, err := l.Accept()
		require.NoError(t, err)
		requireEcho(t, c, i)
		require.NoError(t, c.Close())
	}
}

// Frames of a guest whose link is down are dropped and counted, and do not wait for the link.
func TestTheLinkCanBeDown(t *testing.T) {
	d := echoing(t)
	s := serve(t, Config{Device: d})
	c := dial(t, "unix", s.path)
	requireEcho(t, c, 1)
	require.NoError(t, d.SetLink(false))
	for i := range 500 {
		_, err := c.Write(framed(ethernet(100, 2+i)))
		require.NoError(t, err)
	}
	require.Eventually(t, func() bool { return d.Dropped() == 500 }, generous, time.Millisecond)
	require.NoError(t, d.SetLink(true))
	requireEcho(t, c, 1000)
}

// A pause of the thread is not one of Go's scheduler, so one that nothing ends must become an ordinary sleep.
func TestAThreadSleepsWhileItsFrontEndSendsNothing(t *testing.T) {
	d := echoing(t)
	s := serve(t, Config{Device: d})
	c := dial(t, "unix", s.path)
	requireEcho(t, c, 1)
	turns := func() (n uint64) {
		require.NoError(t, d.Do(0, func(thread *worker.Thread) { n = thread.Stats().Turns }))
		return n
	}
	before := turns()
	time.Sleep(200 * time.Millisecond) // much longer than a pause
	require.LessOrEqual(t, turns()-before, uint64(5), "the thread has worked although there was nothing to do")
	requireEcho(t, c, 2)
}
