package sandbox

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/elastic/go-seccomp-bpf/arch"
	"github.com/landlock-lsm/go-landlock/landlock/syscall"
	"github.com/stretchr/testify/require"
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

// What is not on the list ends the process, with a stack that names the call.
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
		"listen":         "net.Listen",
		"make code":      "unix.Mmap",
		"read memory":    "unix.ProcessVMReadv",
		"netlink socket": "unix.Socket",
		"packet socket":  "unix.Socket",
		"unix socket":    "unix.Socket",
		"write":          "os.OpenFile",
		"create":         "os.Create",
	} {
		t.Run(action, func(t *testing.T) {
			output, status := do(t, job{Action: action, Path: file, Config: Config{Internet: true, Read: []string{file}, Remove: []string{file}}})
			require.Equal(t, 2, status, output)
			require.Contains(t, output, "SIGSYS: bad system call")
			require.Contains(t, output, frame)
			require.NotContains(t, output, "done")
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

func TestOnlyFilesThatAreNamedAreReadOrRemoved(t *testing.T) {
	needLandlock(t)
	for name, c := range map[string]struct {
		action string
		allow  func(path string) Config
		denied bool
	}{
		"read it":                   {"read", func(path string) Config { return Config{Read: []string{path}} }, false},
		"remove it":                 {"remove", func(path string) Config { return Config{Remove: []string{path}} }, false},
		"read another":              {"read", func(path string) Config { return Config{Read: []string{"/nowhere/file"}} }, true},
		"remove another":            {"remove", func(path string) Config { return Config{Remove: []string{"/nowhere/file"}} }, true},
		"read what may be removed":  {"read", func(path string) Config { return Config{Remove: []string{path}} }, true},
		"remove what may be read":   {"remove", func(path string) Config { return Config{Read: []string{path}} }, true},
		"read, with nothing named":  {"read", func(string) Config { return Config{} }, true},
		"list what holds the files": {"list", func(path string) Config { return Config{Read: []string{path}, Remove: []string{path}} }, true},
	} {
		t.Run(name, func(t *testing.T) {
			path := newFile(t, t.TempDir(), "")
			config := c.allow(path)
			if c.action == "list" {
				path = filepath.Dir(path)
			}
			output, _ := do(t, job{Action: c.action, Path: path, Config: config})
			if c.denied {
				require.Contains(t, output, "permission denied")
			} else {
				require.Equal(t, "done\n", output)
			}
		})
	}
}

// As /etc/resolv.conf is where systemd-resolved keeps it.
func TestAFileBehindALinkIsRead(t *testing.T) {
	target := newFile(t, t.TempDir(), "")
	link := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink(target, link))
	output, _ := do(t, job{Action: "read", Path: link, Config: Config{Read: []string{link}}})
	require.Equal(t, "done\n", output)
}

func TestAFileThatWasReplacedIsRead(t *testing.T) {
	path := newFile(t, t.TempDir(), "old")
	cmd := start(t, job{Action: "wait and read", Path: path, Config: Config{Read: []string{path}}})
	in, err := cmd.StdinPipe()
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	requireText(t, out, "in the sandbox\n")
	require.NoError(t, os.Rename(newFile(t, t.TempDir(), "new"), path))
	_, err = in.Write([]byte("\n"))
	require.NoError(t, err)
	requireText(t, out, "new\ndone\n")
	require.NoError(t, cmd.Wait())
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
	for _, action := range []string{"read", "write", "start process", "listen", "unix socket", "make code"} {
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

func TestAKernelMayLackWalls(t *testing.T) {
	needList(t)
	for call, want := range map[string]string{
		"landlock_create_ruleset": "this kernel has no Landlock",
		"seccomp":                 "there is no seccomp here",
	} {
		t.Run(call, func(t *testing.T) {
			output, status := do(t, job{Action: "live", Lacks: []string{call}})
			require.Zero(t, status)
			require.Contains(t, output, want)
			require.Contains(t, output, "done")
		})
	}
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
			for _, name := range slices.Concat(hotCalls(), ioCalls(), runtimeCalls()) {
				if slices.Contains(missing, name) {
					require.NotContains(t, known, name)
				} else {
					require.Contains(t, known, name)
				}
			}
			p := policy(&Config{Internet: true, Dial: []string{"/run/socket"}}, known)
			for _, group := range p.Syscalls {
				for _, call := range group.NamesWithCondtions {
					require.Contains(t, known, call.Name)
				}
			}
		})
	}
}

func TestModes(t *testing.T) {
	for _, mode := range []Mode{On, Log, Off} {
		got, err := ParseMode(mode.String())
		require.NoError(t, err)
		require.Equal(t, mode, got)
	}
	_, err := ParseMode("maybe")
	require.ErrorContains(t, err, `--sandbox "maybe": want on, log or off`)
}
