package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// atOnce is how many memory devices are plugged in at the same time.
const atOnce = 100

// Memory devices come and go while data flows both ways, one after the other and then a hundred at once. vring maps each of
// them, lets go of each, and holds no more than before. The long form has 300 such cycles.
func TestMemoryIsPluggedAndUnpluggedUnderTraffic(t *testing.T) {
	t.Parallel()
	const endless = 1 << 50 // more than the test could send
	cycles := 10
	if enduring() {
		cycles = 300
	}
	server := serveTCP(t, endless)
	l := newLab(t, kind{userland: userland.Forky, slots: atOnce}, "--allow-host", fmt.Sprintf("tcp:%d", server.Port))
	before := l.settled()
	load := l.guest.Start("tcp-dial", viaGateway(server.Port), endless, guestSeed)
	for range cycles {
		names := l.plugMemory(1)
		l.waitReceived(64 << 10)
		l.unplugMemory(names)
	}
	names := l.plugMemory(atOnce)
	require.Equal(t, before.SharedMappings+atOnce, l.vring.footprint().SharedMappings)
	l.waitReceived(64 << 10)
	l.unplugMemory(names)
	l.waitReceived(64 << 10)
	require.False(t, ended(load), "the connection goes on")

	require.NoError(t, l.guest.qemu.QMP.Reset())
	l.boot()
	l.requireNetwork()
	l.vring.requireNoLeak(before)
}

// plugMemory plugs in so many memory devices, waits until the guest has all of them, and returns their names.
func (l *lab) plugMemory(n int) (names []string) {
	l.t.Helper()
	monitor := l.guest.qemu.QMP
	for range n {
		name, err := monitor.PlugMemory()
		require.NoError(l.t, err)
		names = append(names, name)
	}
	require.Eventually(l.t, func() bool {
		accepted, err := monitor.AcceptedMemory()
		require.NoError(l.t, err)
		return accepted == n
	}, soon, tick, "the guest has not taken the memory")
	return names
}

// unplugMemory unplugs what plugMemory has plugged in, and waits until the guest has given all of it back.
func (l *lab) unplugMemory(names []string) {
	l.t.Helper()
	monitor := l.guest.qemu.QMP
	for _, name := range names {
		require.NoError(l.t, monitor.UnplugMemory(name))
	}
	require.Eventually(l.t, func() bool {
		plugged, err := monitor.PluggedMemory()
		require.NoError(l.t, err)
		return plugged == 0
	}, soon, tick, "the guest has not given the memory back")
	for _, name := range names {
		require.NoError(l.t, monitor.ReleaseMemory(name))
	}
}
