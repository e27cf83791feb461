package vhostuser

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// QEMU before 10 sends no RESET_DEVICE. What it sends at a reset, a pause, an unplugged cable and the start after those was seen
// on the wire.
func TestAResetIsNoticedThoughTheFrontEndDoesNotTellOfIt(t *testing.T) {
	h := newSlotHarness(t)
	gone := func() (n int) {
		h.sync()
		for _, call := range h.dev.takeCalls() {
			if call == "DriverGone" {
				n++
			}
		}
		return n
	}
	stop := func() {
		for i := range h.setup.Rings {
			_, err := h.fe.GetVringBase(i)
			require.NoError(t, err)
		}
	}
	start := func() {
		for i, r := range h.setup.Rings {
			require.NoError(t, h.fe.SetVringNum(i, r.Num))
			require.NoError(t, h.fe.SetVringBase(i, 0))
			require.NoError(t, h.fe.SetVringAddr(i, ringAddr(r)))
			require.NoError(t, h.fe.SetVringKick(i, r.KickFD))
		}
		h.sync()
		h.dev.requireRings(true, true)
	}
	require.Zero(t, gone(), "at the first start rings are enabled before they run as well")

	stop()
	require.Zero(t, gone(), "a pause, or an unplugged cable")
	start()
	require.NoError(t, h.fe.SetVringEnable(0, true))
	require.Zero(t, gone(), "it runs")

	_, err := h.fe.GetVringBase(0)
	require.NoError(t, err)
	require.NoError(t, h.fe.SetVringEnable(0, true))
	require.Zero(t, gone(), "the other ring runs")
	_, err = h.fe.GetVringBase(1)
	require.NoError(t, err)
	require.NoError(t, h.fe.SetVringEnable(0, false))
	require.Zero(t, gone(), "what stays away is no sign of a driver that begins anew")
	for i := range h.setup.Rings {
		require.NoError(t, h.fe.SetVringEnable(i, true))
	}
	require.Equal(t, 1, gone(), "rings that were stopped are enabled and not started")
	start()
}
