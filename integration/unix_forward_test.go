package integration

import (
	"net"
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/guest/proto"
)

// A unix socket of the host leads into the guest like a port, and its file goes with vring, out of the sandbox too.
func TestAUnixSocketLeadsIntoTheGuest(t *testing.T) {
	path := filepath.Join(shortDir(t), "web.sock")
	l := newLab(t, onUML, "-p", "unix:"+path+":5001")

	listen := l.guest.Start("tcp-listen", guestTCPPort, labBytes, guestSeed)
	require.NoError(t, listen.Event(l.ctx, nil))
	conn, err := net.Dial("unix", path)
	require.NoError(t, err)
	done := exchange(conn, labBytes)
	require.NoError(t, done.err)
	requirePattern(t, guestSeed, labBytes, done.got)
	var got proto.Transfer
	require.NoError(t, listen.Event(l.ctx, &got))
	requirePattern(t, hostSeed, labBytes, got)
	require.Regexp(t, `^10\.0\.2\.2:\d+$`, got.Peer, "the guest sees the gateway")
	require.NoError(t, listen.Wait(l.ctx, nil))

	listen = l.guest.Start("tcp-listen", guestTCPPort, 1, guestSeed)
	require.NoError(t, listen.Event(l.ctx, nil))
	conn, err = net.Dial("unix", path)
	require.NoError(t, err)
	defer conn.Close()
	require.NoError(t, l.vring.Signal(syscall.SIGUSR1))
	line := regexp.MustCompile(` tcp +in +10\.0\.2\.15:5001 +` + regexp.QuoteMeta(path) + ` `)
	require.Eventually(t, func() bool { return line.MatchString(l.vring.Output()) }, soon, 5*time.Millisecond)

	l.vring.terminate()
	require.NoFileExists(t, path)
}
