package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/spelling"
	"github.com/vringnet/vring/netbackend/nat/presets"
)

// newConfigPresets is "vring config presets".
func newConfigPresets() *cobra.Command {
	return &cobra.Command{
		Use:   "presets [NAME]",
		Short: "List the groups of names that rules may have, or print one",
		Long: `Groups of names that rules may have without a file of yours: --restrict --allow-name @apt --allow-name @pip:443.
Without NAME they are listed. With NAME the file of one is printed, to read it, or to make a group of your own from it:
  vring config presets apt > my-apt.names
  vring nat --name-group apt=my-apt.names --restrict --allow-name @apt:80,443
A group of yours takes the place of the one of the same name. The groups change with versions of vring.`,
		Args: cobra.MaximumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return presetNames(), cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return listPresets(cmd.OutOrStdout())
			}
			return printPreset(cmd.OutOrStdout(), args[0])
		},
	}
}

func presetNames() (names []string) {
	for _, p := range presets.All() {
		names = append(names, p.Name)
	}
	return names
}

// listPresets prints a line for each group.
func listPresets(w io.Writer) error {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, p := range presets.All() {
		fmt.Fprintf(table, "@%s\t%d names\t%s\n", p.Name, len(p.Names), p.About)
	}
	return table.Flush()
}

// printPreset prints the file of a group, named with "@" or without.
func printPreset(w io.Writer, name string) error {
	name = strings.TrimPrefix(name, "@")
	for _, p := range presets.All() {
		if p.Name == name {
			_, err := io.WriteString(w, p.Text)
			return err
		}
	}
	if meant := spelling.Nearest(name, presetNames()); meant != "" {
		return fmt.Errorf("no group %q; is %q meant?", name, meant)
	}
	return fmt.Errorf("no group %q; there are: %s", name, strings.Join(presetNames(), ", "))
}
