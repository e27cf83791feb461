package instructions

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/vringnet/vring/integration/lab/guest"
)

// maxGrowth is how much more a row may have than its baseline.
const maxGrowth = 0.04

const updateCommand = "cd bench && go run . instructions --update"

// baselines are counts by Go version and architecture, as in "go1.26.8 amd64".
type baselines map[string]counts

// baselineFile is where they are kept.
func baselineFile() string {
	return filepath.Join(guest.ProjectRoot(), "bench", "instructions", "baseline.json")
}

func readBaselines(file string) (baselines, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var all baselines
	if err := json.Unmarshal(text, &all); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return all, nil
}

// write keeps the baselines, with keys in order, so that a change shows what has changed.
func (b baselines) write(file string) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// of returns the baseline for a Go version and architecture.
func (b baselines) of(platform string) (counts, error) {
	c, ok := b[platform]
	if !ok {
		return nil, fmt.Errorf("no baseline for %s, only for %v; check out a commit whose data path is known to be good, and make one there: %s",
			platform, slices.Sorted(maps.Keys(b)), updateCommand)
	}
	return c, nil
}

// compare returns what is wrong with counts now, by their baseline.
func compare(before, now counts) error {
	var errs []error
	for _, name := range sortedNames(now) {
		was, ok := before[name]
		switch {
		case !ok:
			errs = append(errs, fmt.Errorf("row %q: no baseline; make one: %s", name, updateCommand))
		case growth(was, now[name]) > maxGrowth:
			errs = append(errs, fmt.Errorf("row %q: %.1f instructions for each frame, %+.1f %% to the baseline of %.1f, of which %.0f %% are allowed; "+
				"make it less, or, if the change is worth it, make this the baseline: %s",
				name, now[name], 100*growth(was, now[name]), was, 100*maxGrowth, updateCommand))
		}
	}
	for name := range before {
		if _, ok := now[name]; !ok {
			errs = append(errs, fmt.Errorf("row %q: it has a baseline, but was not counted", name))
		}
	}
	return errors.Join(errs...)
}

// growth is how much more now is than before, as a share of it.
func growth(before, now float64) float64 { return now/before - 1 }

func sortedNames(c counts) []string { return slices.Sorted(maps.Keys(c)) }
