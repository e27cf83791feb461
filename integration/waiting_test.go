package integration

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/testpmd"
	"github.com/vringnet/vring/integration/lab/userland"
)

// Frames that wait in the transmit ring when vring comes are sent, all of them, though DPDK names a ring's kick before it
// enables the ring. testpmd listens, goes on without vring until its ring is full, and takes the next one.
func TestFramesThatWaitForTheNextVringAreSent(t *testing.T) {
	onEachDPDK(t, func(t *testing.T, u userland.Userland) {
		d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "front.sock")}
		d.args = []string{"stub", "--mode", "null", "--client", "--socket-path", d.Socket}
		d.start() // before testpmd, which waits for it
		t.Cleanup(d.terminate)
		pmd, err := testpmd.Start(limited(t), testpmd.Options{
			Userland: u, Socket: d.Socket, Dir: shortDir(t), Mode: testpmd.Transmit, Device: []string{"server=1"},
		})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
		sent := uint64(0)
		for range 3 {
			require.NoError(t, d.Kill())
			waiting := fillRing(t, pmd) - sent
			require.Greater(t, waiting, uint64(64), "frames wait in the ring")
			d.start()
			require.Eventually(t, func() bool { return d.counters().of(t, "frames") >= waiting }, soon, 100*time.Millisecond, "frames are missing")
			require.Equal(t, waiting, d.counters().of(t, "frames"))
			sent += waiting
		}
	})
}

// A front end that sends without a pause is served at its speed after each restart of vring. One that vring sleeps on, for want
// of a kick or of an interrupt, gets no further than a few hundred frames a second.
func TestAFrontEndThatSendsIsServedAtFullSpeedAfterEachRestart(t *testing.T) {
	restarts := 8
	if enduring() {
		restarts = 300
	}
	d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "front.sock")}
	d.args = []string{"stub", "--mode", "null", "--client", "--socket-path", d.Socket}
	d.start()
	t.Cleanup(d.terminate)
	pmd, err := testpmd.Start(limited(t), testpmd.Options{
		Userland: userland.Forky, Socket: d.Socket, Dir: shortDir(t), Mode: testpmd.Transmit, Device: []string{"server=1"},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
	require.NoError(t, pmd.Forward())
	const frames = 100_000 // a few hundred a second would not be as many within the limit
	for range restarts {
		require.NoError(t, d.Kill())
		d.start()
		require.Eventually(t, func() bool { return d.counters().of(t, "frames") >= frames }, soon, 20*time.Millisecond, "it is slow")
		_, err = pmd.PortStats() // it is well, and what it has printed is read
		require.NoError(t, err)
	}
}

// fillRing lets testpmd send until nobody takes its frames any more, and returns how many it has put into its ring so far.
func fillRing(t *testing.T, pmd *testpmd.Testpmd) uint64 {
	require.NoError(t, pmd.Forward())
	last := uint64(0)
	waitStats(t, pmd, func(s testpmd.PortStats) bool {
		full := s.SentPackets > 0 && s.SentPackets == last
		last = s.SentPackets
		return full
	})
	require.NoError(t, pmd.Stop())
	stats, err := pmd.PortStats()
	require.NoError(t, err)
	return stats.SentPackets
}
