package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
)

func main() {
	os.Args = asCalled(os.Args)
	os.Exit(run(untilSignal(), os.Args[1:], os.Stdout, os.Stderr))
}

// untilSignal returns a context that ends with the first signal that asks the process to end. The second one ends the process
// at once. SIGHUP has its meaning from the command: see untilHangup.
func untilSignal() context.Context {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM, unix.SIGQUIT)
	context.AfterFunc(ctx, stop)
	// Without a handler, Go ends a process that writes to standard error when nobody reads it any more. Guests go on then.
	signal.Notify(make(chan os.Signal, 1), unix.SIGPIPE)
	return ctx
}

// untilHangup returns a context that also ends with the terminal that is closed, by SIGHUP. It is left ignored if it was, as by
// nohup(1).
func untilHangup(ctx context.Context) context.Context {
	if signal.Ignored(unix.SIGHUP) {
		return ctx
	}
	ctx, stop := signal.NotifyContext(ctx, unix.SIGHUP)
	context.AfterFunc(ctx, stop)
	return ctx
}

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1 // it could not be done, or failed later
	exitUsage = 2 // it was asked for wrongly
)

// run is the program with its arguments; it returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if told := (toldError{}); errors.As(err, &told) {
		return told.status
	}
	out := console{w: stderr}
	if wantsJSON(args) {
		out.json = slog.NewJSONHandler(stderr, nil)
	}
	return tell(out, cmd, err)
}

// tell prints why cmd ends, and returns the exit status.
func tell(out console, cmd *cobra.Command, err error) int {
	text := fmt.Sprintf("vring: %v\n", err)
	var usage usageError
	if !errors.As(err, &usage) {
		out.print(text, slog.LevelError, "vring failed", "err", err)
		return exitError
	}
	text += fmt.Sprintf("Try '%s --help'.\n", cmd.CommandPath())
	var faults []string
	for _, f := range usage.faults {
		faults = append(faults, f.Error())
	}
	out.print(text, slog.LevelError, "wrong use", "faults", faults, "help", cmd.CommandPath()+" --help")
	return exitUsage
}

func newRoot() *cobra.Command {
	var capabilities bool
	root := &cobra.Command{
		Use:   "vring",
		Short: "Network back end for virtual machines, over vhost-user",
		Long: `vring gives virtual machines a network. The front end (QEMU, User-mode Linux, DPDK) passes it the guest's memory and
virtqueues over a unix socket, by the vhost-user protocol. vring nat needs no root, no TAP device and no bridge.

Start with:
  vring nat --socket-path /tmp/vm0.sock -p 8080:80
It prints the command line with which QEMU is started.

Signals: SIGTERM, SIGINT, SIGQUIT and SIGHUP end vring, which removes its sockets and undoes what it changed on the host; a
second one ends it at once. Under nohup, SIGHUP is ignored. SIGUSR1 prints the status of all guests. With vring serve,
SIGHUP lets it read its configuration file again instead.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       programVersion(),
		Args:          noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if capabilities {
				return printCapabilities(cmd)
			}
			return cmd.Help()
		},
	}
	root.Flags().BoolVar(&capabilities, "print-capabilities", false, capabilitiesUsage)
	root.SetVersionTemplate("vring {{.Version}}\n")
	root.SetFlagErrorFunc(wrongFlag)
	root.AddCommand(newRun(), newNAT(), newUser(), newPasst(), newGvproxy(), newSlirpAPI(), newTAP(), newSwitch(), newStub(), newCtl(), newTop(), newUI(), newServe(), newConfig(), newDoctor(), newCompare(), newMan(), newCompletion(), newBrokerCommand(), newGuestCommand(), newPageCommand(), newWallsCommand(), newLab(), newLabKeeper())
	root.CompletionOptions.DisableDefaultCmd = true
	root.SuggestionsMinimumDistance = 2
	for _, cmd := range withThoseBelow(root) {
		completeFlags(cmd)
	}
	return root
}

const capabilitiesUsage = "print the capabilities of this back end as JSON, for management software, and exit"

// printCapabilities answers as QEMU's convention for back-end programs asks.
func printCapabilities(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), `{"type": "net", "features": []}`)
	return err
}
