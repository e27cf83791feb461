package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"

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
			return serveStub(cmd.Context(), &flags, mode, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	cmd.Flags().StringVar(&mode, "mode", "null", "what happens to frames: null or echo")
	return cmd
}

func serveStub(ctx context.Context, flags *serveFlags, mode string, stderr io.Writer) error {
	port, counters, err := newStubPort(mode)
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	log := flags.logger(stderr)
	defer func() { log.Info("counted", "counters", slog.AnyValue(counters())) }()
	return flags.serve(ctx, log, stderr, port)
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
	return nil, nil, fmt.Errorf("--mode %q: want null or echo", mode)
}
