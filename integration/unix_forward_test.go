package integration

import (
	"path/filepath"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// A unix socket of the host leads into the guest like a port, and its file goes with vring, out of the sandbox too.
func TestAUnixSocketLeadsIntoTheGuest(t *testing.T) {
	path := filepath.Join(shortDir(t), "web.sock")
	l := newLab(t, onUML(userland.Bookworm), "-p", "unix:"+path+":5001")

	got := l.transferBy("unix", path)
	require.Regexp(t, `^10\.0\.2\.2:\d+$`, got.Peer, "the guest sees the gateway")

	_, conn := l.connectBy("unix", path, 1)
	defer conn.Close()
	require.NoError(t, l.vring.Signal(syscall.SIGUSR1))
	line := regexp.MustCompile(` tcp +in +10\.0\.2\.15:5001 +` + regexp.QuoteMeta(path) + ` `)
	require.Eventually(t, func() bool { return line.MatchString(l.vring.Output()) }, soon, 5*time.Millisecond)

	l.vring.terminate()
	require.NoFileExists(t, path)
}
