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

func (c *ctl) linkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "link GUEST [up|down]", Short: "Take the link of a guest down or up", Args: linkArgs, ValidArgsFunction: c.completeLink,
		Long: `Take the link of a guest down or up, or tell which it is. While it is down, what the guest sends is dropped and counted, and it gets
nothing, whatever its front end does. Nothing ends by that: connections go on when the link is up again, if that is soon enough for both of their
ends. The guest is not told. Only its front end can take the carrier from it: QEMU's set_link does. The link is up when vring is started again.

  vring ctl link 10.0.2.15 down
  vring ctl link 10.0.2.15 up`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				if err := c.checkOnce(); err != nil {
					return err
				}
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				guests, err := askGuests(ctx, client, args[:1])
				if err != nil {
					return nil, err
				}
				r, path := new(linkReport), control.GuestPath(guests[0].Name, "link", nil)
				if len(args) == 1 {
					return r, client.Do(ctx, http.MethodGet, path, nil, r)
				}
				return r, client.Do(ctx, http.MethodPut, path, api.Link{State: args[1]}, r)
			})
		},
	}
}

// linkArgs wants the name of a guest; what its link is to be may follow.
func linkArgs(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return wrongUse(errors.New("which guest? vring ctl guests lists them"))
	case len(args) == 2 && args[1] != api.LinkUp && args[1] != api.LinkDown:
		return wrongUse(fmt.Errorf("unexpected %q; want up or down", args[1]))
	case len(args) > 2:
		return wrongUse(fmt.Errorf("unexpected %q; want a guest, and up or down", args[2]))
	}
	return nil
}

// completeLink completes the name of a guest, then what its link is to be.
func (c *ctl) completeLink(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return []string{api.LinkUp, api.LinkDown}, cobra.ShellCompDirectiveNoFileComp
	}
	return c.completeGuest(cmd, args, text)
}

// linkReport is the state of a link as a person reads it.
type linkReport api.Link

func (r *linkReport) print(w io.Writer) { fmt.Fprintf(w, "link %s\n", r.State) }
