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

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/report"
	"github.com/vringnet/vring/bench/testbed"
)

// usage returns how long the back end and the guest were busy; both waited for a processor too.
func usage(backEnd, guest time.Duration) measure.Usage {
	return measure.Usage{
		BackEnd: measure.Times{Running: backEnd, Waiting: backEnd / 5},
		Guest:   measure.Times{Running: guest, Waiting: guest / 10},
		Host:    time.Second / 2,
	}
}

// second returns a sample of a stream of one second: a rate in Gbit/s.
func second(rate float64, backEnd, guest time.Duration) measure.Sample {
	n := int64(rate * 1e9 / 8)
	return measure.Sample{Count: n, Sent: n, Elapsed: time.Second, CPU: usage(backEnd, guest)}
}

// exchanges returns a sample of one second of exchanges.
func exchanges(sent, answered int64, p50 time.Duration) measure.Sample {
	return measure.Sample{
		Count: answered, Sent: sent, Elapsed: time.Second, CPU: usage(time.Second/2, time.Second/4), P50: p50, P99: 2 * p50,
	}
}

func entry(test, guest, subject string, samples ...measure.Sample) report.Entry {
	key := report.Key{Test: test, MTU: 1500, Direction: testbed.Out, Guest: guest, Subject: subject}
	return report.Entry{Key: key, Samples: samples}
}

// example is a run of two rounds.
func example() report.Result {
	missing := entry("stream", "UML", "passt")
	missing.Problem = "not installed: no | such\nfile"
	broken := entry("stream", "UML", "broken")
	broken.Problem = "failed: bytes were lost"
	lossy := exchanges(1000, 990, 50*time.Microsecond)
	return report.Result{
		Command: "bench --rounds 2",
		Time:    time.Date(2026, 11, 22, 20, 0, 0, 0, time.UTC),
		Machine: machine.Facts{
			Kernel: "6.18", Processor: "Some CPU", Cores: 2, GoVersion: "go1.26", Commit: "abc", Load: "0.10",
		},
		Settings: report.Settings{Rounds: 2, Length: time.Second, MTUs: []int{1500}},
		Baseline: "loopback",
		First:    "vring",
		Rows: report.Rows([]report.Entry{
			entry("stream", "none", "loopback", second(20, 0, 0), second(10, 0, 0)),
			entry("stream", "UML", "vring", second(4, time.Second/2, time.Second/2), second(2, time.Second/4, time.Second/2)),
			entry("stream", "UML", "new", second(8, time.Second/2, 960*time.Millisecond), second(4, time.Second/4, 960*time.Millisecond)),
			missing, broken, entry("rr", "UML", "broken", exchanges(10, 10, time.Second)),
			entry("stream", "QEMU TCG", "vring", second(1, time.Second/8, 900*time.Millisecond)),
			entry("rr", "UML", "vring", exchanges(1000, 1000, 100*time.Microsecond)),
			entry("udp-rr", "UML", "vring", lossy),
			entry("udp-64", "UML", "vring", measure.Sample{Count: 500, Sent: 2000, Elapsed: time.Second, CPU: usage(0, 0)}),
		}, "loopback", "vring"),
	}
}

