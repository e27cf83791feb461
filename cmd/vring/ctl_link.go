package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/netem"
)

func (c *ctl) linkCommand() *cobra.Command {
	return &cobra.Command{
		Use: "link GUEST [up|down|none|LINK]", Short: "Take the link of a guest down or up, or emulate one", Args: linkArgs, ValidArgsFunction: c.completeLink,
		Long: `Take the link of a guest down or up, or tell which it is. While it is down, what the guest sends is dropped and counted, and it gets
nothing, whatever its front end does. Nothing ends by that: connections go on when the link is up again, if that is soon enough for both of their
ends. The guest is not told. Only its front end can take the carrier from it: QEMU's set_link does. When vring is started again the link is up, or as it was with --state.

  vring ctl link 10.0.2.15 down
  vring ctl link 10.0.2.15 up

With a preset or keys, as --link has them, the link between the guest and its network is emulated from then on: rate, delay, jitter, loss, duplicates,
reordering and corruption, each way. Frames that are under way are there when they would have been. With none it is not emulated any more.

  vring ctl link 10.0.2.15 lte
  vring ctl link 10.0.2.15 delay=40ms,loss=1%,in:rate=20mbit,out:rate=5mbit
  vring ctl link 10.0.2.15 none`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 2 {
				if err := c.checkOnce(); err != nil {
					return err
				}
			}
			if len(args) == 2 && !isLinkState(args[1]) {
				return c.change(cmd, func(ctx context.Context, client *control.Client, r *changedReport) error {
					guests, err := askGuests(ctx, client, args[:1])
					if err != nil {
						return err
					}
					return client.Do(ctx, http.MethodPut, control.GuestPath(guests[0].Name, "link/emulation", nil), api.Emulation{Link: args[1]}, r)
				})
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				guests, err := askGuests(ctx, client, args[:1])
				if err != nil {
					return nil, err
				}
				r, path := new(linkReport), control.GuestPath(guests[0].Name, "link", nil)
				if len(args) == 2 {
					return r, client.Do(ctx, http.MethodPut, path, api.Link{State: args[1]}, &r.Link)
				}
				if err := client.Do(ctx, http.MethodGet, path, nil, &r.Link); err != nil {
					return nil, err
				}
				r.Emulation = new(api.Emulation)
				return r, client.Do(ctx, http.MethodGet, path+"/emulation", nil, r.Emulation)
			})
		},
	}
}

// linkArgs wants the name of a guest; what its link is to be may follow.
func linkArgs(_ *cobra.Command, args []string) error {
	switch {
	case len(args) == 0:
		return wrongUse(errors.New("which guest? vring ctl guests lists them"))
	case len(args) == 2 && !isLinkState(args[1]):
		if _, err := netem.Parse(args[1]); err != nil {
			return wrongUse(fmt.Errorf("%w; want up, down, none, or a link to be emulated", err))
		}
	case len(args) > 2:
		return wrongUse(fmt.Errorf("unexpected %q; want a guest, and up, down, none or a link", args[2]))
	}
	return nil
}

// isLinkState reports whether an argument is the state of a link, and not one that is to be emulated.
func isLinkState(arg string) bool { return arg == api.LinkUp || arg == api.LinkDown }

// completeLink completes the name of a guest, then what its link is to be.
func (c *ctl) completeLink(cmd *cobra.Command, args []string, text string) ([]string, cobra.ShellCompDirective) {
	if len(args) == 1 {
		return append([]string{api.LinkUp, api.LinkDown, netem.None}, linkNames()...), cobra.ShellCompDirectiveNoFileComp
	}
	return c.completeGuest(cmd, args, text)
}

// linkReport is the state of a link as a person reads it.
type linkReport struct {
	api.Link
	Emulation *api.Emulation `json:"emulation,omitempty"` // nil if it was not asked for
}

func (r *linkReport) print(w io.Writer) {
	fmt.Fprintf(w, "link %s\n", r.State)
	if e := r.Emulation; e != nil && e.Link != netem.None {
		fmt.Fprintf(w, "emulates %s\n", e.Link)
		if !strings.Contains(e.Link, "seed=") {
			fmt.Fprintf(w, "with the seed %s\n", e.Seed)
		}
	}
	printNotKept(w, r.NotKept)
}
