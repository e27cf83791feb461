package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// asProgram is set in the environment of a child that is to be vring instead of the tests.
const asProgram = "VRING_TEST_AS_PROGRAM"

// init keeps the main thread to the main goroutine. A test that moves its thread to a network namespace must not get that
// one: it never ends, and /proc/net would be the namespace's.
func init() { runtime.LockOSThread() }

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	_ = os.Setenv(asProgram, "1") // for programs that vring starts itself
	os.Exit(m.Run())
}

// program is vring as a process, with the given arguments. A process that hangs is killed.
func program(t *testing.T, args ...string) *exec.Cmd {
	const generous = time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), asProgram+"=1")
	return cmd
}

// stopped is a context that has ended: a command that gets so far as to serve ends at once.
func stopped(t *testing.T) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx
}

// runHere runs vring in this process, until it would serve. What gets so far needs --sandbox=off: there is no way out of
// a sandbox.
func runHere(t *testing.T, args ...string) (status int, stdout, stderr string) {
	var out, err bytes.Buffer
	status = run(stopped(t), args, &out, &err)
	return status, out.String(), err.String()
}

// shortDir makes a directory whose path leaves room for a socket's name, which testing's own may not.
func shortDir(t *testing.T) string {
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

func TestWrongUseIsToldInOneLineAndByTheExitStatus(t *testing.T) {
	sock := filepath.Join(shortDir(t), "s")
	file := filepath.Join(filepath.Dir(sock), "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	alive, err := net.Listen("unix", filepath.Join(filepath.Dir(sock), "alive"))
	require.NoError(t, err)
	defer alive.Close()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"unknown command":    {[]string{"fly"}, `unknown command "fly" for "vring"`},
		"unknown flag":       {[]string{"nat", "--speed"}, "unknown flag: --speed"},
		"argument":           {[]string{"nat", "10.0.2.0/24"}, `unknown command "10.0.2.0/24" for "vring nat"`},
		"no socket":          {[]string{"nat"}, "one of --socket-path and --fd is needed"},
		"two sockets":        {[]string{"nat", "--socket-path", sock, "--fd", "3"}, "--socket-path and --fd exclude each other"},
		"client of nobody":   {[]string{"nat", "--client", "--fd", "3"}, "--client needs --socket-path"},
		"path too long":      {[]string{"nat", "--socket-path", sock + strings.Repeat("x", 108)}, "unix sockets allow 107"},
		"no such directory":  {[]string{"nat", "--socket-path", sock + "/a/b"}, "there is no directory " + sock + "/a"},
		"path of a file":     {[]string{"nat", "--socket-path", file}, "exists and is not a socket"},
		"path in use":        {[]string{"nat", "--socket-path", alive.Addr().String()}, "is in use by another process"},
		"log level":          {[]string{"nat", "--socket-path", sock, "--log-level", "loud"}, `--log-level "loud": want debug`},
		"log format":         {[]string{"stub", "--socket-path", sock, "--log-format", "xml"}, `--log-format "xml": want text or json`},
		"sandbox":            {[]string{"nat", "--socket-path", sock, "--sandbox=maybe"}, `--sandbox "maybe": want on, strict, log or off`},
		"stub's mode":        {[]string{"stub", "--socket-path", sock, "--mode", "fast"}, `--mode "fast": want null, echo or source`},
		"source's frames":    {[]string{"stub", "--socket-path", sock, "--mode", "source", "--size", "10"}, `--mode source: frames of 10 bytes: want 60 to`},
		"forward":            {[]string{"nat", "--socket-path", sock, "-p", "80"}, `forward "80": a host port and a guest port are needed`},
		"forward to nobody":  {[]string{"nat", "--socket-path", sock, "-p", "1:10.0.3.1:1"}, "10.0.3.1 is no guest's address in the network 10.0.2.0/24"},
		"forwards overlap":   {[]string{"nat", "--socket-path", sock, "-p", "70-79:1-10", "-p", "0.0.0.0:75:9"}, "both want port 75 of the host"},
		"forward's socket":   {[]string{"nat", "--socket-path", sock, "-p", "unix:" + alive.Addr().String() + ":80"}, "is in use by another process"},
		"its path too long":  {[]string{"nat", "--socket-path", sock, "-p", "unix:/" + strings.Repeat("x", 108) + ":80"}, "unix sockets allow 107"},
		"its path is a file": {[]string{"nat", "--socket-path", sock, "-p", "unix:" + file + ":80"}, "exists and is not a socket"},
		"it is taken twice":  {[]string{"nat", "--socket-path", sock, "-p", "unix:/a:80", "-p", "unix:/a:81"}, "both want the socket /a"},
		"host service":       {[]string{"nat", "--socket-path", sock, "--allow-host", "x"}, `host service "x"`},
		"rule":               {[]string{"nat", "--socket-path", sock, "--deny", "192.0.2.0/24:0"}, `rule "192.0.2.0/24:0": "0" is not a port`},
		"rule for the host":  {[]string{"nat", "--socket-path", sock, "--allow", "127.0.0.1"}, "name the service by --allow-host"},
		"network":            {[]string{"nat", "--socket-path", sock, "--network", "ten"}, `--network "ten": want an address and a length`},
		"network too small":  {[]string{"nat", "--socket-path", sock, "--network", "10.0.2.0/28"}, "between /8 and /27"},
		"MTU too small":      {[]string{"nat", "--socket-path", sock, "--mtu", "575"}, "MTU 575: it must be between 576 and 65520"},
		"MTU too large":      {[]string{"nat", "--socket-path", sock, "--mtu", "65521"}, "MTU 65521: it must be between 576 and 65520"},
		"resolver":           {[]string{"nat", "--socket-path", sock, "--dns", "dns.example"}, `--dns "dns.example": want ADDRESS[:PORT]`},
		"resolver of a link": {[]string{"nat", "--socket-path", sock, "--dns", "fe80::1%eth0"}, "good on one link only"},
		"address of nobody":  {[]string{"nat", "--socket-path", sock, "-p", "192.0.2.1:8080:80"}, "192.0.2.1 is not an address of this host"},
		"flag without value": {[]string{"nat", "--mtu", "big"}, `invalid argument "big" for "--mtu" flag`},
	} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := runHere(t, c.args...)
			require.Equal(t, exitUsage, status, stderr)
			require.Empty(t, stdout)
			lines := strings.Split(strings.TrimSpace(stderr), "\n")
			require.Len(t, lines, 2, "one line, and where to read more: %s", stderr)
			require.Contains(t, lines[0], c.want)
			require.Regexp(t, `^Try 'vring.* --help'\.$`, lines[1])
		})
	}
}

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	status, _, stderr := runHere(t, "nat", "--mtu", "9", "-p", "x", "-p", "1-5:1-4", "--log-level", "loud", "--dns", "fe80::1%eth0")
	require.Equal(t, exitUsage, status)
	require.Equal(t, "vring: 6 things are wrong:", strings.Split(stderr, "\n")[0])
	for _, want := range []string{"MTU 9", `forward "x"`, "5 ports of the host cannot lead to 4", "--socket-path", "--log-level", "resolver"} {
		require.Contains(t, stderr, want)
	}
}

