package main

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

// reloaded is vring serve, whose file changes.
type reloaded struct {
	*exec.Cmd
	t     *testing.T
	path  string // of the file
	dir   string // of the sockets
	lines *bufio.Scanner
}

// startReloaded starts vring with a file in which DIR stands for the directory of sockets.
func startReloaded(t *testing.T, text string) *reloaded {
	passOnHangups(t)
	r := &reloaded{t: t, dir: shortDir(t)}
	r.path = filepath.Join(r.dir, "vring.yaml")
	r.write(text)
	r.Cmd = program(t, "serve", r.path)
	stderr, err := r.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, r.Start())
	r.lines = bufio.NewScanner(stderr)
	requireLine(t, r.lines, "msg=ready")
	return r
}

// stop ends vring.
func (r *reloaded) stop() {
	require.NoError(r.t, r.Process.Signal(syscall.SIGTERM))
	for r.lines.Scan() { // to the end: Wait closes the pipe
	}
	require.NoError(r.t, r.Wait())
}

// write replaces the file by another one.
func (r *reloaded) write(text string) {
	next := r.path + ".new"
	require.NoError(r.t, os.WriteFile(next, []byte(strings.ReplaceAll(text, "DIR", r.dir)), 0o600))
	require.NoError(r.t, os.Rename(next, r.path))
}

// reload lets vring read the file, and returns what it says of it: the first line that has a text.
func (r *reloaded) reload(text string) string {
	r.t.Helper()
	require.NoError(r.t, r.Process.Signal(syscall.SIGHUP))
	requireLine(r.t, r.lines, text)
	return r.lines.Text()
}

func TestTheFileIsReadAgain(t *testing.T) {
	for name, walls := range map[string]string{"in the sandbox": "on", "without one": "off", "in one that refuses nothing": "log"} {
		t.Run(name, func(t *testing.T) {
			file := "guests: [{socket-path: DIR/s}]\nsandbox: " + walls + "\n"
			r := startReloaded(t, file+"nat:\n  dns: [192.0.2.53]\n")
			defer r.stop()
			require.Contains(t, r.reload("read again"), "nothing has changed")
			r.write(file + "poll-us: 7\nlog-level: debug\nnat:\n  restrict: true\n  dns: [192.0.2.53]\n  rules: [{allow: 192.0.2.1}]\n")
			require.Contains(t, r.reload("read again"), `changed="poll-us log-level rules restrict"`)
			r.write(file + "poll-us: 7\nlog-level: info\nnat:\n  restrict: true\n  dns: [192.0.2.53]\n  rules: [{allow: 192.0.2.2}]\n")
			require.Contains(t, r.reload("read again"), `changed="log-level rules"`)
			require.Contains(t, r.reload("read again"), "nothing has changed")
		})
	}
}

// Forwards change in the sandbox, in which vring itself can bind nothing.
func TestForwardsOfTheFileChange(t *testing.T) {
	first, second := porttest.FreePort(t).Port(), porttest.FreePort(t).Port()
	file := func(forwards string) string {
		return "guests: [{socket-path: DIR/s}]\nnat:\n  dns: [192.0.2.53]\n  forwards:\n" + forwards
	}
	r := startReloaded(t, file(fmt.Sprintf("    - %d:80\n", first)))
	defer r.stop()
	r.requireOpen(first, true)
	r.write(file(fmt.Sprintf("    - %d:80\n    - %d:80\n", first, second)))
	require.Contains(t, r.reload("read again"), "changed=forwards")
	r.requireOpen(first, true)
	r.requireOpen(second, true)

	r.write(file(fmt.Sprintf("    - %d:81\n", second)))
	require.Contains(t, r.reload("closed for a moment"), fmt.Sprintf(`option="-p tcp:127.0.0.1:%d:80"`, second))
	requireLine(t, r.lines, "changed=forwards")
	r.requireOpen(first, false)
	r.requireOpen(second, true)

	r.write(file(fmt.Sprintf("    - 0.0.0.0:%d:80\n", first)))
	require.Contains(t, r.reload("is not adopted"), "0.0.0.0 is not of the loopback")
	r.requireOpen(second, true)
}