func TestTables(t *testing.T) {
	var got bytes.Buffer
	require.NoError(t, example().WriteMarkdown(&got))
	require.Equal(t, "`bench --rounds 2`, 2026-11-22 20:00 UTC  "+`
Some CPU, 2 cores, Linux 6.18, go1.26, commit abc, load 0.10 before the run  
2 rounds of 1s for each row: median (least–greatest); core: used + waited for, **bold** if the guest used 95 % and was the limit, *italic* if it used or waited for a core so much

| guest | subject | why there are no figures |
| --- | --- | --- |
| UML | passt | not installed: no \| such file |

### TCP, one stream

| MTU | direction | guest | subject | × loopback | × vring | Gbit/s | back end CPU, s per GB | guest CPU | host end CPU | back end's core | guest's core | note |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1500 | guest→host | none | loopback | 1.000 (1.000–1.000) | – | 15.00 (10.00–20.00) | – | – | 0.300 (0.200–0.400) | – | – |  |
| 1500 | guest→host | UML | vring | 0.200 (0.200–0.200) | 1.000 (1.000–1.000) | 3.00 (2.00–4.00) | 1.000 (1.000–1.000) | 1.500 (1.000–2.000) | 1.500 (1.000–2.000) | 38 % + 8 % | 50 % + 5 % |  |
| 1500 | guest→host | UML | new | 0.400 (0.400–0.400) | 2.000 (2.000–2.000) | 6.00 (4.00–8.00) | 0.500 (0.500–0.500) | 1.440 (0.960–1.920) | 0.750 (0.500–1.000) | 38 % + 8 % | **96 %** + 10 % |  |
| 1500 | guest→host | UML | broken | – | – | – | – | – | – | – | – | failed: bytes were lost |
| 1500 | guest→host | QEMU TCG | vring | 0.050 (0.050–0.050) | 1.000 (1.000–1.000) | 1.00 (1.00–1.00) | 1.000 (1.000–1.000) | 7.200 (7.200–7.200) | 4.000 (4.000–4.000) | 12 % + 2 % | *90 %* + 9 % |  |

### TCP, request and response of one byte

| MTU | direction | guest | subject | × loopback | × vring | requests/s | p50, µs | p99, µs | back end CPU, µs per request | guest CPU | host end CPU | back end's core | guest's core | note |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1500 | guest→host | UML | broken | – | 0.010 (0.010–0.010) | 10 (10–10) | 1000000 (1000000–1000000) | 2000000 (2000000–2000000) | 50000.0 (50000.0–50000.0) | 25000.0 (25000.0–25000.0) | 50000.0 (50000.0–50000.0) | 50 % + 10 % | 25 % + 2 % |  |
| 1500 | guest→host | UML | vring | – | 1.000 (1.000–1.000) | 1000 (1000–1000) | 100 (100–100) | 200 (200–200) | 500.0 (500.0–500.0) | 250.0 (250.0–250.0) | 500.0 (500.0–500.0) | 50 % + 10 % | 25 % + 2 % |  |

### UDP, request and response

| MTU | direction | guest | subject | × loopback | × vring | requests/s | p50, µs | p99, µs | back end CPU, µs per request | guest CPU | host end CPU | back end's core | guest's core | note |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1500 | guest→host | UML | vring | – | 1.000 (1.000–1.000) | 990 (990–990) | 50 (50–50) | 100 (100–100) | 505.1 (505.1–505.1) | 252.5 (252.5–252.5) | 505.1 (505.1–505.1) | 50 % + 10 % | 25 % + 2 % | 1.00 % not answered. |

### UDP, datagrams of 64 bytes

| MTU | direction | guest | subject | × loopback | × vring | datagrams/s | lost | back end CPU, µs per datagram | guest CPU | host end CPU | back end's core | guest's core | note |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
| 1500 | guest→host | UML | vring | – | 1.000 (1.000–1.000) | 500 (500–500) | 75.0 % (75.0–75.0) | – | – | 1000.0 (1000.0–1000.0) | – | – |  |
`, got.String())
}

func TestAnInterruptedRunSaysSo(t *testing.T) {
	r := example()
	r.Interrupted = true
	var got bytes.Buffer
	require.NoError(t, r.WriteMarkdown(&got))
	require.Contains(t, got.String(), "The run was interrupted")
}

func TestRowsCompareOnlyTheSameTestMTUAndDirection(t *testing.T) {
	elsewhere := entry("stream", "none", "loopback", second(40, 0, 0))
	elsewhere.MTU = 9000
	back := entry("stream", "none", "loopback", second(10, 0, 0))
	back.Direction = testbed.In
	rows := report.Rows([]report.Entry{
		elsewhere,
		back,
		entry("rr", "none", "loopback", second(80, 0, 0)),
		entry("stream", "none", "loopback", second(20, 0, 0)),
		entry("stream", "UML", "vring", second(5, 0, 0)),
	}, "loopback", "vring")
	require.Equal(t, measure.Summary{Median: 0.25, Min: 0.25, Max: 0.25}, rows[4].ToBaseline)
}

func TestFilesHoldTheWholeRun(t *testing.T) {
	folder := filepath.Join(t.TempDir(), "new", "folder")
	want := example()
	require.NoError(t, want.WriteFiles(folder))
	require.NoError(t, want.WriteFiles(folder), "again, as after every round")

	document, err := os.ReadFile(filepath.Join(folder, "result.json"))
	require.NoError(t, err)
	var got report.Result
	require.NoError(t, json.Unmarshal(document, &got))
	require.Equal(t, want, got)

	files, err := os.ReadDir(folder)
	require.NoError(t, err)
	var names []string
	for _, f := range files {
		names = append(names, f.Name())
	}
	require.Equal(t, []string{"result.json", "result.md", "rr.svg", "stream.svg", "udp-64.svg", "udp-rr.svg"}, names)
	svg, err := os.Open(filepath.Join(folder, "stream.svg"))
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
	r := report.Result{Rows: report.Rows([]report.Entry{entry("stream", "UML", "vring")}, "loopback", "")}
	require.NoError(t, r.Chart("stream").WriteSVG(io.Discard))
}
