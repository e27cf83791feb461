package program

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

func TestBuildsAreNamesWithAbsolutePaths(t *testing.T) {
	pair := func(name, path string) [2]string { return [2]string{name, path} }
	here, err := filepath.Abs("new")
	require.NoError(t, err)
	builds, err := ParseBuilds([]string{"old=/bin/a=b", "new=new"}, []string{"loopback"}, pair)
	require.NoError(t, err)
	require.Equal(t, [][2]string{{"old", "/bin/a=b"}, {"new", here}}, builds)
	for text, want := range map[string]string{
		"old":         `--vring "old" is not NAME=PATH`,
		"=/a":         `--vring "=/a" is not NAME=PATH`,
		"old=":        `--vring "old=" is not NAME=PATH`,
		"first=/b":    `--vring "first=/b": the name first is taken`,
		"loopback=/b": `--vring "loopback=/b": the name loopback is taken`,
	} {
		_, err := ParseBuilds([]string{"first=/a", text}, []string{"loopback"}, pair)
		require.EqualError(t, err, want)
	}
}

func TestACommandOfFlagsRefusesOtherArguments(t *testing.T) {
	f := pflag.NewFlagSet("bench echo", pflag.ContinueOnError)
	f.Int("rounds", 1, "")
	require.NoError(t, ParseFlags(f, []string{"--rounds", "3"}))
	require.EqualError(t, ParseFlags(f, []string{"--rounds", "3", "more"}), `unknown argument "more"`)
	require.Error(t, ParseFlags(f, []string{"--rounds", "x"}))
}

func TestResultsOfRunsStandInOrderOfTime(t *testing.T) {
	folder := ResultsFolder("nat", time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC))
	require.Equal(t, "bench/results/20260102-030405-nat", folder[len(folder)-len("bench/results/20260102-030405-nat"):])
}
