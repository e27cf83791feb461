package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/netem"
)

// newCompletion is "vring completion".
func newCompletion() *cobra.Command {
	writers := map[string]func(*cobra.Command, io.Writer) error{
		"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
		"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
		"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
	}
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Print a script that completes command lines in a shell",
		Long: `Prints a script by which a shell completes commands, flags and their values. A new shell reads it from here:
  vring completion bash > ~/.local/share/bash-completion/completions/vring      with the package bash-completion
  vring completion zsh > /usr/local/share/zsh/site-functions/_vring             or another directory in $fpath
  vring completion fish > ~/.config/fish/completions/vring.fish`,
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 && writers[args[0]] != nil {
				return nil
			}
			return wrongUse(fmt.Errorf("want one shell: %s", strings.Join(shells, ", ")))
		},
		RunE: func(cmd *cobra.Command, args []string) error { return writers[args[0]](cmd.Root(), cmd.OutOrStdout()) },
	}
}

// completeFlags lets shells complete the values of a command's flags: those of a fixed set, names of interfaces, and files
// where a file is wanted.
func completeFlags(cmd *cobra.Command) {
	known := map[string]cobra.CompletionFunc{
		"log-level":     cobra.FixedCompletions(daemon.LogLevels(), cobra.ShellCompDirectiveNoFileComp),
		"log-format":    cobra.FixedCompletions([]string{daemon.FormatText, daemon.FormatJSON}, cobra.ShellCompDirectiveNoFileComp),
		"front-end":     cobra.FixedCompletions(daemon.FrontEndNames(), cobra.ShellCompDirectiveNoFileComp),
		"link":          cobra.FixedCompletions(append(linkNames(), netem.None), cobra.ShellCompDirectiveNoFileComp),
		"sandbox":       cobra.FixedCompletions([]string{"on", "strict", "off", "log"}, cobra.ShellCompDirectiveNoFileComp),
		"udp-filtering": cobra.FixedCompletions(nat.FilteringNames(), cobra.ShellCompDirectiveNoFileComp),
		"refuse-names":  cobra.FixedCompletions(nat.RefusalNames(), cobra.ShellCompDirectiveNoFileComp),
		"name-group":    nil, // files
		"mode":          cobra.FixedCompletions([]string{string(daemon.StubNull), string(daemon.StubEcho), string(daemon.StubReflect), string(daemon.StubSink), string(daemon.StubSource)}, cobra.ShellCompDirectiveNoFileComp),
		"search":        cobra.FixedCompletions([]string{daemon.NoSearch}, cobra.ShellCompDirectiveNoFileComp),
		"network6":      cobra.FixedCompletions([]string{daemon.NoNetwork6}, cobra.ShellCompDirectiveNoFileComp),
		"forward": cobra.FixedCompletions([]string{"tcp:", "udp:", "unix:", "gate:", "accept-proxy:", "send-proxy:", "send-proxy-v2:"},
			cobra.ShellCompDirectiveNoFileComp|cobra.ShellCompDirectiveNoSpace),
		"multicast":          interfacesWith("ifindex"),
		"outbound-interface": interfacesWith("ifindex"), "outbound-interface4": interfacesWith("ifindex"), "outbound-interface6": interfacesWith("ifindex"),
		"tap":         interfacesWith("tun_flags"),
		"bridge":      interfacesWith("bridge"),
		"output":      cobra.FixedCompletions([]string{outputTable, outputJSON}, cobra.ShellCompDirectiveNoFileComp),
		"socket-path": nil, // files
		"control":     nil,
	}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		complete, found := known[f.Name]
		if !found {
			complete = cobra.NoFileCompletions
		}
		if complete != nil {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, complete) // fails for names that are no flags only
		}
	})
}

// interfacesWith completes names of the host's interfaces that have an attribute in /sys.
func interfacesWith(attribute string) cobra.CompletionFunc {
	return func(*cobra.Command, []string, string) (names []string, _ cobra.ShellCompDirective) {
		const all = "/sys/class/net"
		entries, _ := os.ReadDir(all) // without it, nothing is completed
		for _, e := range entries {
			if _, err := os.Stat(filepath.Join(all, e.Name(), attribute)); err == nil {
				names = append(names, e.Name())
			}
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	}
}
