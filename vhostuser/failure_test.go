package vhostuser

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/vnet"
)

func countLines(text, with string) int {
	n := 0
	for line := range strings.Lines(text) {
		if strings.Contains(line, with) {
			n++
		}
	}
	return n
}

var errBroken = errors.New("broken")

// A device that does not do what it is told may do anything with what it has: nothing is released before Reset works.
func TestDeviceThatFailsEndsTheSessionAndIsReset(t *testing.T) {
	tests := []struct {
		method string
		send   func(h *harness) error
	}{
		{"StartRing", func(h *harness) error { return h.fe.Setup(h.setup) }},
		{"StopRing", func(h *harness) error { _, err := h.fe.GetVringBase(0); return err }},
		{"StopRing", func(h *harness) error { return h.fe.SetVringNum(0, 8) }},
		{"StopRing", func(h *harness) error { return h.fe.SetVringBase(0, 8) }},
		{"StopRing", func(h *harness) error { return h.fe.SetVringAddr(0, wire.RingAddr{}) }},
		{"StopRing", func(h *harness) error { return h.fe.SetFeatures(vnet.FeatureVersion1) }},
		{"StopRing", func(h *harness) error { return h.fe.SetMemTable(shifted(h.setup.Memory, 1<<30)) }},
		{"SetMemory", func(h *harness) error { return h.fe.SetMemTable(h.setup.Memory) }},
		{"EnableRing", func(h *harness) error { return h.fe.SetVringEnable(0, false) }},
		{"EnableRing", func(h *harness) error { return h.fe.ResetOwner() }},
		{"SetKick", func(h *harness) error { return h.fe.SetVringKick(0, h.setup.Rings[0].KickFD) }},
		{"SetCall", func(h *harness) error { return h.fe.SetVringCall(0, h.setup.Rings[0].KickFD) }},
		{"SetErr", func(h *harness) error { return h.fe.SetVringErr(0, noFD) }},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			h := newHarness(t, 1)
			if tt.method != "StartRing" {
				h.start()
			}
			h.dev.failOn(tt.method, errBroken)
			h.dev.failOn("Reset", errBroken)
			_ = tt.send(h)
			require.Eventually(t, func() bool { return strings.Contains(h.log.String(), "does not let go") }, testLimit, time.Millisecond)
			require.NotZero(t, guestMappings(t), "memory stays as long as the device may use it")
			h.dev.failOn("Reset", nil)
			h.requireEnd(errBroken)
		})
	}
}

func TestFeaturesThatTheDeviceRefuses(t *testing.T) {
	h := newHarness(t, 1)
	require.NoError(t, h.fe.Negotiate(fakeFeatures, wire.ProtocolReplyAck))
	h.fe.AlwaysAck = true
	h.dev.failOn("SetFeatures", errBroken)
	var refused *frontend.RefusedError
	require.ErrorAs(t, h.fe.SetFeatures(h.fe.Features()), &refused)
	h.dev.failOn("SetFeatures", nil)
	h.fe.AlwaysAck = false
	h.start()

	h.dev.failOn("SetFeatures", errBroken)
	h.fe.AlwaysAck = true
	require.ErrorAs(t, h.fe.SetFeatures(vnet.FeatureVersion1|wire.FeatureProtocolFeatures), &refused)
	h.dev.requireRings(true, true) // with the features that they had
}

func TestDataPathThatGivesUpSignalsErrorsAndHangsUp(t *testing.T) {
	h := newHarness(t, 2)
	h.start()
	h.dev.fail <- errBroken
	h.requireEnd(errBroken)
	for _, r := range h.setup.Rings {
		require.Equal(t, uint64(1), readEventfd(t, r.ErrFD))
	}
	_, err := h.fe.GetFeatures()
	require.Error(t, err)
}

func TestFailureThatComesTooLateDoesNotHitTheNextSession(t *testing.T) {
	h := newHarness(t, 1)
	h.dev.failOn("Reset", errBroken)
	h.fe.Close()
	require.Eventually(t, func() bool { return strings.Contains(h.log.String(), "does not let go") }, testLimit, time.Millisecond)
	h.dev.fail <- errBroken
	h.dev.failOn("Reset", nil)
	h.requireEnd(nil)
	require.Empty(t, h.dev.fail)
}

func TestCancelEndsTheSession(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.cancel()
	h.requireEnd(context.Canceled)
	h.dev.requireRings(false, false)
}
