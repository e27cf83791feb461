package vhostuser

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// logLen is the length in bytes of a log that covers the memory of a harness.
const logLen = uint64(vqtest.BaseGPA+1<<20) >> guestmem.PageShift / 8

// logFile is the file of a dirty log.
func logFile(t testing.TB, size uint64) int {
	fd, err := unix.MemfdCreate("log", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, int64(size)))
	return fd
}

// logAddr is the message that switches logging of ring i on or off.
func (h *harness) logAddr(i int, on bool) wire.RingAddr {
	r := h.setup.Rings[i]
	return wire.RingAddr{
		Desc: uint64(r.Desc), Avail: uint64(r.Avail), Used: uint64(r.Used), Log: uint64(r.Used), Logged: on,
	}
}

// startLogging does what QEMU does when a migration begins.
func (h *harness) startLogging() {
	h.t.Helper()
	require.NoError(h.t, h.fe.SetLogBase(logFile(h.t, logLen), logLen, 0))
	h.switchLogging(true)
}

func (h *harness) switchLogging(on bool) {
	h.t.Helper()
	f := uint64(fakeFeatures | wire.FeatureProtocolFeatures)
	if on {
		f |= vnet.FeatureLogAll
	}
	require.NoError(h.t, h.fe.SetFeatures(f))
	for i := range h.setup.Rings {
		require.NoError(h.t, h.fe.SetVringAddr(i, h.logAddr(i, on)))
	}
	h.sync()
}

// logsMapped returns how many dirty logs are mapped.
func logsMapped(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(b), "/memfd:log ")
}

// logged is what the device marks for ring i.
func (h *harness) logged(i int) virtqueue.Logging { return h.dev.ring(i).cfg.Log }

func newLogHarness(t testing.TB) *harness {
	t.Helper()
	h := newHarness(t, 1)
	h.setup.Order = frontend.QEMU11
	h.start()
	h.dev.takeCalls()
	return h
}

func TestLoggingIsSwitchedUnderRunningRings(t *testing.T) {
	h := newLogHarness(t)
	for range 2 { // QEMU migrates a second time when the first time failed
		h.startLogging()
		for i := range 2 {
			l := h.logged(i)
			require.NotNil(t, l.Log)
			require.True(t, l.Buffers && l.Ring)
			require.EqualValues(t, h.setup.Rings[i].Used, l.UsedAt)
		}
		h.switchLogging(false)
		require.Zero(t, h.logged(0))
		require.Zero(t, h.logged(1))
		h.dev.requireRings(true, true)
	}
	for _, call := range h.dev.takeCalls() {
		require.Contains(t, call, "SetLogging", "logging changes nothing else")
	}
}

func TestEachRingIsLoggedAsItsFlagSays(t *testing.T) {
	h := newLogHarness(t)
	require.NoError(t, h.fe.SetLogBase(logFile(t, logLen), logLen, 0))
	require.NoError(t, h.fe.SetVringAddr(1, h.logAddr(1, true)))
	h.sync()
	require.Zero(t, h.logged(0))
	require.True(t, h.logged(1).Ring && !h.logged(1).Buffers)

	require.NoError(t, h.fe.SetFeatures(fakeFeatures|wire.FeatureProtocolFeatures|vnet.FeatureLogAll))
	h.sync()
	require.True(t, h.logged(0).Buffers && !h.logged(0).Ring)
	require.True(t, h.logged(1).Buffers && h.logged(1).Ring)
}

func TestANewLogTakesThePlaceOfTheOneBefore(t *testing.T) {
	h := newLogHarness(t)
	h.startLogging()
	before := h.logged(0).Log
	require.NoError(t, h.fe.SetLogBase(logFile(t, 2*logLen), 2*logLen, 0))
	for i := range 2 {
		require.NotSame(t, before, h.logged(i).Log)
	}
	require.Equal(t, 1, logsMapped(t))
}

