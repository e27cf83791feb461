package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

// ofGuests asks for what the guests behind NAT have, or the one that is named.
func ofGuests[T any](ctx context.Context, client *control.Client, names []string, what string, q url.Values, each func(guest string, answer *T)) error {
	return askEach(ctx, client, names, http.MethodGet, what, q, each)
}

// askEach asks for something of the guests behind NAT, or of the one that is named, by a method of HTTP.
func askEach[T any](ctx context.Context, client *control.Client, names []string, method, what string, q url.Values, each func(guest string, answer *T)) error {
	guests, err := askGuests(ctx, client, names)
	if err != nil {
		return err
	}
	for i := range guests {
		answer := new(T)
		err := client.Do(ctx, method, control.GuestPath(guests[i].Name, what, q), nil, answer)
		refused := new(control.RefusedError)
		if errors.As(err, &refused) && refused.Status == http.StatusUnprocessableEntity && len(names) == 0 {
			continue // it is not behind NAT
		}
		if err != nil {
			return err
		}
		each(guests[i].Name, answer)
	}
	return nil
}

func (c *ctl) leasesCommand() *cobra.Command {
	return &cobra.Command{
		Use: "leases [GUEST]", Short: "List the addresses that guests have by DHCP", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `List the addresses that hosts behind the cards of all guests, or of one, have by DHCP, and until when. What is fixed is what --lease says, whether
that host is there or not; what is kept stays its host's without being asked for again.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := leasesReport{}
				err := ofGuests(ctx, client, args, "leases", nil, func(guest string, answer *[]api.Lease) {
					for _, l := range *answer {
						r = append(r, guestLease{guest, l})
					}
				})
				return r, err
			})
		},
	}
}

// guestLease is a lease of a guest.
type guestLease struct {
	Guest string `json:"guest_name"`
	api.Lease
}

// leasesReport is a list of leases as a person reads it.
type leasesReport []guestLease

func (r leasesReport) print(w io.Writer) {
	var rows [][]string
	for i := range r {
		l := &r[i]
		left := "kept"
		switch {
		case l.Fixed:
			left = "fixed"
		case l.LeftSeconds != nil:
			left = (time.Duration(*l.LeftSeconds) * time.Second).String()
		}
		rows = append(rows, []string{l.Guest, l.Address, l.MAC, cmp.Or(printable(l.Name), "-"), left})
	}
	printTable(w, "GUEST\tADDRESS\tMAC\tNAME\tLEFT", rows)
}

func (c *ctl) resolversCommand() *cobra.Command {
	return &cobra.Command{
		Use: "resolvers [GUEST]", Short: "Tell who answers the names of guests", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `Tell which resolvers are asked for the names of all guests, or of one: which one is asked first, when each has answered last, and which have failed
and when they are tried again. Resolvers of a file are known once the guest has asked.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := resolversReport{}
				err := ofGuests(ctx, client, args, "resolvers", nil, func(guest string, answer *api.Resolvers) {
					r = append(r, guestResolvers{guest, *answer})
				})
				return r, err
			})
		},
	}
}

// guestResolvers is who answers a guest's names.
type guestResolvers struct {
	Guest string `json:"guest_name"`
	api.Resolvers
}

// resolversReport is that of several guests as a person reads it.
type resolversReport []guestResolvers

func (r resolversReport) print(w io.Writer) {
	var rows [][]string
	for i := range r {
		g := &r[i]
		from := cmp.Or(g.File, "configuration")
		for j := range g.Resolvers.Resolvers {
			rows = append(rows, g.row(&g.Resolvers.Resolvers[j], from))
		}
		if len(g.Resolvers.Resolvers) == 0 {
			rows = append(rows, []string{g.Guest, "none known", from, "-", "-", "-", "-"})
		}
	}
	printTable(w, "GUEST\tRESOLVER\tFROM\tASKED\tANSWERED\tUDP\tTCP", rows)
}

func (g *guestResolvers) row(v *api.Resolver, from string) []string {
	asked, answered := "later", "never"
	if v.First {
		asked = "first"
	}
	if v.AnsweredMS != nil {
		answered = ago(*v.AnsweredMS)
	}
	udp, tcp := failureText(v.UDP), failureText(v.TCP)
	if strings.HasPrefix(v.Address, "tls://") {
		udp, tcp = "-", failureText(v.TLS)+" (TLS)"
	}
	if v.Domain != "" {
		from = "configuration, for " + v.Domain
	}
	return []string{g.Guest, v.Address, from, asked, answered, udp, tcp}
}

// failureText says how a resolver works by one transport.
func failureText(f *api.ResolverFailure) string {
	if f == nil {
		return "works"
	}
	again := "with the next query"
	if f.AgainMillis > 0 {
		again = "in " + inSeconds(f.AgainMillis)
	}
	return fmt.Sprintf("failed %s, again %s", ago(f.AgoMillis), again)
}

func ago(millis int64) string { return inSeconds(millis) + " ago" }

func inSeconds(millis int64) string {
	return (time.Duration(millis) * time.Millisecond).Round(time.Second).String()
}
