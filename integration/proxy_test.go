package integration

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// A proxy on the host names its client to vring. The guest's kernel sees that client's address, and its program gets a
// header of vring's with both.
func TestAForwardSpeaksThePROXYProtocolOnBothSides(t *testing.T) {
	t.Parallel()
	const (
		client = "192.0.2.7:40123"
		header = "PROXY TCP4 192.0.2.7 198.51.100.1 40123 443\r\n"
		binary = "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc6\x33\x64\x01\x9c\xbb\x01\xbb"
	)
	in, out, plain := freePort(t), freePort(t), freePort(t)
	l := newLab(t, onUML(userland.Bookworm),
		"-p", fmt.Sprintf("accept-proxy:%d:%d", in, guestTCPPort),
		"-p", fmt.Sprintf("accept-proxy:send-proxy-v2:%d:%d", out, guestTCPPort),
		"-p", fmt.Sprintf("send-proxy:%d:%d", plain, guestTCPPort))

	for name, c := range map[string]struct {
		port       int
		says, gets string // in front of the data
		peer       string
	}{
		"from the host": {in, header, "", client},
		"from both":     {out, header, binary, client},
		"to the guest":  {plain, "", "PROXY TCP4 127.0.0.1 127.0.0.1 ", ""},
	} {
		t.Run(name, func(t *testing.T) {
			listen := l.guest.Start("tcp-listen", guestTCPPort, labBytes, guestSeed)
			require.NoError(t, listen.Event(l.ctx, nil))
			conn := dial(l.ctx, t, "tcp4", c.port)
			_, err := io.WriteString(conn, c.says)
			require.NoError(t, err)
			gets := c.gets
			if c.port == plain {
				from, to := netip.MustParseAddrPort(conn.LocalAddr().String()), netip.MustParseAddrPort(conn.RemoteAddr().String())
				gets += fmt.Sprintf("%d %d\r\n", from.Port(), to.Port())
			}
			done := exchange(conn, labBytes)
			require.NoError(t, done.err)
			requirePattern(t, guestSeed, labBytes, done.got)
			var got proto.Transfer
			require.NoError(t, listen.Event(l.ctx, &got))
			require.NoError(t, listen.Wait(l.ctx, nil))
			require.EqualValues(t, len(gets)+labBytes, got.Bytes)
			require.Equal(t, sumBehind(t, gets), got.SHA256)
			if c.peer != "" {
				require.Equal(t, c.peer, got.Peer)
			}
		})
	}
}

// sumBehind is the sum of the host's data with something in front.
func sumBehind(t *testing.T, front string) string {
	t.Helper()
	h := sha256.New()
	_, err := io.Copy(h, io.MultiReader(strings.NewReader(front), proto.Pattern(hostSeed, labBytes)))
	require.NoError(t, err)
	return hex.EncodeToString(h.Sum(nil))
}