// QEMU starts the rings of a guest whose migration has failed with logging on, and passes its log again behind them.
func TestRingsWaitForTheLogThatTheirWritesGoTo(t *testing.T) {
	h := newHarness(t, 1)
	h.setup.Order = frontend.QEMU11
	require.NoError(t, h.fe.Negotiate(fakeFeatures, h.setup.Protocol()))
	for _, step := range h.setup.Steps(fakeFeatures | wire.FeatureProtocolFeatures | vnet.FeatureLogAll) {
		require.NoError(t, h.fe.Do(step))
	}
	h.sync()
	h.dev.requireRings(false, true)
	require.NoError(t, h.fe.SetLogBase(logFile(t, logLen), logLen, 0))
	h.sync()
	h.dev.requireRings(true, true)
	require.True(t, h.logged(0).Buffers)
}

func TestRingsStopWhileTheLogIsTooSmallForTheMemory(t *testing.T) {
	h := newLogHarness(t)
	h.startLogging()
	fd := slotFile(t, 1)
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	h.sync()
	h.dev.requireRings(false, true)
	require.Contains(t, h.log.String(), "dirty log is too small")

	require.NoError(t, h.fe.RemMemReg(slot(fd, 0)))
	h.sync()
	h.dev.requireRings(true, true)

	require.NoError(t, h.fe.SetLogBase(logFile(t, 4096), 4096, 0))
	h.sync()
	h.dev.requireRings(false, true)

	h.switchLogging(false)
	h.dev.requireRings(true, true)
}

func TestALogThatCannotBeEndsTheSession(t *testing.T) {
	const page = 4096
	tests := []struct {
		name               string
		fd                 func(*harness) int
		size, offset, want uint64
	}{
		{name: "empty", size: 0},
		{name: "longer than its file", size: 3 * page},
		{name: "behind the end of its file", size: page, offset: 2 * page},
		{name: "wraps around", size: 1<<64 - page, offset: 2 * page},
		{name: "as long as can be told", size: 1<<64 - 1},
		{name: "in the middle of a page", size: page, offset: 8},
		{name: "an eventfd", size: page, fd: func(h *harness) int { return eventfd(h.t) }},
		{name: "a device", size: page, fd: func(h *harness) int { return file("/dev/zero")(h)[0] }},
		{name: "a file that is read only", size: page, fd: func(h *harness) int { return file("/proc/self/exe")(h)[0] }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newLogHarness(t)
			fd := -1
			if tt.fd != nil {
				fd = tt.fd(h)
			} else {
				fd = logFile(t, 2*page)
			}
			require.Error(t, h.fe.SetLogBase(fd, tt.size, tt.offset))
			h.wait()
			require.Error(t, h.reason)
			require.True(t, isRefused(h.reason), "%v", h.reason)
		})
	}
}

func TestManyLogsLeaveNothingBehind(t *testing.T) {
	h := newLogHarness(t)
	h.startLogging()
	fd := logFile(t, logLen)
	h.sync()
	before := openFDs(t)
	for range 200 {
		require.NoError(t, h.fe.SetLogBase(fd, logLen, 0))
	}
	h.sync()
	require.Equal(t, before, openFDs(t))
	for range 20 {
		require.NoError(t, h.fe.Do(frontend.Step{Message: wire.Message{Request: wire.SetLogFD}, FDs: []int{eventfd(t)}}))
	}
	h.sync()
	h.dev.requireRings(true, true)
}

func TestALogIsKeptWhileADeviceMayUseIt(t *testing.T) {
	h := newLogHarness(t)
	h.startLogging()
	h.dev.failOn("SetLogging", errors.New("stuck"))
	h.dev.failOn("Reset", errors.New("stuck"))
	require.Error(t, h.fe.SetLogBase(logFile(t, logLen), logLen, 0))
	require.Equal(t, 2, logsMapped(t))
	h.dev.failOn("Reset", nil)
	h.wait()
	require.Zero(t, logsMapped(t))
}
