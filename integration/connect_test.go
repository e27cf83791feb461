package integration

import (
	"fmt"
	"io"
	"os"
	"os/exec"

	"github.com/stretchr/testify/require"
)

// piped is the standard input and output of a process.
type piped struct {
	io.ReadCloser
	in io.WriteCloser
}

func (p *piped) Write(b []byte) (int, error) { return p.in.Write(b) }
func (p *piped) CloseWrite() error           { return p.in.Close() }

// requireConnect connects to the guest by vring ctl connect: all that is sent arrives, both ways, and each end of the stream is told. What cannot be
// reached is told with the reason.
func (l *lab) requireConnect(closed int) {
	l.t.Helper()
	l.transferOn(func() io.ReadWriteCloser {
		cmd := exec.CommandContext(l.ctx, built.vring, "ctl", "--socket-path", l.vring.Socket, "connect", fmt.Sprintf("10.0.2.15:%d", guestTCPPort))
		in, err := cmd.StdinPipe()
		require.NoError(l.t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(l.t, err)
		cmd.Stderr = os.Stderr
		require.NoError(l.t, cmd.Start())
		l.t.Cleanup(func() { require.NoError(l.t, cmd.Wait()) })
		return &piped{out, in}
	})
	text, err := exec.CommandContext(l.ctx, built.vring, "ctl", "--socket-path", l.vring.Socket, "connect", fmt.Sprintf("10.0.2.15:%d", closed)).CombinedOutput()
	require.Error(l.t, err)
	require.Contains(l.t, string(text), fmt.Sprintf("10.0.2.15:%d refuses the connection: nothing listens there", closed))
}
