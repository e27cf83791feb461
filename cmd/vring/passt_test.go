package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
)

// launcher starts vring as passt is started: by that name, with pipes of its own.
type launcher struct {
	t      *testing.T
	dir    string
	stderr bytes.Buffer
	cmd    *exec.Cmd
}

func newLauncher(t *testing.T, args ...string) *launcher {
	l := &launcher{t: t, dir: shortDir(t)}
	name := filepath.Join(l.dir, "passt")
	require.NoError(t, os.Symlink(os.Args[0], name))
	for i, a := range args {
		args[i] = strings.ReplaceAll(a, "DIR", l.dir)
	}
	const generous = 2 * time.Minute
	ctx, cancel := context.WithTimeout(t.Context(), generous)
	t.Cleanup(cancel)
	l.cmd = exec.CommandContext(ctx, name, args...)
	l.cmd.Env = append(os.Environ(), asProgram+"=1")
	l.cmd.Stderr = &l.stderr
	t.Cleanup(func() {
		if pid, err := l.pid(); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	return l
}

// run waits for the end of the first process, and of its output: nobody else may have that open.
func (l *launcher) run() (status int) {
	l.t.Helper()
	err := l.cmd.Run()
	if exit := new(exec.ExitError); errors.As(err, &exit) {
		return exit.ExitCode()
	}
	require.NoError(l.t, err, l.stderr.String())
	return 0
}

// pid is the number in the file of --pid.
func (l *launcher) pid() (int, error) {
	text, err := os.ReadFile(filepath.Join(l.dir, "pid"))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSuffix(string(text), "\n"))
}

// serving is the process that serves.
func (l *launcher) serving() int {
	l.t.Helper()
	pid, err := l.pid()
	require.NoError(l.t, err, l.stderr.String())
	require.NoError(l.t, syscall.Kill(pid, 0), "it runs")
	return pid
}

// requireEnd waits until a process has ended.
func requireEnd(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || bytes.Contains(stat, []byte(") Z ")) // nobody waits for it here
	}, 2*time.Minute, 10*time.Millisecond)
}

func TestPasstIsReadyWhenItsFirstProcessEnds(t *testing.T) {
	l := newLauncher(t, "--vhost-user", "-s", "DIR/s", "--pid", "DIR/pid", "-t", "127.0.0.1/0x:1")
	require.Equal(t, exitError, l.run(), "a wrong SPEC")
	require.Equal(t, "passt: Invalid port specifier '0x:1'\n", l.stderr.String())

	l = newLauncher(t, "--vhost-user", "-s", "DIR/s", "--pid", "DIR/pid", "-a", "10.5.0.2", "-n", "24", "-g", "10.5.0.1")
	leak, leaked, err := os.Pipe()
	require.NoError(t, err)
	l.cmd.ExtraFiles = []*os.File{nil, nil, nil, nil, leaked} // as descriptor 7, which vring itself does not use
	require.Equal(t, 0, l.run())
	require.NoError(t, leaked.Close())
	pid := l.serving()
	conn, err := net.Dial("unix", filepath.Join(l.dir, "s"))
	require.NoError(t, err, "it listens")
	require.NoError(t, conn.Close())
	for _, line := range []string{"    assign: 10.5.0.2\n", "    mask: 255.255.255.0\n", "    router: 10.5.0.1\n", "loopback at 10.5.0.1; --no-map-gw closes them\n"} {
		require.Contains(t, l.stderr.String(), line)
	}
	require.NoError(t, leak.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = leak.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "descriptors that nobody meant to pass are closed")
	for fd := range 3 {
		to, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, fd))
		require.NoError(t, err)
		require.True(t, to == os.DevNull || fd == 2 && strings.HasPrefix(to, "pipe:"), "%d is %s", fd, to)
	}
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	requireEnd(t, pid)
}

// QEMU's threads block signals, and what they start inherits that.
func TestPasstEndsBySIGTERMThatWasBlocked(t *testing.T) {
	l := newLauncher(t, "--vhost-user", "-s", "DIR/s", "--pid", "DIR/pid", "-q")
	started := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with the goroutine
		var all unix.Sigset_t
		for i := range all.Val {
			all.Val[i] = ^uint64(0)
		}
		err := unix.PthreadSigmask(unix.SIG_BLOCK, &all, nil)
		if err == nil {
			err = l.cmd.Start()
		}
		started <- err
	}()
	require.NoError(t, <-started)
	require.NoError(t, l.cmd.Wait())
	pid := l.serving()
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	requireEnd(t, pid)
}

