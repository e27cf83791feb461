package vhostuser

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// messages returns the messages of a log in order.
func messages(log string) (all []string) {
	for _, m := range regexp.MustCompile(`msg=("[^"]*"|\S+)`).FindAllStringSubmatch(log, -1) {
		all = append(all, strings.Trim(m[1], `"`))
	}
	return all
}

// newStoryHarness has a session that waits just so long before it tells that something has not come.
func newStoryHarness(t testing.TB, p patience) *harness {
	return newHarnessThatWaits(t, 1, testLimit, guestmem.LimitsFor(1), p)
}

// never is how long nothing in a test takes.
const never = time.Hour

func (h *harness) eventually(what string) {
	h.t.Helper()
	require.Eventually(h.t, func() bool { return strings.Contains(h.log.String(), what) }, testLimit, time.Millisecond, what)
}

func TestTheLogTellsEachStepOfAGuestOnce(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	for range 2 {
		_, err := h.fe.Stop(h.setup)
		require.NoError(t, err)
		for i, r := range h.setup.Rings {
			require.NoError(t, h.fe.SetVringKick(i, r.KickFD))
		}
		require.NoError(t, h.fe.SetFeatures(h.fe.Features()))
		h.sync()
	}
	h.fe.Close()
	h.requireEnd(nil)
	require.Equal(t, []string{
		"front end connected", "memory handed over", "guest driver is up",
		"guest driver is gone", "guest driver is up again", "guest driver is gone", "guest driver is up again",
		"front end disconnected",
	}, messages(h.log.String()))
	require.Contains(t, h.log.String(), `msg="memory handed over" mib=1 regions=1`)
	require.Contains(t, h.log.String(), "a reboot, an unloaded driver, or a paused guest")
}

func TestMemoryThatComesBySlotsIsToldOfOnceAndWhole(t *testing.T) {
	h := newHarness(t, 1)
	h.setup.Order = frontend.QEMU11
	fd := slotFile(t, 4)
	for i := range 3 {
		h.setup.Memory = append(h.setup.Memory, slot(fd, i))
	}
	h.start()
	require.NoError(t, h.fe.AddMemReg(slot(fd, 3)))
	h.sync()
	require.Equal(t, []string{"front end connected", "memory handed over", "guest driver is up"}, messages(h.log.String()))
	require.Contains(t, h.log.String(), `msg="memory handed over" mib=1 regions=4`)
}

// User-mode Linux never stops a ring: it disables all of them.
func TestADriverThatDisablesItsRingsIsGone(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	for i := range h.setup.Rings {
		require.NoError(t, h.fe.SetVringEnable(i, false))
	}
	h.sync()
	require.NoError(t, h.fe.SetVringEnable(0, true))
	h.sync()
	require.Equal(t, []string{"guest driver is up", "guest driver is gone", "guest driver is up again"}, messages(h.log.String())[2:])
}

