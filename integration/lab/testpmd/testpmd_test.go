package testpmd

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

func TestPortStatsAreRead(t *testing.T) {
	const text = `
  ######################## NIC statistics for port 0  ########################
  RX-packets: 17         RX-missed: 2          RX-bytes:  1088
  RX-errors: 0
  RX-nombuf:  0
  TX-packets: 32         TX-errors: 1          TX-bytes:  2048

  Throughput (since last show)
  Rx-pps:            5          Rx-bps:         2560
  Tx-pps:            6          Tx-bps:         3072
  ############################################################################
`
	s, err := ParsePortStats(text)
	require.NoError(t, err)
	require.Equal(t, PortStats{ReceivedPackets: 17, ReceivedBytes: 1088, Missed: 2, SentPackets: 32, SentBytes: 2048,
		SendErrors: 1, ReceiveRate: 5, SendRate: 6}, s)
	_, err = ParsePortStats("RX-packets: 17")
	require.Error(t, err)
}

// The harness itself is tested with DPDK's own back end, so that a failure elsewhere is not the harness's.
func TestFramesGoToAPeerAndBack(t *testing.T) {
	for _, u := range []userland.Userland{userland.Bookworm, userland.Forky} {
		t.Run(u.String(), func(t *testing.T) { testToAPeerAndBack(t, u) })
	}
}

func testToAPeerAndBack(t *testing.T, u userland.Userland) {
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	peer, err := Start(t.Context(), Options{Userland: u, Socket: socket, Backend: true, Dir: t.TempDir(), Mode: IO})
	require.NoError(t, err)
	defer func() { require.NoError(t, peer.Kill()) }()
	require.NoError(t, peer.Forward())

	front, err := Start(t.Context(), Options{Userland: u, Socket: socket, Dir: dir, Mode: Flows})
	require.NoError(t, err)
	defer func() { require.NoError(t, front.Kill()) }()
	require.NoError(t, front.Forward())
	require.Eventually(t, func() bool {
		stats, err := front.PortStats()
		require.NoError(t, err)
		return stats.ReceivedPackets > 10_000
	}, time.Minute, 100*time.Millisecond)
	require.NoError(t, front.Stop())
}
