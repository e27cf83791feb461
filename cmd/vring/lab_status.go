package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/labfile"
	"github.com/vringnet/vring/internal/labrun"
)

// labGuest is a guest of a lab that is up.
type labGuest struct {
	Name      string                `json:"name"`
	Socket    string                `json:"socket"`
	FrontEnd  string                `json:"frontend"`  // waiting, connected or up; "" if it is not known
	Addresses []string              `json:"addresses"` // that it has by DHCP
	Program   *labrun.ProgramStatus `json:"program"`   // null if somebody else starts it

	leases bool // it can have some
}

// labReport is how a lab is.
type labReport struct {
	Name    string               `json:"name"`
	File    string               `json:"file"`
	PID     int                  `json:"pid"` // of its keeper
	Control string               `json:"control"`
	Vring   labrun.ProgramStatus `json:"vring"`
	Guests  []labGuest           `json:"guests"`
}

func (l *labCommand) statusCommand() *cobra.Command {
	c := ctl{output: outputTable}
	cmd := &cobra.Command{
		Use: "status LAB.yaml", Short: "Tell how a lab is, and each of its guests", Args: oneLab, ValidArgsFunction: completeFile,
		Long: `Tells of each guest of a lab how its program is, how far its front end has come, and which addresses it has by DHCP. What programs print is in
the files that -o json tells, a megabyte or two of each at most.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := c.check(); err != nil {
				return err
			}
			r, err := l.report(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return c.write(cmd.OutOrStdout(), r)
		},
	}
	cmd.Flags().StringVarP(&c.output, "output", "o", outputTable, "what is printed: table or json")
	return cmd
}

// report asks how a lab is. Its guests are those that it has, whatever its file says by now.
func (l *labCommand) report(ctx context.Context, file string) (*labReport, error) {
	s, err := l.status(ctx, file)
	if err != nil {
		return nil, err
	}
	r := &labReport{Name: l.called(file), File: s.File, PID: s.PID, Control: s.Control, Vring: s.Vring}
	client := control.NewClient(s.Control)
	defer client.Close()
	var guests []api.Guest
	if err := client.Do(ctx, http.MethodGet, "/v1/guests", nil, &guests); err != nil && s.Vring.PID != 0 {
		return nil, err
	}
	for i := range guests {
		g := &guests[i]
		r.Guests = append(r.Guests, labGuest{Name: g.Name, Socket: g.Socket, FrontEnd: g.FrontEnd, Addresses: leasesOf(ctx, client, g.Name), Program: programOf(s, g.Name)})
	}
	for i := range s.Guests { // of a vring that is about to be started again
		if p := &s.Guests[i]; !slices.ContainsFunc(r.Guests, func(g labGuest) bool { return g.Name == p.Name }) {
			r.Guests = append(r.Guests, labGuest{Name: p.Name, Program: p})
		}
	}
	return r, nil
}

// look asks how the guests of a lab are.
func look(ctx context.Context, place labrun.Place, client *control.Client, read *labfile.Lab) ([]labGuest, error) {
	s, err := place.Status(ctx)
	if err != nil {
		return nil, err
	}
	var guests []api.Guest
	if err := client.Do(ctx, http.MethodGet, "/v1/guests", nil, &guests); err != nil {
		return nil, err
	}
	var rows []labGuest
	for i := range read.Guests {
		row := labGuest{Name: read.Guests[i].Name, Program: programOf(s, read.Guests[i].Name), leases: read.Config.Guests[i].NAT != nil}
		if at := slices.IndexFunc(guests, func(g api.Guest) bool { return g.Name == row.Name }); at >= 0 {
			row.FrontEnd = guests[at].FrontEnd
		}
		if row.leases && row.FrontEnd == "up" {
			row.Addresses = leasesOf(ctx, client, row.Name)
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func programOf(s *labrun.Status, name string) *labrun.ProgramStatus {
	if i := slices.IndexFunc(s.Guests, func(p labrun.ProgramStatus) bool { return p.Name == name }); i >= 0 {
		return &s.Guests[i]
	}
	return nil
}

// leasesOf are the addresses that hosts behind the card of a guest have by DHCP; none if it is not behind NAT.
func leasesOf(ctx context.Context, client *control.Client, guest string) (addresses []string) {
	var leases []api.Lease
	if client.Do(ctx, http.MethodGet, control.GuestPath(guest, "leases", nil), nil, &leases) != nil {
		return nil
	}
	for _, lease := range leases {
		if !lease.Fixed {
			addresses = append(addresses, lease.Address)
		}
	}
	return addresses
}

// settled reports whether nobody needs to wait for the guest.
func (g *labGuest) settled() bool {
	return g.Program == nil || g.failed() || g.FrontEnd == "up" && (!g.leases || len(g.Addresses) > 0)
}

// failed reports whether the program of the guest has ended, and is not started again.
func (g *labGuest) failed() bool {
	return g.Program != nil && g.Program.PID == 0 && g.Program.Ended != "" && !g.Program.Again
}

// progress is how far the guest has come, "" for no way.
func (g *labGuest) progress() string {
	switch {
	case g.failed():
		return "has ended: " + g.Program.Ended
	case len(g.Addresses) > 0:
		return "up, " + strings.Join(g.Addresses, " ")
	case g.FrontEnd == "up", g.FrontEnd == "connected":
		return g.FrontEnd
	}
	return ""
}

func (r *labReport) print(w io.Writer) {
	fmt.Fprintf(w, "%s: %s, keeper %d, vring %s\n", r.Name, r.File, r.PID, programText(&r.Vring))
	var rows [][]string
	for i := range r.Guests {
		g := &r.Guests[i]
		program := "-"
		if g.Socket != "" { // it is no uplink
			program = "not the lab's"
		}
		if g.Program != nil {
			program = programText(g.Program)
		}
		rows = append(rows, []string{g.Name, program, cmp.Or(g.FrontEnd, "-"), cmp.Or(strings.Join(g.Addresses, " "), "-")})
	}
	printTable(w, "GUEST\tPROGRAM\tFRONT END\tADDRESSES", rows)
}

// programText says how a program is, in a few words.
func programText(p *labrun.ProgramStatus) string {
	if p.PID == 0 && p.Ended == "" {
		return "starts"
	}
	since := time.Since(p.Since).Round(time.Second)
	text := fmt.Sprintf("runs as %d for %v", p.PID, since)
	if p.PID == 0 {
		text = fmt.Sprintf("has ended %v ago: %s", since, p.Ended)
	}
	if p.Again {
		text += ", starts again soon"
	}
	if p.PID != 0 && p.Started > 1 {
		text += fmt.Sprintf(", started %d times", p.Started)
	}
	return text
}

func (l *labCommand) captureCommand() *cobra.Command {
	c := &ctl{output: outputTable}
	cmd := c.captureCommand()
	capture := cmd.RunE
	cmd.Use, cmd.Short = "capture LAB.yaml GUEST [FILTER...]", "Write the frames of a guest of a lab to a file, or into Wireshark"
	cmd.Long = "As vring ctl capture, of a guest of a lab:\n" +
		"  vring lab capture two.yaml web -w web.pcapng\n" +
		"  vring lab capture two.yaml web tcp port 80 | wireshark -k -i -\n\nvring ctl capture --help explains filters and files."
	cmd.Args, cmd.ValidArgsFunction = labAndGuest, completeFile
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		s, err := l.status(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		c.control = s.Control
		return capture(cmd, args[1:])
	}
	return cmd
}

// labAndGuest wants the file of a lab and the name of a guest; more may follow.
func labAndGuest(cmd *cobra.Command, args []string) error {
	if len(args) < 2 {
		return wrongUse(errors.New("want the file of a lab and a guest, as in " + cmd.CommandPath() + " lab.yaml web; vring lab status lists the guests"))
	}
	return nil
}
