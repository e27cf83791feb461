package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/internal/control/api"
)

// Guests of two hosts, each on a switch of its own vring, and a third host with a VXLAN device of its kernel are one network: by ARP, neighbour
// discovery and TCP, whatever the MTU of the guests is, with tags inside, and over a way that loses and repeats. What is too large is
// told, and nobody else is heard.
func TestSwitchesOfSeveralHostsAreOneNetworkByVXLAN(t *testing.T) {
	t.Parallel()
	ctx := limited(t)
	one, two, kernel, stranger := newHost(t), newHost(t), newHost(t), newHost(t)
	kernel.run("ip link add middle type bridge", "ip link set middle up", "ip address add 203.0.113.3/24 dev middle")
	for i, h := range []*host{one, two, stranger} {
		name := fmt.Sprint("wire", i)
		kernel.wire(name, h)
		kernel.run("ip link set " + name + " master middle")
		h.run(fmt.Sprintf("ip address add 203.0.113.%d/24 dev %s", []int{1, 2, 9}[i], name))
	}
	const network = "vlan=7&trunk=10"
	first := startOverVXLAN(one, "vxlan://203.0.113.2,203.0.113.3/42?"+network, "7")
	second := startOverVXLAN(two, "vxlan://203.0.113.1,203.0.113.3/42?"+network, "7")
	a, b := bootStation(ctx, t, first, 1), bootStation(ctx, t, second, 2)
	kernel.overVXLAN("203.0.113.3", "203.0.113.1", "203.0.113.2")
	kernel.run("ip address add 192.0.2.3/24 dev vx")

	a.requireTransfer(b, b.v4(), labBytes) // segments of guests with an MTU of 1500 are cut
	b.requireTransfer(a, a.v4(), labBytes)
	a.requirePing("192.0.2.3", 1400)
	require.NotZero(t, first.uplinkCounter("vxlan_sent"))
	require.Zero(t, first.uplinkCounter("vxlan_too_large"))

	var echoes proto.Echoes
	a.do(&echoes, "ping", b.v4(), 1, 1472)
	require.Zero(t, echoes.Answered)
	first.waitLog("set the MTU of the guests to 1450 or less", 1)
	require.NotZero(t, first.uplinkCounter("vxlan_too_large"))
	for _, s := range []*station{a, b} {
		s.run("ip link set " + card + " mtu 1450")
	}
	a.requireReach(b)
	a.requirePing("192.0.2.3", 1422)

	for _, s := range []*station{a, b} {
		s.run("ip link add link "+card+" name v10 type vlan id 10", fmt.Sprintf("ip address add 198.51.100.%d/24 dev v10", s.number), "ip link set v10 up")
	}
	a.waitPing("198.51.100.2")

	told := first.ctl("uplinks")
	for _, want := range []string{b.mac, "203.0.113.2:4789", "203.0.113.3:4789", "for an MTU of 1450"} {
		require.Contains(t, told, want)
	}

	require.NoError(t, stranger.Do(func() error {
		c, err := net.Dial("udp", "203.0.113.1:4789")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write(append([]byte{8, 0, 0, 0, 0, 0, 42, 0}, make([]byte, 60)...))
		return err
	}))
	require.Eventually(t, func() bool { return first.uplinkCounter("vxlan_stranger") == 1 }, soon, tick)

	first.ctl("link", "uplink", "loss=1%,duplicate=2%")
	a.requireTransfer(b, b.v4(), labBytes/4)
}

// startOverVXLAN starts vring on a host, with a switch that leads to others.
func startOverVXLAN(h *host, uplink, vlan string) *daemon {
	return startVringWith(h.t, process.Options{Thread: h.Enter}, "switch", "--vlan", vlan, "--trunk", "10", "--switch-uplink", uplink)
}

// overVXLAN gives the host a VXLAN device of its kernel, vx, which sends to the others.
func (h *host) overVXLAN(local string, others ...string) {
	h.t.Helper()
	h.run("ip link add vx type vxlan id 42 local "+local+" dstport 4789", "ip link set vx up")
	for _, other := range others {
		h.run("bridge fdb append 00:00:00:00:00:00 dev vx dst " + other)
	}
}

// bootStation boots a guest with User-mode Linux.
func bootStation(ctx context.Context, t *testing.T, d *daemon, number int) *station {
	return newUMLStation(ctx, t, userland.Forky, d, number).boot()
}

// uplinkCounter returns a counter of the uplink.
func (d *daemon) uplinkCounter(name string) uint64 {
	d.t.Helper()
	var all []api.Counters
	require.NoError(d.t, json.Unmarshal([]byte(d.ctl("counters", "uplink", "--all", "-o", "json")), &all))
	require.Len(d.t, all, 1)
	return all[0].Counters[name]
}
