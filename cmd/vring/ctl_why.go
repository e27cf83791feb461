package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/url"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

func (c *ctl) whyCommand() *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use: "why [GUEST]", Short: "List what was dropped last, and why", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `List which frames of all guests, or of one, were dropped last, and of those to them, and why. The reason is the name of the counter that has counted
it, which vring ctl counters prints. Of a second, 32 are kept, and 128 at most for each thread; the others are numbered.

  vring ctl why 10.0.2.15
  vring ctl why --reason denied --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				q := url.Values{}
				if reason != "" {
					q.Set("reason", reason)
				}
				r := whyReport{}
				err := ofGuests(ctx, client, args, "drops", q, func(guest string, answer *[]api.Drop) {
					for _, d := range *answer {
						r = append(r, guestDrop{guest, d})
					}
				})
				slices.SortStableFunc(r, func(a, b guestDrop) int { return cmp.Compare(a.Time, b.Time) })
				return r, err
			})
		},
	}
	cmd.Flags().StringVar(&reason, "reason", "", "only what this counter has counted, as in denied")
	_ = cmd.RegisterFlagCompletionFunc("reason", c.completeReason) // there is that flag
	return cmd
}

// completeReason offers the counters of guests that are served.
func (c *ctl) completeReason(*cobra.Command, []string, string) (reasons []string, _ cobra.ShellCompDirective) {
	var all []api.Counters
	if path, err := c.find(); err == nil {
		ask(path, "/v1/counters", &all) // without an answer there is nothing to offer
	}
	for i := range all {
		for name := range all[i].Counters {
			reasons = append(reasons, name)
		}
	}
	slices.Sort(reasons)
	return slices.Compact(reasons), cobra.ShellCompDirectiveNoFileComp
}

// guestDrop is what was dropped of a guest.
type guestDrop struct {
	Guest string `json:"guest_name"`
	api.Drop
}

// whyReport is a list of drops as a person reads it.
type whyReport []guestDrop

func (r whyReport) print(w io.Writer) {
	var rows [][]string
	for i := range r {
		d := &r[i]
		way := "from guest"
		if d.ToGuest {
			way = "to guest"
		}
		before := "-"
		if d.LeftOut > 0 {
			before = fmt.Sprint(d.LeftOut)
		}
		rows = append(rows, []string{
			timeOfDay(d.Time, "15:04:05.000"), d.Guest, way, d.Reason, cmp.Or(d.Proto, "-"), cmp.Or(d.Src, "-"), cmp.Or(d.Dst, "-"), before, printable(cmp.Or(d.Detail, d.Meaning)),
		})
	}
	printTable(w, "TIME\tGUEST\tWAY\tREASON\tPROTO\tFROM\tTO\tMORE BEFORE\tEXPLANATION", rows)
}