func TestAResetIsToldApartFromAPause(t *testing.T) {
	start := func(h *harness) {
		h.setup.Order = frontend.QEMU11
		require.NoError(t, h.fe.Negotiate(fakeFeatures, h.setup.Protocol()))
		require.NoError(t, h.fe.ResetDevice(), "as QEMU does before any driver is there")
		h.start()
	}
	restart := func(h *harness) {
		require.NoError(t, h.fe.SetFeatures(h.fe.Features()))
		for i, r := range h.setup.Rings {
			require.NoError(t, h.fe.SetVringEnable(i, true))
			require.NoError(t, h.fe.SetVringNum(i, r.Num))
			require.NoError(t, h.fe.SetVringAddr(i, ringAddr(r)))
			require.NoError(t, h.fe.SetVringKick(i, r.KickFD))
		}
		h.sync()
	}
	t.Run("reset", func(t *testing.T) {
		h := newStoryHarness(t, patience{never, never, never})
		start(h)
		_, err := h.fe.Stop(h.setup)
		require.NoError(t, err)
		require.NoError(t, h.fe.ResetDevice())
		require.NoError(t, h.fe.ResetDevice(), "as QEMU does")
		restart(h)
		require.Equal(t, []string{"guest driver is up", "guest driver is gone", "guest driver is up again"}, messages(h.log.String())[2:])
		require.Contains(t, h.log.String(), "it has reset its device")
	})
	t.Run("pause", func(t *testing.T) {
		h := newStoryHarness(t, patience{never, never, time.Millisecond})
		start(h)
		_, err := h.fe.Stop(h.setup)
		require.NoError(t, err)
		h.eventually("guest is paused")
		restart(h)
		require.Equal(t, []string{"guest driver is up", "guest is paused", "guest driver is up again"}, messages(h.log.String())[2:])
	})
	t.Run("short pause", func(t *testing.T) {
		h := newStoryHarness(t, patience{never, never, never})
		start(h)
		_, err := h.fe.Stop(h.setup)
		require.NoError(t, err)
		restart(h)
		require.Equal(t, []string{"guest driver is up", "guest is paused", "guest driver is up again"}, messages(h.log.String())[2:])
	})
	t.Run("a front end that never tells of resets", func(t *testing.T) { // QEMU 7.2
		h := newStoryHarness(t, patience{never, never, never})
		h.setup.Order = frontend.QEMU11
		h.start()
		_, err := h.fe.Stop(h.setup)
		require.NoError(t, err)
		restart(h)
		require.Equal(t, []string{"guest driver is up", "guest driver is gone", "guest driver is up again"}, messages(h.log.String())[2:])
	})
}

func TestTheLogHintsWhereTheStoryStops(t *testing.T) {
	short := patience{time.Millisecond, time.Millisecond, never}
	t.Run("silent", func(t *testing.T) {
		h := newStoryHarness(t, short)
		h.eventually("the front end says nothing")
		require.Contains(t, h.log.String(), "-netdev vhost-user")
		require.Equal(t, []string{"front end connected", "the front end says nothing"}, messages(h.log.String()))
	})
	t.Run("no driver", func(t *testing.T) {
		h := newStoryHarness(t, patience{never, 100 * time.Millisecond, never})
		h.sync()
		h.eventually("has handed over no memory yet")
		require.Contains(t, h.log.String(), "level=INFO msg=\"the front end has handed over no memory yet\"", "it may just be slow")
		require.Contains(t, h.log.String(), "share=on")
		require.Contains(t, h.log.String(), "memory-backend=")
		h.start()
		require.Equal(t, []string{"front end connected", "the front end has handed over no memory yet", "memory handed over",
			"guest driver is up"}, messages(h.log.String()), "all clear")
	})
	t.Run("driver without memory", func(t *testing.T) {
		h := newStoryHarness(t, patience{never, 100 * time.Millisecond, never})
		require.NoError(t, h.fe.SetFeatures(fakeFeatures))
		h.eventually("level=WARN msg=\"the guest's driver is up, but its memory was not handed over\"")
		require.Contains(t, h.log.String(), "share=on")
	})
}

func TestAForeignProgramIsAskedWhetherItIsAFrontEnd(t *testing.T) {
	h := newHarness(t, 1)
	require.NoError(t, h.fe.Write([]byte("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")))
	h.wait()
	require.Contains(t, h.log.String(), `hint="is it a vhost-user front end? in QEMU: -netdev vhost-user"`)

	h = newHarness(t, 1)
	h.start()
	require.NoError(t, h.fe.Write(make([]byte, 100)))
	h.wait()
	require.NotContains(t, h.log.String(), "is it a vhost-user front end", "it is")
}

func TestAGuestThatLoadsItsDriverAgainAndAgainDoesNotFillTheLog(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	for i := range 1000 {
		require.NoError(t, h.fe.SetVringEnable(0, i%2 == 1))
		require.NoError(t, h.fe.SetVringEnable(1, i%2 == 1))
	}
	h.sync()
	require.Less(t, len(messages(h.log.String())), 100)
}
