package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/cmd/vring/doctor"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/daemon"
)

// withQEMU gives cmd a QEMU of its own, which is a shell script.
func withQEMU(t *testing.T, cmd *exec.Cmd, script string) {
	dir := t.TempDir()
	path := filepath.Join(dir, doctor.Local("").QEMU)
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\n"+script+"\n"), 0o700))
	cmd.Env = append(cmd.Env, "PATH="+dir+":/usr/bin:/bin")
}

// untilReady starts cmd, returns what it prints until it serves, and ends it.
func untilReady(t *testing.T, cmd *exec.Cmd) (printed string) {
	t.Helper()
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	ready := regexp.MustCompile(`msg=ready|"msg":"ready"`)
	lines := bufio.NewScanner(stderr)
	for lines.Scan() && !ready.MatchString(lines.Text()) {
		printed += lines.Text() + "\n"
	}
	require.Regexp(t, ready, lines.Text(), printed)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	_, _ = io.Copy(io.Discard, stderr) // to the end: Wait closes the pipe
	require.NoError(t, cmd.Wait())
	return printed
}

func TestThePrintedCommandFitsTheQEMUThatIsInstalled(t *testing.T) {
	for name, c := range map[string]struct{ script, has, hasNot string }{
		"old":        {"echo 'QEMU emulator version 7.2.22 (Debian)'", "reconnect=1 ", "reconnect-ms"},
		"new":        {"echo 'QEMU emulator version 11.1.2 (Debian)'", "reconnect-ms=1000 ", "reconnect=1"},
		"broken":     {"exit 1", "(QEMU up to 9.1 wants reconnect=1 instead of reconnect-ms=1000)", "reconnect=1 -netdev"},
		"no answer":  {"exec sleep 60", "(QEMU up to 9.1 wants reconnect=1 instead of reconnect-ms=1000)", "reconnect=1 -netdev"},
		"more of it": {"echo 'QEMU emulator version 9.2.0'; sleep 60 & exit 0", "reconnect-ms=1000 ", "(QEMU"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := program(t, "stub", "--socket-path", filepath.Join(shortDir(t), "s"))
			withQEMU(t, cmd, c.script)
			printed := untilReady(t, cmd)
			require.Contains(t, printed, c.has)
			require.NotContains(t, printed, c.hasNot)
		})
	}
}

// To run QEMU takes more processor time than the whole rest of the start.
func TestQEMUNeedNotRunToTellItsVersion(t *testing.T) {
	cmd := program(t, "stub", "--socket-path", filepath.Join(shortDir(t), "s"))
	dir := t.TempDir()
	file := "\x7fELF" + strings.Repeat("\x00", 1<<20) + "QEMU emulator version 7.2.22 (Debian)\x00" // no program: it cannot run
	require.NoError(t, os.WriteFile(filepath.Join(dir, doctor.Local("").QEMU), []byte(file), 0o700))
	cmd.Env = append(cmd.Env, "PATH="+dir)
	require.Contains(t, untilReady(t, cmd), ",reconnect=1 -netdev")
}

func TestEachGuestOfTheHintHasItsOwnMACAddress(t *testing.T) {
	dir := shortDir(t)
	printed := func() string {
		cmd := program(t, "nat", "--socket-path", filepath.Join(dir, "a"), "--socket-path", filepath.Join(dir, "b"), "--queues", "2")
		withQEMU(t, cmd, "echo 'QEMU emulator version 11.1.2'")
		return untilReady(t, cmd)
	}
	macs := func(text string) [][]string {
		return regexp.MustCompile(`,queues=2 -device virtio-net-pci,netdev=net,mac=(52:54:00:[0-9a-f:]{8}),mq=on`).FindAllStringSubmatch(text, -1)
	}
	first := macs(printed())
	require.Len(t, first, 2)
	require.NotEqual(t, first[0][1], first[1][1])
	require.Equal(t, first, macs(printed()), "a guest keeps its address")
}

