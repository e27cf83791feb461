package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/integration/lab/guest"
)

const usage = `Builds bench/turns with the product of a state of the source tree, and lets it do what standard input says:
cd bench && go run . turns [flags]

  echo rows | go run . turns
  printf 'time\tudp in\t1s\n' | go run . turns --source HEAD~3

The lines that it knows: go doc ./turns

Flags:
`

// RunTurns runs the turns of a state of the source tree, see program.Command.
func RunTurns(ctx context.Context, args []string, stdout, stderr io.Writer) (err error) {
	f := pflag.NewFlagSet("bench turns", pflag.ContinueOnError)
	f.SetOutput(stderr)
	name := f.String("source", guest.ProjectRoot(), "whose product to use: a git ref or the directory of a checkout")
	f.Usage = func() { fmt.Fprintf(stderr, "%s%s", usage, f.FlagUsages()) }
	if err := program.ParseFlags(f, args); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vring-turns")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tree, err := Open(ctx, *name, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	turns := filepath.Join(dir, "turns")
	if err := tree.BuildTurns(ctx, turns, dir); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, turns)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, stdout, stderr
	return cmd.Run()
}
