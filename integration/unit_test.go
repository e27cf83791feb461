package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
)

// unitFiles are the units of the system's manager and those of users, below cmd/vring/systemd, with the option that tells
// systemd-analyze whose they are.
var unitFiles = map[string]string{
	"vring@.service": "--system", "user/vring@.service": "--user", "vring-serve@.service": "--system", "user/vring-serve@.service": "--user",
}

// readUnit reads a file below cmd/vring/systemd.
func readUnit(t *testing.T, name string) string {
	text, err := os.ReadFile(filepath.Join(guest.ProjectRoot(), "cmd", "vring", "systemd", filepath.FromSlash(name)))
	require.NoError(t, err)
	return string(text)
}

// systemd itself says what it thinks of the units, for an instance and with the program of this run.
func TestTheUnitFilesAreValid(t *testing.T) {
	for name, manager := range unitFiles {
		t.Run(name, func(t *testing.T) {
			const start = "ExecStart=vring "
			text := readUnit(t, name)
			require.Contains(t, text, start)
			unit := filepath.Join(shortDir(t), strings.Replace(filepath.Base(name), "@", "@vm0", 1))
			require.NoError(t, os.WriteFile(unit, []byte(strings.Replace(text, start, "ExecStart="+built.vring+" ", 1)), 0o644))
			require.Empty(t, analyze(limited(t), t, "verify", manager, "--man=no", unit))
		})
	}
}

// analyze runs systemd-analyze and returns what it prints.
func analyze(ctx context.Context, t *testing.T, args ...string) string {
	program, err := guest.FindTool("systemd-analyze")
	require.NoError(t, err)
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+shortDir(t)) // --user wants one
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return string(out)
}

// vring enters its sandbox by system calls that systemd counts among the privileged ones, capset for one: with it vring
// gives CAP_NET_BIND_SERVICE up, which the unit has for ports below 1024.
func TestTheUnitsPermitWhatTheSandboxNeeds(t *testing.T) {
	for name := range unitFiles {
		permitted := permittedCalls(limited(t), t, readUnit(t, name))
		for _, call := range []string{"seccomp", "landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"} {
			require.True(t, permitted[call], "%s: %s", name, call)
		}
		require.False(t, permitted["mount"], "%s: mount", name)
		if unitFiles[name] == "--system" {
			require.True(t, permitted["capset"], "%s: capset", name)
		}
	}
}

// permittedCalls returns what the SystemCallFilter= lines of a unit permit, by systemd's own lists.
func permittedCalls(ctx context.Context, t *testing.T, unit string) map[string]bool {
	permitted := map[string]bool{}
	for line := range strings.Lines(unit) {
		names, found := strings.CutPrefix(line, "SystemCallFilter=")
		if !found {
			continue
		}
		names, not := strings.CutPrefix(names, "~")
		for _, name := range strings.Fields(names) {
			for _, call := range callsOf(ctx, t, name) {
				permitted[call] = !not
			}
		}
	}
	return permitted
}

// callsOf returns the system calls of one of systemd's groups, such as "@process", and of the groups in it.
func callsOf(ctx context.Context, t *testing.T, name string) []string {
	if !strings.HasPrefix(name, "@") {
		return []string{name}
	}
	var calls []string
	for line := range strings.Lines(analyze(ctx, t, "syscall-filter", "--no-pager", name)) {
		if word := strings.TrimSpace(line); word != "" && word != name && !strings.HasPrefix(word, "#") {
			calls = append(calls, callsOf(ctx, t, word)...)
		}
	}
	return calls
}

// What the units start is ready, and its socket is for whom the unit says: the group vring, or the user alone.
func TestTheUnitsStartVringWithASocketForTheirFrontEnd(t *testing.T) {
	for name, mode := range map[string]os.FileMode{"vring@.service": 0o660, "user/vring@.service": 0o600} {
		dir := shortDir(t)
		_, line, found := strings.Cut(readUnit(t, name), "\nExecStart=vring ")
		require.True(t, found)
		line, _, _ = strings.Cut(line, "\n")
		line = strings.NewReplacer("/run/vring/%i", dir, "%t/vring/%i", dir, "$VRING_OPTIONS", fmt.Sprintf("-p %d:22", freePort(t))).Replace(line)
		vring := &daemon{t: t, args: strings.Fields(line)}
		vring.start()
		t.Cleanup(vring.terminate)
		info, err := os.Stat(filepath.Join(dir, "guest.sock"))
		require.NoError(t, err, name)
		require.Equal(t, mode, info.Mode().Perm(), name)
	}
}

