package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/netbackend/netem"
)

// newConfigLinks is "vring config links".
func newConfigLinks() *cobra.Command {
	return &cobra.Command{
		Use:   "links",
		Short: "List the presets of links, with their values",
		Long: `Presets of links between a guest and its network, with what they stand for and where their values are from. What follows
a preset changes it: vring nat --link lte,in:rate=20mbit,loss=1%. Without in: or out: a key is for both directions; in is to the guest.

  rate=10mbit      bits per second of Ethernet frames, with kbit, mbit or gbit
  burst=64KiB      bytes that pass at once after a silence, before the rate holds
  delay=40ms       time on the way, behind the queue
  jitter=5ms       by how much the delay differs at most; frames keep their order
  loss=1%          share of frames that are lost
  loss-burst=5     how many are lost in a row, on average
  gemodel=1%/20%/100%/0%  loss by Gilbert and Elliott, instead: chances to get bad and to get good, loss in either state
  duplicate=1%     share of frames that come twice
  corrupt=0.1%     share of frames in which one bit is another one
  reorder=1%       share of frames that are late, so that others overtake them
  reorder-by=10ms  how late they are
  queue=1000       frames that wait for the rate at most
  queue-bytes=1MiB bytes that wait for the rate at most
  seed=42          where chance begins, for what can be repeated`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return listLinks(cmd.OutOrStdout()) },
	}
}

func linkNames() (names []string) {
	for _, p := range netem.Presets() {
		names = append(names, p.Name)
	}
	return names
}

// listLinks prints the presets of links.
func listLinks(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range netem.Presets() {
		fmt.Fprintf(table, "%s\t%s\n\t%s\n\tSource: %s.\n", p.Name, p.Link, p.About, p.Source)
	}
	return table.Flush()
}
