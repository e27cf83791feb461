package nat

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
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
	b := benchmark{options: opt, command: "cd bench && go run . nat " + strings.Join(args, " "), progress: stderr, dir: dir}
	err = b.run(ctx, stdout)
	return errors.Join(err, os.RemoveAll(dir))
}
