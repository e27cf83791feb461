package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, pflag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "bench/nat:", err)
		stop()
		os.Exit(1)
	}
}

// command runs the benchmark as the arguments say.
func command(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	opt, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "vring-bench")
	if err != nil {
		return err
	}
	b := benchmark{options: opt, command: "cd bench && go run ./nat " + strings.Join(args, " "), progress: stderr, dir: dir}
	err = b.run(ctx, stdout)
	return errors.Join(err, os.RemoveAll(dir))
}
