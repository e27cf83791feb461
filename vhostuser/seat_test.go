package vhostuser

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// machine is a front end with a setup of its own, as QEMU is that a guest is migrated from or to.
type machine struct {
	*served
	fe      *frontend.Conn
	setup   frontend.Setup
	started bool
}

// machine connects a front end that has told nothing but what it understands.
func (s *served) machine() *machine {
	s.t.Helper()
	fe, err := frontend.Dial(s.path)
	require.NoError(s.t, err)
	s.t.Cleanup(func() { fe.Close() })
	m := &machine{served: s, fe: fe, setup: newSetup(s.t, newMemory(s.t), 1)}
	m.setup.Order = frontend.QEMU11
	require.NoError(s.t, fe.Negotiate(fakeFeatures, m.setup.Protocol()))
	m.sync()
	return m
}

func (m *machine) sync() {
	m.t.Helper()
	_, err := m.fe.GetFeatures()
	require.NoError(m.t, err)
}

// start starts the guest's rings.
func (m *machine) start() {
	m.t.Helper()
	for _, step := range m.setup.Steps(fakeFeatures | wire.FeatureProtocolFeatures) {
		if m.started && step.Message.Request == wire.AddMemReg {
			continue // slots stay
		}
		require.NoError(m.t, m.fe.Do(step))
	}
	m.started = true
	m.sync()
}

// log begins to log the guest's writes, as a migration does.
func (m *machine) log() {
	m.t.Helper()
	require.NoError(m.t, m.fe.SetLogBase(logFile(m.t, logLen), logLen, 0))
	require.NoError(m.t, m.fe.SetFeatures(fakeFeatures|wire.FeatureProtocolFeatures|vnet.FeatureLogAll))
	m.sync()
}

// stop stops the rings.
func (m *machine) stop() {
	m.t.Helper()
	_, err := m.fe.Stop(m.setup)
	require.NoError(m.t, err)
}

// requireRuns waits until the device runs the rings of m, or fails if it never does.
func (m *machine) requireRuns() {
	m.t.Helper()
	require.Eventually(m.t, m.runs, testLimit, time.Millisecond, "the rings run")
}

func (m *machine) runs() bool {
	want := m.setup.Rings[0].KickFD
	r := m.dev.ring(0)
	return r.running && m.dev.ring(1).running && r.cfg.Desc == m.setup.Rings[0].Desc && sameFile(m.t, r.fds.Kick, want)
}

// requireCalls checks that the device was called like that since the last time.
func (s *served) requireCalls(want ...string) {
	s.t.Helper()
	require.Equal(s.t, want, s.dev.takeCalls())
}

var handedOver = []string{
	"SetFeatures 0x130008000", "SetMemory", "EnableRing 0 true", "EnableRing 1 true",
	"StartRing 0 size 64 base 0", "SetCall 0", "StartRing 1 size 64 base 0", "SetCall 1",
}

func TestAGuestThatIsMigratedTakesItsDeviceAlong(t *testing.T) {
	s := serve(t, Config{})
	source := s.machine()
	source.start()
	target := s.machine()
	source.log()
	s.dev.takeCalls()
	source.stop()
	s.requireCalls("StopRing 0", "StopRing 1")
	target.start()
	require.True(t, target.runs())
	s.requireCalls(handedOver...)

	require.NoError(t, source.fe.Close())
	target.stop()
	s.requireCalls("StopRing 0", "StopRing 1")
	require.NotContains(t, s.log.String(), "waits for the network")
	require.NoError(t, target.fe.Close())
	require.Eventually(t, func() bool { return !target.runs() && len(s.dev.takeCalls()) > 0 }, testLimit, time.Millisecond)
}

// The source may be ended as soon as it says that all was sent.
func TestTheSourceMayLeaveBeforeItsGuestGoesOn(t *testing.T) {
	s := serve(t, Config{})
	source := s.machine()
	source.start()
	target := s.machine()
	source.log()
	source.stop()
	s.dev.takeCalls()
	require.NoError(t, source.fe.Close())
	s.eventually("front end disconnected")
	require.Empty(t, s.dev.takeCalls())
	target.start()
	require.True(t, target.runs())
	s.requireCalls(handedOver...)
}

func TestTheDeviceIsResetWhenSourceAndTargetHaveLeft(t *testing.T) {
	for _, sourceFirst := range []bool{false, true} {
		s := serve(t, Config{})
		source := s.machine()
		source.start()
		target := s.machine()
		source.log()
		source.stop()
		s.dev.takeCalls()
		ends := []*machine{target, source}
		if sourceFirst {
			ends = []*machine{source, target}
		}
		require.NoError(t, ends[0].fe.Close())
		s.eventually("front end disconnected")
		require.Empty(t, s.dev.takeCalls())
		require.NoError(t, ends[1].fe.Close())
		next := s.machine()
		next.start()
		next.requireRuns()
		require.Contains(t, s.dev.takeCalls(), "Reset")
	}
}

