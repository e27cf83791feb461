package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// startVringInNamespace is startVring with a network namespace around it, which the shell script network sets up: it
// decides what the guest's world is, and nothing leaves the machine.
func startVringInNamespace(t *testing.T, network string, args ...string) *daemon {
	d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "vring.sock")}
	if os.Geteuid() != 0 { // root has its server run as another user, for whom the broker opens ping sockets
		d.args = []string{"--map-root-user"}
	}
	d.args = append(append(d.args, "--net", "sh", "-ec", network+`; exec "$0" "$@"`, built.vring, "nat", "--socket-path", d.Socket), args...)
	var err error
	d.Process, err = process.Start(context.Background(), exec.Command("unshare", d.args...), process.Options{})
	require.NoError(t, err)
	t.Cleanup(d.terminate)
	require.Eventually(t, d.ready, soon, 5*time.Millisecond, "vring is not ready")
	return d
}

func TestGuestsProgramsSeeWhatProgramsOfTheHostWould(t *testing.T) {
	if err := exec.CommandContext(t.Context(), "unshare", "--map-root-user", "--net", "true").Run(); err != nil {
		t.Skipf("no user namespace is to be had here: %v", err)
	}
	onOneOfEach(t, userland.Bookworm, func(t *testing.T, kind kind) {
		ctx := limited(t)
		d := startVringInNamespace(t, `
			ip link set lo up
			ip address add 192.0.2.1/24 dev lo
			ip route add unreachable 198.51.100.0/24
			echo 0 0 > /proc/sys/net/ipv4/ping_group_range`,
			"--allow-host", "icmp:192.0.2.1", "--deny", "203.0.113.0/24", "--dns", "192.0.2.1")
		g := startGuest(ctx, t, kind, d.Socket)
		_, err := g.WaitBoot(ctx)
		require.NoError(t, err)
		require.NoError(t, g.Do(ctx, nil, "dhcp", card))

		for to, want := range map[string]string{
			"198.18.0.1:80":   "network is unreachable", // there is no default route
			"198.51.100.1:80": "no route to host",
			"203.0.113.1:80":  "connection refused", // by the rule
			"192.0.2.1:80":    "connection refused", // the host is closed
		} {
			require.ErrorContains(t, g.Do(ctx, nil, "tcp-dial", to, 1, guestSeed), want, to)
		}
		why := d.ctl("why", "10.0.2.15", "--reason", "denied")
		require.Regexp(t, `denied .*203\.0\.113\.1:80.*--deny 203\.0\.113\.0/24`, why)
		require.Regexp(t, `denied .*192\.0\.2\.1:80.*--allow-host tcp:192\.0\.2\.1:80`, why)
		const pings = 5
		var echoes proto.Echoes
		require.NoError(t, g.Do(ctx, &echoes, "ping", "192.0.2.1", pings, 1400))
		require.Equal(t, proto.Echoes{Sent: pings, Answered: pings}, echoes)
	})
}