// requireOpen checks whether somebody listens at a port of the loopback. There is no guest, so a connection may be reset at once.
func (r *reloaded) requireOpen(port uint16, want bool) {
	r.t.Helper()
	c, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.Equal(r.t, want, !errors.Is(err, syscall.ECONNREFUSED), err)
	if err == nil {
		require.NoError(r.t, c.Close())
	}
}

func TestAFileThatCannotBeAdoptedChangesNothing(t *testing.T) {
	const file = "guests: [{socket-path: DIR/s}]\nsocket-group: root\nnat:\n  dns: [192.0.2.53]\n"
	r := startReloaded(t, file)
	defer r.stop()
	for name, c := range map[string]struct{ text, want string }{
		"a mistake":           {file + "  restrct: true\n  restrict: true\n", ":5:3: nat has no key \\\"restrct\\\"; did you mean restrict?"},
		"no YAML":             {"guests: [", ":1:9: sequence end token"},
		"empty":               {"", "want one of nat:, tap:, switch: and stub:"},
		"what is fixed":       {file + "  restrict: true\n  mtu: 1400\n", ":6:3: mtu cannot change while guests are served: guests were told"},
		"another guest":       {strings.Replace(file, "DIR/s}", "DIR/s}, {socket-path: DIR/t}", 1), "socket-path cannot change while guests are served"},
		"another network":     {"guests: [{socket-path: DIR/s}]\nsocket-group: root\nstub:\n", "guests stay with their network"},
		"another group":       {strings.Replace(file, "root", "daemon", 1), "socket-group \\\"daemon\\\": it cannot change while guests are served"},
		"resolvers":           {strings.Replace(file, "dns: [192.0.2.53]", "restrict: false", 1), "the host's resolvers were not asked at the start"},
		"a value that is not": {file + "  restrict: true\n  rules: [{allow: 127.0.0.1}]\n", ":6:19: rule 127.0.0.1/32: rules do not open the host's loopback"},
	} {
		t.Run(name, func(t *testing.T) {
			r.write(c.text)
			line := r.reload("is not adopted, and nothing changes")
			require.Contains(t, line, "level=ERROR")
			lines := line
			for !strings.Contains(line, c.want) && strings.Contains(line, "is not adopted") && r.lines.Scan() { // one for each fault
				line = r.lines.Text()
				lines += "\n" + line
			}
			require.Contains(t, lines, c.want)
			r.write(file)
			require.Contains(t, r.reload("read again"), "nothing has changed", "of what was before")
		})
	}
}

// What lies at the path meanwhile may be anything. It is not waited for, and no more is read than a file may have.
func TestWhatIsNoFileIsNotAdopted(t *testing.T) {
	const file = "guests: [{socket-path: DIR/s}]\nstub:\n"
	r := startReloaded(t, file)
	defer r.stop()
	for _, c := range []struct {
		name, want string
		replace    func() error
	}{
		{"nothing", "no such file or directory", func() error { return nil }},
		{"a FIFO", "is not a regular file", func() error { return syscall.Mkfifo(r.path, 0o600) }},
		{"a directory", "is not a regular file", func() error { return os.Mkdir(r.path, 0o700) }},
		{"a link to a device", "is not a regular file", func() error { return os.Symlink("/dev/zero", r.path) }},
		{"a link to nothing", "no such file or directory", func() error { return os.Symlink("/no/such/file", r.path) }},
		{"100 MB", "the file is too long: want 128 KiB at most", func() error {
			return os.WriteFile(r.path, []byte(strings.Repeat("#", 100<<20)), 0o600)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			require.NoError(t, os.Remove(r.path))
			require.NoError(t, c.replace())
			require.Contains(t, r.reload("is not adopted"), c.want)
			require.NoError(t, os.RemoveAll(r.path))
			r.write(file + "poll-us: 0\n")
			require.Contains(t, r.reload("read again"), "changed=poll-us")
			r.write(file)
			require.Contains(t, r.reload("read again"), "changed=poll-us")
		})
	}
	target := filepath.Join(r.dir, "other.yaml")
	require.NoError(t, os.WriteFile(target, []byte(fmt.Sprintf("guests: [{socket-path: %s/s}]\npoll-us: 3\nstub:\n", r.dir)), 0o600))
	require.NoError(t, os.Remove(r.path))
	require.NoError(t, os.Symlink(target, r.path))
	require.Contains(t, r.reload("read again"), "changed=poll-us", "a link leads where it leads now")
}