func TestAMigrationThatFailsGivesTheDeviceBack(t *testing.T) {
	t.Run("before the target has it", func(t *testing.T) {
		s := serve(t, Config{})
		source := s.machine()
		source.start()
		target := s.machine()
		source.log()
		source.stop()
		require.NoError(t, target.fe.Close())
		source.start()
		require.True(t, source.runs())
		require.NotContains(t, s.dev.takeCalls(), "Reset")
	})
	for _, leaves := range []bool{false, true} {
		t.Run("after the target had it", func(t *testing.T) {
			s := serve(t, Config{})
			source := s.machine()
			source.start()
			target := s.machine()
			source.log()
			source.stop()
			target.start()
			target.stop()
			if leaves {
				require.NoError(t, target.fe.Close())
				s.eventually("front end disconnected")
			}
			s.dev.takeCalls()
			source.start()
			require.True(t, source.runs())
			s.requireCalls(handedOver...)
		})
	}
}

func TestAGuestIsMigratedThereAndBackManyTimes(t *testing.T) {
	s := serve(t, Config{})
	source := s.machine()
	source.start()
	for range 20 {
		target := s.machine()
		source.log()
		source.stop()
		target.start()
		require.True(t, target.runs())
		require.NoError(t, source.fe.Close())
		s.connectable()
		source = target
	}
	require.NotContains(t, s.dev.takeCalls(), "Reset")
}

// connectable waits until another front end is not turned away.
func (s *served) connectable() {
	s.t.Helper()
	require.Eventually(s.t, func() bool {
		fe, err := frontend.Dial(s.path)
		require.NoError(s.t, err)
		defer fe.Close()
		_, err = fe.GetFeatures()
		return err == nil
	}, testLimit, time.Millisecond)
}

// Two guests that were given the same socket: a pause or a reboot of the one is no migration.
func TestASecondGuestWaitsUntilTheFirstHasGone(t *testing.T) {
	s := serve(t, Config{})
	first := s.machine()
	first.start()
	s.dev.takeCalls()
	second := s.machine()
	second.start()
	require.Empty(t, s.dev.takeCalls(), "the second one is not the device's business")
	s.eventually("a guest waits for the network")
	first.stop()
	second.sync()
	first.sync()
	s.requireCalls("StopRing 0", "StopRing 1")
	first.start()
	require.True(t, first.runs())
	require.NoError(t, first.fe.Close())
	second.requireRuns()
	require.Contains(t, s.dev.takeCalls(), "Reset", "another guest begins anew")
}

func TestATargetThatIsEarlyGetsTheDeviceWhenTheSourceStops(t *testing.T) {
	s := serve(t, Config{})
	source := s.machine()
	source.start()
	target := s.machine()
	target.start()
	source.log()
	source.stop()
	target.requireRuns()
	require.NotContains(t, s.dev.takeCalls(), "Reset")
}

func TestASourceDoesNotGetARunningGuestBack(t *testing.T) {
	s := serve(t, Config{})
	source := s.machine()
	source.start()
	target := s.machine()
	source.log()
	source.stop()
	target.start()
	s.dev.takeCalls()
	source.start()
	require.True(t, target.runs())
	require.Empty(t, s.dev.takeCalls())
}

func TestAnAnnouncementWaitsForTheDevice(t *testing.T) {
	s := serve(t, Config{})
	source := s.machine()
	source.start()
	target := s.machine()
	mac := [6]byte{2, 0, 0, 0, 0, 9}
	require.NoError(t, target.fe.SendRARP(mac))
	require.NoError(t, target.fe.SetMTU(1400))
	source.log()
	source.stop()
	s.dev.takeCalls()
	target.start()
	calls := s.dev.takeCalls()
	require.Equal(t, []string{"SetMTU 1400", "SendRARP"}, []string{calls[4], calls[5][:8]})
}

func TestMemoryOfBothIsKeptWhenTheDeviceDoesNotPassOn(t *testing.T) {
	for _, method := range []string{"SetFeatures", "SetMemory", "EnableRing"} {
		t.Run(method, func(t *testing.T) {
			s := serve(t, Config{})
			source := s.machine()
			source.start()
			target := s.machine()
			source.log()
			source.stop()
			s.dev.failOn(method, errors.New("stuck"))
			s.dev.failOn("Reset", errors.New("stuck"))
			for _, step := range target.setup.Steps(fakeFeatures | wire.FeatureProtocolFeatures) {
				if target.fe.Do(step) != nil {
					break
				}
			}
			s.eventually("does not let go")
			mapped := memoriesMapped(t)
			require.NoError(t, source.fe.Close())
			time.Sleep(10 * time.Millisecond) // a session that does not wait has ended by then
			require.Equal(t, mapped, memoriesMapped(t))
			s.dev.failOn(method, nil)
			s.dev.failOn("Reset", nil)
			next := s.machineEventually()
			next.start()
			next.requireRuns()
		})
	}
}

// machineEventually is machine when there is room for another front end.
func (s *served) machineEventually() *machine {
	s.connectable()
	return s.machine()
}

// memoriesMapped returns how many mappings of guests' memory there are.
func memoriesMapped(t testing.TB) int {
	b, err := os.ReadFile("/proc/self/maps")
	require.NoError(t, err)
	return strings.Count(string(b), "/memfd:vqtest ")
}

// sameFile reports whether two descriptors are of the same open file.
func sameFile(t testing.TB, a, b int) bool {
	const kcmpFile = 0
	pid := os.Getpid()
	r, _, errno := unix.Syscall6(unix.SYS_KCMP, uintptr(pid), uintptr(pid), kcmpFile, uintptr(a), uintptr(b), 0)
	require.Zero(t, errno)
	return r == 0
}