func TestAServiceManagersLogHasNoHintAndWaitsForNoQEMU(t *testing.T) {
	cmd := program(t, "nat", "--socket-path", filepath.Join(shortDir(t), "s"))
	ran := filepath.Join(t.TempDir(), "ran")
	withQEMU(t, cmd, "touch "+ran)
	cmd.Env = append(cmd.Env, "NOTIFY_SOCKET=/nonexistent/notify")
	printed := untilReady(t, cmd)
	require.NotContains(t, printed, "qemu")
	require.NoFileExists(t, ran)
}

// requireObjects requires that each line of text is a JSON object like a line of the log, and returns those with a message.
func requireObjects(t *testing.T, text, message string) (found []map[string]any) {
	t.Helper()
	for line := range strings.Lines(text) {
		var object map[string]any
		require.NoError(t, json.Unmarshal([]byte(line), &object), line)
		for _, key := range []string{"time", "level", "msg"} {
			require.Contains(t, object, key, line)
		}
		if object["msg"] == message {
			found = append(found, object)
		}
	}
	return found
}

func TestAllThatIsPrintedBesideAJSONLogIsJSON(t *testing.T) {
	dir := shortDir(t)
	cmd := program(t, "nat", "--socket-path", filepath.Join(dir, "a"), "--socket-path", filepath.Join(dir, "b"), "--log-format=json")
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines, printed := bufio.NewScanner(stderr), new(bytes.Buffer)
	lines.Buffer(nil, 1<<20)
	readTo := func(text string) {
		for lines.Scan() {
			printed.WriteString(lines.Text() + "\n")
			if strings.Contains(lines.Text(), text) {
				return
			}
		}
		require.Fail(t, "no "+text, printed.String())
	}
	readTo(`"msg":"ready","socket":"` + dir + `/b"`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
	readTo(`"msg":"status"`)
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	for lines.Scan() {
		printed.WriteString(lines.Text() + "\n")
	}
	require.NoError(t, cmd.Wait())

	hints := requireObjects(t, printed.String(), "QEMU command lines")
	require.Len(t, hints, 1)
	require.Len(t, hints[0]["commands"], 2)
	reports := requireObjects(t, printed.String(), "status")
	require.Len(t, reports, 1, "one object for all guests")
	require.Len(t, reports[0]["guests"], 2)
	require.Equal(t, programVersion(), reports[0]["process"].(map[string]any)["version"])
}

func TestErrorsBesideAJSONLogAreJSON(t *testing.T) {
	status, _, stderr := runHere(t, "nat", "--mtu", "9", "--network", "x", "--log-format", "json")
	require.Equal(t, exitUsage, status)
	faults := requireObjects(t, stderr, "wrong use")
	require.Len(t, faults, 1)
	require.Len(t, faults[0]["faults"], 3)

	status, _, stderr = runHere(t, "nat", "--mtu", "x", "--log-format=json")
	require.Equal(t, exitUsage, status)
	require.Len(t, requireObjects(t, stderr, "wrong use"), 1, "a flag that cannot be read is no reason to print text")

	status, _, stderr = runHere(t, "nat", "--fd", "0", "--log-format=json", "--sandbox=off")
	require.Equal(t, exitError, status, stderr)
	require.Len(t, requireObjects(t, stderr, "vring failed"), 1)
}

func TestTrafficBesideAJSONLogIsJSON(t *testing.T) {
	var printed bytes.Buffer
	teller{out: newConsole(&printed, daemon.FormatJSON), events: control.NewEvents()}.tell(daemon.Traffic{Guest: "a", Rates: daemon.Rates{FromGuest: 1, FromGuestGbit: 2}})
	traffic := requireObjects(t, printed.String(), "traffic")
	require.Len(t, traffic, 1)
	require.InDelta(t, 1, traffic[0]["from_guest_frames_per_second"], 0)
}

func TestTheVersionIsPrintedAndLogged(t *testing.T) {
	status, stdout, _ := runHere(t, "--version")
	require.Equal(t, exitOK, status)
	require.Equal(t, "vring "+programVersion()+"\n", stdout)
	require.Equal(t, develVersion, programVersion(), "a test has no version")
	printed := untilReady(t, program(t, "stub", "--socket-path", filepath.Join(shortDir(t), "s")))
	require.Contains(t, strings.Split(printed, "\n")[0], `msg="vring starts" version=devel`)
}
