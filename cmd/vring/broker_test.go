package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
)

// exists tells whether there is an interface of a name.
func exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// inNamespace moves the test to a network namespace of its own, and with it the processes that it starts. Its thread ends
// with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
}

func TestTheBrokerOutlivesAVringThatIsKilled(t *testing.T) {
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

// brokerOf finds the broker of a vring.
func brokerOf(t *testing.T, vring int) int {
	for _, pid := range process.Children(vring) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), "\x00"+brokerCommand+"\x00") {
			return pid
		}
	}
	t.Fatal("there is no broker")
	return 0
}

// servingProcessOf finds the server of a vring.
func servingProcessOf(t *testing.T, vring int) int {
	broker := brokerOf(t, vring)
	for _, pid := range process.Children(vring) {
		if pid != broker {
			return pid
		}
	}
	t.Fatal("there is no server")
	return 0
}

// requireStatus checks lines of a process's status (proc(5)).
func requireStatus(t *testing.T, pid int, lines ...string) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for _, want := range lines {
		require.Contains(t, string(status), want)
	}
}

func TestTheBrokerIsInASandboxOfItsOwn(t *testing.T) {
	inNamespace(t)
	const none, netAdmin = "0000000000000000", "0000000000001000"
	for name, c := range map[string]struct {
		args []string
		caps string
	}{
		"nat":    {[]string{"nat"}, none},
		"client": {[]string{"stub", "--client"}, none},
		"tap":    {[]string{"tap", "--tap", "tap0"}, netAdmin},
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t)
			cmd := startReady(t, "", append(c.args, "--socket-path", filepath.Join(shortDir(t), "s"))...)
			requireStatus(t, brokerOf(t, cmd.Process.Pid), "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t"+c.caps,
				"CapPrm:\t"+c.caps, "CapBnd:\t"+none, "CapAmb:\t"+none)
			requireStop(t, cmd)
		})
	}
}

// Root's guests are served by nobody, unless there is a user vring. The broker stays root's, whose files it removes.
func TestRootsGuestsAreServedByAnotherUser(t *testing.T) {
	inNamespace(t)
	const nobody, root = "Uid:\t65534\t65534\t65534\t65534", "Uid:\t0\t0\t0\t0"
	if _, err := user.Lookup("vring"); err == nil {
		t.Skip("this host has a user vring, whose number is not known here")
	}
	for name, c := range map[string]struct {
		args   []string
		server string
	}{
		"nat":          {[]string{"nat"}, nobody},
		"stub":         {[]string{"stub"}, nobody},
		"tap":          {[]string{"tap", "--tap", "tap0"}, nobody},
		"tap, no more": {[]string{"tap", "--tap", "tap0", "--reopen"}, root}, // a device that root has made for itself is joined by root only
	} {
		t.Run(name, func(t *testing.T) {
			inNamespace(t)
			socket := filepath.Join(shortDir(t), "s")
			cmd := startReady(t, "", append(c.args, "--socket-path", socket)...)
			requireStatus(t, servingProcessOf(t, cmd.Process.Pid), c.server, "CapPrm:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2")
			requireStatus(t, brokerOf(t, cmd.Process.Pid), root)
			for _, path := range []string{socket, socket + daemon.ControlSuffix} {
				var st unix.Stat_t
				require.NoError(t, unix.Lstat(path, &st))
				require.Equal(t, []uint32{0, 0, 0o600}, []uint32{st.Uid, st.Gid, st.Mode & 0o777}, path)
			}
			out, err := program(t, "ctl", "status", "--control", socket+daemon.ControlSuffix).CombinedOutput()
			require.NoError(t, err, string(out))
			requireStop(t, cmd)
			require.NoFileExists(t, socket)
		})
	}
}

func TestVringOutlivesItsBroker(t *testing.T) {
	cmd := program(t, "nat", "--socket-path", filepath.Join(shortDir(t), "s"))
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	requireLine(t, lines, "msg=ready")
	require.NoError(t, unix.Kill(brokerOf(t, cmd.Process.Pid), unix.SIGKILL))
	requireLine(t, lines, "has ended; the guests are served, but changes of /etc/resolv.conf are not seen, "+
		"the files of sockets are not removed, the control socket accepts nobody until vring is started again")
	require.NoError(t, cmd.Process.Signal(unix.SIGUSR1))
	requireLine(t, lines, "process: ")
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	requireLine(t, lines, "what was changed on the host is not undone")
	state, err := cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, exitError, state.ExitCode(), state.String())
}

func TestTheBrokerRemovesTheSocketOfAVringThatIsKilled(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	cmd := startReady(t, "", "nat", "--socket-path", path)
	require.FileExists(t, path)
	require.NoError(t, cmd.Process.Kill())
	_, err := cmd.Process.Wait()
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		_, err := os.Lstat(path)
		return errors.Is(err, os.ErrNotExist)
	}, time.Minute, 10*time.Millisecond)
}

func TestAResolvConfThatCannotBeReadIsAWarning(t *testing.T) {
	var log bytes.Buffer
	teller{log: slog.New(slog.NewTextHandler(&log, nil)), events: control.NewEvents()}.tell(daemon.ResolversUnreadable{Reason: "no such file"})
	require.Contains(t, log.String(), `level=WARN msg="the host's resolvers cannot be read; until they can, guests' names are not resolved" reason="no such file"`)
}