// Those that serve a file follow it when they are reloaded, by the command of the unit: a guest that is new in it is added.
func TestTheUnitsThatServeAFileFollowItWhenTheyAreReloaded(t *testing.T) {
	for _, name := range []string{"vring-serve@.service", "user/vring-serve@.service"} {
		dir := shortDir(t)
		lines := map[string]string{}
		for line := range strings.Lines(readUnit(t, name)) {
			key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			lines[key] = strings.NewReplacer("/etc/vring", dir, "%E/vring", dir, "%i", "lab").Replace(value)
		}
		file := fmt.Sprintf("guests:\n  - socket-path: %s/vm0.sock\nsocket-mode: \"0660\"\nnat:\n", dir)
		path := filepath.Join(dir, "lab.yaml")
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		program, args, _ := strings.Cut(lines["ExecStart"], " ")
		require.Equal(t, "vring", program)
		vring := &daemon{t: t, args: strings.Fields(args)}
		vring.start()
		t.Cleanup(vring.terminate)
		added := filepath.Join(dir, "vm1.sock")
		require.NoError(t, os.WriteFile(path, []byte(strings.Replace(file, "socket-mode", "  - {name: vm1, socket-path: "+added+", stub: {}}\nsocket-mode", 1)), 0o600))
		reload := strings.Fields(strings.ReplaceAll(lines["ExecReload"], "$MAINPID", fmt.Sprint(vring.Process.PID())))
		require.NoError(t, exec.Command(reload[0], reload[1:]...).Run())
		vring.waitLog("is adopted", 1)
		for _, socket := range []string{filepath.Join(dir, "vm0.sock"), added} {
			info, err := os.Stat(socket)
			require.NoError(t, err, name)
			require.EqualValues(t, 0o660, info.Mode().Perm(), name)
		}
	}
}

// The journal has the time of each line.
func TestLinesInTheJournalHaveNoTimesOfTheirOwn(t *testing.T) {
	for _, journal := range []bool{true, false} {
		out, err := os.Create(filepath.Join(shortDir(t), "stderr"))
		require.NoError(t, err)
		defer out.Close()
		var stat syscall.Stat_t
		require.NoError(t, syscall.Fstat(int(out.Fd()), &stat))
		if !journal {
			stat.Ino++ // the variable was inherited, and standard error is something else
		}
		vring := exec.Command(built.vring, "stub", "--mode", "null", "--socket-path", filepath.Join(shortDir(t), "s"))
		vring.Env = append(os.Environ(), fmt.Sprintf("JOURNAL_STREAM=%d:%d", stat.Dev, stat.Ino))
		vring.Stderr = out
		require.NoError(t, vring.Start())
		said := func() string {
			text, err := os.ReadFile(out.Name())
			require.NoError(t, err)
			return string(text)
		}
		require.Eventually(t, func() bool { return strings.Contains(said(), "msg=ready") }, soon, tick)
		require.NoError(t, vring.Process.Signal(syscall.SIGTERM))
		require.NoError(t, vring.Wait())
		require.Equal(t, !journal, strings.HasPrefix(said(), "time="), said())
		require.Contains(t, said(), "level=INFO msg=ready")
	}
}

// AppArmor's compiler of Debian 12, the oldest one that is supported, takes the profile of the units.
func TestTheProfileOfTheUnitsIsValid(t *testing.T) {
	parser, err := guest.FindTool("apparmor_parser")
	require.NoError(t, err)
	const name = "vring-service"
	profile := filepath.Join(guest.ProjectRoot(), "cmd", "vring", "apparmor", "vring")
	out, err := exec.CommandContext(limited(t), parser, "--skip-kernel-load", "--skip-cache", "--names", profile).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), name)
	for unit, manager := range unitFiles {
		require.Equal(t, manager == "--system", strings.Contains(readUnit(t, unit), "\nAppArmorProfile=-"+name+"\n"), unit)
	}
}
