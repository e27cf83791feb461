package hostcaps_test

import (
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
)

// The capabilities of a thread change with its thread alone, which ends with the test.
func TestOnlyAnEffectiveCapabilityCounts(t *testing.T) {
	runtime.LockOSThread()
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	require.NoError(t, unix.Capget(&header, &data[0]))
	const netAdmin = 1 << unix.CAP_NET_ADMIN
	if data[0].Permitted&netAdmin == 0 {
		t.Fatal("the test needs CAP_NET_ADMIN")
	}
	for _, effective := range []bool{true, false} {
		data[0].Effective &^= netAdmin
		if effective {
			data[0].Effective |= netAdmin
		}
		require.NoError(t, unix.Capset(&header, &data[0]))
		require.Equal(t, effective, hostcaps.HasNetAdmin())
	}
}
