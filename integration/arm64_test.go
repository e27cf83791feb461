package integration

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/userland"
)

// startEmulated starts vring as a program for arm64, on an emulated processor. The kernel under it is the host's, which can
// neither run it without the emulator, as vring in its sandbox would, nor restrict its calls.
func startEmulated(t *testing.T, command string, args ...string) *daemon {
	emulator, err := exec.LookPath("qemu-aarch64")
	require.NoError(t, err)
	program := filepath.Join(shortDir(t), "vring-arm64")
	require.NoError(t, guest.BuildProgram(limited(t), program, "./cmd/vring", "GOARCH=arm64", "CGO_ENABLED=0"))
	return (&daemon{t: t, emulator: []string{emulator, program}}).startAtSocket(command, append(args, "--sandbox=off")...)
}

// The guest is as it always is: rings and frames are the same for every processor that is little-endian. It gets its lease,
// and sends and receives datagrams; TCP is left out, for the emulator does not know the option of sockets that tells how much
// they take (SO_MEMINFO).
func TestAnARM64ProgramServesAGuest(t *testing.T) {
	t.Parallel()
	l := newLabWith(t, onQEMU(userland.Forky), startEmulated)
	l.requireDatagrams()
}
