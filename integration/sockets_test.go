package integration

import (
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/userland"
)

// One program on the path: between guest and target, and between client and guest, there is one TCP connection of the
// host and no more.

func TestAConnectionIsOneSocketOfVring(t *testing.T) {
	t.Parallel()
	held := make(chan net.Conn, 1)
	port := acceptAll(t, func(conn net.Conn) { held <- conn })
	l := newLab(t, onUML(userland.Forky), "--allow-host", fmt.Sprintf("tcp:%d", port))
	t.Run("out of the guest", func(t *testing.T) { l.requireOneSocketOut(t, held, port) })
	t.Run("into the guest", l.requireOneSocketIn)
}

func (l *lab) requireOneSocketOut(t *testing.T, held chan net.Conn, port int) {
	call := l.guest.Start("tcp-dial", viaGateway(port), 1, guestSeed)
	conn := <-held
	require.Equal(t, []string{conn.RemoteAddr().String() + " " + local(port)}, l.vring.tcpConnections(t))

	closeBoth(t, conn)
	require.NoError(t, call.Wait(l.ctx, nil))
}

func (l *lab) requireOneSocketIn(t *testing.T) {
	listen, conn := l.connectIn(1)
	defer conn.Close()
	_, err := io.ReadFull(conn, make([]byte, 1)) // of the guest, so the connection is through
	require.NoError(t, err)
	require.Equal(t, []string{local(l.forwardTCP) + " " + conn.LocalAddr().String()}, l.vring.tcpConnections(t))

	closeBoth(t, conn)
	require.NoError(t, listen.Wait(l.ctx, nil))
}

// closeBoth ends a connection in order: our end, and then what the peer still has to say.
func closeBoth(t *testing.T, conn net.Conn) {
	require.NoError(t, conn.(*net.TCPConn).CloseWrite())
	_, err := io.Copy(io.Discard, conn)
	require.NoError(t, err)
	require.NoError(t, conn.Close())
}

// tcpConnections lists the TCP connections of vring, in any state but listening, as "LOCAL PEER".
func (d *daemon) tcpConnections(t *testing.T) []string {
	ss, err := guest.FindTool("ss")
	require.NoError(t, err)
	out, err := exec.Command(ss, "-Htnp", "state", "connected").Output()
	require.NoError(t, err)
	var connections []string
	for line := range strings.Lines(string(out)) {
		if !strings.Contains(line, fmt.Sprintf("pid=%d,", d.PID())) {
			continue
		}
		fields := strings.Fields(line) // state, receive queue, send queue, local, peer, process
		require.Greater(t, len(fields), 4, line)
		connections = append(connections, fields[3]+" "+fields[4])
	}
	return connections
}
