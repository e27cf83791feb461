package forward

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTheHolderOfAPortIsFoundByAddress(t *testing.T) {
	const line = "   3: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 48213 1 0 100 0 0 10 0"
	const any6 = "   3: 00000000000000000000000000000000:1F90 00000000000000000000000000000000:0000 0A 0:0 00:0 0  1000        0 48213 1"
	for _, c := range []struct {
		line, port string
		holds      bool
	}{
		{line, "127.0.0.1:8080", true},
		{line, "0.0.0.0:8080", true},
		{line, "127.0.0.1:8081", false},
		{line, "127.0.0.2:8080", false},
		{strings.Replace(line, " 0A ", " 01 ", 1), "127.0.0.1:8080", false}, // a connection
		{any6, "127.0.0.1:8080", true},
		{"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode", "127.0.0.1:8080", false},
		{"", "127.0.0.1:8080", false},
	} {
		inode, holds := holdsPort(c.line, unix.IPPROTO_TCP, netip.MustParseAddrPort(c.port))
		require.Equal(t, c.holds, holds, "%s %s", c.port, c.line)
		if holds {
			require.Equal(t, "48213", inode)
		}
	}
}
