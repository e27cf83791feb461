package program

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/vringnet/vring/integration/lab/guest"
)

// ParseFlags reads the arguments of a command that has nothing but flags.
func ParseFlags(f *pflag.FlagSet, args []string) error {
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	return nil
}

// ParseBuilds reads builds of vring from the values of --vring, NAME=PATH each. Names must differ, and not be among taken:
// they are what the rows of a table are told apart by. Build makes what the benchmark measures of a name and an absolute path.
func ParseBuilds[T any](texts, taken []string, build func(name, path string) T) ([]T, error) {
	taken = slices.Clone(taken)
	var builds []T
	for _, text := range texts {
		name, path, found := strings.Cut(text, "=")
		if !found || name == "" || path == "" {
			return nil, fmt.Errorf("--vring %q is not NAME=PATH", text)
		}
		if slices.Contains(taken, name) {
			return nil, fmt.Errorf("--vring %q: the name %s is taken", text, name)
		}
		absolute, err := filepath.Abs(path)
		if err != nil {
			return nil, err
		}
		taken = append(taken, name)
		builds = append(builds, build(name, absolute))
	}
	return builds, nil
}

// ResultsFolder returns the folder for the results of a benchmark that begins now, below bench/results.
func ResultsFolder(benchmark string, now time.Time) string {
	return filepath.Join(guest.ProjectRoot(), "bench", "results", now.UTC().Format("20060102-150405-")+benchmark)
}