func TestWhoHasAPortIsTold(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", ":0") // of both families
	require.NoError(t, err)
	defer udp.Close()
	me := fmt.Sprintf("(process %d) has the port", os.Getpid())

	_, tcpPort, _ := net.SplitHostPort(tcp.Addr().String())
	_, udpPort, _ := net.SplitHostPort(udp.LocalAddr().String())
	status, _, stderr := runHere(t, "nat", "--socket-path", filepath.Join(shortDir(t), "s"),
		"-p", tcpPort+":80", "-p", "udp:"+udpPort+":53")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "forward of tcp 127.0.0.1:"+tcpPort)
	require.Contains(t, stderr, "forward of udp 127.0.0.1:"+udpPort)
	require.Equal(t, 2, strings.Count(stderr, me), stderr)
}

func TestASocketOfADeadProcessIsReplaced(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, l.Close())
	require.FileExists(t, path)

	status, _, stderr := runHere(t, "nat", "--socket-path", path, "--sandbox=off")
	require.Equal(t, exitOK, status, stderr)
	require.NoFileExists(t, path)
}

func TestHelpAndCapabilitiesGoToStandardOutput(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"nat", "--help"}, {"help", "stub"}} {
		status, stdout, stderr := runHere(t, args...)
		require.Equal(t, exitOK, status)
		require.Contains(t, stdout, "Usage:")
		require.Empty(t, stderr)
	}
	for _, args := range [][]string{{"--print-capabilities"}, {"nat", "--print-capabilities"}} {
		status, stdout, _ := runHere(t, args...)
		require.Equal(t, exitOK, status)
		require.JSONEq(t, `{"type": "net", "features": []}`, stdout)
	}
}

