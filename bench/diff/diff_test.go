package diff

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/source"
)

func TestCommandLine(t *testing.T) {
	o, err := parseOptions([]string{"--rows", "udp,tcp large", "--limit", "1%", "a", "b"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, "a", o.old)
	require.Equal(t, "b", o.new)
	require.InDelta(t, 0.01, float64(o.limit), 1e-9)
	require.InDelta(t, 0.03, float64(o.worse), 1e-9)
	require.True(t, o.wants("tcp large in") && o.wants("udp out"))
	require.False(t, o.wants("stub null"))
	for text, want := range map[string]string{
		"a":                            "1 arguments in place of OLD and NEW",
		"a b c":                        "3 arguments in place of OLD and NEW",
		"--limit 0 a b":                "not a percentage above 0",
		"--limit few a b":              "not a percentage above 0",
		"--rounds 0 a b":               "--rounds 0 is not between 1 and 1000",
		"--time 0s a b":                "--time 0s is not above 0",
		"--length 1ms a b":             "--length 1ms is not between",
		"--length 1h a b":              "--length 1h0m0s is not between",
		"--time 48h --rounds 5000 a b": "--rounds 5000",
	} {
		_, err := parseOptions(strings.Fields(text), io.Discard)
		require.ErrorContains(t, err, want, text)
	}
	var help strings.Builder
	_, err = parseOptions([]string{"--help"}, &help)
	require.ErrorIs(t, err, pflag.ErrHelp)
	require.Contains(t, help.String(), "Exit status: 0 no row is slower")
}

func TestAPairIsThrownOutIfTheMachineWasNotTheSame(t *testing.T) {
	for _, c := range []struct {
		pair pair
		out  string
	}{
		{pair{Steal: 0.01, Busy: 0.9, Busy2: 0.8}, ""},
		{pair{Steal: 0.03, Busy: 0.9, Busy2: 0.9}, "3 % stolen"},
		{pair{Steal: 0, Busy: 0.5, Busy2: 0.9}, "processors busy 50 and 90 %"},
	} {
		c.pair.judge()
		require.Equal(t, c.out, c.pair.Out)
	}
}

func TestARoundIsTheMedianOfThePairsThatCount(t *testing.T) {
	pairs := []pair{{Old: 100, New: 110}, {Old: 200, New: 210}, {Old: 10, New: 90, Out: "stolen"}, {Old: 100, New: 107}}
	ratio, ok := ratioOf(pairs)
	require.True(t, ok)
	require.InDelta(t, 1.07, ratio, 1e-9)
	for i := range 2 {
		pairs[i].Out = "stolen"
	}
	_, ok = ratioOf(pairs)
	require.False(t, ok, "fewer than half of them count")
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		low, ratio, high float64
		want             verdict
	}{
		{0, 1.2, 0, notCertain}, // no interval
		{0.97, 1.02, 1.08, notCertain},
		{0.99, 1.01, 1.03, noDifference},
		{1.001, 1.010, 1.014, noDifference}, // too little to tell
		{1.04, 1.06, 1.08, slower},
		{0.92, 0.94, 0.96, faster},
	} {
		require.Equal(t, c.want, judge(measure.Estimate{Ratio: c.ratio, Low: c.low, High: c.high}, 0.05), c)
	}
}

func TestExitStatusIsAGate(t *testing.T) {
	status := func(results ...*result) int { return (&document{Worse: 0.03, Rows: results}).exitStatus() }
	good := &result{Verdict: noDifference, Estimate: measure.Estimate{Ratio: 1.01}}
	little := &result{Verdict: slower, Estimate: measure.Estimate{Ratio: 1.025}}
	much := &result{Verdict: slower, Estimate: measure.Estimate{Ratio: 1.05}}
	unknown := &result{Verdict: notCertain, Estimate: measure.Estimate{Ratio: 1.05}}
	require.Equal(t, 0, status(good, little))
	require.Equal(t, 1, status(unknown, much, good))
	require.Equal(t, 2, status(good, unknown))
}

// fake is a program whose work takes so long.
type fake struct {
	cost   float64
	err    error
	closed *int
}

func (f *fake) sample(context.Context, time.Duration) (float64, error) { return f.cost, f.err }
func (f *fake) close() error                                           { *f.closed++; return nil }

// compareFakes runs a comparison of programs that are not there.
func compareFakes(ctx context.Context, o options, old, new *fake) (*document, error) {
	c := comparison{options: o, progress: io.Discard, end: time.Now().Add(o.time)}
	c.old, c.new = &build{tree: &source.Tree{Name: "old"}}, &build{tree: &source.Tree{Name: "new"}}
	r := row{"work", func(_ context.Context, b *build) (sampler, error) {
		if b == c.old {
			return old, nil
		}
		return new, nil
	}}
	var d document
	return &d, c.run(ctx, []row{r}, &d)
}

func TestRoundsGoOnUntilTheRatioIsCertain(t *testing.T) {
	closed := 0
	o := options{limit: 0.05, rounds: 1000, time: time.Minute}
	d, err := compareFakes(t.Context(), o, &fake{cost: 100, closed: &closed}, &fake{cost: 107, closed: &closed})
	require.NoError(t, err)
	r := d.Rows[0]
	require.Equal(t, slower, r.Verdict)
	require.InDelta(t, 1.07, r.Estimate.Ratio, 1e-9)
	require.GreaterOrEqual(t, r.Rounds, measure.MinRatios)
	require.Equal(t, 2*len(r.Pairs)/pairsOfRound, closed, "both are started anew in each round")
	var table strings.Builder
	require.NoError(t, d.writeTable(&table))
	require.Contains(t, table.String(), "| work | 100 | 107 | 1.070 (1.070–1.070) |")
}

func TestWhatEndsARunEarlyIsSaid(t *testing.T) {
	closed := 0
	one, two := &fake{cost: 1, closed: &closed}, &fake{cost: 2, closed: &closed}
	d, err := compareFakes(t.Context(), options{limit: 0.05, rounds: 2, time: time.Minute}, one, two)
	require.NoError(t, err)
	require.Equal(t, "the 2 of --rounds are over", d.Rows[0].Note)
	require.Equal(t, notCertain, d.Rows[0].Verdict)

	d, err = compareFakes(t.Context(), options{limit: 0.05, rounds: 2, time: -time.Minute}, one, two)
	require.NoError(t, err)
	require.Contains(t, d.Rows[0].Note, "of --time are over")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	d, err = compareFakes(ended, options{limit: 0.05, rounds: 2, time: time.Minute}, one, two)
	require.NoError(t, err)
	require.Equal(t, "interrupted", d.Rows[0].Note)

	broken := &fake{err: errors.New("no power"), closed: &closed}
	_, err = compareFakes(t.Context(), options{limit: 0.05, rounds: 2, time: time.Minute}, one, broken)
	require.ErrorContains(t, err, "no power")
}
