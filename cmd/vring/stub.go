package main

import (
	"fmt"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend"
)

// stubFlags are the flags of "vring stub".
type stubFlags struct {
	serveFlags
	mode string
	size int
	mix  string // of sizes
	rate uint64
}

// newStub is "vring stub".
func newStub() *cobra.Command { return stubCommand().cmd }

// stubCommand is newStub with its flags.
func stubCommand() *networkCommand {
	var flags stubFlags
	cmd := &cobra.Command{
		Use:   "stub --socket-path PATH --mode null|echo|reflect|sink|source",
		Short: "Serve a guest with a test back end that drops, checks, sends back or generates frames",
		Long: `Measure a guest without a network: a test back end shows whether the guest or the network is slow.

Modes:
  null     drop all frames of the guest
  echo     send every frame back to the guest
  reflect  the same with the Ethernet addresses exchanged, as somebody would who answers
  sink     check the frames of a source that come from the guest, and drop all
  source   send frames of its own, check those that come back, and drop all

While frames pass, vring prints a line each second: how many frames and bits passed each way, and how many frames were
dropped. Dropped are malformed frames, frames that the guest sent but did not take back, and frames of a source with a
rate that found no receive buffer.

The frames of a source are broadcast frames of the experimental Ethernet type 0x88b5. Behind the Ethernet header they have a
number, the time, and a check word. So a source whose guest sends back what it gets, or a sink behind a guest that passes on the
frames of a source, finds what is lost, late, duplicate or damaged, and how long frames took. It prints that each second, and at
the end. With --log-format json these lines are JSON.

Examples:
  vring stub --socket-path /tmp/a --mode source                       how many small frames the guest takes
  vring stub --socket-path /tmp/a --mode source --sizes imix          the usual mix of lengths
  vring stub --socket-path /tmp/a --mode source --rate 100000         how long frames take, there and back
  vring stub --socket-path /tmp/a --mode reflect                      the guest generates, and measures

docs/measuring.md has the guest's side of these.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.capabilities {
				return printCapabilities(cmd)
			}
			return flags.serve(cmd.Context(), flags.whole)
		},
	}
	flags.add(cmd)
	f := cmd.Flags()
	f.StringVar(&flags.mode, "mode", string(daemon.StubNull), "what to do with frames: null, echo, reflect, sink or source")
	f.IntVar(&flags.size, "size", netbackend.MinFrame, "length in bytes of each frame of --mode source")
	f.StringVar(&flags.mix, "sizes", "", "lengths of the frames of --mode source in turn, instead of --size: "+daemon.SizesForm)
	f.Uint64Var(&flags.rate, "rate", 0, "frames per second of --mode source; 0 sends as many as the guest takes")
	return &networkCommand{cmd, flags.whole}
}

// whole is the configuration that the flags say. The error holds all that cannot be read.
func (f *stubFlags) whole() (daemon.Config, error) {
	c, unread := f.serveFlags.config()
	c.Stub = &daemon.Stub{Mode: daemon.StubMode(f.mode), Size: f.size, Sizes: f.mix, Rate: f.rate}
	return c, multierror.Append(nil, unread, f.checkMode()).ErrorOrNil()
}

// checkMode refuses flags that do nothing in this mode.
func (f *stubFlags) checkMode() error {
	var errs *multierror.Error
	for _, name := range []string{"size", "sizes", "rate"} {
		if f.given(name) && f.mode != string(daemon.StubSource) {
			errs = multierror.Append(errs, fmt.Errorf("--%s needs --mode %s: only a source sends frames of its own", name, daemon.StubSource))
		}
	}
	return errs.ErrorOrNil()
}
