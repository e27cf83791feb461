package integration

import (
	"fmt"
	"io"
	"net"
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
	cmd := exec.CommandContext(l.ctx, built.vring, "ctl", "--socket-path", l.vring.Socket, "connect", fmt.Sprintf("10.0.2.15:%d", guestTCPPort))
	in, err := cmd.StdinPipe()
	require.NoError(l.t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(l.t, err)
	cmd.Stderr = os.Stderr
	l.transferOn(func() io.ReadWriteCloser {
		require.NoError(l.t, cmd.Start())
		return &piped{out, in}
	})
	require.NoError(l.t, cmd.Wait())

	text, err := exec.CommandContext(l.ctx, built.vring, "ctl", "--socket-path", l.vring.Socket, "connect", fmt.Sprintf("10.0.2.15:%d", closed)).CombinedOutput()
	require.Error(l.t, err)
	require.Contains(l.t, string(text), fmt.Sprintf("10.0.2.15:%d refuses the connection: nothing listens there", closed))
}

// requireSOCKS connects to the guest by SOCKS: by hand, to see each byte and each end, and by curl.
func (l *lab) requireSOCKS(proxy string, closed int) {
	l.t.Helper()
	l.transferOn(func() io.ReadWriteCloser {
		conn, reply := l.socks(proxy, guestTCPPort)
		require.EqualValues(l.t, 0, reply)
		return conn.(*net.TCPConn)
	})
	_, reply := l.socks(proxy, closed)
	require.EqualValues(l.t, 5, reply, "it is refused")

	const port = 5008
	serve := l.guest.Start("http-serve", port, "hello")
	require.NoError(l.t, serve.Event(l.ctx, nil))
	for _, way := range []string{"--socks5", "--socks5-hostname"} {
		page, err := exec.CommandContext(l.ctx, "curl", "-sS", way, proxy, fmt.Sprintf("http://10.0.2.15:%d/", port)).CombinedOutput()
		require.NoError(l.t, err, string(page))
		require.Equal(l.t, "hello\n", string(page))
	}
	text, err := exec.CommandContext(l.ctx, "curl", "-sS", "--socks5-hostname", proxy, fmt.Sprintf("http://10.0.2.15:%d/", closed)).CombinedOutput()
	require.Error(l.t, err)
	require.Contains(l.t, string(text), "connection to 10.0.2.15")
}

// socks asks for a connection to a port of the guest, and returns it with the reply.
func (l *lab) socks(proxy string, port int) (net.Conn, byte) {
	l.t.Helper()
	conn := dialAt(l.ctx, l.t, "tcp4", proxy)
	l.t.Cleanup(func() { _ = conn.Close() })
	_, err := conn.Write([]byte{5, 1, 0, 5, 1, 0, 1, 10, 0, 2, 15, byte(port >> 8), byte(port)})
	require.NoError(l.t, err)
	var answer [2 + 10]byte
	_, err = io.ReadFull(conn, answer[:])
	require.NoError(l.t, err)
	require.Equal(l.t, []byte{5, 0, 5}, answer[:3])
	return conn, answer[3]
}
