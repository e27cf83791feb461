package integration

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/terminal"
)

// requireTop ends a connection of the guest to a port of the host, which is busier than all others, in vring top.
func (l *lab) requireTop(busy int) {
	l.t.Helper()
	cmd := exec.CommandContext(l.ctx, built.vring, "top", "--socket-path", l.vring.Socket)
	cmd.Dir = l.t.TempDir()
	top, err := terminal.Start(cmd, 120, 30)
	require.NoError(l.t, err)
	press := func(key, shown string) {
		l.t.Helper()
		require.NoError(l.t, top.Type(key))
		require.Eventually(l.t, func() bool { return strings.Contains(top.Screen(), shown) }, soon, 10*time.Millisecond, "%s\n%s", shown, top.Screen())
	}
	const flow = "tcp    out  10.0.2.15:"
	press("", "> 10.0.2.15  up")
	require.True(l.t, top.IsAlternate())
	press("1", "> "+flow)
	press("", "bit/s   ") // the rates are known, so the busiest is the first
	press("2", "frames_in")
	press("3", fmt.Sprint(l.forwardTCP))
	press("1", "> "+flow)
	press("c", "CAPTURE vring-10.0.2.15-")
	press("c", ".pcapng: ")
	require.Eventually(l.t, func() bool { return !strings.Contains(top.Screen(), "CAPTURE") }, soon, 10*time.Millisecond)
	press("k", fmt.Sprintf("- 10.0.2.2:%d? y ends it", busy))
	press("y", "1 flow ended")
	press("?", "move between the guests and the list")
	require.NoError(l.t, top.Resize(40, 8))
	press("?", "[1] flows")
	require.NoError(l.t, top.Type("q"))
	require.NoError(l.t, top.Wait())
	require.False(l.t, top.IsAlternate(), "the terminal is as it was")
	captured, err := filepath.Glob(filepath.Join(cmd.Dir, "vring-10.0.2.15-*.pcapng"))
	require.NoError(l.t, err)
	require.Len(l.t, captured, 1)
	text, err := exec.Command("tcpdump", "-n", "-c", "1", "-r", captured[0]).Output()
	require.NoError(l.t, err)
	require.Contains(l.t, string(text), "10.0.2.15")
}
