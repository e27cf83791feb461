package qemu

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// The harness itself is tested against QEMU's own network, so that a failure elsewhere is not the harness's. One generation of QEMU is
// enough: what is other in the other one, all tests with it need.
func TestAGuestBootsResetsAndEnds(t *testing.T) {
	const u = userland.Forky
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	m, err := Start(ctx, Options{Userland: u, Dir: t.TempDir(), Initrd: testImage(ctx, t, u)})
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Kill()) }()

	boot := func() {
		hello, err := m.Console.WaitBoot(ctx)
		require.NoError(t, err, "%s", m.Output())
		require.False(t, hello.UML)
		var lease proto.Lease
		require.NoError(t, m.Console.Do(ctx, &lease, "dhcp", "eth0"), "%s", m.Output())
		require.Equal(t, "10.0.2.15/24", lease.Address)
		require.Equal(t, "10.0.2.2", lease.Router)
	}
	boot()

	require.NoError(t, m.QMP.SetLink(false))
	require.Eventually(t, func() bool { return !carrier(ctx, t, m) }, time.Minute, 10*time.Millisecond)
	require.NoError(t, m.QMP.SetLink(true))
	require.Eventually(t, func() bool { return carrier(ctx, t, m) }, time.Minute, 10*time.Millisecond)

	require.NoError(t, m.QMP.Stop())
	require.NoError(t, m.QMP.Continue())
	require.NoError(t, m.QMP.Reset())
	boot()
	require.NoError(t, m.Console.Do(ctx, nil, "rmmod", "virtio_net"))
	require.Error(t, m.Console.Do(ctx, nil, "link", "eth0"))
	require.NoError(t, m.Console.Do(ctx, nil, "insmod", "virtio_net"))
	require.NoError(t, m.Console.Do(ctx, nil, "up", "eth0"))

	threads, err := m.QMP.ProcessorThreads()
	require.NoError(t, err)
	require.Len(t, threads, 1)
	require.DirExists(t, fmt.Sprintf("/proc/%d/task/%d", m.PID(), threads[0]))

	require.NoError(t, m.QMP.Quit())
	require.NoError(t, m.Wait(time.Minute))
}

// An error that nobody sees until a limit has passed costs more time than all other tests.
func TestAMachineThatCannotBeIsToldOfAtOnce(t *testing.T) {
	began := time.Now()
	_, err := Start(t.Context(), Options{Userland: userland.Bookworm, Dir: filepath.Join(t.TempDir(), "missing")})
	require.ErrorContains(t, err, "Failed to bind socket", "of the monitor")
	require.Less(t, time.Since(began), qmpWait)
}

func carrier(ctx context.Context, t *testing.T, m *Machine) bool {
	var link proto.Link
	require.NoError(t, m.Console.Do(ctx, &link, "link", "eth0"))
	return link.Carrier
}

func testImage(ctx context.Context, t *testing.T, u userland.Userland) string {
	dir := t.TempDir()
	init, err := guest.BuildInit(ctx, dir)
	require.NoError(t, err)
	modules, err := guest.KernelModules(u)
	require.NoError(t, err)
	file := filepath.Join(dir, "initrd")
	require.NoError(t, guest.Image{Init: init, Modules: modules}.Write(file))
	return file
}
