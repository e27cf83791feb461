package hostcaps_test

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
)

// inNewNetwork calls fn in a network namespace of its own, on a thread that ends with it.
func inNewNetwork(t *testing.T, fn func()) {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlock
		defer close(done)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		fn()
	}()
	if err := <-done; err != nil {
		t.Fatalf("the test needs root: unshare: %v", err)
	}
}

func TestTheWindowScaleFitsTheLargestSendBuffer(t *testing.T) {
	got := map[string]uint8{}
	want := map[string]uint8{
		"4096 16384 65535":      0,
		"4096 16384 65536":      1,
		"4096 16384 4194304":    7,
		"4096 16384 1073725440": 14,
		"4096 16384 2147483647": 14, // the greatest that there is
	}
	var failed error
	inNewNetwork(t, func() {
		for text := range want {
			if failed = os.WriteFile("/proc/sys/net/ipv4/tcp_wmem", []byte(text), 0); failed != nil {
				return
			}
			got[text] = hostcaps.HostWindowScale()
		}
	})
	require.NoError(t, failed)
	require.Equal(t, want, got)
}

func TestPingsThatTheHostForbidsAreToldWithTheCure(t *testing.T) {
	var forbidden, permitted, failed error
	inNewNetwork(t, func() {
		forbidden = hostcaps.CheckPing() // a new namespace permits nobody
		failed = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0)
		permitted = hostcaps.CheckPing()
	})
	require.NoError(t, failed)
	require.ErrorContains(t, forbidden, "sysctl net.ipv4.ping_group_range")
	require.NoError(t, permitted)
}

func TestWhichGroupsMayPingIsReadFromTheHost(t *testing.T) {
	got := map[string][]bool{}
	var failed error
	inNewNetwork(t, func() {
		for _, text := range []string{"1 0", "0 0", "0 2147483647", "100 200"} {
			if failed = os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(text), 0); failed != nil {
				return
			}
			got[text] = []bool{hostcaps.MayPing(0), hostcaps.MayPing(100), hostcaps.MayPing(65534)}
		}
	})
	require.NoError(t, failed)
	require.Equal(t, map[string][]bool{
		"1 0": {false, false, false}, "0 0": {true, false, false}, "0 2147483647": {true, true, true}, "100 200": {false, true, false},
	}, got)
}

// The kernel has one bound for all network namespaces, and shows it in the first.
func TestTheMemoryOfTCPIsToldWhereTheKernelShowsIt(t *testing.T) {
	var elsewhere bool
	inNewNetwork(t, func() { _, elsewhere = hostcaps.TCPMemory() })
	require.False(t, elsewhere)
	got, ok := hostcaps.TCPMemory()
	text, err := os.ReadFile("/proc/sys/net/ipv4/tcp_mem")
	require.Equal(t, err == nil, ok)
	if !ok {
		return
	}
	pages, err := strconv.ParseInt(strings.Fields(string(text))[1], 10, 64)
	require.NoError(t, err)
	require.Equal(t, pages*int64(os.Getpagesize()), got)
}

func TestTheNumberOfFilesIsTheSoftLimit(t *testing.T) {
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 512, Max: before.Max}))
	require.Equal(t, 512, hostcaps.OpenFiles())
}