func TestPasstEndsWithTheFrontEndIfItServesOne(t *testing.T) {
	l := newLauncher(t, "--vhost-user", "--one-off", "--socket", "DIR/s", "-P", "DIR/pid", "--quiet")
	require.Equal(t, 0, l.run())
	require.NotContains(t, l.stderr.String(), "assign:")
	pid := l.serving()
	conn, err := frontend.Dial(filepath.Join(l.dir, "s"))
	require.NoError(t, err)
	_, err = conn.GetFeatures()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	requireEnd(t, pid)
}

// A connected socket is passed: there is no back-end channel, for with that QEMU would lose the guest's memory.
func TestPasstServesAConnectionThatItInherits(t *testing.T) {
	l := newLauncher(t, "--vhost-user", "--pid", "DIR/pid", "--fd", "5")
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	theirs := os.NewFile(uintptr(ends[1]), "front end")
	l.cmd.ExtraFiles = []*os.File{nil, nil, theirs}
	require.Equal(t, 0, l.run())
	require.NoError(t, theirs.Close())
	pid := l.serving()
	conn, err := frontend.NewConn(ends[0])
	require.NoError(t, err)
	features, err := conn.GetProtocolFeatures()
	require.NoError(t, err)
	require.NotZero(t, features)
	require.Zero(t, features&wire.ProtocolBackendReq)
	require.NoError(t, conn.Close())
	requireEnd(t, pid)
}

func TestPasstTellsInOneLineWhyItDoesNotStart(t *testing.T) {
	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	port := strconv.Itoa(taken.Addr().(*net.TCPAddr).Port)
	for want, args := range map[string][]string{
		"has the port":                        {"-s", "DIR/s", "-P", "DIR/pid", "-q", "-t", "127.0.0.1/" + port},
		"Couldn't open PID file /no/such/dir": {"-s", "DIR/s", "-P", "/no/such/dir/pid", "-q"},
		"Invalid --fd: 77 is not open":        {"-F", "77", "-q"},
		"-T is for pasta mode only":           {"-s", "DIR/s", "-T", "80"},
		"an option of passt's sets this":      {"-s", "DIR/s", "-q", "--vring-option", "mtu=1400"},
		"--vring-option: ":                    {"-s", "DIR/s", "-q", "--vring-option", "mtuu=1400"},
		"Couldn't open pcap file /no/such/p":  {"-s", "DIR/s", "-q", "-p", "/no/such/p"},
		"want 576 to 65520":                   {"-s", "DIR/s", "-q", "-m", "100"},
	} {
		l := newLauncher(t, args...)
		require.Equal(t, exitError, l.run(), want)
		var faults []string
		for line := range strings.Lines(l.stderr.String()) {
			if !strings.HasPrefix(line, "vring: ") { // what is different, which is told at the start
				faults = append(faults, line)
			}
		}
		require.Contains(t, strings.Join(faults, ""), want)
		require.Len(t, faults, 1, l.stderr.String())
		_, err := l.pid()
		require.Error(t, err, "nobody serves")
	}
}

