package program

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

// Command is the work of a program, as its arguments say. ctx ends with Ctrl-C. Results go to stdout, all else to stderr.
type Command func(ctx context.Context, args []string, stdout, stderr io.Writer) error

// Main runs the program. After an error, which it prints behind name, the exit status is 1; to be asked for help is none.
func Main(name string, command Command) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	if err != nil && !errors.Is(err, pflag.ErrHelp) {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		os.Exit(1)
	}
}
