package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// guestsZone is where names of guests are.
const guestsZone = ".vring.internal"

func (c *ctl) dnsNamesCommand() *cobra.Command {
	var from string
	cmd := &cobra.Command{
		Use: "names [NAME|ADDRESS]", Short: "Tell what guests are called, what a name leads to, or whose an address is", Args: atMostOneName,
		Long: `Tell which names guests find of each other, as vring's name server answers them, with their addresses; or those of a name, or the names of an
address. Of several addresses the first one of each version of IP is answered. Names end in vring.internal, which may be left out. --from asks for one guest, since guests of different VLANs do not find each other.

  vring ctl dns names
  vring ctl dns names db
  vring ctl dns names 10.0.2.16`,
		RunE: func(cmd *cobra.Command, args []string) error {
			var guests []string
			if from != "" {
				guests = []string{from}
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := namesReport{}
				err := ofGuests(ctx, client, guests, "host-names", nil, func(_ string, answer *[]api.HostName) { r = r.with(*answer) })
				if err != nil || len(args) == 0 {
					return r, err
				}
				found := r.about(args[0])
				if len(found) == 0 {
					return nil, wrongUse(fmt.Errorf("no guest has the name or the address %s; vring ctl dns names lists all", args[0]))
				}
				return found, nil
			})
		},
	}
	cmd.Flags().StringVar(&from, "from", "", "guest that asks (default: any)")
	_ = cmd.RegisterFlagCompletionFunc("from", c.completeGuest)
	return cmd
}

// namesReport are names with addresses, each pair once.
type namesReport []api.HostName

// with is a report with what a guest finds, too.
func (r namesReport) with(found []api.HostName) namesReport {
	for _, n := range found {
		if !slices.Contains(r, n) {
			r = append(r, n)
		}
	}
	return r
}

// about are those of a name, or of an address.
func (r namesReport) about(what string) (found namesReport) {
	addr, err := netip.ParseAddr(what)
	name := strings.TrimSuffix(strings.ToLower(strings.TrimSuffix(what, ".")), guestsZone)
	for _, n := range r {
		is, _ := netip.ParseAddr(n.Address)
		if err == nil && is == addr || err != nil && strings.EqualFold(n.Name, name) {
			found = append(found, n)
		}
	}
	return found
}

func (r namesReport) print(w io.Writer) {
	var rows [][]string
	for _, n := range r {
		rows = append(rows, []string{printable(n.Name) + guestsZone, n.Address})
	}
	printTable(w, "NAME\tADDRESS", rows)
}

// atMostOneName wants a name or an address at most.
func atMostOneName(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return wrongUse(fmt.Errorf("unexpected %q; want one name or address at most", args[1]))
	}
	return nil
}
