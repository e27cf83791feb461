package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout)
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "soak:", err)
		os.Exit(1)
	}
}

// run soaks vring. The error tells what was wrong.
func run(ctx context.Context, args []string, w io.Writer) error {
	opt, err := parseOptions(args, w)
	if err != nil {
		return err
	}
	s := newSoak(opt, w)
	err = s.start(ctx)
	if err == nil {
		err = s.run(ctx)
	}
	if ctx.Err() != nil {
		err = errors.New("interrupted")
	}
	return errors.Join(err, s.stop())
}
