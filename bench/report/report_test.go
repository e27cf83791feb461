package report_test

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

	"github.com/vringnet/vring/bench/lab"
	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
)

// second returns a sample of one second: a rate in Gbit/s, and how long the back end and the guest were busy in it.
func second(rate float64, backEnd, guest time.Duration) measure.Sample {
	cpu := measure.Usage{
		BackEnd: measure.Times{Running: backEnd, Waiting: backEnd / 5},
		Guest:   measure.Times{Running: guest, Waiting: guest / 10},
		Host:    time.Second / 2,
	}
	return measure.Sample{Bytes: int64(rate * 1e9 / 8), Elapsed: time.Second, CPU: cpu}
}

func entry(subject string, dir lab.Direction, samples ...measure.Sample) report.Entry {
	return report.Entry{MTU: 1500, Direction: dir, Subject: subject, Samples: samples}
}

// example is a run of two rounds.
func example(first string) report.Result {
	missing := entry("passt", lab.Out)
	missing.Problem = "not installed: no | such\nfile"
	return report.Result{
		Benchmark: "TCP throughput",
		Time:      time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
		Machine: machine.Facts{
			Kernel: "6.18", Processor: "Some CPU", Cores: 2, GoVersion: "go1.26", Commit: "abc", Load: "0.10",
		},
		Settings: report.Settings{Rounds: 2, Length: time.Second, MTUs: []int{1500}},
		Baseline: "loopback",
		First:    first,
		Rows: report.Rows([]report.Entry{
			entry("loopback", lab.Out, second(20, 0, 0), second(10, 0, 0)),
			entry("old", lab.Out, second(4, time.Second/2, time.Second/2), second(2, time.Second/4, time.Second/2)),
			entry("new", lab.Out, second(8, time.Second/2, 960*time.Millisecond), second(4, time.Second/4, 960*time.Millisecond)),
			missing,
		}, "loopback", first),
	}
}

func TestTableOfOneBackEnd(t *testing.T) {
	var got bytes.Buffer
	require.NoError(t, example("").WriteMarkdown(&got))
	require.Equal(t, `**TCP throughput**, 2026-11-22 20:00 UTC  
Some CPU, 2 cores, Linux 6.18, go1.26, commit abc, load 0.10 before the run  
2 rounds of 1s for each row: median (least–greatest); CPU in seconds per GB; core: used + waited for, **bold** from 95 % on, where the guest is the limit

| MTU | direction | subject | × loopback | Gbit/s | back end CPU | guest CPU | host end CPU | back end's core | guest's core | note |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1500 | guest→host | loopback | 1.000 (1.000–1.000) | 15.00 (10.00–20.00) | – | – | 0.300 (0.200–0.400) | – | – |  |
| 1500 | guest→host | old | 0.200 (0.200–0.200) | 3.00 (2.00–4.00) | 1.000 (1.000–1.000) | 1.500 (1.000–2.000) | 1.500 (1.000–2.000) | 38 % + 8 % | 50 % + 5 % |  |
| 1500 | guest→host | new | 0.400 (0.400–0.400) | 6.00 (4.00–8.00) | 0.500 (0.500–0.500) | 1.440 (0.960–1.920) | 0.750 (0.500–1.000) | 38 % + 8 % | **96 %** + 10 % |  |
| 1500 | guest→host | passt | – | – | – | – | – | – | – | not installed: no \| such file |
`, got.String())
}

func TestTableComparesBuildsWithTheFirst(t *testing.T) {
	var got bytes.Buffer
	require.NoError(t, example("old").WriteMarkdown(&got))
	require.Contains(t, got.String(), "| subject | × loopback | × old | Gbit/s |")
	require.Contains(t, got.String(), "| loopback | 1.000 (1.000–1.000) | – |")
	require.Contains(t, got.String(), "| old | 0.200 (0.200–0.200) | 1.000 (1.000–1.000) |")
	require.Contains(t, got.String(), "| new | 0.400 (0.400–0.400) | 2.000 (2.000–2.000) |")
}

func TestRowsCompareOnlyTheSameMTUAndDirection(t *testing.T) {
	other := entry("loopback", lab.Out, second(40, 0, 0))
	other.MTU = 9000
	rows := report.Rows([]report.Entry{
		other,
		entry("loopback", lab.In, second(10, 0, 0)),
		entry("loopback", lab.Out, second(20, 0, 0)),
		entry("vring", lab.Out, second(5, 0, 0)),
	}, "loopback", "")
	require.Equal(t, measure.Summary{Median: 0.25, Min: 0.25, Max: 0.25}, rows[3].ToBaseline)
}

func TestFilesHoldTheWholeRun(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "folder")
	want := example("old")
	require.NoError(t, report.WriteFiles(want, folder, "throughput"))

	document, err := os.ReadFile(filepath.Join(folder, "throughput.json"))
	require.NoError(t, err)
	var got report.Result
	require.NoError(t, json.Unmarshal(document, &got))
	require.Equal(t, want, got)

	require.FileExists(t, filepath.Join(folder, "throughput.md"))
	svg, err := os.Open(filepath.Join(folder, "throughput.svg"))
	require.NoError(t, err)
	defer svg.Close()
	requireXML(t, svg)
}

// requireXML reads a document to its end.
func requireXML(t *testing.T, r io.Reader) {
	for decoder := xml.NewDecoder(r); ; {
		_, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			return
		}
		require.NoError(t, err)
	}
}

func TestAPlotOfNothingIsNoError(t *testing.T) {
	r := report.Result{Rows: report.Rows([]report.Entry{entry("vring", lab.Out)}, "loopback", "")}
	require.NoError(t, r.WriteSVG(io.Discard))
}
