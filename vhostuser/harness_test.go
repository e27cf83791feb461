package vhostuser

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	ringSize  = 64
	testLimit = 2 * time.Minute // far beyond what anything here takes
)

// harness is a session on one end of a socket pair and a front end on the other.
type harness struct {
	t      testing.TB
	dev    *fakeDevice
	fe     *frontend.Conn
	setup  frontend.Setup
	mem    *vqtest.Memory
	log    *logBuffer
	budget *guestmem.Budget

	patience patience
	cancel   context.CancelFunc
	ended    chan struct{}
	reason   error // why the session ended; read it after ended
}

// logBuffer collects log lines.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logBuffer) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// newHarness connects a front end. At the end of the test it checks that the session left nothing behind.
func newHarness(t testing.TB, pairs int) *harness {
	t.Helper()
	return newHarnessWith(t, pairs, testLimit, guestmem.LimitsFor(1))
}

// newBoundHarness has a session whose guest may map only so much, and that passes memory by slots.
func newBoundHarness(t testing.TB, l guestmem.Limits) *harness {
	t.Helper()
	h := newHarnessWith(t, 1, testLimit, l)
	h.setup.Order = frontend.QEMU11
	h.start()
	return h
}

// newStalledHarness has a session that is impatient with a front end that does not read.
func newStalledHarness(t testing.TB) *harness {
	return newHarnessWith(t, 1, 50*time.Millisecond, guestmem.LimitsFor(1))
}

func newHarnessWith(t testing.TB, pairs int, timeout time.Duration, l guestmem.Limits) *harness {
	t.Helper()
	return newHarnessThatWaits(t, pairs, timeout, l, defaultPatience())
}

func newHarnessThatWaits(t testing.TB, pairs int, timeout time.Duration, l guestmem.Limits, wait patience) *harness {
	t.Helper()
	checkLeaks(t)
	h := &harness{t: t, dev: newFakeDevice(t, pairs), log: &logBuffer{}, ended: make(chan struct{})}
	h.budget, h.patience = guestmem.NewBudget(l), wait
	h.mem = newMemory(t)
	h.setup = newSetup(t, h.mem, pairs)

	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	h.fe, err = frontend.NewConn(ends[0])
	require.NoError(t, err)
	var ctx context.Context
	ctx, h.cancel = context.WithCancel(context.Background())
	go h.serve(ctx, unixConn(t, ends[1]), timeout)
	t.Cleanup(func() {
		h.fe.Close()
		h.wait()
		h.cancel()
	})
	return h
}

func (h *harness) serve(ctx context.Context, c *net.UnixConn, timeout time.Duration) {
	defer close(h.ended)
	s := newSession(fdconn.New(c, timeout), sessionConfig{
		seat: newSeat(h.dev), log: newLimitedLog(h.log.logger(), sessionLimit(), time.Now), channel: true, budget: h.budget,
		steps: newLimitedLog(h.log.logger(), stepLimit(), time.Now), wait: h.patience,
	})
	h.reason = s.run(ctx)
	s.story.end(h.reason)
	if err := s.finish(ctx, h.reason); err != nil {
		h.t.Errorf("finish: %v", err)
	}
}

// wait waits for the session to end.
func (h *harness) wait() {
	h.t.Helper()
	select {
	case <-h.ended:
	case <-time.After(testLimit):
		h.t.Fatal("the session did not end")
	}
}

// sync returns when the session has handled everything that was sent.
func (h *harness) sync() {
	h.t.Helper()
	_, err := h.fe.GetFeatures()
	require.NoError(h.t, err)
}

// start brings the device up.
func (h *harness) start() {
	h.t.Helper()
	require.NoError(h.t, h.fe.Setup(h.setup))
	h.sync()
	h.dev.requireRings(true, true)
}

// requireEnd checks that the session ended for want.
func (h *harness) requireEnd(want error) {
	h.t.Helper()
	h.wait()
	require.ErrorIs(h.t, h.reason, want)
}

func unixConn(t testing.TB, fd int) *net.UnixConn {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	require.NoError(t, err)
	return c.(*net.UnixConn)
}

func newMemory(t testing.TB) *vqtest.Memory {
	m := vqtest.NewMemory(1<<20, vqtest.Memfd)
	t.Cleanup(m.Close)
	return m
}

// newSetup describes rings in mem, with eventfds.
func newSetup(t testing.TB, mem *vqtest.Memory, pairs int) frontend.Setup {
	s := frontend.Setup{Features: fakeFeatures, Memory: mem.Regions()}
	for range 2 * pairs {
		cfg := vqtest.NewDriver(mem, vqtest.Options{Size: ringSize, EventIdx: true}).Layout()
		s.Rings = append(s.Rings, frontend.Ring{
			Num: uint32(cfg.Size), Desc: cfg.Desc, Avail: cfg.Avail, Used: cfg.Used,
			KickFD: eventfd(t), CallFD: eventfd(t), ErrFD: eventfd(t),
		})
	}
	return s
}

func eventfd(t testing.TB) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// readEventfd returns the counter of an eventfd and sets it to 0.
func readEventfd(t testing.TB, fd int) uint64 {
	var b [8]byte
	n, err := unix.Read(fd, b[:])
	if errors.Is(err, unix.EAGAIN) {
		return 0
	}
	require.NoError(t, err)
	require.Equal(t, 8, n)
	return uint64(b[0])
}

// checkLeaks fails the test if file descriptors or mappings of guest memory are left, once the rest of the test is
// cleaned up.
func checkLeaks(t testing.TB) {
	warmUp(t)
	fds, maps := openFDs(t), guestMappings(t)
	t.Cleanup(func() { // goroutines whose end nobody waits for may have a descriptor for a moment more
		defer debug.SetGCPercent(debug.SetGCPercent(-1)) // the collector would close what is left behind
		for end := time.Now().Add(testLimit); time.Now().Before(end) && (openFDs(t) != fds || guestMappings(t) != maps); {
			time.Sleep(50 * time.Millisecond)
		}
		require.Equal(t, fds, openFDs(t), "open file descriptors")
		require.Equal(t, maps, guestMappings(t), "mappings of guest memory")
	})
}

// warmUp makes the runtime open the descriptors that it keeps.
func warmUp(t testing.TB) {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	for _, fd := range ends {
		require.NoError(t, unixConn(t, fd).Close())
	}
}

func openFDs(t testing.TB) int {
	entries, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(entries)
}

func guestMappings(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(b), "/memfd:")
}

// shifted returns regions without their files' descriptors being changed, moved in the front end's address space.
func shifted(regions []guestmem.Region, by guestmem.UVA) []guestmem.Region {
	out := make([]guestmem.Region, len(regions))
	for i, r := range regions {
		r.UVA += by
		out[i] = r
	}
	return out
}
