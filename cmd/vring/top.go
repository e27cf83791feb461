package main

import (
	"errors"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/cmd/vring/top"
)

// newTop is "vring top".
func newTop() *cobra.Command {
	c := ctl{output: outputTable}
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show a vring that serves guests as a page in the terminal",
		Long: `Show a vring that serves guests as a page in the terminal: guests and their traffic, the flows of one of them, what was counted,
forwards. It is asked once a second, at its control socket, which is found as vring ctl finds it. Keys choose, sort and end flows, and
capture a guest's frames to a file; ? lists them.

  vring top
  vring top --socket-path /tmp/vm0.sock`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := c.check(); err != nil {
				return err
			}
			if !isTerminal(cmd.InOrStdin()) || !isTerminal(cmd.OutOrStdout()) {
				return wrongUse(errors.New("vring top needs a terminal; vring ctl status --watch prints lines"))
			}
			path, err := c.find()
			if err != nil {
				return err
			}
			return top.Run(cmd.Context(), path, cmd.InOrStdin(), cmd.OutOrStdout())
		},
	}
	c.places(cmd.Flags())
	completeFlags(cmd)
	return cmd
}
