package taps

import (
	"context"
	"errors"
	"io"
	"os"
)

// Run runs the benchmark as the arguments say, see program.Command.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opt, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vring-bench")
	if err != nil {
		return err
	}
	err = benchmark{opt, stderr, dir}.run(ctx, stdout)
	return errors.Join(err, os.RemoveAll(dir))
}
