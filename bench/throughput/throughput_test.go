package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/bench/measure"
)

func TestOptions(t *testing.T) {
	opt, err := parseOptions([]string{"--mtu", "1500,65520", "--vring", "old=/a", "--vring", "new=/b=c", "--out", "x"}, io.Discard)
	require.NoError(t, err)
	require.Equal(t, options{
		rounds: 5, length: 3 * time.Second, mtus: []int{1500, 65520}, out: "x",
		vring: []lab.Vring{{Label: "old", Path: "/a"}, {Label: "new", Path: "/b=c"}},
	}, opt)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--rounds", "0"}, "--rounds 0 is not between 1 and 1000"},
		{[]string{"--length", "6m"}, "--length 6m0s is not above 0 and up to 5m0s"},
		{[]string{"--length", "0"}, "--length 0s is not above 0"},
		{[]string{"--mtu", "1500,100"}, "--mtu 100 is not between 1280 and 65535"},
		{[]string{"--vring", "path"}, `--vring "path" is not NAME=PATH`},
		{[]string{"--vring", "=path"}, `--vring "=path" is not NAME=PATH`},
		{[]string{"--vring", "a=x", "--vring", "a=y"}, `--vring "a=y": the name a is taken`},
		{[]string{"--vring", "loopback=x"}, `--vring "loopback=x": the name loopback is taken`},
		{[]string{"more"}, `unknown argument "more"`},
	} {
		_, err := parseOptions(test.args, io.Discard)
		require.ErrorContains(t, err, test.want)
	}
}

func TestSubjectsTakeTurnsInBothOrders(t *testing.T) {
	a, b := &runner{name: "a"}, &runner{name: "b"}
	runners := []*runner{a, b}
	require.Equal(t, []*runner{a, b}, turns(runners, 0))
	require.Equal(t, []*runner{b, a}, turns(runners, 1))
	require.Equal(t, []*runner{a, b}, turns(runners, 2))
}

// fake is a subject that carries nothing. startErr and transferErr are what Start and the third stream fail with.
type fake struct {
	startErr    error
	transferErr error
	streams     int
	closed      bool
}

func (*fake) Name() string { return "fake" }

func (f *fake) Start(context.Context, int) (lab.Path, error) {
	if f.startErr != nil {
		return nil, f.startErr
	}
	return f, nil
}

func (f *fake) Transfer(context.Context, lab.Direction, time.Duration) (measure.Sample, error) {
	if f.streams++; f.streams == 3 {
		return measure.Sample{}, f.transferErr
	}
	return measure.Sample{Bytes: int64(f.streams), Elapsed: time.Second}, nil
}

func (*fake) Version() string { return "1.0" }

func (f *fake) Close() error {
	f.closed = true
	return nil
}

func smallRun() benchmark { return benchmark{options: options{rounds: 2}, progress: io.Discard} }

func TestEveryRoundHasAStreamInEachDirection(t *testing.T) {
	f := &fake{}
	entries, err := smallRun().measure(t.Context(), []lab.Subject{f}, 1500)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	for i, dir := range []lab.Direction{lab.Out, lab.In} {
		require.Equal(t, dir, entries[i].Direction)
		require.Equal(t, "1.0", entries[i].Version)
		require.Len(t, entries[i].Samples, 2)
	}
	require.True(t, f.closed)
}

func TestWhatIsNotInstalledIsARowAndNoError(t *testing.T) {
	for _, missing := range []error{fs.ErrNotExist, fmt.Errorf("%w: passt of 2023", lab.ErrUnsuitable)} {
		entries, err := smallRun().measure(t.Context(), []lab.Subject{&fake{startErr: missing}}, 1500)
		require.NoError(t, err)
		require.Len(t, entries, 2)
		require.Equal(t, "not installed: "+missing.Error(), entries[0].Problem)
		require.Empty(t, entries[0].Samples)
	}
}

func TestWhatFailsIsOutOfTheRunAndAnError(t *testing.T) {
	f := &fake{transferErr: errors.New("bytes were lost")}
	entries, err := smallRun().measure(t.Context(), []lab.Subject{f}, 1500)
	require.EqualError(t, err, "fake, guest→host: bytes were lost")
	require.Equal(t, 3, f.streams)
	require.True(t, f.closed)
	require.Len(t, entries[0].Samples, 1, "what was measured before is kept")
	require.Equal(t, "failed: fake, guest→host: bytes were lost", entries[0].Problem)
}

func TestWhatDoesNotStartIsAnError(t *testing.T) {
	_, err := smallRun().measure(t.Context(), []lab.Subject{&fake{startErr: errors.New("no boot")}}, 1500)
	require.EqualError(t, err, "fake: no boot")
}
