package main

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/labfile"
	"github.com/vringnet/vring/internal/labgraph"
	"github.com/vringnet/vring/internal/labrun"
	"github.com/vringnet/vring/tap"
)

func (l *labCommand) graphCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use: "graph LAB.yaml", Short: "Draw the network of a lab as SVG", Args: oneLab, ValidArgsFunction: completeFile,
		Long: `Draws the network that the file of a lab describes, as SVG, which follows the system's dark colours. If the lab is up, guests that are up are
marked, with their addresses.

  vring lab graph two.yaml -w two.svg`,
		RunE: func(cmd *cobra.Command, args []string) error {
			place, err := l.place(args[0])
			if err != nil {
				return err
			}
			read, err := parseLab(args[0], place.Path)
			if err != nil {
				return err
			}
			picture := pictureOf(l.called(args[0]), read)
			report, err := l.report(cmd.Context(), args[0])
			if _, down := place.Status(cmd.Context()); err != nil && !errors.Is(down, labrun.ErrDown) {
				return err
			}
			if report != nil {
				mark(picture, report)
			}
			if out == standardOutput {
				_, err := cmd.OutOrStdout().Write(labgraph.SVG(picture))
				return err
			}
			return os.WriteFile(out, labgraph.SVG(picture), 0o644)
		},
	}
	cmd.Flags().StringVarP(&out, "write", "w", standardOutput, "file to write, which is replaced; - is standard output")
	return cmd
}

// pictureOf is what is drawn of a lab.
func pictureOf(name string, read *labfile.Lab) *labgraph.Lab {
	p := &labgraph.Lab{Name: name, Uplinks: map[string][]string{}}
	for i := range read.Config.Switches {
		s := &read.Config.Switches[i]
		for _, u := range s.Uplinks {
			p.Uplinks[s.Name] = append(p.Uplinks[s.Name], u.String())
		}
	}
	for i := range read.Config.Guests {
		g := &read.Config.Guests[i]
		drawn := labgraph.Guest{Name: g.Name, NAT: g.NAT != nil, Own: g.Switch == nil}
		if g.Switch != nil {
			drawn.Switch, drawn.VLANs = g.Switch.Name, vlansText(&g.Switch.VLANs)
		}
		if g.TAP != nil && len(g.TAP.Devices) > 0 {
			drawn.Device = g.TAP.Devices[0]
		}
		if !g.Link.IsZero() {
			drawn.Link = g.Link.String()
		}
		if g.NAT != nil {
			for _, f := range g.NAT.Forwards {
				drawn.Forwards = append(drawn.Forwards, f.String())
			}
		}
		p.Guests = append(p.Guests, drawn)
	}
	return p
}

// vlansText says in a few words which VLANs a port has, "" for nothing special.
func vlansText(v *tap.VLANs) string {
	var parts []string
	if v.Access != 0 {
		parts = append(parts, fmt.Sprintf("VLAN %d", v.Access))
	}
	for _, r := range v.Trunk {
		text := fmt.Sprintf("tag %d", r.First)
		if r.Last != r.First {
			text += fmt.Sprintf("-%d", r.Last)
		}
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// mark adds how the guests of a lab are.
func mark(p *labgraph.Lab, report *labReport) {
	for i := range p.Guests {
		for j := range report.Guests {
			if g := &report.Guests[j]; g.Name == p.Guests[i].Name {
				p.Guests[i].Up, p.Guests[i].Addresses = g.FrontEnd == "up", g.Addresses
			}
		}
	}
}
