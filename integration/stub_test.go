package integration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/testpmd"
	"github.com/vringnet/vring/integration/lab/userland"
)

// manyFrames is a hundred times what the rings hold.
const manyFrames = 25_600

// startTestpmd connects DPDK's virtio-user driver to vring.
func startTestpmd(t *testing.T, u userland.Userland, socket string, mode testpmd.Mode) *testpmd.Testpmd {
	pmd, err := testpmd.Start(limited(t), testpmd.Options{Userland: u, Socket: socket, Dir: shortDir(t), Mode: mode})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
	return pmd
}

// waitStats waits until testpmd's counters are as wanted.
func waitStats(t *testing.T, pmd *testpmd.Testpmd, enough func(testpmd.PortStats) bool) {
	var stats testpmd.PortStats
	for deadline := time.Now().Add(soon); time.Now().Before(deadline); time.Sleep(100 * time.Millisecond) {
		var err error
		stats, err = pmd.PortStats()
		require.NoError(t, err)
		if enough(stats) {
			return
		}
	}
	require.Fail(t, "too few frames", "%+v", stats)
}

func TestTestpmdGetsItsFramesBackFromEcho(t *testing.T) {
	onEachDPDK(t, testFramesBackFromEcho)
}

func testFramesBackFromEcho(t *testing.T, u userland.Userland) {
	vring := startVring(t, "stub", "--mode", "echo")
	pmd := startTestpmd(t, u, vring.Socket, testpmd.Flows)
	require.NoError(t, pmd.Forward())
	waitStats(t, pmd, func(s testpmd.PortStats) bool { return s.ReceivedPackets > manyFrames })
	require.NoError(t, pmd.Stop())
	stats, err := pmd.PortStats()
	require.NoError(t, err)
	require.LessOrEqual(t, stats.ReceivedPackets, stats.SentPackets)
	require.Equal(t, stats.SentBytes/stats.SentPackets, stats.ReceivedBytes/stats.ReceivedPackets, "frames come back whole")
	require.Zero(t, stats.ReceivedBytes%stats.ReceivedPackets, "all frames have one length")
}

// A burst that is sent once circulates for ever between testpmd, which swaps addresses, and vring: no frame is lost, or
// the stream would dry up.
func TestABurstCirculatesWithoutLoss(t *testing.T) {
	vring := startVring(t, "stub", "--mode", "echo")
	pmd := startTestpmd(t, userland.Bookworm, vring.Socket, testpmd.Bounce)
	require.NoError(t, pmd.ForwardBursts(1))
	waitStats(t, pmd, func(s testpmd.PortStats) bool { return s.ReceivedPackets > manyFrames })
}

func TestTestpmdSendsIntoTheVoid(t *testing.T) {
	vring := startVring(t, "stub", "--mode", "null")
	pmd := startTestpmd(t, userland.Forky, vring.Socket, testpmd.Transmit)
	require.NoError(t, pmd.Forward())
	waitStats(t, pmd, func(s testpmd.PortStats) bool { return s.SentPackets > manyFrames })
	require.NoError(t, pmd.Stop())
	stats, err := pmd.PortStats()
	require.NoError(t, err)
	require.Zero(t, stats.ReceivedPackets)
}

// A front end may come back as often as it likes.
func TestTestpmdComesBack(t *testing.T) {
	vring := startVring(t, "stub", "--mode", "echo")
	for _, u := range []userland.Userland{userland.Bookworm, userland.Forky, userland.Bookworm} {
		pmd := startTestpmd(t, u, vring.Socket, testpmd.Flows)
		require.NoError(t, pmd.Forward())
		waitStats(t, pmd, func(s testpmd.PortStats) bool { return s.ReceivedPackets > manyFrames })
		require.NoError(t, pmd.Kill())
	}
}
