package supervisor

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/process"
)

// soon is the limit for what takes a second at most.
const soon = time.Minute

// Landlock and seccomp are the other walls. Without them, what namespaces keep is seen.
const noOtherWalls = "LACKS=landlock_create_ruleset seccomp"

func TestAnEmptyRootAndNamespacesKeepFilesAndProcessesByThemselves(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(file, []byte("text"), 0o644))
	for name, c := range map[string]struct{ action, argument, want string }{
		"a file":                 {"read", file, "no such file or directory"},
		"the program":            {"read", program, "no such file or directory"},
		"a device":               {"read", "/dev/null", "no such file or directory"},
		"processes":              {"read", "/proc/self/status", "no such file or directory"},
		"a way up":               {"read", "/../../etc/passwd", "no such file or directory"},
		"a new file":             {"create", "/file", "read-only file system"},
		"the root directory":     {"list", "/", "0 entries\ndone"},
		"the working directory":  {"list", ".", "0 entries\ndone"},
		"a file system":          {"mount", "", "operation not permitted"},
		"a process of the host":  {"signal", strconv.Itoa(os.Getpid()), "no such process"},
		"all processes":          {"signal all", "", "no such process"},
		"the parent":             {"see parent", "", "parent 0\n"},
		"a socket that has path": {"unix socket", file, "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			output, _ := do(t, c.action, c.argument, noOtherWalls)
			require.Contains(t, output, c.want)
		})
	}
}

// The list of system calls keeps the rest, be there namespaces or not. What it does not allow ends the process, although that is
// the first one of its namespace.
func TestWhatNamespacesDoNotKeepEndsTheServer(t *testing.T) {
	for name, env := range map[string]string{"own namespaces": "", "the host's": "ONE_CAPABILITY=yes", "no Landlock": "LACKS=landlock_create_ruleset"} {
		for _, action := range []string{"unix socket", "netlink socket", "bind", "mount"} {
			t.Run(name+", "+action, func(t *testing.T) {
				output, status := do(t, action, filepath.Join(t.TempDir(), "s"), env)
				require.Equal(t, statusOfCrash, status)
				require.Contains(t, output, "SIGSYS: bad system call")
			})
		}
	}
}

func TestACrashOfTheServerIsToldFromWrongUse(t *testing.T) {
	for _, traceback := range []string{"GOTRACEBACK=single", "GOTRACEBACK=crash"} {
		for action, says := range map[string]string{"panic": "panic: a fault in the server", "overflow": "fatal error: stack overflow"} {
			output, status := do(t, action, "", traceback)
			require.Equal(t, 1, status, traceback)
			require.Contains(t, output, says)
			require.Contains(t, output, "the process that served guests has crashed")
		}
	}
	_, status := do(t, "end as use", "")
	require.Equal(t, 2, status)
}

// running is a supervisor whose server waits, in its sandbox.
type running struct {
	*exec.Cmd
	t       *testing.T
	lines   *bufio.Scanner
	walls   string
	removed string // file that the broker removes in the end
}

func startWaiting(t *testing.T, env ...string) *running {
	r := &running{t: t, removed: filepath.Join(t.TempDir(), "file")}
	require.NoError(t, os.WriteFile(r.removed, nil, 0o644))
	r.Cmd = command(t, "wait", "", append(env, "UNDO="+r.removed)...)
	if os.Geteuid() == 0 {
		r.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Groups: []uint32{4321}}} // root's, with a further group
	}
	out, err := r.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, r.Start())
	t.Cleanup(func() { _ = r.Process.Kill(); _ = r.Wait() })
	r.lines = bufio.NewScanner(out)
	r.walls = r.next()
	return r
}

// next returns the next line that is printed.
func (r *running) next() string {
	r.t.Helper()
	require.True(r.t, r.lines.Scan(), "nothing more is printed")
	return r.lines.Text()
}

// child returns the process that has a role.
func (r *running) child(role string) int {
	r.t.Helper()
	for _, pid := range process.Children(r.Process.Pid) {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		require.NoError(r.t, err)
		if strings.Contains(string(line), "\x00"+role+"\x00") {
			return pid
		}
	}
	r.t.Fatalf("there is no %s", role)
	return 0
}

// requireGone checks that a process has ended. Its parent may not have asked for its status yet.
func requireGone(t *testing.T, pid int) {
	t.Helper()
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		return err != nil || strings.Contains(string(stat), ") Z ")
	}, soon, 5*time.Millisecond)
}

// requireIgnored waits until a process ignores a signal: the server may be ready before the broker has got so far.
func requireIgnored(t *testing.T, pid int, signal unix.Signal) {
	t.Helper()
	line := regexp.MustCompile(`(?m)^SigIgn:\s+([0-9a-f]+)$`)
	require.Eventually(t, func() bool {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		require.NoError(t, err)
		ignored, err := strconv.ParseUint(string(line.FindSubmatch(status)[1]), 16, 64)
		return err == nil && ignored&(1<<(signal-1)) != 0
	}, soon, 5*time.Millisecond, "%v is not ignored", signal)
}

func TestTheServerIsAskedToEnd(t *testing.T) {
	r := startWaiting(t)
	require.NoError(t, r.Process.Signal(unix.SIGTERM))
	require.NoError(t, r.Wait())
	require.NoFileExists(t, r.removed, "the supervisor ends after the broker")
}

