package sidecar

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// patience is for what needs no time.
const patience = 2 * time.Minute

// runVariable makes this program call Run: in its directory, with the programs that it says.
const runVariable = "SIDECAR_TEST"

// tellReady is what a sidecar of the tests, a shell, does first: this program says for it that it is ready.
const tellReady = readyVariable + "=1 " + self + "; "

const (
	readyVariable = "SIDECAR_TEST_READY"
	self          = `"$SIDECAR_TEST_SELF"`
)

func TestMain(m *testing.M) {
	switch {
	case os.Getenv(readyVariable) != "":
		os.Exit(sayReady())
	case os.Getenv(runVariable) != "":
		os.Exit(runHere())
	}
	os.Exit(m.Run())
}

// sayReady says to whoever waits for it that the sidecar is ready.
func sayReady() int {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM, 0)
	if err == nil {
		err = unix.Sendto(fd, []byte("STATUS=up\nREADY=1"), 0, &unix.SockaddrUnix{Name: os.Getenv("NOTIFY_SOCKET")})
	}
	if err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// runHere calls Run with the two shell scripts that are the arguments.
func runHere() int {
	status, err := Run(Config{
		Sidecar: []string{"/bin/sh", "-c", os.Args[1]}, Program: []string{"/bin/sh", "-c", os.Args[2]}, Dir: os.Getenv(runVariable),
		Lost: func(err error) { fmt.Println("lost:", err) },
	})
	if err != nil {
		fmt.Println("error:", err)
	}
	return status
}

// bench is a process that runs two scripts.
type bench struct {
	t      *testing.T
	cmd    *exec.Cmd
	dir    string // of both, too
	output *os.File
}

// begin runs two shell scripts, in a directory of their own.
func begin(t *testing.T, sidecar, program string) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir()}
	me, err := os.Executable()
	require.NoError(t, err)
	b.output, err = os.Create(filepath.Join(b.dir, "output"))
	require.NoError(t, err)
	t.Cleanup(func() { _ = b.output.Close() })
	b.cmd = exec.Command(me, sidecar, program)
	b.cmd.Dir, b.cmd.Stdout, b.cmd.Stderr = b.dir, b.output, b.output
	b.cmd.Env = append(os.Environ(), runVariable+"="+b.dir, "SIDECAR_TEST_SELF="+me)
	require.NoError(t, b.cmd.Start())
	t.Cleanup(func() { _ = b.cmd.Process.Kill() })
	return b
}

// end waits until the process has ended, and returns its status and what all have printed.
func (b *bench) end() (status int, output string) {
	b.t.Helper()
	_ = b.cmd.Wait() // the status tells
	return b.cmd.ProcessState.ExitCode(), b.outputSoFar()
}

// outputSoFar is what all have printed.
func (b *bench) outputSoFar() string {
	b.t.Helper()
	text, err := os.ReadFile(b.output.Name())
	require.NoError(b.t, err)
	return string(text)
}

// waitFor waits until a script has made a file.
func (b *bench) waitFor(name string) {
	b.t.Helper()
	require.Eventually(b.t, func() bool {
		_, err := os.Stat(filepath.Join(b.dir, name))
		return err == nil
	}, patience, time.Millisecond)
}

// forever is the end of a script that ends when it is told to.
const forever = "while :; do sleep 0.01; done"

// sidecarThatTells is one that notes how it is ended.
const sidecarThatTells = `trap 'touch sidecar-ended; exit 0' TERM; ` + tellReady + forever

func TestTheProgramStartsWhenTheSidecarIsReadyAndTheSidecarEndsAfterIt(t *testing.T) {
	b := begin(t, "touch first; "+sidecarThatTells, "test -e first || echo too early; test -e sidecar-ended && echo ended too early; exit 7")
	status, output := b.end()
	require.Equal(t, 7, status)
	require.Empty(t, output)
	require.FileExists(t, filepath.Join(b.dir, "sidecar-ended"), "it has ended when Run returns")
}

func TestTheStatusOfAProgramThatASignalEndsIsThatOfAShell(t *testing.T) {
	status, _ := begin(t, sidecarThatTells, "kill -KILL $$").end()
	require.Equal(t, 128+int(syscall.SIGKILL), status)
}

func TestTheProgramDoesNotStartIfTheSidecarEnds(t *testing.T) {
	b := begin(t, "echo it is broken; exit 3", "touch started")
	_, output := b.end()
	require.Contains(t, output, "it is broken\nerror: /bin/sh: it has ended before it was ready")
	require.NoFileExists(t, filepath.Join(b.dir, "started"))
}

func TestSignalsGoToTheProgram(t *testing.T) {
	for _, s := range []syscall.Signal{unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2} {
		t.Run(s.String(), func(t *testing.T) {
			name := strings.TrimPrefix(unix.SignalName(s), "SIG")
			b := begin(t, sidecarThatTells, fmt.Sprintf("trap 'test -e sidecar-ended && exit 1; exit 42' %s; touch program; "+forever, name))
			b.waitFor("program")
			require.NoError(t, b.cmd.Process.Signal(s))
			status, output := b.end()
			require.Equal(t, 42, status, output)
			b.waitFor("sidecar-ended")
		})
	}
}

func TestASignalBeforeTheSidecarIsReadyEndsAll(t *testing.T) {
	b := begin(t, "trap 'touch sidecar-ended; exit 0' TERM; touch begun; "+forever, "touch started")
	b.waitFor("begun")
	require.NoError(t, b.cmd.Process.Signal(unix.SIGUSR1), "this one is for the program")
	require.NoError(t, b.cmd.Process.Signal(unix.SIGTERM))
	status, _ := b.end()
	require.Equal(t, 128+int(unix.SIGTERM), status)
	b.waitFor("sidecar-ended")
	require.NoFileExists(t, filepath.Join(b.dir, "started"))
}

func TestAProgramGoesOnWithoutItsSidecar(t *testing.T) {
	b := begin(t, tellReady+"until test -e program; do sleep 0.01; done; exit 9", "touch program; until test -e go-on; do sleep 0.01; done; exit 5")
	require.Eventually(t, func() bool { return strings.Contains(b.outputSoFar(), "lost: exit status 9") }, patience, time.Millisecond)
	require.NoError(t, os.WriteFile(filepath.Join(b.dir, "go-on"), nil, 0o600))
	status, _ := b.end()
	require.Equal(t, 5, status)
}

func TestBothEndWithTheProcessThatRunsThem(t *testing.T) {
	b := begin(t, sidecarThatTells, `trap 'touch program-ended; exit 0' TERM; touch program; `+forever)
	b.waitFor("program")
	require.NoError(t, b.cmd.Process.Kill())
	b.waitFor("program-ended")
	b.waitFor("sidecar-ended")
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	dir := t.TempDir()
	_, err := Run(Config{Sidecar: []string{"/nonexistent/vring"}, Dir: dir})
	require.ErrorContains(t, err, "/nonexistent/vring")
}
