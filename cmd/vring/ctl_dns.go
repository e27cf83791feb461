package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

func (c *ctl) dnsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "dns [GUEST]", Short: "Tell who answers the names of guests, and which answers are kept", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `Tell which resolvers are asked for the names of all guests, or of one, as vring ctl resolvers does, and which of their answers are kept, with --dns-cache.

  vring ctl dns 10.0.2.15
  vring ctl dns names [NAME|ADDRESS]                tells what guests are called, or what a name leads to
  vring ctl dns flush                               forgets the answers of all guests, or of one that is named`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := dnsReport{}
				err := ofGuests(ctx, client, args, "resolvers", nil, func(guest string, answer *api.Resolvers) {
					r.Resolvers = append(r.Resolvers, guestResolvers{guest, *answer})
				})
				if err != nil {
					return nil, err
				}
				return r, ofGuests(ctx, client, args, "dns-cache", nil, func(guest string, answer *api.NameCache) {
					r.Caches = append(r.Caches, guestCache{guest, *answer})
				})
			})
		},
	}
	cmd.AddCommand(c.dnsFlushCommand(), c.dnsNamesCommand())
	return cmd
}

func (c *ctl) dnsFlushCommand() *cobra.Command {
	return &cobra.Command{
		Use: "flush [GUEST]", Short: "Forget the answers that are kept", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `Forget the answers of resolvers that are kept for all guests, or for one. The next queries are passed on.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.checkOnce(); err != nil {
				return err
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := new(flushedReport)
				err := askEach(ctx, client, args, http.MethodDelete, "dns-cache", nil, func(_ string, answer *api.ForgottenNames) { r.Forgotten += answer.Forgotten })
				return r, err
			})
		},
	}
}

// flushedReport is how many answers were forgotten.
type flushedReport api.ForgottenNames

func (r *flushedReport) print(w io.Writer) { fmt.Fprintf(w, "%d answers forgotten\n", r.Forgotten) }

// guestCache is what is kept for a guest.
type guestCache struct {
	Guest string `json:"guest_name"`
	api.NameCache
}

// dnsReport is who answers names, and what is kept of that, as a person reads it.
type dnsReport struct {
	Resolvers resolversReport `json:"resolvers"`
	Caches    []guestCache    `json:"caches"`
}

func (r dnsReport) print(w io.Writer) {
	r.Resolvers.print(w)
	var rows [][]string
	for i := range r.Caches {
		g := &r.Caches[i]
		if !g.On {
			fmt.Fprintf(w, "guest %s: answers are not kept; --dns-cache keeps them\n", g.Guest)
		}
		if s := &g.Stats; g.On {
			fmt.Fprintf(w, "guest %s: %d answers kept (%d KiB); %d hits, %d misses (%d of them for answers that were over), %d answered by one that was over\n",
				g.Guest, s.Entries, s.Bytes>>10, s.Hits, s.Misses, s.Expired, s.Stale)
		}
		for _, n := range g.Names {
			rows = append(rows, []string{g.Guest, cmp.Or(printable(n.Name), "-"), n.Type, n.Code, (time.Duration(n.LeftSeconds) * time.Second).String()})
		}
	}
	if len(rows) > 0 {
		printTable(w, "GUEST\tNAME\tTYPE\tANSWER\tLEFT", rows)
	}
}
