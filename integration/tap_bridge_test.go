package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// drops are the counters of frames that vring has dropped.
var drops = [...]string{"bad_headers", "detached", "down", "refused", "no_memory", "too_long", "not_accepted", "read_errors"}

// requireNoDrops checks that vring has dropped nothing.
func (d *daemon) requireNoDrops() {
	d.t.Helper()
	counted := d.counters()
	require.NotZero(d.t, counted.of(d.t, "received"))
	for _, name := range drops {
		require.Zero(d.t, counted.of(d.t, name), "counter %s", name)
	}
}

// Two guests, each behind a vring of its own, on one bridge of a host. They boot once; each part leaves the network as it
// found it.
func TestTwoGuestsOnABridge(t *testing.T) {
	t.Parallel()
	onAll(t, testTwoGuestsOnABridge, onUML(userland.Bookworm), onUML(userland.Forky))
}

func testTwoGuestsOnABridge(t *testing.T, kind kind) {
	h := newHost(t)
	ctx := limited(t)
	var stations []*station
	for i, tap := range []string{"tap0", "tap1"} {
		vring := h.startTAP(tap, "--bridge", "br0", "--mtu", "9000")
		stations = append(stations, newUMLStation(ctx, t, kind.userland, vring, i+1))
	}
	a, b := stations[0].boot(), stations[1].boot()

	t.Run("they reach each other", func(t *testing.T) {
		a.requireReach(b)
		b.requireReach(a)
	})
	t.Run("64 MiB arrive as they were sent", func(t *testing.T) {
		a.requireTransfer(b, b.v4(), transferBytes)
	})
	for _, mtu := range []string{"1500", "9000"} {
		t.Run("iperf3 at MTU "+mtu, func(t *testing.T) {
			for _, s := range stations {
				s.run("ip link set " + card + " mtu " + mtu)
			}
			a.requirePing(b.v4(), 1472)
			a.requireIperf(b, b.v4(), "")
			a.requireIperf(b, b.v4(), "-R")
			a.requireIperf(b, b.v6(), "")
		})
	}
	t.Run("large pings at MTU 9000", func(t *testing.T) {
		a.requirePing(b.v4(), 9000-28)
		a.requirePing(b.v6(), 9000-48)
	})
	t.Run("VLAN tags pass", func(t *testing.T) {
		recording := h.record(ctx, "tap1", "vlan 5")
		for i, s := range stations {
			s.run("ip link add link "+card+" name v5 type vlan id 5",
				fmt.Sprintf("ip address add 198.51.100.%d/24 dev v5", i+1), "ip link set v5 up")
		}
		a.waitPing("198.51.100.2")
		a.requireTransfer(b, "198.51.100.2", labBytes)
		frames := recorded(t, recording)
		require.NotEmpty(t, frames)
		require.Contains(t, frames[0].Text, "vlan 5")
		for _, s := range stations {
			s.run("ip link delete v5")
		}
	})
	for _, s := range stations {
		s.vring.requireNoDrops()
	}
	t.Run("a guest reboots and is back", func(t *testing.T) {
		b.Start("reboot")
		b.boot()
		a.run("ip neighbour flush dev " + card) // the new boot has another MAC address
		a.requireReach(b)
		a.requireTransfer(b, b.v4(), labBytes)
	})
}

// The same with QEMU: what of it differs is the front end and its resets.
func TestTwoQEMUGuestsOnABridge(t *testing.T) {
	t.Parallel()
	onEachQEMU(t, testTwoQEMUGuestsOnABridge)
}

func testTwoQEMUGuestsOnABridge(t *testing.T, kind kind) {
	h := newHost(t)
	ctx := limited(t)
	var stations []*station
	for i, tap := range []string{"tap0", "tap1"} {
		stations = append(stations, newQEMUStation(ctx, t, kind.userland, h.startTAP(tap, "--bridge", "br0"), i+1, 1))
	}
	a, b := stations[0].boot(), stations[1].boot()
	a.requireReach(b)
	a.requireTransfer(b, b.v4(), labBytes)
	for _, s := range stations {
		s.vring.requireNoDrops()
	}

	t.Run("a cable is unplugged", func(t *testing.T) {
		require.True(t, h.carrier("tap1"))
		require.NoError(t, b.qemu.QMP.SetLink(false))
		b.waitCarrier(false)
		require.Eventually(t, func() bool { return !h.carrier("tap1") }, soon, tick, "the TAP device follows")
		require.True(t, h.carrier("tap0"), "the other guest's does not")
		require.NoError(t, b.qemu.QMP.SetLink(true))
		b.waitCarrier(true)
		require.Eventually(t, func() bool { return h.carrier("tap1") }, soon, tick)
		a.waitPing(b.v4())
	})
	t.Run("a guest is reset", func(t *testing.T) {
		require.NoError(t, b.qemu.QMP.Reset())
		b.boot()
		a.requireReach(b)
		a.requireTransfer(b, b.v4(), labBytes)
	})
}

// What vring makes it takes away, and what was there it leaves as it was.
func TestTheHostIsLeftAsItWas(t *testing.T) {
	h := newHost(t)
	h.wire("other", newHost(t)) // a bridge without ports has no carrier, and the kernel changes its address
	h.run("ip link add old type bridge", "ip link set other master old", "ip link set old up",
		"ip tuntap add dev mine mode tap multi_queue vnet_hdr")
	require.Eventually(t, func() bool { return h.carrier("old") }, soon, tick)
	before := h.links()

	for _, args := range [][]string{{"tap0", "--bridge", "new"}, {"tap0", "--bridge", "old"}, {"mine", "--bridge", "old", "--mtu", "9000"}} {
		vring := h.startTAP(args[0], args[1:]...)
		device, found := h.link(args[0])
		require.True(t, found)
		require.Equal(t, args[2], device.Master)
		vring.terminate()
		require.Equal(t, before, h.links(), "after %v", args)
	}
}
