package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

func (c *ctl) uplinksCommand() *cobra.Command {
	return &cobra.Command{
		Use: "uplinks [UPLINK]", Short: "Tell where uplinks of switches lead, and which MAC addresses are there", Args: atMostOneGuest, ValidArgsFunction: c.completeGuest,
		Long: `Tell where all uplinks of switches lead, or one: to which hosts, when a frame has come from each, which MTU the guests can have for the ways, and
which MAC addresses are behind which host, by VLANs of their frames' tags.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.show(cmd, func(ctx context.Context, client *control.Client) (report, error) {
				r := uplinksReport{}
				err := ofGuests(ctx, client, args, "uplink", nil, func(name string, answer *api.Uplink) {
					r = append(r, namedUplink{name, *answer})
				})
				return r, err
			})
		},
	}
}

// namedUplink is an uplink with its name.
type namedUplink struct {
	Name string `json:"guest_name"`
	api.Uplink
}

// uplinksReport is a list of uplinks as a person reads it.
type uplinksReport []namedUplink

func (r uplinksReport) print(w io.Writer) {
	for i := range r {
		u := &r[i]
		fmt.Fprintf(w, "uplink %s of the switch %q: %s, for an MTU of %d\n", u.Name, u.Switch, u.To, u.MTU)
		if u.TooLarge > 0 {
			fmt.Fprintf(w, "  a frame of %d bytes was too large, and dropped\n", u.TooLarge)
		}
		var rows [][]string
		for _, v := range u.Remotes {
			heard := "never"
			if v.HeardMillis != nil {
				heard = ago(*v.HeardMillis)
			}
			rows = append(rows, []string{v.Address, heard, strconv.Itoa(v.Addresses)})
		}
		printTable(w, "HOST\tHEARD\tADDRESSES", rows)
		rows = nil
		for _, a := range u.Addresses {
			rows = append(rows, []string{a.MAC, strconv.Itoa(a.VLAN), a.Remote, ago(a.AgeMillis)})
		}
		if len(rows) > 0 {
			printTable(w, "MAC\tVLAN\tHOST\tSEEN", rows)
		}
	}
}
