package integration

import (
	"bytes"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A user's own machine tells how vring does there beside each program that is installed. This year's userland has them all; the short
// form measures two of them, for a moment.
func TestVringIsMeasuredBesideEachProgramThatIsInstalled(t *testing.T) {
	t.Parallel()
	const u = userland.Forky
	program, err := u.Tool("qemu-system-x86_64")
	require.NoError(t, err)
	kernel, err := guest.KernelImage(u)
	require.NoError(t, err)
	var told, table bytes.Buffer
	cmd := exec.CommandContext(limited(t), built.vring, "compare", "--emulate", "--qemu", program, "--kernel", kernel, "--modules", moduleTree(t, u))
	peers := map[string]string{"vring": "1500", "passt-vhost-user": "65520"}
	if enduring() {
		peers = map[string]string{"vring": "1500", "qemu-user": "1500", "passt-vhost-user": "65520", "passt-stream": "65520", "gvproxy": "1500"}
	} else {
		cmd.Args = append(cmd.Args, "--time", "100ms", "--peers", "vring,passt-vhost-user")
	}
	cmd.Stderr = &told
	p, err := process.Start(limited(t), cmd, process.Options{Thread: u.Thread(nil), Output: &table})
	require.NoError(t, err)
	require.NoError(t, p.Wait(testLimit), "%s\n%s", table.String(), told.String())
	for peer, mtu := range peers {
		require.Regexp(t, ` `+peer+`  +[0-9.]+  +`+mtu+`  +[0-9.]+  +[0-9.]+  +[1-9]\d*  +[1-9]\d*\n`, table.String())
	}
	t.Log(table.String())
}
