package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

func (c *ctl) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use: "status", Short: "Tell how a vring and its guests are", Args: noArgs,
		Long: `Tell how a vring and its guests are: since when it runs, how its sandbox stands, and how far each guest's front end has
come. It is waiting for one, connected to one, or up: the guest's driver is.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				s := new(statusReport)
				return s, client.Do(ctx, http.MethodGet, "/v1/status", nil, s)
			})
		},
	}
}

// statusReport is the status as a person reads it.
type statusReport api.Status

func (s *statusReport) print(w io.Writer) {
	fmt.Fprintf(w, "vring %s, up %s, %d bytes of heap, %d goroutines\n",
		s.Version, time.Duration(s.UptimeSeconds)*time.Second, s.Process.HeapBytes, s.Process.Goroutines)
	fmt.Fprintf(w, "sandbox: %s\n", sandboxLine(s.Sandbox))
	fmt.Fprintf(w, "control socket: %d connections\n", s.Control.Connections)
	if s.State != nil {
		fmt.Fprintln(w, stateLine(s.State))
	}
	if s.Drain != nil {
		fmt.Fprintln(w, drainLine(s.Drain))
	}
	fmt.Fprintln(w)
	printGuests(w, s.Guests)
}

// sandboxLine tells how the sandbox stands.
func sandboxLine(walls []api.Wall) string {
	if len(walls) == 0 {
		return "off"
	}
	weak := 0
	text := ""
	for _, wall := range walls {
		if wall.Weak {
			weak++
			text += fmt.Sprintf("; %s: %s", wall.Name, wall.Lacks)
		}
	}
	if weak == 0 {
		return fmt.Sprintf("%d walls stand", len(walls))
	}
	return fmt.Sprintf("%d of %d walls are weaker than they should be%s", weak, len(walls), text)
}

// stateLine tells where changes are kept.
func stateLine(s *api.State) string {
	if s.Error != "" {
		return fmt.Sprintf("changes are NOT kept in %s: %s", s.Path, s.Error)
	}
	return "changes are kept in " + s.Path
}

// printGuests prints a line for each guest.
func printGuests(w io.Writer, guests []api.Guest) {
	var rows [][]string
	for i := range guests {
		g := &guests[i]
		var turns, sleeps uint64
		for _, p := range g.Pairs {
			turns, sleeps = turns+p.Turns, sleeps+p.Sleeps
		}
		rows = append(rows, []string{
			g.Name, cmp.Or(g.Socket, "-"), g.FrontEndState(), g.Link, strconv.Itoa(len(g.Pairs)), strconv.FormatUint(turns, 10), strconv.FormatUint(sleeps, 10),
			strconv.FormatUint(g.Disabled, 10),
		})
	}
	printTable(w, "GUEST\tSOCKET\tFRONT END\tLINK\tQUEUE PAIRS\tTURNS\tSLEEPS\tDROPPED WHILE DISABLED", rows)
}

func (c *ctl) guestsCommand() *cobra.Command {
	return &cobra.Command{
		Use: "guests [GUEST]", Short: "List the guests, or tell of one", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `List the guests with how far their front ends have come. A guest is named by its address, its TAP device or its socket.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				guests, err := askGuests(ctx, client, args)
				return guestsReport(guests), err
			})
		},
	}
}

// atMostOneGuest refuses more arguments than one.
func atMostOneGuest(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return wrongUse(fmt.Errorf("unexpected %q; want one guest at most", args[1]))
	}
	return nil
}

// askGuests asks for all guests, or for the one that is named.
func askGuests(ctx context.Context, client *control.Client, names []string) (guests []api.Guest, err error) {
	if err := client.Do(ctx, http.MethodGet, "/v1/guests", nil, &guests); err != nil || len(names) == 0 {
		return guests, err
	}
	for _, g := range guests {
		if names[0] == g.Name || names[0] == g.Socket {
			return []api.Guest{g}, nil
		}
	}
	return nil, noGuest(names[0], guests)
}

// noGuest tells which guests there are.
func noGuest(name string, guests []api.Guest) error {
	var names []string
	for i := range guests {
		names = append(names, guests[i].Name)
	}
	return wrongUse(fmt.Errorf("there is no guest %q; there are %q", name, names))
}

// guestsReport is a list of guests as a person reads it.
type guestsReport []api.Guest

func (r guestsReport) print(w io.Writer) { printGuests(w, r) }

// completeGuest completes the name of a guest.
func (c *ctl) completeGuest(_ *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	if path, err := c.find(); err == nil && len(args) == 0 {
		for _, g := range guestsAt(path) {
			names = append(names, g.Name)
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

func (c *ctl) countersCommand() *cobra.Command {
	var all bool
	var before countersReport
	cmd := &cobra.Command{
		Use: "counters [GUEST]", Short: "Tell what was counted", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `Tell what was counted for each queue pair of all guests, or of one. Those that are zero are left out. With --watch, the last
column is how fast each one grows. Looking at counters wakes no thread, and a guest that is idle stays so: they are at most a tenth of a
second old.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				now, err := askCounters(ctx, client, args)
				now.all, now.before, now.at = all, before.Counters, time.Now()
				if c.watch != 0 && !before.at.IsZero() {
					now.since = now.at.Sub(before.at)
				}
				before = now
				return &now, err
			})
		},
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "also those that are zero")
	return cmd
}

// askCounters asks for the counters of all guests, or of the one that is named.
func askCounters(ctx context.Context, client *control.Client, names []string) (r countersReport, err error) {
	if err := client.Do(ctx, http.MethodGet, "/v1/counters", nil, &r.Counters); err != nil || len(names) == 0 {
		return r, err
	}
	guests, err := askGuests(ctx, client, names)
	if err != nil {
		return r, err
	}
	r.Counters = slices.DeleteFunc(r.Counters, func(c api.Counters) bool { return c.Guest != guests[0].Name })
	return r, nil
}

// countersReport is counters as a person reads them.
type countersReport struct {
	Counters []api.Counters
	all      bool
	at       time.Time
	since    time.Duration // between before and now; 0 for nothing before
	before   []api.Counters
}

// MarshalJSON implements json.Marshaler.
func (r *countersReport) MarshalJSON() ([]byte, error) { return json.Marshal(r.Counters) }

func (r *countersReport) print(w io.Writer) {
	heading := "GUEST\tPAIR\tCOUNTER\tVALUE"
	if r.since != 0 {
		heading += "\tPER SECOND"
	}
	var rows [][]string
	for i := range r.Counters {
		rows = append(rows, r.rows(i)...)
	}
	printTable(w, heading, rows)
}

// rows are those of the counters of queue pair i of all.
func (r *countersReport) rows(i int) (rows [][]string) {
	c := &r.Counters[i]
	for _, name := range slices.Sorted(maps.Keys(c.Counters)) {
		n := c.Counters[name]
		if n == 0 && !r.all {
			continue
		}
		row := []string{c.Guest, strconv.Itoa(c.Pair), name, strconv.FormatUint(n, 10)}
		if r.since != 0 && i < len(r.before) {
			row = append(row, fmt.Sprintf("%.0f", float64(n-r.before[i].Counters[name])/r.since.Seconds()))
		}
		rows = append(rows, row)
	}
	return rows
}
