package archtest

import (
	"go/ast"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/metrics"
)

// foreignOptions are long options of other programs that the documentation names.
var foreignOptions = map[string]string{
	"--replace":            "apparmor_parser",
	"--connect-timeout":    "curl",
	"--rm":                 "podman",
	"--no-map-gw":          "passt",
	"--vhost-user":         "passt",
	"--now":                "systemctl",
	"--reason":             "virsh",
	"--unix-socket":        "curl",
	"--keep-in-foreground": "dnsmasq",
	"--enable-tftp":        "dnsmasq",
	"--tftp-root":          "dnsmasq",
	"--tftp-single-port":   "dnsmasq",
	"--forward-mode":       "testpmd",
	"--no-huge":            "DPDK",
	"--no-pci":             "DPDK",
	"--vdev":               "DPDK",
}

var (
	longOption   = regexp.MustCompile("(?:^|[\\s`\"(\\[])(--[a-z][a-z0-9-]*)")
	vringCommand = regexp.MustCompile(`(?:^|[\s/])vring ([a-z][a-z-]*) ([^#|;&)]*)`)
	flagInHelp   = regexp.MustCompile(`(?m)^ +(?:-(\w), )? *--([a-z][a-z0-9-]*)`)
	commandShort = regexp.MustCompile(`(?m)^  ([a-z][a-z-]*) {2,}`)
	snakeWord    = regexp.MustCompile(`^(\.\.\.)?_?[a-z][a-z0-9]*(_[a-z0-9]+)+$`)
)

// optionsOf returns the options of each of vring's commands, as --help shows them: "--name" and "-n".
func optionsOf(t *testing.T) map[string]map[string]bool {
	program := filepath.Join(t.TempDir(), "vring")
	build := exec.Command("go", "build", "-o", program, module+"/cmd/vring")
	out, err := build.CombinedOutput()
	require.NoError(t, err, string(out))
	help := func(args ...string) string {
		out, err := exec.Command(program, append(args, "--help")...).Output()
		require.NoError(t, err)
		return string(out)
	}
	top := help()
	options := map[string]map[string]bool{"": flagsIn(top)}
	for _, name := range commandsIn(top) {
		options[name] = flagsIn(help(name))
	}
	for _, name := range []string{"config", "ctl", "lab"} {
		maps.Copy(options[name], flagsBelow(help, name))
	}
	for _, name := range []string{"nat", "tap", "switch", "stub"} { // config from-flags has theirs
		maps.Copy(options["config"], options[name])
	}
	require.Greater(t, len(options), 4)
	return options
}

// flagsBelow returns the options of the commands below a command, whose texts of --help it asks for.
func flagsBelow(help func(args ...string) string, command ...string) map[string]bool {
	flags := map[string]bool{}
	for _, name := range commandsIn(help(command...)) {
		below := append(slices.Clone(command), name)
		maps.Copy(flags, flagsIn(help(below...)))
		maps.Copy(flags, flagsBelow(help, below...))
	}
	return flags
}

// commandsIn returns the commands in a text of --help.
func commandsIn(help string) (names []string) {
	_, list, _ := strings.Cut(help, "Commands:")
	for _, m := range commandShort.FindAllStringSubmatch(list, -1) {
		names = append(names, m[1])
	}
	return names
}

// flagsIn returns the options in a text of --help.
func flagsIn(help string) map[string]bool {
	flags := map[string]bool{"--help": true, "-h": true}
	for _, m := range flagInHelp.FindAllStringSubmatch(help, -1) {
		flags["--"+m[2]] = true
		if m[1] != "" {
			flags["-"+m[1]] = true
		}
	}
	return flags
}

// benchOptions returns the options of the programs in bench and integration, from the calls that define them.
func benchOptions(files []sourceFile) map[string]bool {
	options := map[string]bool{}
	for _, f := range files {
		if f.isProduct() {
			continue
		}
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || !ast.IsExported(f.Sel.Name) {
				return true
			}
			for _, arg := range call.Args {
				if name, ok := constant(arg); ok {
					options["--"+name] = true
				}
			}
			return true
		})
	}
	return options
}

func TestOptionsThatTheDocumentationNamesExist(t *testing.T) {
	commands := optionsOf(t)
	known := benchOptions(sourceFiles(t))
	for _, flags := range commands {
		maps.Copy(known, flags)
	}
	found := 0
	for _, p := range pagesOf(t) {
		for _, line := range p.code() {
			for _, m := range longOption.FindAllStringSubmatch(line, -1) {
				found++
				if !known[m[1]] && foreignOptions[m[1]] == "" {
					t.Errorf("%s names the option %s, which neither vring nor bench has", p.name, m[1])
				}
			}
			for _, fault := range faultsOfCommand(line, commands) {
				t.Errorf("%s has the command %q: %s", p.name, line, fault)
			}
		}
	}
	require.Greater(t, found, 60)
}

// faultsOfCommand returns what is wrong with a command line of vring in a line of code.
func faultsOfCommand(line string, commands map[string]map[string]bool) []string {
	m := vringCommand.FindStringSubmatch(line + " ")
	if m == nil || !strings.Contains(m[2], "-") {
		return nil
	}
	flags := commands[m[1]]
	if flags == nil {
		return []string{"there is no command " + m[1]}
	}
	var faults []string
	own, _, _ := strings.Cut(" "+m[2]+" ", " -- ") // what is behind is another program's
	for _, word := range strings.Fields(own) {
		option, _, _ := strings.Cut(word, "=")
		if strings.HasPrefix(option, "-") && strings.Trim(option, "-") != "" && !flags[option] {
			faults = append(faults, "the command has no option "+option)
		}
	}
	return faults
}

// foreignWords are words with underscores of other programs that the documentation names.
var foreignWords = []string{
	"net_vhost", "net_tap", // DPDK
	"rwnd_limited", // ss
	"set_link",     // QEMU
	"epoll_wait",   // Linux
}

func TestCountersThatTheDocumentationNamesExist(t *testing.T) {
	files := sourceFiles(t)
	known := wordsOf(files)
	for _, m := range metrics.Table() {
		known[m.Name] = true
	}
	found := 0
	for _, p := range pagesOf(t) {
		for _, span := range spans(p.prose()) {
			if !snakeWord.MatchString(span) {
				continue
			}
			found++
			if !knownWord(known, span) && !slices.Contains(foreignWords, span) {
				t.Errorf("%s names `%s`, which is neither a counter nor a word of the source", p.name, span)
			}
		}
	}
	require.Greater(t, found, 30)
}

// knownWord reports whether a word is known, or if it begins with "..." one that ends like it.
func knownWord(known map[string]bool, word string) bool {
	end, isEnd := strings.CutPrefix(word, "...")
	if !isEnd {
		return known[word]
	}
	for w := range known {
		if strings.HasSuffix(w, end) {
			return true
		}
	}
	return false
}

var wordInText = regexp.MustCompile(`[a-z][a-z0-9]*(?:_[a-z0-9]+)+`)

// wordsOf returns the words with underscores in the product's strings, of which tags are some: counters have their names there.
func wordsOf(files []sourceFile) map[string]bool {
	words := map[string]bool{}
	for _, text := range literals(productOf(files)) {
		for _, word := range wordInText.FindAllString(text, -1) {
			words[word] = true
		}
	}
	return words
}
