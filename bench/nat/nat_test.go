package nat

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/bench/traffic"
)

func names(tests []*traffic.Test) []string {
	var all []string
	for _, test := range tests {
		all = append(all, test.Name)
	}
	return all
}

func TestDefaults(t *testing.T) {
	opt, err := parseOptions(nil, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []string{"stream", "rr", "crr", "udp-rr", "udp-64", "udp-1472"}, names(opt.tests))
	require.Equal(t, []string{"uml", "tcg"}, opt.guests)
	require.Equal(t, []int{1500}, opt.mtus)
	require.Equal(t, 5, opt.rounds)
	require.True(t, opt.peers)
}

func TestOptions(t *testing.T) {
	opt, err := parseOptions([]string{
		"--mtu", "1500,65520", "--vring", "old=/a", "--vring", "new=/b=c", "--out", "x", "--tests", "digest,rr",
		"--guests", "uml", "--no-peers", "--volume", "5", "--rounds", "3", "--length", "2s",
	}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, []string{"digest", "rr"}, names(opt.tests))
	opt.tests = nil
	require.Equal(t, options{
		rounds: 3, length: 2 * time.Second, volume: 5 << 30, mtus: []int{1500, 65520}, guests: []string{"uml"}, out: "x",
		vring: []testbed.Vring{{Label: "old", Path: "/a"}, {Label: "new", Path: "/b=c"}},
	}, opt)
}

