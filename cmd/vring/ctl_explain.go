package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
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
whether it may go there, which option decides that, and by which address of the host it leaves. Of a name it also says whether the guest may ask
for it, which addresses it was answered, and what becomes of each of them. Nothing is sent, and no resolver is asked.

  vring ctl explain 10.0.2.15 tcp:192.0.2.34:443
  vring ctl explain 10.0.2.15 tcp:example.org:443   what rules by name say
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
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "%s:\t%s\n", verdictOf(x.Allowed), x.Why)
	for _, line := range [][2]string{
		{"decided by", x.By}, {"opened by", x.OpenBy}, {"address of", x.Owner}, {"leads to", x.Host}, {"from", x.Source}, {"leaves by", x.Way},
		{"must tell", proofText(x.Proof)},
	} {
		if line[1] != "" {
			fmt.Fprintf(t, "%s\t%s\n", line[0], line[1])
		}
	}
	if x.Name != nil {
		printName(t, x.Name)
	}
	_ = t.Flush()
}

// verdictOf is whether something may be, in a word.
func verdictOf(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "closed"
}

// proofText says how a connection must tell its server, "" for not at all.
func proofText(ways []string) string {
	var all []string
	for _, w := range ways {
		switch w {
		case "tls":
			all = append(all, "the name in its TLS hello")
		case "http":
			all = append(all, "the name in each request of HTTP")
		case "quic":
			all = append(all, "the name in its first packets of QUIC")
		}
	}
	return strings.Join(all, ", or ")
}

// printName prints what becomes of a name.
func printName(w io.Writer, n *api.NameExplained) {
	asks := "no: "
	if n.MayAsk {
		asks = "yes: "
	}
	fmt.Fprintf(w, "may ask\t%s%s%s\n", asks, n.Why, byText(n.By))
	for _, a := range n.Addresses {
		fmt.Fprintf(w, "address\t%s, %s: %s%s\n", a.Address, verdictOf(a.Allowed), a.Why, byText(a.By))
	}
	if n.More > 0 {
		fmt.Fprintf(w, "addresses\t%d more\n", n.More)
	}
}

// byText is an option that decides, in parentheses; "" for none.
func byText(option string) string {
	if option == "" {
		return ""
	}
	return " (" + option + ")"
}
