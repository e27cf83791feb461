package main

import (
	"bufio"
	"io"
	"net"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// startReady starts vring as a process, and returns it when it is in its sandbox and ready.
func startReady(t *testing.T, env string, args ...string) *exec.Cmd {
	cmd := program(t, args...)
	cmd.Env = append(cmd.Env, env)
	stderr, err := cmd.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	lines := bufio.NewScanner(stderr)
	requireLine(t, lines, "msg=ready")
	go func() { _, _ = io.Copy(io.Discard, stderr) }()
	return cmd
}

// requireStop ends vring by SIGTERM, without an error.
func requireStop(t *testing.T, cmd *exec.Cmd) {
	require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
	state, err := cmd.Process.Wait()
	require.NoError(t, err)
	require.True(t, state.Success(), state.String())
}

func TestAFrontEndThatListensIsReachedFromTheSandbox(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	cmd := startReady(t, "", "nat", "--socket-path", path, "--client")
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"}) // only now: vring tries again
	require.NoError(t, err)
	defer listener.Close()
	require.NoError(t, listener.SetDeadline(time.Now().Add(time.Minute)))
	conn, err := listener.Accept()
	require.NoError(t, err)
	require.NoError(t, conn.Close())
	requireStop(t, cmd)
}

func TestTheStatusTellsHowTheSandboxStands(t *testing.T) {
	for mode, want := range map[string]string{
		"on": `^sandbox: no_new_privs: new rights \| namespaces: .* \| capabilities: all \| `, "off": "^sandbox: off$",
		"log": `seccomp: none, it only logs`,
	} {
		t.Run(mode, func(t *testing.T) {
			cmd := program(t, "stub", "--socket-path", filepath.Join(shortDir(t), "s"), "--sandbox", mode)
			stderr, err := cmd.StderrPipe()
			require.NoError(t, err)
			require.NoError(t, cmd.Start())
			lines := bufio.NewScanner(stderr)
			requireLine(t, lines, "msg=ready")
			require.NoError(t, cmd.Process.Signal(syscall.SIGUSR1))
			requireLine(t, lines, "sandbox: ")
			require.Regexp(t, want, lines.Text())
			requireStop(t, cmd)
		})
	}
}

func TestSystemdIsToldFromTheSandbox(t *testing.T) {
	for _, name := range []string{filepath.Join(shortDir(t), "notify"), "@vring/" + filepath.Base(shortDir(t))} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
			require.NoError(t, err)
			defer conn.Close()
			require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
			cmd := startReady(t, "NOTIFY_SOCKET="+name, "stub", "--socket-path", filepath.Join(shortDir(t), "s"))
			requireStop(t, cmd)
			for _, want := range []string{"READY=1", "STOPPING=1"} {
				got := make([]byte, 100)
				n, err := conn.Read(got)
				require.NoError(t, err)
				require.Equal(t, want, string(got[:n]))
			}
		})
	}
}
