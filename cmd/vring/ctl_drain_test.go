package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// There are no connections to wait for. startControlled looks at the status, and that no file is left.
func TestAVringEndsWhenItIsDrained(t *testing.T) {
	c := startControlled(t)
	status, stdout, stderr := c.ctl("drain", "--wait", "--timeout", "1h")
	require.Equal(t, exitOK, status, stderr)
	require.Equal(t, "it has ended\n", stdout)
}

func TestWhatDoesNotDrainCannotBeTakenBack(t *testing.T) {
	c := startControlled(t, "--sandbox", "off")
	status, _, stderr := c.ctl("drain", "--cancel")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "it is not draining")
	_, stdout, _ := c.ctl("status")
	require.NotContains(t, stdout, "drain")
}

func TestADrainIsToldInALine(t *testing.T) {
	flows := 3
	require.Equal(t, "not draining: new connections may begin", drainLine(&api.Drain{}))
	require.Equal(t, "draining: nothing new begins, 3 flows are left, until then", drainLine(&api.Drain{Draining: true, Flows: &flows, Until: "then"}))
}

func TestWhatIsWrongWithADrainIsTold(t *testing.T) {
	for args, want := range map[string]string{
		"--cancel --wait": "leave --timeout and --wait out",
		"--timeout=-1s":   "--timeout -1s: want a time above 0",
		"--timeout=10us":  "want a time above 0",
		"--watch":         "this changes something, once",
		"10.0.2.15":       `unexpected "10.0.2.15"`,
	} {
		status, _, stderr := runHere(t, append([]string{"ctl", "--control", "/nothing", "drain"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, stderr, want)
	}
}
