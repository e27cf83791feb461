package integration

import (
	"fmt"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A command line for QEMU's user network stays as it is: vring adds what it needs, takes the network's place, and ends with QEMU.
func TestVringRunsQEMUInThePlaceOfItsUserNetwork(t *testing.T) {
	atOnceOnAll(t, testRun, onQEMU(userland.Bookworm), onQEMU(userland.Forky))
}

func testRun(t *testing.T, kind kind) {
	l := &lab{t: t, ctx: limited(t), kind: kind, tcp: serveTCP(t, labBytes), forwardTCP: freePort(t)}
	sockets := shortDir(t)
	l.guest = startQEMU(l.ctx, t, qemu.Options{
		Userland: kind.userland, Initrd: built.image(kind.userland, false, false),
		Wrapper: []string{
			"env", "XDG_RUNTIME_DIR=" + sockets, built.vring, "run", fmt.Sprintf("--allow-host=tcp:%d", l.tcp.Port), "--",
		},
		Netdev: fmt.Sprintf("user,dhcpstart=10.0.2.20,hostfwd=tcp:127.0.0.1:%d-:%d", l.forwardTCP, guestTCPPort),
	})
	require.Equal(t, "10.0.2.20/24", l.boot().Address)
	l.transferOut()
	l.transferIn()

	require.NoError(t, l.guest.qemu.QMP.Quit())
	require.NoError(t, l.guest.qemu.Wait(soon), "its status is QEMU's")
	left, err := os.ReadDir(sockets)
	require.NoError(t, err)
	require.Empty(t, left, "vring has ended, too")
}
