package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/cmd/vring/doctor"
	"github.com/vringnet/vring/internal/bootcheck"
)

// newCompare is "vring compare".
func newCompare() *cobra.Command {
	var guest guestFlags
	var programs bootcheck.Programs
	names := bootcheck.PeerNames()
	length := bootcheck.DefaultTime
	cmd := &cobra.Command{
		Use:   "compare",
		Short: "Measure vring beside QEMU's user network, passt and gvproxy on this machine",
		Long: `Boots the same small guest with vring, with QEMU's own user network, and with passt and gvproxy where they are installed, one after the
other, and prints a table: time from QEMU's start to the lease, MTU, streams from the guest and to it, requests of a byte on one
connection, and connections with one request each. Each program runs with its own defaults, passt with an MTU of 65520 for one. Every
byte of the streams is compared. It takes some ten seconds for each program, and needs no root where the kernel's file may be read.

The figures are of one run on a machine that may do other things: differences of a tenth mean nothing.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			peers, err := bootcheck.Peers(programs, names)
			if err != nil {
				return wrongUse(fmt.Errorf("--peers: %w", err))
			}
			return guest.compare(cmd, peers, length)
		},
	}
	guest.add(cmd.Flags())
	cmd.Flags().StringVar(&programs.Passt, "passt", "passt", "passt's `program`")
	cmd.Flags().StringVar(&programs.Gvproxy, "gvproxy", "gvproxy", "gvproxy's `program`")
	cmd.Flags().StringSliceVar(&names, "peers", names, "`list` of what is measured, in this order")
	cmd.Flags().DurationVar(&length, "time", length, "how long each figure is measured, or so; up to a minute")
	return cmd
}

func (f *guestFlags) compare(cmd *cobra.Command, peers []bootcheck.Peer, length time.Duration) error {
	c, err := f.config(cmd, doctor.Local(""))
	if err != nil {
		return err
	}
	c.Time = max(0, min(length, time.Minute))
	rows, err := bootcheck.Compare(cmd.Context(), c, peers)
	if len(rows) > 0 {
		fmt.Fprintf(cmd.OutOrStdout(), "%s\n\n", f.versions(c.KVM))
		err = errors.Join(err, printComparison(cmd.OutOrStdout(), rows))
	}
	if errors.Is(err, context.Canceled) {
		return errors.New("ended before all was measured")
	}
	return err
}

// printComparison prints the table, and below it why something has no row. It is an error if vring itself has none.
func printComparison(out io.Writer, rows []bootcheck.Measured) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(table, "\tlease\tMTU\tout\tin\trequests\tconnections\t")
	fmt.Fprintln(table, "\ts\t\tGbit/s\tGbit/s\t/s\t/s\t")
	for _, m := range rows {
		if m.Err == nil {
			fmt.Fprintf(table, "%s\t%.1f\t%d\t%.2f\t%.2f\t%.0f\t%.0f\t\n", m.Peer, m.Lease.Round(100*time.Millisecond).Seconds(), m.MTU, m.Out, m.In,
				m.Requests, m.Connections)
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	var failed error
	for _, m := range rows {
		if m.Err != nil {
			fmt.Fprintf(out, "\n%s: %v\n", m.Peer, m.Err)
			if m.Peer == rows[0].Peer {
				failed = fmt.Errorf("%s was not measured", m.Peer)
			}
		}
	}
	return failed
}