// A service manager sends a signal to all processes of a service.
func TestASignalToAllProcessesEndsTheServerOnce(t *testing.T) {
	r := startWaiting(t)
	server, broker := r.child(asServer), r.child(asBroker)
	requireIgnored(t, broker, unix.SIGTERM)
	for _, pid := range []int{server, broker, r.Process.Pid} {
		require.NoError(t, unix.Kill(pid, unix.SIGTERM))
	}
	require.NoError(t, r.Wait())
	require.NoFileExists(t, r.removed)
}

func TestTheServerIsAskedForItsStatus(t *testing.T) {
	r := startWaiting(t)
	require.NoError(t, r.Process.Signal(unix.SIGUSR1))
	require.Equal(t, "here is the status", r.next())
}

// The service manager is told of it. What it is sent with RELOADING=1 is the machine's clock.
func TestTheServerIsAskedToReadItsConfigurationAgain(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	r := startWaiting(t, "NOTIFY_SOCKET="+socket)
	told := func() string {
		got := make([]byte, 100)
		n, err := conn.Read(got)
		require.NoError(t, err)
		return string(got[:n])
	}
	require.Equal(t, "READY=1", told())
	for range 3 {
		require.NoError(t, r.Process.Signal(unix.SIGHUP))
		require.Equal(t, "read again", r.next())
		require.Regexp(t, `^RELOADING=1\nMONOTONIC_USEC=[1-9][0-9]*$`, told())
		require.Equal(t, "READY=1", told())
	}
	require.NoError(t, r.Process.Signal(unix.SIGTERM))
	require.NoError(t, r.Wait())
}

// Of another user's process, too, and of one that could not become that but for its group.
func TestNobodyIsLeftWhenTheSupervisorIsKilled(t *testing.T) {
	for name, env := range map[string]string{"another user's": "", "root's": "ROOT=the test says so", "root's after all": "LACKS=setresuid"} {
		t.Run(name, func(t *testing.T) {
			r := startWaiting(t, env)
			server, broker := r.child(asServer), r.child(asBroker)
			require.NoError(t, unix.Kill(server, unix.SIGSTOP), "it does not see that its pipes are closed")
			require.NoError(t, r.Process.Kill())
			requireGone(t, server)
			requireGone(t, broker)
			require.NoFileExists(t, r.removed)
		})
	}
}

func TestNobodyIsLeftWhenTheServerIsKilled(t *testing.T) {
	r := startWaiting(t)
	broker := r.child(asBroker)
	require.NoError(t, unix.Kill(r.child(asServer), unix.SIGKILL))
	require.Equal(t, "the process that served guests was ended by a signal (killed)", r.next())
	require.EqualError(t, r.Wait(), "exit status 1")
	requireGone(t, broker)
	require.NoFileExists(t, r.removed)
}

func TestTheServiceManagerIsToldStatesOnly(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, conn.SetDeadline(time.Now().Add(soon)))
	r := startWaiting(t, "NOTIFY_SOCKET="+socket)
	require.NoError(t, r.Process.Signal(unix.SIGTERM))
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		got := make([]byte, 100)
		n, err := conn.Read(got)
		require.NoError(t, err)
		require.Equal(t, want, string(got[:n]))
	}
	require.NoError(t, r.Wait())
}

// The server may serve before the supervisor is in its sandbox.
func TestTheSupervisorIsInASandboxOfItsOwn(t *testing.T) {
	r := startWaiting(t)
	caps := "0000000000000000"
	if os.Geteuid() == 0 {
		caps = "0000000000000020" // CAP_KILL: the server is another user's
	}
	for _, want := range []string{"NoNewPrivs:\t1", "Seccomp:\t2", "CapEff:\t" + caps, "CapPrm:\t" + caps, "CapBnd:\t0000000000000000"} {
		require.Eventually(t, func() bool {
			status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Process.Pid))
			return err == nil && strings.Contains(string(status), want)
		}, soon, 5*time.Millisecond, "no %s", want)
	}
}

// Where namespaces cannot be had, the other walls stand, and the reason is told.
func TestWhyThereAreNoNamespacesIsTold(t *testing.T) {
	const whole = "namespaces: files (its root directory is empty), other processes, System V objects"
	for name, c := range map[string]struct {
		env    []string
		nobody bool
		want   string
	}{
		"root":                           {nil, false, whole},
		"a user":                         {nil, true, whole},
		"a user namespace without power": {[]string{"LACKS=mount"}, true, "namespaces: none, its root directory is the host's (make its mounts private: operation not permitted)"},
		"no pivot_root":                  {[]string{"LACKS=pivot_root"}, false, "its root directory is the host's (pivot_root: operation not permitted)"},
		"one group":                      {[]string{"ONE_USER=a group is not known there"}, true, "namespaces: none, a group is not known there"},
		"root with little power":         {[]string{"ONE_CAPABILITY=yes"}, false, "it has capabilities but not CAP_SYS_ADMIN"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, "wait", "", c.env...)
			if c.nobody {
				cmd.SysProcAttr = asNobody()
			}
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			line, err := bufio.NewReader(out).ReadString('\n')
			require.NoError(t, err)
			require.Contains(t, line, c.want)
			require.Contains(t, line, "seccomp: all system calls but those of a list")
			require.NoError(t, cmd.Process.Signal(unix.SIGTERM))
			require.NoError(t, cmd.Wait())
		})
	}
}
