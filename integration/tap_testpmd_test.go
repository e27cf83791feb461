package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/testpmd"
	"github.com/vringnet/vring/integration/lab/userland"
)

// One testpmd with two network cards of two queue pairs each, whose TAP devices are on one bridge. Many flows leave each
// card and arrive at the other one, by both of its queue pairs. The offloads are those of TCP and UDP that testpmd has
// (rte_ethdev.h): checksums and segmentation of what is sent, checksums and joined segments of what is received.
func TestTestpmdOnABridgeWithTwoQueuePairs(t *testing.T) {
	for _, test := range []struct {
		name     string
		userland userland.Userland
		offloads string // in the kernel's view of the TAP device
		args     []string
	}{
		{"DPDK 22, offloads on", userland.Bookworm, "on", []string{"--tx-offloads=0x2c", "--rx-offloads=0x1c"}},
		{"DPDK 25, offloads on", userland.Forky, "on", []string{"--tx-offloads=0x2c", "--rx-offloads=0x1c"}},
		{"DPDK 25, offloads off", userland.Forky, "off", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newHost(t)
			vrings := map[string]*daemon{
				"tap0": h.startTAP("tap0", "--bridge", "br0", "--queues", "2"),
				"tap1": h.startTAP("tap1", "--bridge", "br0", "--queues", "2"),
			}
			pmd, err := testpmd.Start(limited(t), testpmd.Options{
				Userland: test.userland,
				Socket:   vrings["tap0"].Socket, Queues: 2, Dir: shortDir(t), Mode: testpmd.Flows, Args: test.args,
				EAL: []string{"--vdev=net_virtio_user1,path=" + vrings["tap1"].Socket + ",queues=2"},
			})
			require.NoError(t, err)
			t.Cleanup(func() { require.NoError(t, pmd.Kill()) })
			require.NoError(t, pmd.Forward())
			for _, vring := range vrings {
				vring.waitCounterOfEach(2, "received", manyFrames/10)
			}
			require.NoError(t, pmd.Stop())
			for tap := range vrings {
				features := h.run("ethtool -k " + tap)
				require.Contains(t, features, "tcp-segmentation-offload: "+test.offloads)
				require.Contains(t, features, "tx-checksumming: "+test.offloads)
			}
		})
	}
}
