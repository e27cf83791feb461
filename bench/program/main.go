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

// Command is one of the program's commands. Run does its work as the arguments behind its name say. ctx ends with Ctrl-C.
// Results go to stdout, all else to stderr. After [pflag.ErrHelp] the exit status is 0, after any other error 1, or what
// [Exit] says.
type Command struct {
	Name, Help string
	Run        func(ctx context.Context, args []string, stdout, stderr io.Writer) error
}

// exit is an end with an exit status of its own.
type exit struct {
	status int
	cause  error // printed; nil if the results say it
}

func (e exit) Error() string {
	if e.cause == nil {
		return fmt.Sprintf("exit status %d", e.status)
	}
	return e.cause.Error()
}

func (e exit) Unwrap() error { return e.cause }

// Exit returns what a command ends with to have an exit status of its own. cause may be nil: then nothing is printed. Status
// 0 is no error.
func Exit(status int, cause error) error {
	if status == 0 {
		return cause
	}
	return exit{status, cause}
}

// Main runs the command that the program's arguments begin with.
func Main(name string, commands []Command) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	status := run(ctx, name, commands, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(status)
}

// run returns the exit status.
func run(ctx context.Context, name string, commands []Command, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 {
		printHelp(stderr, name, commands)
		return 1
	}
	if args[0] == "--help" || args[0] == "-h" || args[0] == "help" {
		printHelp(stdout, name, commands)
		return 0
	}
	for _, c := range commands {
		if c.Name == args[0] {
			return status(stderr, name+" "+c.Name, c.Run(ctx, args[1:], stdout, stderr))
		}
	}
	fmt.Fprintf(stderr, "%s: unknown command %q; %s --help lists them\n", name, args[0], name)
	return 1
}

// status prints an error behind the name of the command, and returns the exit status.
func status(stderr io.Writer, name string, err error) int {
	if err == nil || errors.Is(err, pflag.ErrHelp) {
		return 0
	}
	end := exit{1, err}
	errors.As(err, &end)
	if end.cause != nil {
		fmt.Fprintf(stderr, "%s: %v\n", name, err)
	}
	return end.status
}

func printHelp(w io.Writer, name string, commands []Command) {
	fmt.Fprintf(w, "Usage: %s COMMAND [flags]; each has --help\n\n", name)
	for _, c := range commands {
		fmt.Fprintf(w, "  %-13s %s\n", c.Name, c.Help)
	}
}
