package sandbox

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// needLandlock skips a test on kernels without.
func needLandlock(t *testing.T) {
	if abi, err := syscall.LandlockGetABIVersion(); err != nil || abi < 1 {
		t.Skip("this kernel has no Landlock")
	}
}

// needList skips a test on machines without a list of system calls.
func needList(t *testing.T) {
	if _, err := arch.GetInfo(""); err != nil {
		t.Skip(err)
	}
}

func newFile(t *testing.T, dir, content string) string {
	path := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
	return path
}

// landlockCalls are Landlock's: a kernel that does not know them has none.
func landlockCalls() []string {
	return []string{"landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"}
}

// What is not on the list ends the process, with a stack that names the call, also where there is no Landlock.
func TestSystemCallsThatAreNotNeededEndTheProcess(t *testing.T) {
	needList(t)
	file := newFile(t, t.TempDir(), "")
	for action, frame := range map[string]string{
		"execute":        "unix.Exec",
		"start process":  "os.StartProcess",
		"trace":          "unix.PtraceAttach",
		"kill parent":    "unix.Kill",
		"mount":          "unix.Mount",
		"unshare":        "unix.Unshare",
		"change user":    "unix.SetfsuidRetUid",
		"raise limit":    "unix.Setrlimit",
		"bind":           "unix.Bind",
		"make code":      "unix.Mmap",
		"read memory":    "unix.ProcessVMReadv",
		"netlink socket": "unix.Socket",
		"packet socket":  "unix.Socket",
		"unix socket":    "unix.Socket",
		"remove":         "os.Remove",

		"open by openat2":            "unix.Openat2",
		"rename":                     "unix.Renameat2",
		"link":                       "unix.Linkat",
		"make a directory":           "unix.Mkdirat",
		"unix sockets, two":          "unix.Socketpair",
		"signal parent by a queue":   "sandbox.raw",
		"signal a thread by a queue": "sandbox.raw",
		"signal parent by its file":  "unix.PidfdSendSignal",
		"file of parent":             "unix.PidfdOpen",
		"ring of system calls":       "sandbox.raw",

		"signal parent by tgkill": "unix.Tgkill",
		"owner by fcntl":          "unix.FcntlInt",
		"signal by fcntl":         "unix.FcntlInt",
		"asynchronous":            "unix.FcntlInt",
		"lease":                   "unix.FcntlInt",
		"owner by ioctl":          "unix.IoctlSetPointerInt",
		"affinity of parent":      "unix.SchedGetaffinity",
		"prctl":                   "unix.Prctl",
		"bind to device":          "unix.BindToDevice",
		"mark":                    "unix.SetsockoptInt",
		"filter":                  "unix.SetsockoptInt",
		"raw socket":              "unix.Socket",
		"SCTP socket":             "unix.Socket",
		"MPTCP socket":            "unix.Socket",
		"DCCP socket":             "unix.Socket",
		"UDPLite socket":          "unix.Socket",
	} {
		t.Run(action, func(t *testing.T) {
			output, status := do(t, job{
				Action: action, Path: file, Lacks: landlockCalls(),
				Config: Config{Internet: true, TAP: true, Reopen: true},
			})
			require.Equal(t, 2, status, output)
			require.Contains(t, output, "SIGSYS: bad system call")
			require.Contains(t, output, frame)
			require.NotContains(t, output, "done")
		})
	}
}

func TestWhatIsNeededIsOnTheList(t *testing.T) {
	needList(t)
	for _, action := range []string{"signal itself", "not blocking", "affinity", "hop limit", "TCP socket", "IPv6 socket", "ping socket"} {
		t.Run(action, func(t *testing.T) {
			output, _ := do(t, job{Action: action, Config: Config{Internet: true}})
			require.Equal(t, "done\n", output)
		})
	}
}

// Where there is no list of system calls, Landlock alone keeps other processes from signals, files and ports.
func TestLandlockHoldsWithoutTheList(t *testing.T) {
	if abi, _ := syscall.LandlockGetABIVersion(); abi < 6 {
		t.Skip("this kernel's Landlock knows nothing of signals")
	}
	file := newFile(t, t.TempDir(), "")
	abstract := "@vring/test/" + filepath.Base(t.TempDir()) + t.Name()
	listener, err := net.Listen("unix", abstract)
	require.NoError(t, err)
	defer listener.Close()
	for action, path := range map[string]string{
		"kill parent": "", "signal parent by tgkill": "", "bind": "", "read": file, "write": file, "create": file + "2",
		"remove": file, "start process": "/bin/true", "dial": abstract,
	} {
		t.Run(action, func(t *testing.T) {
			output, status := do(t, job{Action: action, Path: path, Config: Config{Internet: true}, Lacks: []string{"seccomp"}})
			require.Equal(t, 1, status, output)
			require.Regexp(t, "permission denied|operation not permitted", output)
		})
	}
}

