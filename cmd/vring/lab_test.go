package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// fakeGuest is the command by which this program is a guest: it connects to a socket, and hands memory over.
const fakeGuest = "fake-guest"

// beFakeGuest is a guest until it is ended.
func beFakeGuest(socket string) int {
	conn, err := connectGuest(socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println("the guest runs")
	_, _ = conn.ReadReply(0) // which never comes
	return 0
}

// connectGuest connects a front end that hands memory over.
func connectGuest(socket string) (*frontend.Conn, error) {
	conn, err := frontend.Dial(socket)
	if err != nil {
		return nil, err
	}
	memory, err := unix.MemfdCreate("guest", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	defer unix.Close(memory)
	if err := unix.Ftruncate(memory, 1<<20); err != nil {
		return nil, err
	}
	setup := frontend.Setup{Order: frontend.QEMU11}
	if err := conn.Negotiate(0, setup.Protocol()); err != nil {
		return nil, err
	}
	return conn, conn.SetMemTable([]guestmem.Region{{GPA: 0x1000, UVA: 0x1000, Size: 1 << 20, FD: memory}})
}

// labRig is a directory with labs.
type labRig struct {
	*testing.T
	dir, runtime string
}

func newLabRig(t *testing.T) *labRig {
	r := &labRig{T: t, dir: shortDir(t)}
	r.runtime = filepath.Join(r.dir, "run")
	require.NoError(t, os.Mkdir(r.runtime, 0o700))
	return r
}

func (r *labRig) command(args ...string) *exec.Cmd {
	cmd := program(r.T, append([]string{"lab"}, args...)...)
	cmd.Env = append(cmd.Env, "XDG_RUNTIME_DIR="+r.runtime)
	return cmd
}

// lab runs a verb of "vring lab".
func (r *labRig) lab(args ...string) (status int, output string) {
	r.Helper()
	cmd := r.command(args...)
	text, _ := cmd.CombinedOutput() // the status tells
	return cmd.ProcessState.ExitCode(), string(text)
}

func (r *labRig) must(args ...string) string {
	r.Helper()
	status, output := r.lab(args...)
	require.Equal(r, exitOK, status, output)
	return output
}

// write writes the file of a lab, and takes that down at the end.
func (r *labRig) write(name, text string) string {
	r.Helper()
	file := filepath.Join(r.dir, name)
	require.NoError(r, os.WriteFile(file, []byte(text), 0o600))
	r.Cleanup(func() {
		down := exec.Command(os.Args[0], "lab", "down", file) // the context of the test is over by now
		down.Env = append(os.Environ(), asProgram+"=1", "XDG_RUNTIME_DIR="+r.runtime)
		out, err := down.CombinedOutput()
		require.NoError(r, err, string(out))
	})
	return file
}

func (r *labRig) report(file string) (report labReport) {
	r.Helper()
	require.NoError(r, json.Unmarshal([]byte(r.must("status", file, "-o", "json")), &report))
	return report
}

// nothingLeft wants nothing to be left of labs.
func (r *labRig) nothingLeft() {
	r.Helper()
	left, err := os.ReadDir(r.runtime)
	require.NoError(r, err)
	require.Empty(r, left)
}

// faked is a lab with fake guests in the place of programs.
func faked(text string) string {
	fake := fmt.Sprintf("run: [%s, %s, \"{socket}\"]\n", os.Args[0], fakeGuest)
	text = regexp.MustCompile(`run: .*\n`).ReplaceAllString(text, fake)
	return regexp.MustCompile(`run:\n(      - .*\n)+`).ReplaceAllString(text, fake)
}

func TestEachExampleComesUp(t *testing.T) {
	examples, err := filepath.Glob("../../docs/examples/*.yaml")
	require.NoError(t, err)
	require.GreaterOrEqual(t, len(examples), 4)
	for _, example := range examples {
		t.Run(filepath.Base(example), func(t *testing.T) {
			t.Parallel()
			r := newLabRig(t)
			require.NoError(t, os.Mkdir(filepath.Join(r.dir, "netboot"), 0o700)) // that one of them gives out
			text, err := os.ReadFile(example)
			require.NoError(t, err)
			original := r.write("original.yaml", string(text))
			require.Contains(t, r.must("check", original), "is right")
			programs := strings.Count(string(text), "run:")

			free := fmt.Sprintf("- %d:80", porttest.FreePort(t).Port())
			here := porttest.FreePort(t)
			local := strings.NewReplacer("- 8080:80", free, "vxlan://192.0.2.1/42", "vxlan://127.0.0.1/42?local="+here.String(), "vxlan://192.0.2.2/42", "vxlan://127.0.0.1/42?local="+here.String())
			file := r.write("lab.yaml", faked(local.Replace(string(text))))
			require.Equal(t, "the lab lab is up\n", r.must("up", file, "--wait", "0"))
			require.Eventually(t, func() bool {
				connected := 0
				for _, g := range r.report(file).Guests {
					if g.FrontEnd == "connected" && g.Program != nil {
						connected++
					}
				}
				return connected == programs
			}, 2*time.Minute, 50*time.Millisecond)
			require.Contains(t, r.must("graph", file), "</svg>")
			require.Equal(t, "the lab lab is down\n", r.must("down", file))
			r.nothingLeft()
		})
	}
}

const twoGuests = `guests:
  - name: a
    switch: lan
    nat: {}
    run: x
  - name: b
    switch: lan
    nat: {}
`

func TestALabThatIsUpIsChangedByItsFile(t *testing.T) {
	r := newLabRig(t)
	file := r.write("two.yaml", faked(twoGuests))
	r.must("up", file, "--wait", "0")
	require.Equal(t, "the lab two is up already; nothing has changed\n", r.must("up", file, "--wait", "0"))
	before := r.report(file)

	r.write("two.yaml", faked(strings.Replace(twoGuests, "nat: {}", "nat: {restrict: true}", 1)+"  - name: c\n    switch: lan\n    run: x\n"))
	output := r.must("up", file, "--wait", "0")
	require.Contains(t, output, "restrict")
	require.Contains(t, output, "started: c\n")
	now := r.report(file)
	require.Len(t, now.Guests, 3)
	require.Equal(t, before.Guests[0].Program.PID, now.Guests[0].Program.PID, "others stay")

	r.write("two.yaml", faked(strings.Replace(twoGuests, "nat: {}", "nat: {mtu: 9000}", 1)))
	status, output := r.lab("up", file, "--wait", "0")
	require.NotEqual(t, exitOK, status)
	require.Contains(t, output, "mtu of the guest with")
	require.Contains(t, output, "cannot change while it is served")
	require.Len(t, r.report(file).Guests, 3, "nothing has changed")

	status, output = r.lab("up", r.write("other.yaml", faked(twoGuests)), "--name", "two", "--wait", "0")
	require.NotEqual(t, exitOK, status)
	require.Contains(t, output, "is up, from the file "+file)
	r.must("down", file)
	r.nothingLeft()
}

func TestUpTellsWhichGuestsDoNotComeUp(t *testing.T) {
	r := newLabRig(t)
	file := r.write("two.yaml", strings.Replace(twoGuests, "run: x", `run: [sh, -c, "exit 3", "{socket}"]`, 1))
	status, output := r.lab("up", file)
	require.Equal(t, exitError, status)
	require.Contains(t, output, "a: has ended: exit status 3\n")
	require.Regexp(t, `vring: a has ended: exit status 3; \S+/log/a.log tells why\n`, output)
	require.Contains(t, r.must("status", file), "has ended")
	r.must("down", file)
}

func TestCtrlCDuringUpTakesTheLabDown(t *testing.T) {
	r := newLabRig(t)
	file := r.write("two.yaml", strings.Replace(twoGuests, "run: x", "run: sleep 1000 {socket}", 1))
	cmd := r.command("up", file, "--wait", "10m")
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	_, err = out.Read(make([]byte, 100)) // the lab is up
	require.NoError(t, err)
	require.NoError(t, cmd.Process.Signal(os.Interrupt))
	_ = cmd.Wait()
	require.Equal(t, exitError, cmd.ProcessState.ExitCode())
	r.nothingLeft()
}

func TestWhatIsWrongWithALabIsToldBeforeAnythingStarts(t *testing.T) {
	r := newLabRig(t)
	for text, want := range map[string]string{
		"guests:\n  - name: a\n    switch: lan\n    rum: x\n":                           "lab.yaml:4:5: a guest has no key",
		"guests:\n  - name: a\n    switch: lan\n    run: x\n":                           "lab.yaml:4:10: run of a: the program is not QEMU",
		"guests:\n  - name: a\n    nat: {}\n    switch: {switch-name: x, vlan: 4095}\n": "lab.yaml:4:",
	} {
		file := r.write("lab.yaml", text)
		for _, verb := range []string{"check", "up"} {
			status, output := r.lab(verb, file)
			require.Equal(t, exitUsage, status, output)
			require.Contains(t, output, want)
		}
		r.nothingLeft()
	}
	for _, verb := range []string{"status", "exec", "capture"} {
		status, output := r.lab(verb, "lab.yaml", "a")
		if verb == "status" {
			status, output = r.lab(verb, "lab.yaml")
		}
		require.Equal(t, exitError, status)
		require.Contains(t, output, "the lab lab is not up; vring lab up lab.yaml starts it")
	}
	require.Equal(t, "the lab lab was not up\n", r.must("down", "lab.yaml"))
}

func TestExecRunsSSHByVring(t *testing.T) {
	require.Equal(t, []string{
		"ssh", "-o", "ProxyCommand=/usr/bin/vring ctl --control '/run/a b%%/vring.ctl' connect web:22", "-o", "HostKeyAlias=two.web",
		"-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR", "-o", "IdentityFile=k", "-l", "root", "--", "web", "uname", "-a",
	}, sshCommand("/usr/bin/vring", "/run/a b%/vring.ctl", "two", "web", "root", []string{"IdentityFile=k"}, []string{"uname", "-a"}))
}

// A lab of many guests is up soon, and is small.
func TestALabOf64Guests(t *testing.T) {
	const guests = 64
	r := newLabRig(t)
	var text strings.Builder
	text.WriteString("guests:\n")
	for i := range guests {
		fmt.Fprintf(&text, "  - {name: g%d, switch: lan, nat: {}}\n", i)
	}
	file := r.write("many.yaml", text.String())
	began := time.Now()
	r.must("up", file)
	took := time.Since(began)
	report := r.report(file)
	require.Len(t, report.Guests, guests)
	for _, g := range report.Guests {
		conn, err := connectGuest(g.Socket)
		require.NoError(t, err)
		defer conn.Close()
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(r.report(file).Guests, func(g labGuest) bool { return g.FrontEnd != "connected" })
	}, 2*time.Minute, 50*time.Millisecond)
	kib := 0
	for _, pid := range withChildren(t, report.PID) {
		kib += proportionalKiB(t, pid)
	}
	t.Logf("%d guests: up in %v, %d MiB in all processes", guests, took, kib>>10)
	require.Less(t, took, time.Minute)
	require.Less(t, kib>>10, 2000) // the race detector has some
	r.must("down", file)
	r.nothingLeft()
}

// withChildren are a process and all below it.
func withChildren(t *testing.T, pid int) (all []int) {
	all = []int{pid}
	for _, child := range process.Children(pid) {
		all = append(all, withChildren(t, child)...)
	}
	return all
}

// proportionalKiB is how much memory a process has, with its part of what it shares.
func proportionalKiB(t *testing.T, pid int) (kib int) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\nPss:")
	require.True(t, found)
	_, err = fmt.Sscan(rest, &kib)
	require.NoError(t, err)
	return kib
}
