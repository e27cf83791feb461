package taps

import (
	"errors"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/testbed"
)

func TestOptions(t *testing.T) {
	opt, err := parseOptions([]string{"--only", "uml,frames", "--vring", "old=/a", "--out", "x"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{
		rounds: 5, length: 2 * time.Second, only: []contest{umls, frames}, builds: []build{{"old", "/a"}}, out: "x",
	}, opt)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--rounds", "0"}, "--rounds 0 is not between 1 and 1000"},
		{[]string{"--length", "10ms"}, "--length 10ms is not between 1s and 1m0s"},
		{[]string{"--only", "none"}, `--only "none": want frames, qemu, uml or pair`},
		{[]string{"--vring", "path"}, `--vring "path" is not NAME=PATH`},
		{[]string{"--vring", "veth pair=x"}, `--vring "veth pair=x": the name veth pair is taken`},
		{[]string{"more"}, `unknown argument "more"`},
	} {
		_, err := parseOptions(test.args, io.Discard)
		require.ErrorContains(t, err, test.want)
	}
}

// framesIn is a sample of a second with so many frames of 64 bytes, for which the back end has used a time.
func framesIn(n int64, cpu time.Duration) sample {
	s := sample{Frames: n}
	s.Count, s.Elapsed, s.CPU.BackEnd.Running = 64*n, time.Second, cpu
	return s
}

func TestRatiosAreOfTheFirstBuildRoundByRound(t *testing.T) {
	l := load{frames, 64, testbed.Out}
	d := document{First: "vring", entries: []entry{
		{load: l, Subject: "vring", Samples: []sample{framesIn(2e6, time.Second), framesIn(1e6, time.Second)}},
		{load: l, Subject: nameDPDK, Samples: []sample{framesIn(1e6, time.Second), framesIn(1e6, 2*time.Second)}},
		{load: load{frames, 1500, testbed.Out}, Subject: nameDPDK, Samples: []sample{framesIn(1e6, time.Second)}},
	}}
	d.compare()
	require.Len(t, d.Rows, 3)
	require.Equal(t, measure.Summary{Median: 1.5, Min: 1, Max: 2}, d.Rows[1].RateRatio)
	require.Equal(t, measure.Summary{Median: 2, Min: 2, Max: 2}, d.Rows[1].PerSecondRatio)
	require.Equal(t, measure.Summary{Median: 1.5, Min: 1, Max: 2}, d.Rows[0].FrameRate)
	require.InDelta(t, 0.75, d.Rows[0].PerMillion.Median, 1e-9)
	require.Zero(t, d.Rows[0].RateRatio, "of itself")
	require.Zero(t, d.Rows[2].RateRatio, "nothing to compare with")
}

// fake is a subject that carries frames, or fails.
type fake struct{ err error }

func (fake) name() string { return "fake" }

func (f fake) take(*arena, load, time.Duration) (sample, error) {
	return framesIn(1, time.Second), f.err
}

func TestOnePairOfGuestsSendsOneWay(t *testing.T) {
	require.Equal(t, []load{{pairs, 1500, testbed.Out}}, pairs.loads())
	require.Len(t, umls.loads(), 2)
}

func TestEveryRoundHasATurn(t *testing.T) {
	entries := benchmark{options: options{rounds: 2}, progress: io.Discard}.measure(t.Context(), []subject{fake{}}, load{})
	require.Len(t, entries, 1)
	require.Len(t, entries[0].Samples, 2)
}

func TestWhatIsNotInstalledIsARowAndWhatFailsAnError(t *testing.T) {
	b := benchmark{options: options{rounds: 2}, progress: io.Discard}
	d := document{entries: b.measure(t.Context(), []subject{fake{exec.ErrNotFound}}, load{})}
	require.NoError(t, d.failure())
	require.Contains(t, d.entries[0].Problem, "not installed")

	d.entries = b.measure(t.Context(), []subject{fake{errors.New("broken")}}, load{})
	require.ErrorContains(t, d.failure(), "fake: broken")
	require.Equal(t, "failed: broken", d.entries[0].Problem)
}
