package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// newMan is "vring man".
func newMan() *cobra.Command {
	return &cobra.Command{
		Use:   "man DIR",
		Short: "Write manual pages of all commands into a directory",
		Long: `Writes a manual page for each command, in section 1, into a directory that exists. man(1) finds them here:
  vring man /usr/local/share/man/man1      for all users, as root
  vring man ~/.local/share/man/man1        for this user

Then read them with: man vring, man vring-nat, and so on.`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				return nil
			}
			return wrongUse(fmt.Errorf("want one directory, as in vring man /usr/local/share/man/man1; there are %d arguments", len(args)))
		},
		RunE: func(cmd *cobra.Command, args []string) error { return writePages(cmd.Root(), args[0]) },
	}
}

// writePages writes the pages of a command and of those below it.
func writePages(cmd *cobra.Command, dir string) error {
	if info, err := os.Stat(dir); err != nil || !info.IsDir() {
		return wrongUse(fmt.Errorf("there is no directory %s; make it with: mkdir -p %s", dir, dir))
	}
	for _, c := range withThoseBelow(cmd) {
		path := filepath.Join(dir, pageName(c)+".1")
		if err := os.WriteFile(path, []byte(page(c)), 0o644); err != nil {
			return wrongUse(err)
		}
	}
	return nil
}

// withThoseBelow returns a command and all below it that users know.
func withThoseBelow(cmd *cobra.Command) []*cobra.Command {
	all := []*cobra.Command{cmd}
	for _, c := range cmd.Commands() {
		if !c.Hidden && !c.IsAdditionalHelpTopicCommand() && c.Name() != "help" {
			all = append(all, withThoseBelow(c)...)
		}
	}
	return all
}

// pageName is what man(1) calls the page of a command.
func pageName(cmd *cobra.Command) string { return strings.ReplaceAll(cmd.CommandPath(), " ", "-") }

// page is the manual page of a command, in the macros of man(7). It has no date, so that a build is the same every day.
func page(cmd *cobra.Command) string {
	cmd.InitDefaultHelpFlag()
	var b strings.Builder
	fmt.Fprintf(&b, ".TH %q 1 \"\" %q \"vring manual\"\n", strings.ToUpper(pageName(cmd)), "vring "+programVersion())
	fmt.Fprintf(&b, ".SH NAME\n%s \\- %s\n", roff(pageName(cmd)), roff(cmd.Short))
	fmt.Fprintf(&b, ".SH SYNOPSIS\n.B %s\n", roff(cmd.UseLine()))
	b.WriteString(".SH DESCRIPTION\n")
	b.WriteString(paragraphs(cmd.Long))
	b.WriteString(".SH OPTIONS\n")
	cmd.Flags().VisitAll(func(f *pflag.Flag) { b.WriteString(option(f)) })
	b.WriteString(".SH EXIT STATUS\n0 for success, 2 if the command line, or something that it names, is wrong, and 1 otherwise.\n")
	b.WriteString(".SH SEE ALSO\n" + seeAlso(cmd) + "\n")
	return b.String()
}

// seeAlso names the pages of the commands beside cmd.
func seeAlso(cmd *cobra.Command) string {
	var names []string
	for _, c := range withThoseBelow(cmd.Root()) {
		if c != cmd {
			names = append(names, ".BR "+roff(pageName(c))+" (1)")
		}
	}
	return strings.Join(names, ",\n")
}

// option is a paragraph about a flag: its names and value, and what --help says about it.
func option(f *pflag.Flag) string {
	if f.Hidden {
		return ""
	}
	value, usage := pflag.UnquoteUsage(f)
	names := "--" + f.Name
	if f.Shorthand != "" {
		names = "-" + f.Shorthand + ", " + names
	}
	if value != "" {
		names += " " + value
	}
	if d := shownDefault(f); d != "" {
		usage += " (default " + d + ")"
	}
	return fmt.Sprintf(".TP\n.B %s\n%s\n", roff(names), roff(usage))
}

// shownDefault is a flag's default as --help shows it, "" if it goes without saying.
func shownDefault(f *pflag.Flag) string {
	switch f.DefValue {
	case "", "0", "0s", "false", "[]":
		return ""
	}
	if f.Value.Type() == "string" {
		return fmt.Sprintf("%q", f.DefValue)
	}
	return f.DefValue
}

// paragraphs is a text of --help as a page shows it: lines that begin with a space stay as they are.
func paragraphs(text string) string {
	var b strings.Builder
	inExample := false
	for line := range strings.SplitSeq(strings.TrimRight(text, "\n"), "\n") {
		isExample := strings.HasPrefix(line, " ")
		if isExample != inExample {
			b.WriteString(map[bool]string{true: ".PP\n.nf\n", false: ".fi\n"}[isExample])
			inExample = isExample
			if !isExample && line != "" {
				b.WriteString(".PP\n")
			}
		}
		if line == "" {
			b.WriteString(".PP\n")
			continue
		}
		b.WriteString(roff(line) + "\n")
	}
	if inExample {
		b.WriteString(".fi\n")
	}
	return b.String()
}

// roff is text in which nothing means a request, and hyphens are those of a keyboard, which can be pasted.
func roff(text string) string {
	text = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(text)
	if strings.HasPrefix(text, ".") || strings.HasPrefix(text, "'") {
		return `\&` + text
	}
	return text
}
