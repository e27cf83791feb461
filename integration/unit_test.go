package integration

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/guest"
)

// systemd itself says what it thinks of the unit, for an instance and with the program of this run.
func TestTheUnitFileIsValid(t *testing.T) {
	analyze, err := guest.FindTool("systemd-analyze")
	require.NoError(t, err)
	template, err := os.ReadFile(filepath.Join(guest.ProjectRoot(), "cmd", "vring", "systemd", "vring@.service"))
	require.NoError(t, err)
	unit := filepath.Join(shortDir(t), "vring@vm0.service")
	text := strings.Replace(string(template), "/usr/bin/vring", built.vring, 1)
	require.NoError(t, os.WriteFile(unit, []byte(text), 0o644))
	out, err := exec.CommandContext(limited(t), analyze, "verify", "--man=no", unit).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Empty(t, string(out))
}
