package integration

import (
	"io"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// refusedPort is a port of the guest at which nobody listens.
const refusedPort = 5009

// A unix socket of the host leads into the guest like a port, and its file goes with vring, out of the sandbox too.
func TestAUnixSocketLeadsIntoTheGuest(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "web.sock")
	proxy := local(freePort(t))
	l := newLab(t, onUML(userland.Bookworm), "-p", "unix:"+path+":5001", "--socks", proxy)

	got := l.transferBy("unix", path)
	require.Regexp(t, `^10\.0\.2\.2:\d+$`, got.Peer, "the guest sees the gateway")

	const endless = 1 << 40
	listen, conn := l.connectBy("unix", path, endless)
	defer conn.Close()
	choice := []string{"10.0.2.15", "--direction=in", "--proto=tcp", "--guest-port=5001"}
	flow := regexp.MustCompile(`(?s)"inbound": true,\s+"by": "forward",\s+"guest": "10\.0\.2\.15:5001",.*"host": "` + regexp.QuoteMeta(path) + `",.*"state": "open"`)
	require.Eventually(t, func() bool { // vring accepts it, and the guest answers, after the client is connected
		return flow.MatchString(l.vring.ctl(append([]string{"flows", "-o", "json"}, choice...)...))
	}, soon, 5*time.Millisecond)
	require.Equal(t, "1 flows ended\n", l.vring.ctl(append([]string{"flows", "kill"}, choice...)...))
	_, err := io.ReadAll(conn)
	require.NoError(t, err, "a unix socket has no reset, and ends")
	require.Regexp(t, "connection reset|broken pipe", listen.Wait(l.ctx, nil), "it was writing")
	l.requireConnect(refusedPort)
	l.requireSOCKS(proxy, refusedPort)
	l.requireNetwork()

	l.vring.terminate()
	require.NoFileExists(t, path)
}
