package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/nat"
)

func (c *ctl) explainCommand() *cobra.Command {
	return &cobra.Command{
		Use: "explain GUEST DESTINATION", Short: "Say what would become of a connection, and why", Args: guestAndDestination,
		ValidArgsFunction: c.completeGuest,
		Long: `Say what becomes of what a guest begins now to a destination, which is ` + nat.TargetForm + `:
whether it may go there, which option decides that, and by which address of the host it leaves. Nothing is sent.

  vring ctl explain 10.0.2.15 tcp:192.0.2.34:443
  vring ctl explain 10.0.2.15 tcp:10.0.2.2:22       a service of the host
  vring ctl explain 10.0.2.15 icmp:2001:db8::1`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				guests, err := askGuests(ctx, client, args[:1])
				if err != nil {
					return nil, err
				}
				x := new(explanationReport)
				path := control.GuestPath(guests[0].Name, "explain", url.Values{"to": {args[1]}})
				return x, client.Do(ctx, http.MethodGet, path, nil, x)
			})
		},
	}
}

// guestAndDestination wants two arguments.
func guestAndDestination(_ *cobra.Command, args []string) error {
	switch {
	case len(args) > 2:
		return wrongUse(fmt.Errorf("unexpected %q; want a guest and a destination", args[2]))
	case len(args) < 2:
		return wrongUse(errors.New("want a guest and a destination, as in: vring ctl explain 10.0.2.15 tcp:192.0.2.34:443"))
	}
	return nil
}

// explanationReport is an explanation as a person reads it.
type explanationReport api.Explanation

func (x *explanationReport) print(w io.Writer) {
	verdict := "closed"
	if x.Allowed {
		verdict = "allowed"
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s:\t%s\n", verdict, x.Why)
	for _, line := range [][2]string{
		{"decided by", x.By}, {"opened by", x.OpenBy}, {"address of", x.Owner}, {"leads to", x.Host}, {"from", x.Source},
	} {
		if line[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
		}
	}
	_ = t.Flush()
}
