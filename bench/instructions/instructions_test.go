package instructions

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest"
)

// The data path of this source tree has no row that has grown by more than 4 %.
func TestDataPathHasNotGrown(t *testing.T) {
	require.NoError(t, possible(runtime.GOARCH))
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	var progress strings.Builder
	platform, now, err := countSource(ctx, guest.ProjectRoot(), &progress)
	require.NoError(t, err, "%s", &progress)
	all, err := readBaselines(baselineFile())
	require.NoError(t, err)
	before, err := all.of(platform)
	require.NoError(t, err)
	require.NoError(t, compare(before, now))
}

func TestGrowthAboveFourPercentIsAnError(t *testing.T) {
	before := counts{"a": 1000, "b": 50}
	require.NoError(t, compare(before, counts{"a": 1000, "b": 50}))
	require.NoError(t, compare(before, counts{"a": 1039, "b": 10}), "less is no fault")
	err := compare(before, counts{"a": 1041, "b": 50})
	require.ErrorContains(t, err, `row "a": 1041.0 instructions for each frame, +4.1 % to the baseline of 1000.0`)
	require.NotContains(t, err.Error(), `"b"`)
}

func TestRowsAreComparedOneByOne(t *testing.T) {
	require.ErrorContains(t, compare(counts{"a": 1}, counts{"a": 1, "b": 1}), `row "b": no baseline`)
	require.ErrorContains(t, compare(counts{"a": 1, "b": 1}, counts{"a": 1}), `row "b": it has a baseline, but was not counted`)
}

func TestAMissingBaselineSaysHowToMakeOne(t *testing.T) {
	_, err := baselines{"go1.26.8 amd64": {}}.of("go1.99 amd64")
	require.ErrorContains(t, err, "no baseline for go1.99 amd64, only for [go1.26.8 amd64]")
	require.ErrorContains(t, err, "go run . instructions --update")
	require.ErrorContains(t, possible("arm64"), "counted on amd64 only, and this is arm64")
}

func TestBaselinesAreKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "baseline.json")
	want := baselines{"go1.26.8 amd64": {"a": 1.5}}
	require.NoError(t, want.write(file))
	got, err := readBaselines(file)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	_, err = readBaselines(file)
	require.ErrorContains(t, err, file)
}

func TestCountsAreRoundedToATenth(t *testing.T) {
	require.InDelta(t, 33.3, perFrame(100, 3), 1e-9)
	require.InDelta(t, 66.7, perFrame(200, 3), 1e-9)
}