// As the systemd unit wants it: the status of a crash is then not that of wrong use.
func TestACrashThatIsToEndByASignalDoes(t *testing.T) {
	needList(t)
	cmd := start(t, job{Action: "kill parent"})
	cmd.Env = append(cmd.Env, "GOTRACEBACK=crash")
	output, err := cmd.CombinedOutput()
	require.EqualError(t, err, "signal: aborted")
	require.Contains(t, string(output), "unix.Kill")
}

// Whoever serves guests reaches no file, be there Landlock or not.
func TestNoFileIsReachedFromTheSandbox(t *testing.T) {
	needList(t)
	for name, lacks := range map[string][]string{"with Landlock": nil, "without": landlockCalls()} {
		for _, action := range []string{"read", "write", "create", "list", "look"} {
			t.Run(action+" "+name, func(t *testing.T) {
				path := newFile(t, t.TempDir(), "")
				output, status := do(t, job{Action: action, Path: path, Lacks: lacks, Config: Config{Internet: true, TAP: true, Reopen: true}})
				require.Equal(t, 1, status, output)
				require.Contains(t, output, "permission denied")
			})
		}
	}
}

// A process beside that one does no more than it must.
func TestOnlyWhatIsNamedIsReadOrRemoved(t *testing.T) {
	needLandlock(t)
	needList(t)
	reads := func(string) Config { return Config{Read: true} }
	removes := func(path string) Config { return Config{Remove: []string{path}} }
	const denied, ended = "permission denied", "SIGSYS"
	for name, c := range map[string]struct {
		action string
		allow  func(path string) Config
		want   string
	}{
		"read":                   {"read", reads, "done\n"},
		"remove":                 {"remove", removes, "done\n"},
		"remove another":         {"remove", func(string) Config { return removes("/nowhere/file") }, denied},
		"remove while reading":   {"remove", reads, ended},
		"read while removing":    {"read", removes, denied},
		"write while reading":    {"write", reads, denied},
		"write while removing":   {"write", removes, denied},
		"create while removing":  {"create", removes, denied},
		"execute while reading":  {"execute", reads, ended},
		"connect while reading":  {"unix socket", reads, ended},
		"internet while reading": {"TCP socket", reads, ended},
	} {
		t.Run(name, func(t *testing.T) {
			path := newFile(t, t.TempDir(), "")
			output, _ := do(t, job{Action: c.action, Path: path, Config: c.allow(path)})
			require.Contains(t, output, c.want)
		})
	}
}

