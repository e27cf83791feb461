package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/tap"
)

// inNamespace moves the test to a network namespace of its own, and with it the processes that it starts. Its thread ends
// with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
}

// exists tells whether there is an interface of a name.
func exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// mtu returns that of an interface.
func mtu(t *testing.T, name string) int {
	link, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return link.Attrs().MTU
}

// openForKeeper opens a TAP device with its keeper.
func openForKeeper(t *testing.T, cfg tap.Config) (*tap.Device, *keeper) {
	inNamespace(t)
	device, err := tap.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, device.Close()) })
	keeper, err := startKeeper([]tap.Config{cfg}, []*tap.Device{device})
	require.NoError(t, err)
	keeper.patience = time.Minute // on a busy machine
	return device, keeper
}

func TestTheKeeperChangesTheDeviceAndUndoesItAll(t *testing.T) {
	device, keeper := openForKeeper(t, tap.Config{Name: "tap0", Queues: 1, Bridge: "br0"})
	require.NoError(t, device.Ports()[0].SetMTU(1400))
	require.Equal(t, 1400, mtu(t, "tap0"))
	require.ErrorContains(t, keeper.SetMTU("tap0", 17), "MTU 17 is not between")
	require.ErrorContains(t, keeper.SetMTU("lo", 1400), `"lo" is not a device that was named at the start`)
	require.NoError(t, keeper.Connect("tap0"))
	require.NoError(t, device.Close())
	require.NoError(t, keeper.undo())
	require.False(t, exists("br0"))
}

func TestTheKeeperOutlivesAVringThatIsKilled(t *testing.T) {
	inNamespace(t)
	cmd := startReady(t, "", "tap", "--socket-path", filepath.Join(shortDir(t), "s"), "--tap", "tap0", "--bridge", "br0")
	require.True(t, exists("br0"))
	require.NoError(t, cmd.Process.Kill())
	_, err := cmd.Process.Wait()
	require.NoError(t, err)
	for deadline := time.Now().Add(time.Minute); exists("br0"); time.Sleep(10 * time.Millisecond) {
		require.True(t, time.Now().Before(deadline), "the bridge is left behind")
	}
}

func TestAKeeperThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	in, toNobody, err := os.Pipe()
	require.NoError(t, err)
	fromNobody, out, err := os.Pipe()
	require.NoError(t, err)
	defer func() { _, _ = in.Close(), out.Close() }()
	k := newKeeper(toNobody, fromNobody)
	require.ErrorContains(t, k.SetMTU("tap0", 1400), "does not answer")
	require.ErrorIs(t, k.Connect("tap0"), os.ErrDeadlineExceeded, "nor is it asked again")
}

func TestTheKeeperDoesNothingWithoutABeginning(t *testing.T) {
	for _, input := range []string{"", "{", "mtu 1400\n"} {
		var out bytes.Buffer
		require.Error(t, keep(strings.NewReader(input), &out))
		require.Zero(t, out.Len())
	}
	require.NoError(t, keep(strings.NewReader("{}"), io.Discard), "nothing to undo")
}
