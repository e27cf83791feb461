package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/cmd/vring/flowlist"
	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/nat"
)

// flowChoice has the flags that choose flows.
type flowChoice struct {
	proto, direction, guestAddress, remote, state string
	guestPort                                     uint16
}

// flags adds the flags to a command.
func (f *flowChoice) flags(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.proto, "proto", "", "only flows of this protocol: tcp, udp or icmp")
	flags.StringVar(&f.direction, "direction", "", "only flows that the host began, by a forward (in), or the guest (out)")
	flags.StringVar(&f.guestAddress, "guest-address", "", "only flows of this address of the guest")
	flags.Uint16Var(&f.guestPort, "guest-port", 0, "only flows of this port of the guest")
	flags.StringVar(&f.remote, "remote", "", "only flows whose other end this is, as the guest sees it: [tcp:|udp:|icmp:]ADDRESS[/BITS][:PORT[-PORT]]")
	flags.StringVar(&f.state, "state", "", "only flows in this state")
	for flag, values := range map[string][]string{"proto": {"tcp", "udp", "icmp"}, "direction": {"in", "out"}, "state": nat.FlowStates()} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // there is that flag
	}
}

// query returns the choice as the control socket reads it.
func (f *flowChoice) query() url.Values {
	q := url.Values{}
	for name, value := range map[string]string{
		"proto": f.proto, "direction": f.direction, "guest-address": f.guestAddress, "remote": f.remote, "state": f.state,
	} {
		if value != "" {
			q.Set(name, value)
		}
	}
	if f.guestPort != 0 {
		q.Set("guest-port", strconv.Itoa(int(f.guestPort)))
	}
	return q
}

func (c *ctl) flowsCommand() *cobra.Command {
	var choice flowChoice
	var before flowlist.List
	var limit int
	order := flowlist.ByAge
	cmd := &cobra.Command{
		Use: "flows [GUEST]", Short: "List connections and what else passes", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `List the TCP connections, UDP associations and series of echo requests of all guests behind NAT, or of one. A guest is named by
its address or its socket. With --watch, two columns tell how many bytes pass a second.

  vring ctl flows --direction in                    what came by forwards
  vring ctl flows 10.0.2.15 --remote tcp:0.0.0.0/0:443
  vring ctl flows --sort rate --watch               who needs the line
  vring ctl flows kill 10.0.2.15 --guest-port 22    end some`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if !slices.Contains(flowlist.Orders(), order) {
				return wrongUse(fmt.Errorf("--sort %q: want one of %q", order, flowlist.Orders()))
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				q := choice.query()
				q.Set("limit", strconv.Itoa(limit))
				now, err := askFlows(ctx, client, args, q)
				now.At = time.Now()
				now.Measure(&before)
				now.Sort(order)
				before = now.List
				return &now, err
			})
		},
	}
	choice.flags(cmd)
	cmd.Flags().IntVar(&limit, "limit", 1000, "how many flows of each guest at most")
	cmd.Flags().StringVar(&order, "sort", order, "what stands first: the oldest (age), or what most bytes have passed on (bytes), or pass on now (rate, with --watch)")
	_ = cmd.RegisterFlagCompletionFunc("sort", cobra.FixedCompletions(flowlist.Orders(), cobra.ShellCompDirectiveNoFileComp)) // there is that flag
	cmd.AddCommand(c.killCommand())
	return cmd
}

func (c *ctl) killCommand() *cobra.Command {
	var choice flowChoice
	var all bool
	cmd := &cobra.Command{
		Use: "kill GUEST", Short: "End flows of a guest", Args: oneGuest, ValidArgsFunction: c.completeGuest,
		Long: `End the flows of a guest that the flags choose: both sides of a connection learn it by a reset. Nothing keeps either of them from
beginning another one; rules do.

  vring ctl flows kill 10.0.2.15 --remote tcp:192.0.2.34:443
  vring ctl flows kill 10.0.2.15 --direction in --guest-port 22
  vring ctl flows kill 10.0.2.15 --all`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if c.watch != 0 {
				return wrongUse(errors.New("--watch: flows are ended once; leave it out"))
			}
			q := choice.query()
			if all {
				q.Set("all", "true")
			}
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				guests, err := askGuests(ctx, client, args)
				if err != nil {
					return nil, err
				}
				r := new(endedReport)
				return r, client.Do(ctx, http.MethodDelete, control.GuestPath(guests[0].Name, "flows", q), nil, r)
			})
		},
	}
	choice.flags(cmd)
	cmd.Flags().BoolVar(&all, "all", false, "all flows of the guest")
	return cmd
}

// oneGuest wants the name of a guest.
func oneGuest(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return wrongUse(errors.New("which guest? vring ctl guests lists them"))
	}
	return atMostOneGuest(cmd, args)
}

// endedReport is how many flows were ended.
type endedReport api.Ended

func (r *endedReport) print(w io.Writer) { fmt.Fprintf(w, "%d flows ended\n", r.Ended) }

// flowsReport is flows as a person reads them.
type flowsReport struct {
	flowlist.List
	leftOut []string // guests that have more flows
}

// askFlows asks for the flows of all guests that have some, or of the one that is named.
func askFlows(ctx context.Context, client *control.Client, names []string, q url.Values) (r flowsReport, err error) {
	err = ofGuests(ctx, client, names, "flows", q, func(guest string, answer *api.Flows) {
		r.Add(guest, answer.Flows)
		if answer.More {
			r.leftOut = append(r.leftOut, guest)
		}
	})
	return r, err
}

// MarshalJSON implements json.Marshaler.
func (r *flowsReport) MarshalJSON() ([]byte, error) {
	return json.Marshal(append([]flowlist.Flow{}, r.Flows...))
}

func (r *flowsReport) print(w io.Writer) {
	heading := "GUEST\tPROTO\tWAY\tGUEST'S END\tREMOTE\tHOST SOCKET\tTARGET\tSTATE\tFROM GUEST\tTO GUEST\tAGE"
	if r.Measured {
		heading += "\tFROM/s\tTO/s"
	}
	var rows [][]string
	for i := range r.Flows {
		rows = append(rows, r.row(&r.Flows[i]))
	}
	printTable(w, heading, rows)
	for _, guest := range r.leftOut {
		fmt.Fprintf(w, "guest %s has more flows; --limit tells how many are listed\n", guest)
	}
}

// wayIn says how the host began a flow.
func wayIn(by string) string {
	if by == string(nat.OriginForward) {
		return "in"
	}
	return by
}

func (r *flowsReport) row(f *flowlist.Flow) []string {
	way := "out"
	if f.Inbound {
		way = wayIn(f.By)
	}
	row := []string{
		f.Guest, f.Proto, way, f.Flow.Guest, f.Remote, cmp.Or(f.Host, "-"), cmp.Or(f.Target, "-"), f.State,
		strconv.FormatUint(f.FromGuest, 10), strconv.FormatUint(f.ToGuest, 10),
		(time.Duration(f.AgeMillis) * time.Millisecond).Round(time.Second).String(),
	}
	if r.Measured {
		row = append(row, fmt.Sprintf("%.0f", f.FromRate), fmt.Sprintf("%.0f", f.ToRate))
	}
	return row
}
