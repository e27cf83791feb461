package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

// shows is a program in the place of QEMU: it prints its arguments, whether vring listens, and what vring ctl tells.
const shows = `for a; do
	case $a in
	*path=*) socket=${a#*path=}; socket=${socket%%,*}; test -S "$socket" && echo "vring listens" ;;
	esac
	echo "argument $a"
done
"$VRING" ctl status --control "$socket.ctl" | grep forward
exit 7`

// runProgram is runs of "vring run" in this process, which has no sandbox: what it starts has.
func runProgram(t *testing.T, args ...string) (status int, output string) {
	t.Helper()
	cmd := program(t, append([]string{"run"}, args...)...)
	dir := shortDir(t)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+dir, "VRING="+os.Args[0])
	text, _ := cmd.CombinedOutput() // the status tells
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Empty(t, left, "nothing is left")
	return cmd.ProcessState.ExitCode(), string(text)
}

func TestRunStartsQEMUBehindVringAndHasItsStatus(t *testing.T) {
	status, output := runProgram(t, "-p", "0:80", "sh", "-c", shows, "sh", "-nic", "user,hostfwd=tcp:127.0.0.1:0-:22")
	require.Equal(t, 2, status, "port 0 is refused: %s", output)

	host := fmt.Sprint(porttest.FreePort(t).Port())
	status, output = runProgram(t, "--hostname", "vm", "--", "sh", "-c", shows, "sh", "-nic", "user,hostfwd=tcp:127.0.0.1:"+host+"-:22", "-m", "1G")
	require.Equal(t, 7, status, output)
	for _, want := range []string{
		"vring run: QEMU's user network is now vring nat --forward=tcp:127.0.0.1:" + host + ":22\n",
		"vring run: By QEMU's user network the guest reached every service of the host",
		"vring listens\n", "argument memory-backend-memfd,id=vring-memory,size=1G,share=on\n", "argument virtio-net-pci,netdev=vring-net",
		"tcp:127.0.0.1:" + host + ":",
	} {
		require.Contains(t, output, want)
	}
}

func TestRunPrintsWhatItWouldRun(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", "/tmp")
	status, stdout, stderr := runHere(t, "run", "--print", "-p", "8080:80", "--queues=2", "--lease", "52:54:00:00:00:01=10.0.2.40", "--", "true", "-m", "1G", "-name", "it's")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "vring nat --socket-path=/tmp/vring-run.sock --log-level=warn --forward=8080:80 --queues=2 --lease=52:54:00:00:00:01=10.0.2.40\n"+
		`true -m 1G -name 'it'\''s' -object memory-backend-memfd,id=vring-memory,size=1G,share=on -machine memory-backend=vring-memory`+
		" -chardev socket,id=vring,path=/tmp/vring-run.sock,reconnect-ms=1000 -netdev vhost-user,id=vring-net,chardev=vring,queues=2"+
		" -device virtio-net-pci,netdev=vring-net,mq=on,vectors=0\n", stdout)
}

func TestOptionsBehindTheProgramAreItsOwn(t *testing.T) {
	status, stdout, stderr := runHere(t, "run", "--print", "true", "-p", "x", "--queues", "9")
	require.Equal(t, exitOK, status, stderr)
	require.Contains(t, stdout, "\ntrue -p x --queues 9 -object")
}

func TestARunThatCannotBeIsRefusedBeforeAnythingStarts(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", shortDir(t))
	for want, args := range map[string][]string{
		"no QEMU is given":                                 {},
		"--socket-path: vring run makes the socket":        {"--socket-path", "/tmp/s", "true"},
		"--fd: vring run makes the socket":                 {"--fd", "3", "true"},
		"--client: vring run makes the socket":             {"--client", "true"},
		`"qemu-system-nothing": executable file not found`: {"qemu-system-nothing"},
		"-daemonize":            {"true", "-daemonize"},
		`forward "x"`:           {"-p", "x", "true"},
		"--mtu 9":               {"--mtu", "9", "true"},
		"unknown flag --colour": {"--colour", "true"},
	} {
		status, _, stderr := runHere(t, append([]string{"run"}, args...)...)
		require.Equal(t, exitUsage, status, stderr)
		require.Contains(t, stderr, want)
	}
	left, err := os.ReadDir(os.Getenv("XDG_RUNTIME_DIR"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestAVringThatCannotStartIsToldInsteadOfQEMU(t *testing.T) {
	status, output := runProgram(t, "-p", "192.0.2.1:80:80", "--", "sh", "-c", "echo started")
	require.Equal(t, exitError, status)
	require.Contains(t, output, "192.0.2.1 is not an address of this host")
	require.NotContains(t, output, "started")
}

func TestTheControlSocketOfARunIsFound(t *testing.T) {
	dir := shortDir(t)
	t.Setenv("XDG_RUNTIME_DIR", dir)
	require.NoError(t, os.Mkdir(filepath.Join(dir, runPrefix+"1"), 0o700))
	path := filepath.Join(dir, runPrefix+"1", "vring.sock.ctl")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	require.Contains(t, usualSockets(), path)
}

func TestTheHelpOfRunShowsNoFlagThatItSets(t *testing.T) {
	_, stdout, _ := runHere(t, "run", "--help")
	require.Contains(t, stdout, "--forward")
	for _, name := range madeByRun {
		require.NotContains(t, stdout, "  --"+name)
	}
	require.Contains(t, strings.Join(strings.Fields(stdout), " "), `(default "warn")`)
}
