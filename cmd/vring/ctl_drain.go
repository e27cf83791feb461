package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// drainOptions are the flags of "vring ctl drain".
type drainOptions struct {
	timeout      time.Duration
	cancel, wait bool
}

func (c *ctl) drainCommand() *cobra.Command {
	var o drainOptions
	cmd := &cobra.Command{
		Use: "drain [--timeout DURATION] [--wait] [--cancel]", Short: "Let nothing new begin, and end a vring when its connections have", Args: noArgs,
		Long: `Let nothing new begin, and end a vring when no connection of its guests is left:
  vring ctl drain --timeout 10m                     or after ten minutes, whatever is left
  vring ctl drain --wait                            returns when it has ended
  vring ctl drain --cancel                          take it back

Forwards are closed, and guests may go nowhere. Connections that are open go on, but for UDP by forwards, and so do series of pings and UDP until they are
idle. Forwards and rules do not change meanwhile. vring ctl status tells what is left. A service manager may start it again when it has ended.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(c.checkOnce(), o.check(cmd)); err != nil {
				return err
			}
			method, question := http.MethodPost, any(api.DrainRequest{TimeoutMillis: o.timeout.Milliseconds()})
			if o.cancel {
				method, question = http.MethodDelete, nil
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := new(drainReport)
				if err := client.Do(ctx, method, "/v1/drain", question, r); err != nil || !o.wait {
					return r, err
				}
				return waitDrained(ctx, client)
			})
		},
	}
	f := cmd.Flags()
	f.DurationVar(&o.timeout, "timeout", 0, "end after this time, whatever is left, as in 10m (default 0: never)")
	f.BoolVar(&o.wait, "wait", false, "return when it has ended")
	f.BoolVar(&o.cancel, "cancel", false, "let new connections begin again, and do not end")
	return cmd
}

// check returns what is wrong with the flags.
func (o *drainOptions) check(cmd *cobra.Command) error {
	switch {
	case o.cancel && (o.wait || cmd.Flags().Changed("timeout")):
		return wrongUse(errors.New("--cancel takes a drain back; leave --timeout and --wait out"))
	case cmd.Flags().Changed("timeout") && o.timeout < time.Millisecond:
		return wrongUse(fmt.Errorf("--timeout %v: want a time above 0, as in 10m", o.timeout))
	}
	return nil
}

// waitDrained waits until a vring that drains has ended.
func waitDrained(ctx context.Context, client *control.Client) (report, error) {
	for {
		r := new(drainReport)
		switch err := client.Do(ctx, http.MethodGet, "/v1/drain", nil, r); {
		case hasEnded(err):
			return endedDrain{}, nil
		case err != nil:
			return nil, err
		case !r.Draining:
			return nil, errors.New("the drain was taken back")
		}
		if !sleep(ctx, time.Second) {
			return nil, ctx.Err()
		}
	}
}

// hasEnded reports whether nobody answers any more.
func hasEnded(err error) bool {
	for _, gone := range []error{unix.ENOENT, unix.ECONNREFUSED, unix.ECONNRESET, unix.EPIPE, io.EOF, io.ErrUnexpectedEOF} {
		if errors.Is(err, gone) {
			return true
		}
	}
	return false
}

// drainReport is a drain as a person reads it.
type drainReport api.Drain

func (r *drainReport) print(w io.Writer) { fmt.Fprintln(w, drainLine((*api.Drain)(r))) }

// drainLine tells how a drain goes on.
func drainLine(d *api.Drain) string {
	if d == nil || !d.Draining {
		return "not draining: new connections may begin"
	}
	line := "draining: nothing new begins"
	if d.Flows != nil {
		line += fmt.Sprintf(", %d flows are left", *d.Flows)
	}
	if d.Until != "" {
		line += ", until " + d.Until
	}
	return line
}

// endedDrain is that a vring has ended.
type endedDrain struct{}

func (endedDrain) print(w io.Writer) { fmt.Fprintln(w, "it has ended") }

// MarshalJSON implements json.Marshaler.
func (endedDrain) MarshalJSON() ([]byte, error) { return []byte(`{"ended":true}`), nil }
