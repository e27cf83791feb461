package terminal

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestAProgramHasATerminal(t *testing.T) {
	script := `stty -echo; printf 'first\033[3;5Hthere'; read line; stty size; printf "got %s" "$line"`
	terminal, err := Start(exec.CommandContext(t.Context(), "sh", "-c", script), 40, 10)
	require.NoError(t, err)
	shows := func(text string) func() bool {
		return func() bool { return strings.Contains(terminal.Screen(), text) }
	}
	require.Eventually(t, shows("first\n\n    there"), time.Minute, time.Millisecond)
	require.NoError(t, terminal.Resize(60, 20))
	require.NoError(t, terminal.Type("word\n"))
	require.NoError(t, terminal.Wait())
	require.Contains(t, terminal.Screen(), "20 60")
	require.Contains(t, terminal.Screen(), "got word")
	require.False(t, terminal.IsAlternate())
}
