package rings

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
)

func TestOptions(t *testing.T) {
	opt, err := parseOptions([]string{"--quick", "--mode", "echo,null", "--vring", "old=/a", "--out", "x"}, io.Discard)
	require.NoError(t, err)
	main := load{FrameSize: 64, HugePages: true, InOrder: true, Mergeable: true}
	toNull, toEcho := main, main
	toNull.Mode, toEcho.Mode = null, echo
	require.Equal(t, options{
		rounds: 3, length: time.Second, loads: []load{toNull, toEcho}, builds: []build{{"old", "/a"}}, ceiling: true, out: "x",
	}, opt)
}

func TestOptionsThatMakeNoSense(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"--rounds", "0"}, "--rounds 0 is not between 1 and 1000"},
		{[]string{"--length", "2m"}, "--length 2m0s is not above 0 and up to 1m0s"},
		{[]string{"--mode", "fast"}, `--mode "fast": want null, source or echo`},
		{[]string{"--vring", "path"}, `--vring "path" is not NAME=PATH`},
		{[]string{"--vring", "net_vhost=x"}, `--vring "net_vhost=x": the name net_vhost is taken`},
		{[]string{"--quick", "--full"}, "--quick and --full exclude each other"},
		{[]string{"more"}, `unknown argument "more"`},
	} {
		_, err := parseOptions(test.args, io.Discard)
		require.ErrorContains(t, err, test.want)
	}
}

func TestLoadsOfTheMatrixAreDifferent(t *testing.T) {
	seen := map[load]bool{}
	for _, l := range matrix(settings(false, false), nil) {
		require.False(t, seen[l], l.String())
		seen[l] = true
	}
}

func TestTheFullMatrixHasEveryCombinationOnce(t *testing.T) {
	seen := map[load]bool{}
	all := matrix(settings(false, true), nil)
	for _, l := range all {
		seen[l] = true
	}
	require.Len(t, all, 3*2*2*2*3)
	require.Len(t, seen, len(all))
	for _, l := range matrix(settings(false, false), nil) {
		require.Contains(t, seen, l)
	}
}

func TestCollectionsOfASampleAreThoseAfterItsBeginning(t *testing.T) {
	const before = "msg=ready\ngc 1 @0.010s 2%: 0.03+0.4 ms clock, 4->4->1 MB, 2 P\n"
	const more = "gc 2 @1.2s 0%: 0.03+0.4 ms clock\ngc 3 @2.0s 0%: 0.03 ms clock (forced)\ngc what\ngc 4 @2.1s 0%: 1\n"
	output := before
	back := running{output: func() string { return output }}
	since := back.collections()
	require.Zero(t, *since())
	output += more
	require.Equal(t, 2, *since())
	require.Nil(t, running{}.collections()(), "who does not tell")
}

func TestSubjectsTakeTurnsInBothOrders(t *testing.T) {
	require.Equal(t, []int{0, 1, 2}, turns(3, 0))
	require.Equal(t, []int{2, 1, 0}, turns(3, 1))
}

// example is a run of two rounds with one load, in which a subject has failed.
func example() *document {
	l := load{Mode: null, FrameSize: 64, HugePages: true, InOrder: true, Mergeable: true}
	samples := func(frames ...uint64) (all []sample) {
		for _, n := range frames {
			all = append(all, sample{Frames: n, Elapsed: time.Second})
		}
		return all
	}
	d := &document{Benchmark: "Frames", Rounds: 2, Length: time.Second, entries: []entry{
		{load: l, Subject: nameDPDK, Samples: samples(10e6, 20e6)},
		{load: l, Subject: "vring", Samples: samples(20e6, 30e6)},
		{load: l, Subject: nameCeiling, Samples: samples(40e6, 40e6)},
		{load: l, Subject: "broken"},
	}}
	none, one := 0, 1
	d.entries[1].Samples[0].Collections, d.entries[1].Samples[1].Collections = &none, &one
	d.entries[3].fail(errors.New("no\nstart"))
	d.compare()
	return d
}

func TestRowsCompareRoundByRound(t *testing.T) {
	r := example().Rows[1]
	require.Equal(t, measure.Summary{Median: 25, Min: 20, Max: 30}, r.Rate)
	require.Equal(t, measure.Summary{Median: 1.75, Min: 1.5, Max: 2}, r.ToDPDK)
	require.Equal(t, measure.Summary{Median: 0.625, Min: 0.5, Max: 0.75}, r.ToCeiling)
}

func TestTable(t *testing.T) {
	var got bytes.Buffer
	require.NoError(t, example().WriteMarkdown(&got))
	require.Contains(t, got.String(), "| null | 64 | 2 MiB | on | on | vring | 1.75 (1.50–2.00) | 0.62 (0.50–0.75) | 25.0 (20.0–30.0) | 1 |  |\n")
	require.Contains(t, got.String(), "| broken | – | – | – | – | failed: no start |\n")
}

func TestWhatFailedIsAnError(t *testing.T) {
	require.EqualError(t, example().failure(), "null, 64 bytes, broken: no\nstart")
}

func TestFilesHoldTheWholeRun(t *testing.T) {
	folder := t.TempDir()
	require.NoError(t, report.WriteFiles(example(), folder, "rings"))
	text, err := os.ReadFile(filepath.Join(folder, "rings.json"))
	require.NoError(t, err)
	var got struct {
		Rows []struct {
			FrameSize int `json:"frame_size"`
			Samples   []sample
		}
	}
	require.NoError(t, json.Unmarshal(text, &got))
	require.Len(t, got.Rows, 4)
	require.Equal(t, 64, got.Rows[0].FrameSize)
	require.Len(t, got.Rows[0].Samples, 2)
	svg, err := os.ReadFile(filepath.Join(folder, "rings.svg"))
	require.NoError(t, err)
	require.NoError(t, xml.Unmarshal(svg, new(struct{})))
}
