package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/tap"
)

// inNamespace moves the test to a network namespace of its own, and with it the processes that it starts. Its thread ends
// with the test.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("a network namespace for the test: %v; these tests need root", err)
	}
}

// exists tells whether there is an interface of a name.
func exists(name string) bool {
	_, err := netlink.LinkByName(name)
	return err == nil
}

// mtu returns that of an interface.
func mtu(t *testing.T, name string) int {
	link, err := netlink.LinkByName(name)
	require.NoError(t, err)
	return link.Attrs().MTU
}

// startTestKeeper starts a keeper that ends with the test. It is not in a hurry.
func startTestKeeper(t *testing.T, start keeperStart) *keeper {
	k := new(keeper)
	require.NoError(t, k.start(slog.New(slog.DiscardHandler), start))
	k.patience = time.Minute // on a busy machine
	t.Cleanup(func() { _ = k.conn.Close() })
	return k
}

// openForKeeper opens a TAP device with its keeper.
func openForKeeper(t *testing.T, cfg tap.Config) (*tap.Device, *keeper) {
	inNamespace(t)
	device, err := tap.Open(cfg)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, device.Close()) })
	keeper := startTestKeeper(t, keeperStart{Configs: []tap.Config{cfg}, Changes: []tap.Changes{device.Changes()}})
	device.Administrate(keeper)
	return device, keeper
}

func TestTheKeeperChangesTheDeviceAndUndoesItAll(t *testing.T) {
	device, keeper := openForKeeper(t, tap.Config{Name: "tap0", Queues: 1, Bridge: "br0"})
	require.NoError(t, device.Ports()[0].SetMTU(1400))
	require.Equal(t, 1400, mtu(t, "tap0"))
	require.ErrorContains(t, keeper.SetMTU("tap0", 17), "MTU 17 is not between")
	require.ErrorContains(t, keeper.SetMTU("lo", 1400), `"lo" is not a device that was named at the start`)
	require.NoError(t, keeper.Connect("tap0"))
	require.NoError(t, device.Close())
	require.NoError(t, keeper.undo())
	require.False(t, exists("br0"))
}

func TestTheKeeperOutlivesAVringThatIsKilled(t *testing.T) {
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

// What is wrong with the file is told once, and that the keeper reads it no more is another matter.
func TestAResolvConfThatCannotBeReadIsToldOnce(t *testing.T) {
	for name, started := range map[string]bool{"by the keeper": true, "in this process": false} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			path := filepath.Join(t.TempDir(), "resolv.conf")
			k := new(keeper)
			if started {
				k = startTestKeeper(t, keeperStart{Read: path})
			}
			k.log = slog.New(slog.NewTextHandler(&log, nil))
			for range 3 {
				text, err := k.readFile(path)
				require.NoError(t, err)
				require.Empty(t, text)
			}
			require.Equal(t, 1, strings.Count(log.String(), "the host's resolvers cannot be read"))
			require.Contains(t, log.String(), "level=WARN")
			require.Contains(t, log.String(), "no such file or directory")
			if started {
				require.NoError(t, k.undo())
				_, err := k.readFile(path)
				require.Error(t, err)
			}
		})
	}
}

func TestTheKeeperDialsWhatWasNamedAndNothingElse(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	k := startTestKeeper(t, keeperStart{Dial: []string{path}})
	_, err := k.dial(t.Context(), path)
	require.ErrorContains(t, err, "no such file or directory")
	listener, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer listener.Close()
	conn, err := k.dial(t.Context(), path)
	require.NoError(t, err)
	defer conn.Close()
	accepted, err := listener.Accept()
	require.NoError(t, err)
	defer accepted.Close()
	_, err = accepted.Write([]byte("x"))
	require.NoError(t, err)
	var got [1]byte
	_, err = io.ReadFull(conn, got[:])
	require.NoError(t, err)
	_, err = k.ask(keeperRequest{Verb: verbDial, Socket: 1})
	require.ErrorContains(t, err, "nothing like that was named at the start")
	_, err = k.ask(keeperRequest{Verb: verbRead})
	require.ErrorContains(t, err, "nothing like that was named at the start")
}

// It removes the sockets that it was told of, and neither another file that has taken the place of one nor what lies beside.
func TestTheKeeperRemovesTheSocketsThatWereMade(t *testing.T) {
	dir := shortDir(t)
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, name := range []string{"made", "replaced"} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: at(name), Net: "unix"})
		require.NoError(t, err)
		l.SetUnlinkOnClose(false)
		require.NoError(t, l.Close())
	}
	require.NoError(t, os.WriteFile(at("beside"), nil, 0o600))
	k := startTestKeeper(t, keeperStart{Remove: []string{at("made"), at("replaced")}})
	require.NoError(t, os.Remove(at("replaced")))
	require.NoError(t, os.WriteFile(at("replaced"), nil, 0o600))
	require.NoError(t, k.undo())
	require.NoFileExists(t, at("made"))
	require.FileExists(t, at("replaced"))
	require.FileExists(t, at("beside"))
}

