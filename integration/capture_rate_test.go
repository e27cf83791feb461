package integration

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/testpmd"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/internal/control/api"
)

// A guest that sends as fast as it can is captured, and goes on. What is missed is counted: each frame is captured or missed. The long form prints by how much
// the guest is slowed, in windows with a capture and without, alternating.
func TestACaptureLetsAGuestGoOnThatSendsAtFullRate(t *testing.T) {
	rounds, window := 1, 500*time.Millisecond
	if enduring() {
		rounds, window = 15, time.Second
	}
	d := startVring(t, "stub", "--mode", "null")
	pmd, err := testpmd.Start(limited(t), testpmd.Options{Userland: userland.Forky, Socket: d.Socket, Dir: shortDir(t), Mode: testpmd.Transmit})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
	require.NoError(t, pmd.Forward())
	require.Eventually(t, func() bool { return d.counters().of(t, "frames") > manyFrames }, soon, time.Millisecond)
	var guests []api.Guest
	require.NoError(t, json.Unmarshal([]byte(d.ctl("guests", "-o", "json")), &guests))
	rate := func() float64 {
		before, began := d.counters().of(t, "frames"), time.Now()
		time.Sleep(window)
		require.Eventually(t, func() bool { return d.counters().of(t, "frames") > before+manyFrames }, soon, tick, "the guest does not go on")
		return float64(d.counters().of(t, "frames")-before) / time.Since(began).Seconds()
	}
	var off, on, ratios []float64
	for range rounds {
		off = append(off, rate())
		on = append(on, d.whileCaptured(guests[0].Name, rate))
		ratios = append(ratios, on[len(on)-1]/off[len(off)-1])
	}
	for _, all := range [][]float64{off, on, ratios} {
		slices.Sort(all)
	}
	t.Logf("frames a second without a capture %.0f, with one %.0f; ratio %.2f of %.2f", off[rounds/2], on[rounds/2], ratios[rounds/2], ratios)
}

// whileCaptured does something while a guest is captured, of which nobody keeps anything.
func (d *daemon) whileCaptured(guest string, do func() float64) float64 {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	require.NoError(d.t, err)
	defer null.Close()
	told, err := os.Create(filepath.Join(d.t.TempDir(), "told"))
	require.NoError(d.t, err)
	defer told.Close()
	cmd := exec.CommandContext(limited(d.t), built.vring, "ctl", "--socket-path", d.Socket, "capture", guest, "--snaplen", "128")
	cmd.Stdout, cmd.Stderr = null, told
	require.NoError(d.t, cmd.Start())
	time.Sleep(200 * time.Millisecond) // it has begun, or begins meanwhile
	result := do()
	require.NoError(d.t, cmd.Process.Signal(syscall.SIGINT))
	require.NoError(d.t, cmd.Wait())
	text, err := os.ReadFile(told.Name())
	require.NoError(d.t, err)
	d.t.Logf("%s", text)
	require.Regexp(d.t, `[1-9]\d* packets`, string(text))
	return result
}
