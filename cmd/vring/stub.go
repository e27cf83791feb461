package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/hashicorp/go-multierror"
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
		Short: "Serve a guest with a test back end that drops, echoes or generates frames",
		Long: `Measure a guest without a network: a test back end shows whether the guest or the network is slow.

Modes:
  null     drop all frames of the guest
  echo     send every frame back to the guest
  source   send frames of its own, and drop the guest's

While frames pass, vring prints a line each second: how many frames and bits passed each way, and how many frames were
dropped. Dropped are malformed frames, frames that the guest sent but did not take back, and frames of a source with a
rate that found no receive buffer.

The frames of a source are broadcast frames of the experimental Ethernet type 0x88b5, with a number behind the header.`,
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
	f.StringVar(&flags.mode, "mode", modeNull, "what to do with frames: null, echo or source")
	f.IntVar(&flags.source.Size, "size", netbackend.MinFrame, "length in bytes of each frame of --mode source")
	f.Uint64Var(&flags.source.Rate, "rate", 0, "frames per second of --mode source; 0 sends as many as the guest takes")
	return cmd
}

func serveStub(ctx context.Context, flags *stubFlags, stderr io.Writer) error {
	guests, err := flags.stubs()
	err = errors.Join(err, flags.checkMode())
	if err := wrongUse(flags.check(), err); err != nil {
		return err
	}
	return flags.serve(ctx, flags.begin(stderr), stderr, guests, func() {})
}

// checkMode refuses flags that do nothing in this mode.
func (f *stubFlags) checkMode() error {
	var errs *multierror.Error
	for _, name := range []string{"size", "rate"} {
		if f.given(name) && f.mode != modeSource {
			errs = multierror.Append(errs, fmt.Errorf("--%s needs --mode %s: only a source sends frames of its own", name, modeSource))
		}
	}
	return errs.ErrorOrNil()
}

// Values of --mode.
const (
	modeNull   = "null"
	modeEcho   = "echo"
	modeSource = "source"
)

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
	case modeNull:
		return stub.NewNull(), nil
	case modeEcho:
		return stub.NewEcho(), nil
	case modeSource:
		source, err := stub.NewSource(f.source)
		if err != nil {
			return nil, fmt.Errorf("--mode source: %w", err)
		}
		return source, nil
	}
	return nil, fmt.Errorf("--mode %q: want null, echo or source", f.mode)
}