// All that it can do is of this process's liking, so it takes one short message at a time, without descriptors, and ends
// when it does not understand one.
func TestTheKeeperEndsWithARequestThatIsNone(t *testing.T) {
	for name, request := range map[string]string{
		"too long": `{"Verb":"read"}` + strings.Repeat(" ", maxRequest), "not JSON": "mtu 1400", "cut": `{"Verb":`,
	} {
		t.Run(name, func(t *testing.T) {
			k := startTestKeeper(t, keeperStart{Read: "/etc/hostname"})
			_, err := k.conn.Write([]byte(request))
			require.NoError(t, err)
			answer, err := k.hear(time.Minute)
			require.NoError(t, err, "the last answer")
			require.Empty(t, answer.Text)
			_, err = k.hear(time.Minute)
			require.ErrorContains(t, err, "it has ended")
		})
	}
}

func TestTheKeeperKeepsNoDescriptorThatItIsSent(t *testing.T) {
	k := startTestKeeper(t, keeperStart{Read: "/etc/hostname"})
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	for range 100 {
		_, _, err = k.conn.WriteMsgUnix([]byte(`{"Verb":"read"}`), unix.UnixRights(int(w.Fd())), nil)
		require.NoError(t, err)
		_, err = k.hear(time.Minute)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	require.NoError(t, r.SetReadDeadline(time.Now().Add(time.Minute)))
	_, err = r.Read(make([]byte, 1))
	require.ErrorIs(t, err, io.EOF, "somebody has the other end open")
}

// keeperOf finds the keeper of a vring.
func keeperOf(t *testing.T, vring int) int {
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", vring, vring))
	require.NoError(t, err)
	for _, task := range taskChildren(t, vring) {
		children = append(children, task...)
	}
	for _, text := range strings.Fields(string(children)) {
		line, err := os.ReadFile("/proc/" + text + "/cmdline")
		if err == nil && strings.Contains(string(line), "\x00"+keeperCommand+"\x00") {
			pid, err := strconv.Atoi(text)
			require.NoError(t, err)
			return pid
		}
	}
	t.Fatal("there is no keeper")
	return 0
}

// taskChildren are the lists of children of a process's threads.
func taskChildren(t *testing.T, pid int) (lists [][]byte) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	require.NoError(t, err)
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			lists = append(lists, append(text, ' '))
		}
	}
	return lists
}

// requireStatus checks lines of a process's status (proc(5)).
func requireStatus(t *testing.T, pid int, lines ...string) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for _, want := range lines {
		require.Contains(t, string(status), want)
	}
}

func TestTheKeeperIsInASandboxOfItsOwn(t *testing.T) {
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
			requireStatus(t, keeperOf(t, cmd.Process.Pid), "NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t"+c.caps,
				"CapPrm:\t"+c.caps, "CapBnd:\t"+none, "CapAmb:\t"+none)
			requireStop(t, cmd)
		})
	}
}

func TestVringOutlivesItsKeeper(t *testing.T) {
	cmd := program(t, "nat", "--socket-path", filepath.Join(shortDir(t), "s"))
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	requireLine(t, lines, "msg=ready")
	require.NoError(t, unix.Kill(keeperOf(t, cmd.Process.Pid), unix.SIGKILL))
	requireLine(t, lines, "has ended; the guests are served, but changes of /etc/resolv.conf are not seen, "+
		"the files of sockets are not removed until vring is started again")
	require.NoError(t, cmd.Process.Signal(unix.SIGUSR1))
	requireLine(t, lines, "process: ")
	require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
	requireLine(t, lines, "what was changed on the host is not undone")
	state, err := cmd.Process.Wait()
	require.NoError(t, err)
	require.Equal(t, exitError, state.ExitCode(), state.String())
}

func TestTheKeeperRemovesTheSocketOfAVringThatIsKilled(t *testing.T) {
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

func TestWhereNothingIsToBeDoneThereIsNoKeeper(t *testing.T) {
	require.True(t, new(keeperStart).empty())
	var f serveFlags
	f.sandbox = "on"
	require.NoError(t, f.startKeeper(nil), "an inherited socket")
	require.False(t, f.keeper.started())
	f.sandbox, f.socketPaths, f.duties.Read = "off", []string{"/s"}, "/etc/resolv.conf"
	require.NoError(t, f.startKeeper(nil))
	require.False(t, f.keeper.started())
	require.NoError(t, f.keeper.undo())
}

func TestAKeeperThatDoesNotAnswerIsNotWaitedFor(t *testing.T) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(pair[1])
	f := os.NewFile(uintptr(pair[0]), "keeper")
	defer f.Close()
	conn, err := net.FileConn(f)
	require.NoError(t, err)
	defer conn.Close()
	k := &keeper{patience: 500 * time.Millisecond, log: slog.New(slog.DiscardHandler), conn: conn.(*net.UnixConn), answers: make(chan keeperAnswer, 1)}
	go k.listen(k.conn)
	require.ErrorContains(t, k.SetMTU("tap0", 1400), "does not answer")
	require.ErrorIs(t, k.Connect("tap0"), os.ErrDeadlineExceeded, "nor is it asked again")
}

func TestTheKeeperDoesNothingWithoutABeginning(t *testing.T) {
	for _, input := range []string{"", "{", "mtu 1400\n"} {
		require.Error(t, keep(strings.NewReader(input), nil))
	}
	output, err := program(t, keeperCommand).CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(output), "keeper is started by vring itself")
}
