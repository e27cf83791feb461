package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend/stub"
)

// newStub is "vring stub".
func newStub() *cobra.Command {
	var flags serveFlags
	var mode string
	cmd := &cobra.Command{
		Use:   "stub --socket-path PATH --mode null|echo",
		Short: "Serve a guest with a network that only swallows frames, or sends them back",
		Long: `A stub tells whether the guest or the network is slow: it has no network behind it.

  null   takes all frames and drops them
  echo   sends every frame back to the guest`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return serveStub(cmd.Context(), &flags, mode, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&mode, "mode", "null", "what happens to frames: null or echo")
	return cmd
}

func serveStub(ctx context.Context, flags *serveFlags, mode string, stderr io.Writer) error {
	guests, err := newStubs(flags.sockets(), mode)
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	return flags.serve(ctx, flags.logger(stderr), stderr, guests)
}

// newStubs makes a stub for each socket.
func newStubs(sockets []string, mode string) ([]guest, error) {
	var guests []guest
	for _, socket := range sockets {
		g := guest{name: socket}
		switch mode {
		case "null":
			p := stub.NewNull()
			g.port, g.report = p, func(int64) report { return report{counters: p.Counters()} }
		case "echo":
			p := stub.NewEcho()
			g.port, g.report = p, func(int64) report { return report{counters: p.Counters()} }
		default:
			return nil, fmt.Errorf("--mode %q: want null or echo", mode)
		}
		guests = append(guests, g)
	}
	return guests, nil
}
