package process

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestOutputAndExitAreKept(t *testing.T) {
	p, err := Start(t.Context(), exec.Command("sh", "-c", "echo out; echo err >&2; exit 3"), Options{})
	require.NoError(t, err)
	require.EqualError(t, p.Wait(2*time.Minute), "exit status 3")
	require.Contains(t, p.Output(), "out\n")
	require.Contains(t, p.Output(), "err\n")
	require.NoError(t, p.Kill(), "of a process that has ended")
}

func TestKillEndsChildrenToo(t *testing.T) {
	p, err := Start(t.Context(), exec.Command("sh", "-c", "sleep 1000 & echo $!; wait"), Options{})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.Output() != "" }, 2*time.Minute, time.Millisecond)
	child := "/proc/" + p.Output()[:len(p.Output())-1] + "/fd/0"
	require.NoError(t, p.Kill())
	require.Eventually(t, func() bool { _, err := os.Stat(child); return err != nil }, 2*time.Minute, time.Millisecond)
}

func TestAProcessEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	p, err := Start(ctx, exec.Command("sleep", "1000"), Options{})
	require.NoError(t, err)
	cancel()
	require.EqualError(t, p.Wait(2*time.Minute), "signal: killed")
}

func TestFootprintOfThisProcess(t *testing.T) {
	before, err := ReadFootprint(os.Getpid())
	require.NoError(t, err)
	f, err := os.Open("/dev/null")
	require.NoError(t, err)
	defer f.Close()
	after, err := ReadFootprint(os.Getpid())
	require.NoError(t, err)
	require.Equal(t, before.FDs+1, after.FDs)

	spent, err := CPUTime(os.Getpid())
	require.NoError(t, err)
	require.Positive(t, spent)
}

func TestSharedMappingsAreCounted(t *testing.T) {
	const maps = `7f0000000000-7f0020000000 rw-s 00000000 00:01 1025 /memfd:memory-backend-memfd (deleted)
7f0020000000-7f0020021000 rw-p 00000000 00:00 0
`
	require.Equal(t, 1, countShared(maps))
}