func TestQuickIsOneShortRound(t *testing.T) {
	opt, err := parseOptions([]string{"--quick"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, quickRounds, opt.rounds)
	require.Equal(t, quickLength, opt.length)
	opt, err = parseOptions([]string{"--quick", "--rounds", "4"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, 4, opt.rounds, "what is asked for explicitly counts")
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--rounds", "0"}, "--rounds 0 is not between 1 and 1000"},
		{[]string{"--length", "61m"}, "--length 1h1m0s is not above 0 and up to 1h0m0s"},
		{[]string{"--length", "0"}, "--length 0s is not above 0"},
		{[]string{"--volume", "0"}, "--volume is not between 1 and 1024"},
		{[]string{"--mtu", "1500,100"}, "--mtu 100 is not between 1280 and 65535"},
		{[]string{"--tests", "rr,none"}, `--tests: no test "none"; there are stream, rr,`},
		{[]string{"--guests", "uml,kvm"}, `--guests: no guest "kvm"; there are uml and tcg`},
		{[]string{"--vring", "path"}, `--vring "path" is not NAME=PATH`},
		{[]string{"--vring", "=path"}, `--vring "=path" is not NAME=PATH`},
		{[]string{"--vring", "a=x", "--vring", "a=y"}, `--vring "a=y": the name a is taken`},
		{[]string{"--vring", "loopback=x"}, `--vring "loopback=x": the name loopback is taken`},
		{[]string{"--vring", "QEMU user=x"}, `--vring "QEMU user=x": the name QEMU user is taken`},
		{[]string{"more"}, `unknown argument "more"`},
	} {
		_, err := parseOptions(test.args, io.Discard)
		require.ErrorContains(t, err, test.want)
	}
}

func TestHelpNamesEveryTestAndFlag(t *testing.T) {
	var help bytes.Buffer
	_, err := parseOptions([]string{"--help"}, &help)
	require.ErrorIs(t, err, pflag.ErrHelp)
	for _, test := range traffic.Tests() {
		require.Contains(t, help.String(), "  "+test.Name+" ")
	}
	require.Contains(t, help.String(), "--quick")
}

func TestSubjectsTakeTurnsInBothOrders(t *testing.T) {
	a, b := &lane{mtu: 1}, &lane{mtu: 2}
	lanes := []*lane{a, b}
	require.Equal(t, []*lane{a, b}, turns(lanes, 0))
	require.Equal(t, []*lane{b, a}, turns(lanes, 1))
	require.Equal(t, []*lane{a, b}, turns(lanes, 2))
}

// fake is a subject that carries nothing.
type fake struct {
	peer     bool
	startErr error
	runErr   func(run int) error // of the run with this number, counted from 1
	runs     int
	open     int // paths
	starts   int
}

func (*fake) Guest() string   { return "UML" }
func (*fake) Name() string    { return "fake" }
func (f *fake) IsPeer() bool  { return f.peer }
func (*fake) Version() string { return "1.0" }

func (f *fake) Start(context.Context, int) (testbed.Path, error) {
	if f.startErr != nil {
		return nil, f.startErr
	}
	f.open++
	f.starts++
	return f, nil
}

func (f *fake) Run(context.Context, traffic.Plan, testbed.Direction) (measure.Sample, error) {
	f.runs++
	if f.runErr != nil {
		if err := f.runErr(f.runs); err != nil {
			return measure.Sample{}, err
		}
	}
	return measure.Sample{Count: int64(f.runs), Elapsed: time.Second}, nil
}

func (f *fake) Close() error {
	f.open--
	return nil
}

// failAt returns a fake's runErr that fails in one run.
func failAt(at int) func(int) error {
	return func(run int) error {
		if run == at {
			return errors.New("bytes were lost")
		}
		return nil
	}
}

// smallRun is a run of two rounds with two tests.
func smallRun(t *testing.T) benchmark {
	opt, err := parseOptions([]string{"--rounds", "2", "--tests", "stream,rr", "--out", t.TempDir()}, io.Discard)
	require.NoError(t, err)
	return benchmark{options: opt, progress: io.Discard}
}

// measureOne measures one subject at MTU 1500.
func measureOne(ctx context.Context, b benchmark, s subject) ([]report.Entry, error) {
	return b.measure(ctx, []subject{s}, 1500, func([]report.Entry) error { return nil })
}

func TestEveryRoundHasEveryTestInEachDirection(t *testing.T) {
	f := &fake{}
	entries, err := measureOne(t.Context(), smallRun(t), f)
	require.NoError(t, err)
	require.Len(t, entries, 4)
	for i, want := range []report.Key{
		{Test: "stream", MTU: 1500, Direction: testbed.Out, Guest: "UML", Subject: "fake"},
		{Test: "stream", MTU: 1500, Direction: testbed.In, Guest: "UML", Subject: "fake"},
		{Test: "rr", MTU: 1500, Direction: testbed.Out, Guest: "UML", Subject: "fake"},
		{Test: "rr", MTU: 1500, Direction: testbed.In, Guest: "UML", Subject: "fake"},
	} {
		require.Equal(t, want, entries[i].Key)
		require.Equal(t, "1.0", entries[i].Version)
		require.Len(t, entries[i].Samples, 2)
		require.Equal(t, int64(i+1), entries[i].Samples[0].Count)
	}
	require.Zero(t, f.open)
}

func TestOnlyStreamsRunAtFurtherMTUs(t *testing.T) {
	b := smallRun(t)
	b.mtus = []int{1500, 9000}
	require.Len(t, b.cells(1500), 4)
	require.Len(t, b.cells(9000), 2)
	require.Equal(t, "stream", b.cells(9000)[0].test.Name)
}

func TestWhatIsNotInstalledIsARowAndNoError(t *testing.T) {
	for _, missing := range []error{fs.ErrNotExist, fmt.Errorf("%w: passt of 2023", testbed.ErrUnsuitable)} {
		entries, err := measureOne(t.Context(), smallRun(t), &fake{startErr: missing})
		require.NoError(t, err)
		require.Len(t, entries, 4)
		require.Equal(t, "not installed: "+missing.Error(), entries[0].Problem)
		require.Empty(t, entries[0].Samples)
	}
}

func TestAFaultOfVringIsAnErrorAndTheOtherTestsGoOn(t *testing.T) {
	f := &fake{runErr: failAt(6)} // in the second round, the second test
	entries, err := measureOne(t.Context(), smallRun(t), f)
	require.EqualError(t, err, "UML fake: stream, host→guest: bytes were lost")
	require.Equal(t, "failed: bytes were lost", entries[1].Problem)
	require.Len(t, entries[1].Samples, 1, "what was measured before is kept")
	for _, i := range []int{0, 2, 3} {
		require.Empty(t, entries[i].Problem)
		require.Len(t, entries[i].Samples, 2)
	}
	require.Equal(t, 2, f.starts, "the other tests got a fresh path")
	require.Zero(t, f.open)
}

func TestAFaultOfAPeerIsAFigure(t *testing.T) {
	entries, err := measureOne(t.Context(), smallRun(t), &fake{peer: true, runErr: failAt(1)})
	require.NoError(t, err)
	require.Equal(t, "failed: bytes were lost", entries[0].Problem)
}

func TestWhatDoesNotStartIsAnError(t *testing.T) {
	_, err := measureOne(t.Context(), smallRun(t), &fake{startErr: errors.New("no boot")})
	require.EqualError(t, err, "UML fake: no boot")
}

func TestAnInterruptedRunKeepsItsRounds(t *testing.T) {
	b := smallRun(t)
	ctx, cancel := context.WithCancel(t.Context())
	f := &fake{}
	f.runErr = func(run int) error {
		if run == 6 {
			cancel()
			return ctx.Err()
		}
		return nil
	}
	result := b.newResult(ctx)
	failed := b.measureAll(ctx, []subject{f}, &result)
	require.NoError(t, errors.Join(failed...), "being interrupted is nobody's fault")
	require.Zero(t, f.open)
	require.Len(t, result.Rows, 4)
	require.Len(t, result.Rows[0].Samples, 2)
	require.Len(t, result.Rows[1].Samples, 1)
	require.Empty(t, result.Rows[1].Problem)

	document, err := os.ReadFile(filepath.Join(b.out, "result.json"))
	require.NoError(t, err, "it was written before the end")
	var kept report.Result
	require.NoError(t, json.Unmarshal(document, &kept))
	require.Equal(t, result.Rows, kept.Rows)
}

func TestTheTimeLeftIsThatOfTheStepsToCome(t *testing.T) {
	start := time.Now().Add(-20 * time.Second)
	c := &clock{start: start, done: 2, total: 5}
	left := c.left()
	require.GreaterOrEqual(t, left, 30*time.Second)
	require.LessOrEqual(t, left, (time.Since(start) / 2 * 3).Round(time.Second), "of a machine that was busy meanwhile")
	require.Positive(t, newClock(5).left()+1)
}
