package daemon

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
)

// What the host lets this process have, and not the user that it becomes, the broker has.
func TestPingSocketsComeFromTheBrokerOnlyWhereTheServersUserMayHaveNone(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, for a network namespace")
	}
	runtime.LockOSThread() // and never unlock: the thread ends with the test
	require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
	other := &sandbox.User{Name: "other", UID: 997, GID: 996}
	nat, stub := DefaultNAT(), Stub{}
	guests := map[string]Config{"nat": {NAT: &nat}, "stub": {Stub: &stub}}
	for name, c := range map[string]struct {
		groups string
		user   *sandbox.User
		guests string
		want   bool
	}{
		"root's group only":       {"0 0", other, "nat", true},
		"all groups":              {"0 2147483647", other, "nat", false},
		"nobody":                  {"1 0", other, "nat", false},
		"the server stays root's": {"0 0", nil, "nat", false},
		"no network that pings":   {"0 0", other, "stub", false},
	} {
		require.NoError(t, os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte(c.groups), 0))
		d := &Daemon{config: guests[c.guests], program: Program{User: c.user}}
		require.Equal(t, c.want, d.lendsPings(), name)
	}
}
