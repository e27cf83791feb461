package main

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// It ends well: startControlled looks at the status, and that no file is left.
func TestAVringIsEndedAtItsControlSocket(t *testing.T) {
	for _, mode := range []string{"on", "off"} {
		t.Run("sandbox "+mode, func(t *testing.T) {
			c := startControlled(t, "--sandbox", mode)
			status, _, stderr := c.ctl("stop", "--watch")
			require.Equal(t, exitUsage, status)
			require.Contains(t, stderr, "--watch is for what is looked at")
			status, stdout, stderr := c.ctl("stop")
			require.Equal(t, exitOK, status, stderr)
			require.Equal(t, "it ends\n", stdout)
			require.Eventually(t, func() bool {
				_, err := os.Stat(c.control)
				return os.IsNotExist(err)
			}, time.Minute, time.Millisecond)
		})
	}
}