func TestDoctorPrintsCommandsToBeginWith(t *testing.T) {
	_, stdout, _ := runHere(t, "doctor")
	require.Contains(t, stdout, "kernel")
	require.Contains(t, stdout, "vring nat --socket-path /tmp/vm0.sock")
	require.Contains(t, stdout, "qemu-system-x86_64 -accel ")
}

func TestEachCommandHasAManualPage(t *testing.T) {
	dir := t.TempDir()
	status, _, stderr := runHere(t, "man", dir)
	require.Equal(t, exitOK, status, stderr)
	for _, name := range []string{"vring", "vring-nat", "vring-stub", "vring-doctor"} {
		page, err := os.ReadFile(filepath.Join(dir, name+".1"))
		require.NoError(t, err)
		require.Contains(t, string(page), ".SH SYNOPSIS")
	}
	status, _, stderr = runHere(t, "man")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "accepts 1 arg(s), received 0")
}

func TestShellsCanComplete(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, stdout, _ := runHere(t, "completion", shell)
		require.Equal(t, exitOK, status)
		require.Contains(t, stdout, "vring")
	}
	_, stdout, _ := runHere(t, "__complete", "nat", "--socket")
	require.Contains(t, stdout, "--socket-path")
}

func TestTheProcessEndsWithTheStatusOfRun(t *testing.T) {
	require.NoError(t, program(t, "--help").Run())
	var failed *exec.ExitError
	require.ErrorAs(t, program(t, "nat").Run(), &failed)
	require.Equal(t, exitUsage, failed.ExitCode())
	require.ErrorAs(t, program(t, "nat", "--fd", "0").Run(), &failed)
	require.Equal(t, exitError, failed.ExitCode(), "standard input is no socket")
}

func TestSignalsEndTheProcessAndLeaveNoSocket(t *testing.T) {
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(signal.String(), func(t *testing.T) {
			path := filepath.Join(shortDir(t), "s")
			cmd := program(t, "nat", "--socket-path", path)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(stderr)
			requireLine(t, lines, "msg=ready")
			require.FileExists(t, path)

			require.NoError(t, cmd.Process.Signal(signal))
			for lines.Scan() { // to the end: Wait closes the pipe
			}
			require.NoError(t, cmd.Wait())
			require.NoFileExists(t, path)
		})
	}
}

func TestTheServiceManagerIsTold(t *testing.T) {
	dir := shortDir(t)
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"})
	require.NoError(t, err)
	defer manager.Close()
	require.NoError(t, manager.SetReadDeadline(time.Now().Add(time.Minute)))
	told := func() string {
		buf := make([]byte, 100)
		n, err := manager.Read(buf)
		require.NoError(t, err)
		return string(buf[:n])
	}

	cmd := program(t, "nat", "--socket-path", filepath.Join(dir, "s"))
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET="+filepath.Join(dir, "notify"))
	require.NoError(t, cmd.Start())
	require.Equal(t, "READY=1", told())
	require.FileExists(t, filepath.Join(dir, "s"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.Equal(t, "STOPPING=1", told())
	require.NoError(t, cmd.Wait())
}

func TestStatusIsPrintedOnSignal(t *testing.T) {
	dir := shortDir(t)
	cmd := program(t, "nat", "--socket-path", filepath.Join(dir, "a"), "--socket-path", filepath.Join(dir, "b"))
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	requireLine(t, lines, "msg=ready socket="+filepath.Join(dir, "b"))
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
	requireLine(t, lines, "guest 10.0.2.15: 0 flows")
	requireLine(t, lines, "frames_in")
	requireLine(t, lines, "guest 10.0.2.16: 0 flows")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	requireLine(t, lines, "msg=counted guest=10.0.2.1")
	for lines.Scan() { // to the end: Wait closes the pipe
	}
	require.NoError(t, cmd.Wait())
}

// requireLine reads lines until one contains text.
func requireLine(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	require.Fail(t, "vring ended without a line with "+text)
}
