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
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
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
		Long: `vring gives a virtual machine its network. The front end (QEMU, User-mode Linux, DPDK) hands it the guest's
memory and virtqueues over a unix socket, and vring serves them itself: no copy, no set-up, no root.

Start with:
  vring nat --socket-path /tmp/vm0.sock -p 8080:80
It prints the options with which QEMU is to be started.`,
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
	root.Flags().BoolVar(&capabilities, "print-capabilities", false, "print what this back end is, as JSON for management software, and exit")
	root.SetVersionTemplate("vring {{.Version}}\n")
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return wrongUse(err) })
	root.AddCommand(newNAT(), newTAP(), newStub(), newDoctor(), newMan(), newKeeperCommand())
	return root
}

// noArgs is cobra.NoArgs with the right exit status.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return wrongUse(err)
	}
	return nil
}

// printCapabilities answers as QEMU's convention for back-end programs asks.
func printCapabilities(cmd *cobra.Command) error {
	_, err := fmt.Fprintln(cmd.OutOrStdout(), `{"type": "net", "features": []}`)
	return err
}