// The log of the process in the background is in the file, and a fault of the start is told as well where it was started.
func TestPasstLogsToAFile(t *testing.T) {
	l := newLauncher(t, "--vhost-user", "-s", "DIR/s", "-P", "DIR/pid", "--log-file", "DIR/log")
	require.Equal(t, 0, l.run())
	log, err := os.ReadFile(filepath.Join(l.dir, "log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "msg=ready")
	require.NotContains(t, l.stderr.String(), "msg=ready")
	pid := l.serving()
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	requireEnd(t, pid)

	taken, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	l = newLauncher(t, "-s", "DIR/s", "-q", "--log-file", "DIR/log", "-t", "127.0.0.1/"+strconv.Itoa(taken.Addr().(*net.TCPAddr).Port))
	require.Equal(t, exitError, l.run())
	require.Contains(t, l.stderr.String(), "has the port")
}

func TestPasstAnswersWithoutServing(t *testing.T) {
	for args, want := range map[string]string{"--version": "passt ", "--print-capabilities": `{"type": "net"}`, "-h": "Usage: passt "} {
		status, stdout, stderr := runHere(t, append([]string{"passt"}, strings.Fields(args)...)...)
		require.Equal(t, exitOK, status, stderr)
		require.True(t, strings.HasPrefix(stdout, want), stdout)
	}
	status, _, stderr := runHere(t, "passt", "--no-such")
	require.Equal(t, exitError, status)
	require.Contains(t, stderr, "passt: unrecognized option '--no-such'\nUsage: passt ")
}

func TestOptionsOfVringsOwnAreAddedToPassts(t *testing.T) {
	l := newLauncher(t, "-f", "-s", "DIR/s", "--vring-option", "deny=192.168.0.0/16", "--vring-option", "restrict", "--vring-option", "sandbox=off", "--vring-option", "forward=127.0.0.1%none7:1:1")
	require.Equal(t, exitError, l.run())
	require.Contains(t, l.stderr.String(), "the host has no interface none7", "the forward is tried")
}

// The first frame is the first that the front end has sent, whole, though nothing had asked for a capture when it came.
func TestPasstWritesTheFramesOfItsGuestToAFile(t *testing.T) {
	l := newLauncher(t, "-s", "DIR/s", "-P", "DIR/pid", "-q", "-4", "-a", "10.5.0.2", "-n", "24", "-g", "10.5.0.1", "-p", "DIR/pcap")
	require.Equal(t, 0, l.run(), l.stderr.String())
	pid := l.serving()
	conn, err := net.Dial("unix", filepath.Join(l.dir, "s"))
	require.NoError(t, err)
	defer conn.Close()
	question, err := hex.DecodeString("ffffffffffff525400123456" + "0806" + "0001080006040001" + "525400123456" + "0a050002" + "000000000000" + "0a050001") // ARP
	require.NoError(t, err)
	_, err = conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(question))), question...))
	require.NoError(t, err)
	answer := make([]byte, 4)
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	answer = make([]byte, binary.BigEndian.Uint32(answer))
	_, err = io.ReadFull(conn, answer)
	require.NoError(t, err)
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	requireEnd(t, pid)
	file, err := os.ReadFile(filepath.Join(l.dir, "pcap"))
	require.NoError(t, err)
	const header, each = 24, 16
	require.Greater(t, len(file), header+each)
	require.Equal(t, question, file[header+each:][:len(question)])
	require.True(t, bytes.HasSuffix(file, answer), "the last one is the last that the front end got")
}

func TestPasstServesAsTheUserThatIsNamed(t *testing.T) {
	l := newLauncher(t, "-s", "DIR/s", "-P", "DIR/pid", "-q", "--runas", "4321:4322")
	if os.Geteuid() != 0 {
		require.Equal(t, exitError, l.run())
		require.Equal(t, "passt: Can't set GID to 4322: operation not permitted\n", l.stderr.String())
		return
	}
	require.Equal(t, 0, l.run(), l.stderr.String())
	pid := l.serving()
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", pid))
	require.NoError(t, err)
	var who []string
	for _, child := range strings.Fields(string(children)) {
		status, err := os.ReadFile("/proc/" + child + "/status")
		require.NoError(t, err)
		for line := range strings.Lines(string(status)) {
			if strings.HasPrefix(line, "Uid:") || strings.HasPrefix(line, "Gid:") {
				who = append(who, strings.Join(strings.Fields(line), " "))
			}
		}
	}
	require.Contains(t, who, "Uid: 4321 4321 4321 4321")
	require.Contains(t, who, "Gid: 4322 4322 4322 4322")
	require.NoError(t, syscall.Kill(pid, syscall.SIGTERM))
	requireEnd(t, pid)

	l = newLauncher(t, "-s", "DIR/s", "-q", "--runas", "4321", "--vring-option", "sandbox=off")
	require.Equal(t, exitError, l.run())
	require.Contains(t, l.stderr.String(), "--runas 4321: vring becomes another user in its sandbox only")
}
