package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
)

// stubFlags are the flags of "vring stub".
type stubFlags struct {
	serveFlags
	mode   string
	source stub.SourceConfig
}

// newStub is "vring stub".
func newStub() *cobra.Command {
	var flags stubFlags
	cmd := &cobra.Command{
		Use:   "stub --socket-path PATH --mode null|echo|source",
		Short: "Serve a guest with a network that only swallows frames, sends them back, or sends its own",
		Long: `A stub tells whether the guest or the network is slow: it has no network behind it.

  null     takes all frames and drops them
  echo     sends every frame back to the guest
  source   sends frames of its own, and drops the guest's

Each second in which frames pass it prints how many, either way, and how many were dropped: malformed ones, those that
the guest sent but would not take back, and those of a source with a rate that found no receive buffer.

The frames of a source are broadcast, of the experimental Ethernet type 0x88b5, and have a number behind their header.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return serveStub(cmd.Context(), &flags, cmd.ErrOrStderr())
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.mode, "mode", "null", "what happens to frames: null, echo or source")
	f.IntVar(&flags.source.Size, "size", netbackend.MinFrame, "bytes of a frame of --mode source")
	f.Uint64Var(&flags.source.Rate, "rate", 0, "frames per second of --mode source; 0: as many as the guest takes")
	return cmd
}

func serveStub(ctx context.Context, flags *stubFlags, stderr io.Writer) error {
	guests, err := flags.stubs()
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	return flags.serve(ctx, flags.logger(stderr), stderr, guests, func() {})
}

// stubs makes a stub for each socket.
func (f *stubFlags) stubs() ([]guest, error) {
	var guests []guest
	for _, socket := range f.sockets() {
		port, err := f.stub()
		if err != nil {
			return nil, err
		}
		guests = append(guests, guest{
			name: socket, ports: []netbackend.Port{port},
			report:  func(int, int64) report { return report{counters: port.Counters()} },
			traffic: func() traffic { return stubTraffic(port.Counters()) },
		})
	}
	return guests, nil
}

// countingPort is what all stubs are.
type countingPort interface {
	netbackend.Port
	Counters() stub.Counters
}

func (f *stubFlags) stub() (countingPort, error) {
	switch f.mode {
	case "null":
		return stub.NewNull(), nil
	case "echo":
		return stub.NewEcho(), nil
	case "source":
		source, err := stub.NewSource(f.source)
		if err != nil {
			return nil, fmt.Errorf("--mode source: %w", err)
		}
		return source, nil
	}
	return nil, fmt.Errorf("--mode %q: want null, echo or source", f.mode)
}