// The service manager's socket is of a kind that reaches others, too: it can be written to, and that is all.
func TestTheServiceManagersSocketReachesNobodyElse(t *testing.T) {
	needList(t)
	for action, frame := range map[string]string{
		"notify": "", "notify another": "unix.Sendto", "message to another": "unix.SendmsgN", "connect to another": "unix.Connect",
		"connect with a hidden number": "syscall.RawSyscall", "copy": "unix.FcntlInt",
	} {
		t.Run(action, func(t *testing.T) {
			dir := t.TempDir()
			other := listenDatagrams(t, filepath.Join(dir, "other"))
			manager := listenDatagrams(t, filepath.Join(dir, "manager"))
			output, _ := do(t, job{Action: action, Path: dir, Notify: true, Config: Config{Internet: true}})
			if frame == "" {
				require.Equal(t, "done\n", output)
				_, err := manager.Read(make([]byte, 1))
				require.NoError(t, err)
			} else {
				require.Contains(t, output, "SIGSYS: bad system call")
				require.Contains(t, output, frame)
			}
			require.NoError(t, other.SetReadDeadline(time.Unix(1, 0)))
			_, err := other.Read(make([]byte, 1))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

func listenDatagrams(t *testing.T, path string) *net.UnixConn {
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// requireText reads as much as text has.
func requireText(t *testing.T, r io.Reader, text string) {
	t.Helper()
	got := make([]byte, len(text))
	_, err := io.ReadFull(r, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

func TestOnlySocketsThatAreNeededAreMade(t *testing.T) {
	needList(t)
	for name, c := range map[string]struct {
		action string
		config Config
		ended  bool
	}{
		"TCP":                {"TCP socket", Config{Internet: true}, false},
		"IPv6":               {"IPv6 socket", Config{Internet: true}, false},
		"TCP in a stub":      {"TCP socket", Config{}, true},
		"unix":               {"unix socket", Config{Dial: []string{"/run/socket"}}, false},
		"unix, nobody there": {"unix socket", Config{Internet: true}, true},
	} {
		t.Run(name, func(t *testing.T) {
			output, _ := do(t, job{Action: c.action, Config: c.config})
			require.Equal(t, c.ended, strings.Contains(output, "SIGSYS"), output)
			require.Equal(t, !c.ended, output == "done\n", output)
		})
	}
}

func TestUnixSocketsAreReached(t *testing.T) {
	for name, path := range map[string]string{
		"in a file": filepath.Join(t.TempDir(), "s"),
		"abstract":  "@vring/test/" + filepath.Base(t.TempDir()) + t.Name(),
	} {
		t.Run(name, func(t *testing.T) {
			listener, err := net.Listen("unix", path)
			require.NoError(t, err)
			defer listener.Close()
			output, _ := do(t, job{Action: "dial", Path: path, Config: Config{Dial: []string{path}}})
			require.Equal(t, "done\n", output)
		})
	}
}

func TestEveryThreadIsInTheSandbox(t *testing.T) {
	needList(t)
	for mode, want := range map[Mode]map[string]string{
		On:  {"NoNewPrivs": "1", "Seccomp": "2", "CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapAmb": "0000000000000000"},
		Log: {"NoNewPrivs": "1", "Seccomp": "2"},
		Off: {"NoNewPrivs": "0"},
	} {
		t.Run(mode.String(), func(t *testing.T) {
			cmd := start(t, job{Action: "wait", Config: Config{Mode: mode}})
			in, err := cmd.StdinPipe()
			require.NoError(t, err)
			out, err := cmd.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			requireText(t, out, "in the sandbox\n")
			for key, value := range want {
				require.Equal(t, []string{value}, statusOf(t, cmd.Process.Pid, key), key)
			}
			require.NoError(t, in.Close())
			_ = cmd.Wait()
		})
	}
}

func TestTheRuntimeGoesOn(t *testing.T) {
	for mode, name := range modeNames() {
		t.Run(name, func(t *testing.T) {
			output, _ := do(t, job{Action: "live", Config: Config{Mode: Mode(mode)}})
			require.Equal(t, "done\n", output)
		})
	}
}

func TestLogRefusesNothing(t *testing.T) {
	file := newFile(t, t.TempDir(), "")
	for _, action := range []string{"read", "write", "start process", "bind", "unix socket", "make code"} {
		t.Run(action, func(t *testing.T) {
			path := file
			if action == "start process" {
				path = "/bin/true"
			}
			output, _ := do(t, job{Action: action, Path: path, Config: Config{Mode: Log}})
			require.Equal(t, "done\n", output)
		})
	}
}

// A wall that is missing is a warning with the true reason, and an error where that is asked for.
func TestAMissingWallIsAWarningWithItsReason(t *testing.T) {
	needList(t)
	const none, off, forbidden = "this kernel has none", "switched off at boot", "forbidden by what confines this process"
	for name, c := range map[string]struct {
		call   string
		answer unix.Errno
		want   string
	}{
		"no Landlock":               {"landlock_create_ruleset", unix.ENOSYS, none},
		"Landlock off":              {"landlock_create_ruleset", unix.EOPNOTSUPP, off},
		"Landlock forbidden":        {"landlock_create_ruleset", unix.EPERM, forbidden},
		"Landlock's last call":      {"landlock_restrict_self", unix.EPERM, forbidden},
		"no seccomp":                {"seccomp", unix.ENOSYS, none},
		"seccomp forbidden":         {"seccomp", unix.EPERM, forbidden},
		"seccomp forbidden by rule": {"seccomp", unix.EACCES, forbidden},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.HasPrefix(c.call, "landlock_restrict") {
				needLandlock(t)
			}
			wall := map[bool]string{true: "wall=seccomp", false: "wall=Landlock"}[c.call == "seccomp"]
			j := job{Action: "state", Lacks: []string{c.call}, Refuse: c.answer}
			output, status := do(t, j)
			require.Zero(t, status, output)
			require.Contains(t, output, "level=WARN")
			require.Contains(t, output, wall)
			require.Equal(t, 2, strings.Count(output, c.want), "in the log and in the state:\n%s", output)

			j.Config.Mode = Strict
			output, status = do(t, j)
			require.Equal(t, 1, status)
			require.Contains(t, output, c.want)
			require.Contains(t, output, "--sandbox=on goes on with what can be had")
		})
	}
}

func TestAWholeSandboxWarnsOfNothing(t *testing.T) {
	needList(t)
	needLandlock(t)
	output, status := do(t, job{Action: "state", Config: Config{Mode: Strict}})
	require.Zero(t, status, output)
	require.NotContains(t, output, "level=WARN")
	for _, want := range []string{"no_new_privs: new rights", "capabilities: all", "Landlock: files", "seccomp: all system calls but those of a list"} {
		require.Contains(t, output, want)
	}
}

// What older versions of Landlock do not keep, the list of system calls does. Where there is none, it is a weakness.
func TestOlderLandlocksLackParts(t *testing.T) {
	keeps, lacks := landlockParts(2)
	require.Equal(t, "files (ABI 2)", keeps)
	require.Equal(t, "truncation (Linux 6.2), TCP ports (Linux 6.7), requests to devices (Linux 6.10), "+
		"abstract sockets and signals (Linux 6.12)", lacks)
	_, lacks = landlockParts(7)
	require.Empty(t, lacks)
	for keeps, weak := range map[string]bool{"all system calls": false, "": true} {
		s := State{{Name: "Landlock", Keeps: "files", Lacks: "signals"}, {Name: "seccomp", Keeps: keeps}}
		s.judge(On)
		require.Equal(t, weak, s[0].Weak)
	}
}

// The kernel then installs the list on no thread.
func TestAThreadWithAFilterOfItsOwnIsAnError(t *testing.T) {
	needList(t)
	output, status := do(t, job{Action: "live", OddThread: true})
	require.Equal(t, 1, status, output)
	require.Contains(t, output, "a thread has a filter of its own")
}

// As in a systemd unit with SystemCallFilter=~@privileged, of a user without capabilities.
func TestCapabilitiesThatAreNotThereNeedNotBeDropped(t *testing.T) {
	needList(t)
	output, _ := do(t, job{Action: "live", Powerless: true, Lacks: []string{"capset"}})
	require.Equal(t, "done\n", output)
}

// Another cause than a lack in the kernel is an error, and the process does not go on.
func TestASandboxThatCannotBeEnteredIsAnError(t *testing.T) {
	needList(t)
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have a capability that cannot be dropped")
	}
	output, status := do(t, job{Action: "live", Lacks: []string{"capset"}})
	require.Equal(t, 1, status)
	require.Contains(t, output, "sandbox: drop capabilities: ")
	require.Contains(t, output, "--sandbox=off runs without one")
}

// A name that a machine does not know is left out silently.
func TestEveryListedCallExists(t *testing.T) {
	for machine, missing := range map[*arch.Info][]string{
		arch.X86_64:  {"fstatat"},
		arch.AARCH64: {"poll", "newfstatat"},
	} {
		t.Run(machine.Name, func(t *testing.T) {
			known := machine.SyscallNames
			all := Config{Internet: true, TAP: true, Reopen: true, Read: true, Remove: []string{"/s"}, Dial: []string{"/s"}, Interfaces: true, Keep: []Kept{{"/s", 7}}}
			names := slices.Concat(pathCalls(), []string{"clone3"})
			for _, c := range allowed(&all).calls {
				names = append(names, c.name)
			}
			for _, name := range names {
				if slices.Contains(missing, name) {
					require.NotContains(t, known, name)
				} else {
					require.Contains(t, known, name)
				}
			}
		})
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []Mode{On, Strict, Log, Off} {
		got, err := ParseMode(mode.String())
		require.NoError(t, err)
		require.Equal(t, mode, got)
	}
	_, err := ParseMode("maybe")
	require.ErrorContains(t, err, `--sandbox "maybe": want on, strict, log or off`)
}
