package integration

import (
	"regexp"
	"strconv"
	"strings"
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
	vring := startVring(t, "stub", "--mode", "reflect")
	for _, u := range []userland.Userland{userland.Bookworm, userland.Forky, userland.Bookworm} {
		pmd := startTestpmd(t, u, vring.Socket, testpmd.Flows)
		require.NoError(t, pmd.Forward())
		waitStats(t, pmd, func(s testpmd.PortStats) bool { return s.ReceivedPackets > manyFrames })
		require.NoError(t, pmd.Kill())
	}
}

// testedFrames is the line that vring prints of frames of a source.
var testedFrames = regexp.MustCompile(`tested (\d+) frames: (\d+) lost, (\d+) late, (\d+) duplicate, (\d+) damaged; they took (\S+) \(median\)`)

// waitTested waits until vring has tested so many frames.
func waitTested(t *testing.T, d *daemon, many uint64) {
	t.Helper()
	require.Eventually(t, func() bool {
		all := testedFrames.FindAllStringSubmatch(d.Output(), -1)
		return len(all) > 0 && number(t, all[len(all)-1][1]) >= many
	}, soon, 50*time.Millisecond, "%s", d.Output())
}

// inAll ends vring, and returns what it says of all frames: how many it tested, how many of others are lost, and that nothing else is
// wrong with any.
func (d *daemon) inAll() (tested, lost uint64) {
	d.terminate()
	d.ended()
	_, line, ok := strings.Cut(d.Output(), "in all: ")
	require.True(d.t, ok, d.Output())
	m := testedFrames.FindStringSubmatch(line)
	require.NotNil(d.t, m, line)
	require.Equal(d.t, []string{"0", "0", "0"}, m[3:6], "late, duplicate, damaged")
	median, err := time.ParseDuration(m[6])
	require.NoError(d.t, err)
	require.Greater(d.t, median, time.Duration(0))
	require.Less(d.t, median, soon)
	return number(d.t, m[1]), number(d.t, m[2])
}

func number(t *testing.T, text string) uint64 {
	n, err := strconv.ParseUint(text, 10, 64)
	require.NoError(t, err)
	return n
}

// testpmd sends the frames of a source back. What it cannot, it counts, and the source finds as many to be lost; none comes late, twice,
// or damaged.
func TestASourceFindsWhatTestpmdLoses(t *testing.T) {
	vring := startVring(t, "stub", "--mode", "source", "--sizes", "imix", "--rate", "30000")
	pmd := startTestpmd(t, userland.Forky, vring.Socket, testpmd.Bounce)
	require.NoError(t, pmd.Forward())
	waitTested(t, vring, manyFrames)
	require.NoError(t, pmd.Stop())
	stats, err := pmd.PortStats()
	require.NoError(t, err)
	tested, lost := vring.inAll()
	require.LessOrEqual(t, tested, stats.SentPackets)
	require.LessOrEqual(t, tested+lost, stats.ReceivedPackets+stats.Missed+stats.ReceiveErrors)
}

// Frames of a source go through testpmd, in by one port and out by another, to a sink, which is another process.
func TestASinkTestsWhatComesThroughTestpmd(t *testing.T) {
	source := startVring(t, "stub", "--mode", "source", "--size", "1514", "--rate", "30000")
	sink := startVring(t, "stub", "--mode", "sink")
	pmd, err := testpmd.Start(limited(t), testpmd.Options{
		Userland: userland.Forky, Socket: source.Socket, Dir: shortDir(t), Mode: testpmd.IO,
		EAL: []string{"--vdev=net_virtio_user1,path=" + sink.Socket},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
	require.NoError(t, pmd.Forward())
	waitTested(t, sink, manyFrames)
	require.NotContains(t, source.Output(), "tested", "nothing comes back to the source")
	require.NoError(t, pmd.Stop())
	tested, lost := sink.inAll()
	stats, err := pmd.PortStats() // of the port to the source
	require.NoError(t, err)
	require.LessOrEqual(t, tested+lost, stats.ReceivedPackets+stats.Missed+stats.ReceiveErrors)
}
