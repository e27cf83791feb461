package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend"
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
			return serveStub(cmd.Context(), &flags, mode)
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&mode, "mode", "null", "what happens to frames: null or echo")
	return cmd
}

func serveStub(ctx context.Context, flags *serveFlags, mode string) error {
	if err := flags.check(); err != nil {
		return err
	}
	log, err := flags.logger(os.Stderr)
	if err != nil {
		return err
	}
	port, counters, err := newStubPort(mode)
	if err != nil {
		return err
	}
	defer func() { log.Info("counted", "counters", slog.AnyValue(counters())) }()
	return flags.serve(ctx, log, port)
}

func newStubPort(mode string) (netbackend.Port, func() stub.Counters, error) {
	switch mode {
	case "null":
		p := stub.NewNull()
		return p, p.Counters, nil
	case "echo":
		p := stub.NewEcho()
		return p, p.Counters, nil
	}
	return nil, nil, usageError{fmt.Errorf("--mode %q: want null or echo", mode)}
}
