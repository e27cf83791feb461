package program

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

// commandThatEnds is a command that prints its arguments and ends with err.
func commandThatEnds(err error) Command {
	return Command{"echo", "print arguments", func(_ context.Context, args []string, stdout, _ io.Writer) error {
		fmt.Fprintf(stdout, "%q", args)
		return err
	}}
}

func TestTheCommandGetsTheArgumentsBehindItsName(t *testing.T) {
	var stdout, stderr strings.Builder
	commands := []Command{{Name: "other"}, commandThatEnds(nil)}
	require.Zero(t, run(t.Context(), "bench", commands, []string{"echo", "--rounds", "3"}, &stdout, &stderr))
	require.Equal(t, `["--rounds" "3"]`, stdout.String())
	require.Empty(t, stderr.String())
}

func TestTheExitStatusIsTheCommands(t *testing.T) {
	for name, c := range map[string]struct {
		err     error
		status  int
		printed string
	}{
		"success":       {nil, 0, ""},
		"help":          {pflag.ErrHelp, 0, ""},
		"failure":       {errors.New("no QEMU"), 1, "bench echo: no QEMU\n"},
		"status":        {Exit(2, nil), 2, ""},
		"status, error": {Exit(3, errors.New("no such ref")), 3, "bench echo: no such ref\n"},
		"no status":     {Exit(0, nil), 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var stderr strings.Builder
			require.Equal(t, c.status, run(t.Context(), "bench", []Command{commandThatEnds(c.err)}, []string{"echo"}, io.Discard, &stderr))
			require.Equal(t, c.printed, stderr.String())
		})
	}
}

func TestHelpListsTheCommands(t *testing.T) {
	var stdout, stderr strings.Builder
	commands := []Command{commandThatEnds(nil)}
	require.Zero(t, run(t.Context(), "bench", commands, []string{"--help"}, &stdout, &stderr))
	require.Contains(t, stdout.String(), "  echo          print arguments\n")
	require.Equal(t, 1, run(t.Context(), "bench", commands, nil, &stdout, &stderr))
	require.Contains(t, stderr.String(), "  echo          print arguments\n", "no command is an error, which lists them")
	stderr.Reset()
	require.Equal(t, 1, run(t.Context(), "bench", commands, []string{"sing"}, &stdout, &stderr))
	require.Equal(t, "bench: unknown command \"sing\"; bench --help lists them\n", stderr.String())
}
