package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/userland"
)

// requireDocumented checks that a reader of docs/lab.md is told the same commands.
func requireDocumented(t *testing.T, commands []string) {
	t.Helper()
	page, err := os.ReadFile(filepath.Join(guest.ProjectRoot(), "docs", "lab.md"))
	require.NoError(t, err)
	for _, command := range commands {
		require.Contains(t, string(page), "\n"+command+"\n")
	}
}

// The lab of docs/lab.md across two hosts: each has a bridge with a guest, and a VXLAN device as the bridge's other port.
func TestALabAcrossTwoHostsByVXLAN(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	hosts := [2]*host{newHost(t), newHost(t)}
	hosts[0].wire("uplink", hosts[1])
	var stations [2]*station
	for i, h := range hosts {
		own, other := i+1, 2-i
		h.run(fmt.Sprintf("ip address add 203.0.113.%d/24 dev uplink", own))
		commands := []string{
			"ip link add br0 type bridge",
			"ip link set br0 up",
			fmt.Sprintf("ip link add vxlan7 type vxlan id 7 local 203.0.113.%d remote 203.0.113.%d dstport 4789", own, other),
			"ip link set vxlan7 up master br0",
		}
		requireDocumented(t, commands)
		h.run(commands...)
		vring := h.startTAP("tap0", "--bridge", "br0", "--mtu", "1450")
		stations[i] = newUMLStation(ctx, t, userland.Bookworm, vring, own)
	}
	for _, s := range stations {
		s.boot().run("ip link set " + card + " mtu 1450")
	}
	a, b := stations[0], stations[1]
	underlay := hosts[0].record(ctx, "uplink", "udp port 4789")
	a.requireReach(b)
	b.requireReach(a)
	a.requirePing(b.v4(), 1450-28)
	a.requireTransfer(b, b.v4(), wireBytes)
	require.NotEmpty(t, recorded(t, underlay), "the frames went through the tunnel")
	for _, s := range stations {
		s.vring.requireNoDrops()
	}
}
