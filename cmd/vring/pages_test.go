package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// plain undoes what roff does to a text.
func plain(page string) string {
	return strings.NewReplacer(`\-`, "-", `\e`, `\`, `\&`, "").Replace(page)
}

func TestEachManualPageSaysWhatTheHelpSays(t *testing.T) {
	dir := t.TempDir()
	status, _, stderr := runHere(t, "man", dir)
	require.Equal(t, exitOK, status, stderr)
	var names []string
	root := newRoot()
	for _, cmd := range withThoseBelow(root) {
		cmd.InitDefaultHelpFlag()
		names = append(names, pageName(cmd)+".1")
		raw, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+".1"))
		require.NoError(t, err)
		page := plain(string(raw))
		require.Contains(t, page, `"vring devel" "vring manual"`, "the footer has the version")
		require.Contains(t, page, "\n.SH SYNOPSIS\n.B "+cmd.UseLine()+"\n")
		_, stdout, _ := runHere(t, append(strings.Fields(cmd.CommandPath())[1:], "--help")...)
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			_, usage := pflag.UnquoteUsage(f)
			if f.Hidden {
				require.NotContains(t, page+stdout, usage)
				return
			}
			require.Contains(t, page, "\n"+usage, "brackets and all")
			require.Contains(t, stdout, usage)
		})
		for line := range strings.Lines(cmd.Long) {
			require.Contains(t, page, line, "the text stays as it is, examples in their columns")
		}
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Greater(t, len(names), 12)
	require.Len(t, entries, len(names), "no pages of hidden commands, or of each shell")
}

func TestHelpAndMessagesShowTheSameGrammar(t *testing.T) {
	_, help, _ := runHere(t, "nat", "--help")
	for text, form := range map[string]string{
		"-p x": spec.ForwardForm, "-p unix:x": spec.UnixForwardForm, "--allow-host x": spec.HostServiceForm,
		"--deny x": spec.RuleForm, "--dns x": daemon.ResolverForm, "--cpus x": daemon.CPUListForm,
	} {
		_, _, message := runHere(t, append([]string{"nat", "--fd", "3"}, strings.Fields(text)...)...)
		require.Contains(t, message, form, text)
		require.Contains(t, help, form, text)
	}
}

func TestExamplesOfAPageAreNotFilled(t *testing.T) {
	require.Equal(t, "Text with \\-p:\n.PP\n.nf\n  \\-p 1:2   one\n.fi\n.PP\n\\&.dot\n.PP\nC:\\ex\n",
		paragraphs("Text with -p:\n  -p 1:2   one\n.dot\n\nC:\\x\n"))
}

func TestShellsCanComplete(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		status, stdout, _ := runHere(t, "completion", shell)
		require.Equal(t, exitOK, status)
		require.Contains(t, stdout, "vring")
	}
	_, help, _ := runHere(t, "completion", "--help")
	for _, place := range []string{"bash-completion/completions/vring", "site-functions/_vring", "fish/completions/vring.fish"} {
		require.Contains(t, help, place)
	}
}

func TestValuesOfFlagsAreCompleted(t *testing.T) {
	const noFiles, files = ":4\n", ":0\n"
	for args, want := range map[string][]string{
		"nat --socket":       {"--socket-path"},
		"nat --sandbox ":     {"on\n", "strict\n", "off\n", "log\n", noFiles},
		"nat --log-level ":   {"debug\n", "info\n", "warn\n", "error\n", noFiles},
		"tap --log-format ":  {"text\n", "json\n", noFiles},
		"stub --mode ":       {"null\n", "echo\n", "source\n", noFiles},
		"nat --network6 ":    {"off\n", noFiles},
		"nat --mtu ":         {noFiles},
		"tap --tap ":         {noFiles},
		"nat --socket-path ": {files},
		"nat -p ":            {"udp:\n", "gate:\n", ":6\n"},
		"serve ":             {"yaml\n", ":8\n"},
		"config check ":      {"yaml\n", ":8\n"},
		"config print --f":   {"--full"},
		"config ":            {"check", "print", "schema", "from-flags"},
		"completion ":        {"bash\n", "zsh\n", "fish\n", noFiles},
	} {
		words := append([]string{"__complete"}, strings.Fields(args)...)
		if strings.HasSuffix(args, " ") {
			words = append(words, "")
		}
		_, stdout, _ := runHere(t, words...)
		for _, w := range want {
			require.Contains(t, stdout, w, args)
		}
	}
}
