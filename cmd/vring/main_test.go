package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
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
	if len(os.Args) == 3 && os.Args[1] == fakeGuest {
		os.Exit(beFakeGuest(os.Args[2]))
	}
	if os.Getenv(asProgram) != "" {
		main()
	}
	_ = os.Setenv(asProgram, "1") // for programs that vring starts itself
	os.Exit(m.Run())
}

// program is vring as a process, with the given arguments. A process that hangs is killed.
func program(t *testing.T, args ...string) *exec.Cmd {
	const generous = 5 * time.Minute
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

func TestAllThatIsWrongIsToldAtOnce(t *testing.T) {
	status, _, stderr := runHere(t, "nat", "--mtu", "9", "-p", "x", "-p", "1-5:1-4", "--log-level", "loud", "--dns", "fe80::1%eth0")
	require.Equal(t, exitUsage, status)
	require.Equal(t, "vring: 6 things are wrong:", strings.Split(stderr, "\n")[0])
	for _, want := range []string{"--mtu 9", `forward "x"`, "5 ports of the host cannot lead to 4", "--socket-path", "--log-level", "--dns"} {
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
	require.Regexp(t, `sandbox +all walls stand`, stdout)
	require.Contains(t, stdout, "vring nat --socket-path /tmp/vm0.sock")
	require.Contains(t, stdout, "qemu-system-x86_64 -accel ")
}

func TestTheProcessEndsWithTheStatusOfRun(t *testing.T) {
	require.NoError(t, program(t, "--help").Run())
	var failed *exec.ExitError
	require.ErrorAs(t, program(t, "nat").Run(), &failed)
	require.Equal(t, exitUsage, failed.ExitCode())
	require.ErrorAs(t, program(t, "nat", "--fd", "0").Run(), &failed)
	require.Equal(t, exitError, failed.ExitCode(), "standard input is no socket")
}

// passOnHangups lets programs that the test starts get SIGHUP, also if the test itself was started under nohup.
func passOnHangups(t *testing.T) {
	caught := make(chan os.Signal, 1)
	signal.Notify(caught, syscall.SIGHUP) // a program inherits that a signal is ignored, not that it is caught
	t.Cleanup(func() { signal.Stop(caught) })
}

func TestSignalsEndTheProcessAndLeaveNoSocket(t *testing.T) {
	passOnHangups(t)
	for _, signal := range []os.Signal{syscall.SIGTERM, os.Interrupt, syscall.SIGHUP, syscall.SIGQUIT} {
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
			requireLine(t, lines, "msg=counters uptime=")
			for lines.Scan() { // to the end: Wait closes the pipe
			}
			require.NoError(t, cmd.Wait())
			require.NoFileExists(t, path)
		})
	}
}

func TestUnderNohupAClosedTerminalEndsNothing(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	inner := program(t, "nat", "--socket-path", path)
	cmd := exec.CommandContext(t.Context(), "nohup", inner.Args...)
	cmd.Env = inner.Env
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	requireLine(t, lines, "msg=ready")
	require.NoError(t, cmd.Process.Signal(syscall.SIGHUP))
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
	requireLine(t, lines, "process: ")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	for lines.Scan() {
	}
	require.NoError(t, cmd.Wait())
	require.NoFileExists(t, path)
}

func TestVringGoesOnWhenNobodyReadsItsLogAnyMore(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	cmd := program(t, "nat", "--socket-path", path)
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	cmd.Stderr = writer
	require.NoError(t, cmd.Start())
	require.NoError(t, writer.Close())
	requireLine(t, bufio.NewScanner(reader), "msg=ready")
	require.NoError(t, reader.Close())
	for range 3 {
		require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1)) // each prints a status
		time.Sleep(20 * time.Millisecond)
	}
	c, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, c.Close())
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	require.NoError(t, cmd.Wait(), "it ends by itself, not by SIGPIPE")
	require.NoFileExists(t, path)
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
	requireLine(t, lines, "  thread on any processor: ")
	requireLine(t, lines, "guest 10.0.2.16: 0 flows")
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	requireLine(t, lines, "msg=counters guest=10.0.2.1")
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
