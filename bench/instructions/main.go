package instructions

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/bench/program"
	"github.com/vringnet/vring/bench/source"
	"github.com/vringnet/vring/integration/lab/guest"
)

const usage = `Counts the instructions of the data path for each frame, and compares them with the baseline of this Go version and
architecture: cd bench && go run . instructions [flags]

A count does not depend on what else the machine does. The exit status is 1 if a row has grown by more than 4 %.

  go run . instructions                       this source tree
  go run . instructions --source HEAD~3       another state of it
  go run . instructions --functions "udp in"  where those of a row are
  go run . instructions --update              make these counts the baseline; commit the change, and say why

Flags:
`

// options are the command line.
type options struct {
	source       string
	functions    string // of which row; empty for none
	update, json bool
}

func parseOptions(args []string, w io.Writer) (options, error) {
	var o options
	f := pflag.NewFlagSet("bench instructions", pflag.ContinueOnError)
	f.SetOutput(w)
	f.StringVar(&o.source, "source", guest.ProjectRoot(), "what to count: a git ref or the directory of a checkout")
	f.StringVar(&o.functions, "functions", "", "only list the functions in which the instructions of one turn of a row are")
	f.BoolVar(&o.update, "update", false, "write the counts to bench/instructions/baseline.json")
	f.BoolVar(&o.json, "json", false, "print JSON instead of a table")
	f.Usage = func() { fmt.Fprintf(w, "%s%s", usage, f.FlagUsages()) }
	if err := program.ParseFlags(f, args); err != nil {
		return o, err
	}
	return o, nil
}

// Run counts as the arguments say, see program.Command. Progress goes to stderr.
func Run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	o, err := parseOptions(args, stderr)
	if err != nil {
		return err
	}
	if err := possible(runtime.GOARCH); err != nil {
		return err
	}
	if o.functions != "" {
		return listFunctions(ctx, o.source, o.functions, stdout, stderr)
	}
	platform, now, err := countSource(ctx, o.source, stderr)
	if err != nil {
		return err
	}
	all, err := readBaselines(baselineFile())
	if err != nil {
		return err
	}
	if o.update {
		all[platform] = now
		return errors.Join(all.write(baselineFile()), show(stdout, o.json, platform, now, now))
	}
	before, err := all.of(platform)
	return errors.Join(show(stdout, o.json, platform, before, now), err, compare(before, now))
}

// possible tells whether instructions can be counted on an architecture.
func possible(arch string) error {
	if arch != "amd64" {
		return fmt.Errorf("instructions are counted on amd64 only, and this is %s: its counts have no baseline, and stepping was not tried there", arch)
	}
	return nil
}

// countSource builds a state of the source tree, and counts. Platform is what the baseline is looked up by.
func countSource(ctx context.Context, name string, progress io.Writer) (platform string, now counts, err error) {
	err = withTurns(ctx, name, progress, func(program string) error {
		version, err := source.GoVersion(program)
		if err != nil {
			return err
		}
		platform = version + " " + runtime.GOARCH
		rows, err := rowsOf(ctx, program)
		if err != nil {
			return err
		}
		now, err = countAll(ctx, program, rows, func(name string, n float64) { fmt.Fprintf(progress, "%s: %.1f\n", name, n) })
		return err
	})
	return platform, now, err
}

// withTurns calls use with a build of bench/turns for a state of the source tree.
func withTurns(ctx context.Context, name string, progress io.Writer, use func(program string) error) (err error) {
	dir, err := os.MkdirTemp("", "vring-instructions")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	tree, err := source.Open(ctx, name, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tree.Close()) }()
	fmt.Fprintf(progress, "building %s %s\n", tree.Name, tree.Commit)
	program := filepath.Join(dir, "turns")
	if err := tree.BuildTurns(ctx, program, dir); err != nil {
		return err
	}
	return use(program)
}

// show prints counts beside their baseline.
func show(w io.Writer, asJSON bool, platform string, before, now counts) error {
	if asJSON {
		text, err := json.MarshalIndent(map[string]any{"platform": platform, "baseline": before, "now": now}, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	}
	var b strings.Builder
	fmt.Fprintf(&b, "instructions for each frame, %s\n\n| row | baseline | now | growth |\n| --- | --- | --- | --- |\n", platform)
	for _, name := range sortedNames(now) {
		was, change := "–", "–"
		if n, ok := before[name]; ok {
			was, change = fmt.Sprintf("%.1f", n), fmt.Sprintf("%+.1f %%", 100*growth(n, now[name]))
		}
		fmt.Fprintf(&b, "| %s | %s | %.1f | %s |\n", name, was, now[name], change)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
