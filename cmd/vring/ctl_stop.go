package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

func (c *ctl) stopCommand() *cobra.Command {
	return &cobra.Command{
		Use: "stop", Short: "End a vring", Args: noArgs,
		Long: `End a vring, as SIGTERM does: all connections of its guests end at once. A service manager may start it again.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.checkOnce(); err != nil {
				return err
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := new(stoppingReport)
				return r, client.Do(ctx, http.MethodPost, "/v1/stop", nil, r)
			})
		},
	}
}

// checkOnce returns that --watch is no flag of a verb that changes something.
func (c *ctl) checkOnce() error {
	if c.watch != 0 {
		return wrongUse(errors.New("--watch is for what is looked at; this changes something, once"))
	}
	return nil
}

// stoppingReport is that a vring ends as a person reads it.
type stoppingReport api.Stopping

func (*stoppingReport) print(w io.Writer) { fmt.Fprintln(w, "it ends") }
