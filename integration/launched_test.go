package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/userland"
)

// launcher stands for the program that QEMU starts as its network (-netdev passt): it is given one end of a connection as file
// descriptor 3, goes on in the background, writes its process identifier to a file, and its first process ends when it is
// ready. Of the other arguments it takes none.
const launcher = `#!/bin/sh
while [ $# -gt 0 ]; do
	case $1 in
	--pid) pid=$2; shift ;;
	--fd) fd=$2; shift ;;
	esac
	shift
done
setsid %[1]s nat --fd "$fd" --allow-host tcp:%[2]d >%[3]s/log 2>&1 </dev/null &
echo $! | tee %[3]s/pid >"$pid"
until grep -q msg=ready %[3]s/log; do
	kill -0 $! || exit 1
	sleep 0.05
done
`

// QEMU passes the connection and closes its own copy twice. A back end that has it open a further connection in between (the
// back end's channel) makes the second close hit something else: guest memory, among others. So there is none on a socket that
// was passed. What QEMU opens itself in between depends on its threads: so it may happen now and then, but not each time.
func TestQEMUStartsVringAsItsNetwork(t *testing.T) {
	ctx, dir, tcp := limited(t), shortDir(t), serveTCP(t, labBytes)
	program := filepath.Join(dir, "passt")
	script := fmt.Sprintf(launcher, built.vring, tcp.Port, dir)
	require.NoError(t, os.WriteFile(program, []byte(script), 0o700))
	kind := onQEMU(userland.Forky)
	endLaunched(t, dir)
	l := &lab{t: t, ctx: ctx, kind: kind, tcp: tcp}
	const attempts = 3
	for range attempts {
		l.guest = startQEMU(ctx, t, qemu.Options{
			Userland: kind.userland, Initrd: built.image(kind.userland, false, false),
			Netdev: "passt,vhost-user=on,path=" + program,
		})
		if driverUp(dir) {
			break
		}
		require.NoError(t, l.guest.Kill())
	}
	require.Equal(t, "10.0.2.15/24", l.boot().Address)
	l.transferOut()
	require.NoError(t, l.guest.qemu.QMP.Reset())
	l.boot()
	l.transferOut()

	vring := launchedPID(t, dir)
	require.NoError(t, l.guest.qemu.QMP.Quit())
	require.Eventually(t, func() bool { return !isVring(vring) }, soon, tick, "vring ends with its QEMU")
}

// driverUp waits until the guest's driver is up, and reports whether it is: not if QEMU has closed the guest's memory.
func driverUp(dir string) bool {
	up := false
	assertEventually(func() bool {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		up = strings.Contains(string(log), "guest driver is up")
		return up || strings.Contains(string(log), "is not a regular file")
	})
	return up
}

// launchedPID returns the process identifier of the vring that QEMU has started.
func launchedPID(t *testing.T, dir string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pid"))
	require.NoError(t, err)
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	require.NoError(t, err)
	return pid
}

// isVring reports whether a process is a vring of this run.
func isVring(pid int) bool {
	program, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
	return err == nil && program == built.vring
}

// endLaunched ends what QEMU has started in the background, at the end of a test.
func endLaunched(t *testing.T, dir string) {
	t.Cleanup(func() {
		if pid := launchedPID(t, dir); isVring(pid) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
		if log, err := os.ReadFile(filepath.Join(dir, "log")); err == nil && t.Failed() {
			t.Logf("vring printed:\n%s", log)
		}
	})
}
