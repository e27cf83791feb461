package main

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/go-multierror"
	"github.com/spf13/cobra"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/regularfile"
)

// newConfig is "vring config".
func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config check|print|schema|from-flags|presets|links",
		Short: "Check, print and make configuration files of vring serve",
		Long: `Configuration files of vring serve are checked and printed here, without serving anybody:
  vring config check FILE                    say what is wrong with a file, or that nothing is
  vring config print FILE                    print the whole of it, with what is by default in comments
  vring config print --full FILE             the same, without comments
  vring config from-flags nat [FLAG]...      print the file that a command line of vring nat, tap or stub means
  vring config schema                        print the JSON Schema of files, by which editors complete and check them
  vring config presets [NAME]                list the groups of names that rules may have without a file of yours, or print one
  vring config links                         list the presets of links (--link), with their values

An editor with a language server for YAML finds the schema by a line at the beginning of a file:
  # yaml-language-server: $schema=vring.schema.json`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newConfigCheck(), newConfigPrint(), newConfigSchema(), newConfigFromFlags(), newConfigPresets(), newConfigLinks())
	return cmd
}

func newConfigCheck() *cobra.Command {
	return &cobra.Command{
		Use:   "check FILE",
		Short: "Say what is wrong with a configuration file, or that nothing is",
		Long: `Reads a configuration file and says all that is wrong with it, each with its line and column. What the file names on this
host is looked at as vring serve does: directories of sockets, processors, the kernel's IPv6. Ports and devices are not opened.`,
		Args: oneFile, ValidArgsFunction: completeFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			checked, err := newSourceFile(args[0]).check()
			if err != nil {
				return err
			}
			c := checked.Config()
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is right: %s\n", args[0], summary(&c))
			return err
		},
	}
}

// summary says in a few words what is served.
func summary(c *daemon.Config) string {
	kinds := c.Kinds()
	text := fmt.Sprintf("%d guests", len(kinds))
	if len(kinds) == 1 {
		text = "1 guest"
	}
	slices.Sort(kinds)
	for _, kind := range slices.Compact(kinds) {
		text += ", " + string(kind)
	}
	return text
}

func newConfigPrint() *cobra.Command {
	var full bool
	cmd := &cobra.Command{
		Use:   "print FILE",
		Short: "Print a configuration file whole, in its normal form",
		Long: `Prints what a configuration file means: each key in its place, each value in its normal form, and what is by default in
comments. What is printed is itself a file that means the same.`,
		Args: oneFile, ValidArgsFunction: completeFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			f, err := parseFile(args[0], daemon.LookupGroup)
			if err != nil {
				return err
			}
			style := configfile.Commented
			if full {
				style = configfile.Full
			}
			return printConfig(cmd, &f.Config, style)
		},
	}
	cmd.Flags().BoolVar(&full, "full", false, "print what is by default as keys, not in comments")
	return cmd
}

func newConfigSchema() *cobra.Command {
	return &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON Schema of configuration files",
		Long:  "Prints the JSON Schema (draft 2020-12) of configuration files, by which editors complete and check them.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := cmd.OutOrStdout().Write(configfile.Schema())
			return err
		},
	}
}

func newConfigFromFlags() *cobra.Command {
	return &cobra.Command{
		Use:   "from-flags nat|tap|switch|stub [FLAG]...",
		Short: "Print the configuration file that a command line means",
		Long: `Prints the configuration file that a command line of vring nat, tap, switch or stub means. Put config from-flags behind
vring, and leave the rest as it is:
  vring config from-flags nat --socket-path /tmp/vm0.sock -p 8080:80 > vm0.yaml
  vring serve vm0.yaml

What is by default is left out. vring config print shows it.`,
		DisableFlagParsing: true,
		RunE:               printFromFlags,
	}
}

// printFromFlags prints the file that the arguments mean.
func printFromFlags(cmd *cobra.Command, args []string) error {
	if slices.Contains(args, "-h") || slices.Contains(args, "--help") {
		return cmd.Help()
	}
	var one *networkCommand
	for _, n := range networkCommands() {
		if len(args) > 0 && n.cmd.Name() == args[0] {
			one = n
		}
	}
	if one == nil {
		return wrongUse(fmt.Errorf("want a command and its flags, as in vring config from-flags nat --socket-path /tmp/vm0.sock; commands are nat, tap, switch and stub"))
	}
	c, err := one.read(args[1:])
	if err != nil {
		return err
	}
	return printConfig(cmd, &c, configfile.Short)
}

// networkCommand is a command that connects guests to a network.
type networkCommand struct {
	cmd   *cobra.Command
	whole func() (daemon.Config, error) // what the flags say; the error holds all that cannot be read
}

// networkCommands are all that there are.
func networkCommands() []*networkCommand {
	return []*networkCommand{natCommand(), tapCommand(), switchCommand(), stubCommand()}
}

// read returns the configuration that flags mean. What is wrong with it on this host is not looked at.
func (n *networkCommand) read(args []string) (c daemon.Config, err error) {
	(&cobra.Command{Use: "vring"}).AddCommand(n.cmd) // messages tell it from vring itself
	n.cmd.InitDefaultHelpFlag()
	if err := n.cmd.ParseFlags(args); err != nil {
		return c, wrongFlag(n.cmd, err)
	}
	if err := noArgs(n.cmd, n.cmd.Flags().Args()); err != nil {
		return c, err
	}
	c, unread := n.whole()
	if c.FrontEnds.FD == nil && len(c.FrontEnds.SocketPaths) == 0 {
		unread = multierror.Append(nil, unread, errors.New("no socket to meet the front end at; write --socket-path PATH, or --fd NUMBER"))
	}
	return c, wrongUse(append([]error{unread}, emptyValues(n.cmd)...)...)
}

// printConfig prints a configuration. What Parse would not read is not printed: the faults say why.
func printConfig(cmd *cobra.Command, c *daemon.Config, style configfile.Style) error {
	text, err := configfile.Marshal(c, style)
	if err != nil {
		return wrongUse(err)
	}
	if _, err := configfile.Parse("the file that this means", text, daemon.LookupGroup); err != nil {
		return wrongFile(err)
	}
	_, err = cmd.OutOrStdout().Write(text)
	return err
}

// oneFile wants the name of a file.
func oneFile(cmd *cobra.Command, args []string) error {
	if len(args) == 1 && args[0] != "" {
		return nil
	}
	return wrongUse(fmt.Errorf("want one configuration file, as in %s vring.yaml; there are %d arguments", cmd.CommandPath(), len(args)))
}

// completeFile lets shells complete configuration files.
func completeFile(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return []string{"yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt
}

// parseFile reads a configuration file.
func parseFile(path string, groups configfile.Groups) (*configfile.File, error) {
	text, err := regularfile.Read(path, daemon.MaxConfigFile)
	if err != nil {
		return nil, wrongUse(err)
	}
	f, err := configfile.Parse(path, text, groups)
	return f, wrongFile(err)
}

// wrongFile makes a wrong use of faults of a file.
func wrongFile(err error) error {
	if err == nil {
		return nil
	}
	return usageError{configfile.Flatten(err)}
}
