package metrics

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
)

var update = flag.Bool("update", false, "write the tables of docs/metrics.md instead of comparing them")

// networks are the sets of counters of which a process has one.
func networks() []string { return []string{setNAT, setTAP, setSwitch, setUplink, setStub} }

func TestEachMetricIsExplainedAndNamedOnce(t *testing.T) {
	names := map[string]bool{}
	for _, m := range Table() {
		require.False(t, names[m.Name], "%s is there twice", m.Name)
		names[m.Name] = true
		require.Regexp(t, `^vring_[a-z0-9_]+$`, m.Name)
		require.Regexp(t, `^[A-Z].*\.$`, m.Help, "the help of %s is a sentence", m.Name)
		require.Equal(t, m.Kind == Counter, strings.HasSuffix(m.Name, "_total"), m.Name)
	}
}

func TestNamesFollowFromCountersAndTheirUnits(t *testing.T) {
	for want, d := range map[string]counting.Description{
		"vring_nat_frames_in_total":           {Name: "frames_in"},
		"vring_nat_sent_bytes_total":          {Name: "sent_bytes", Unit: counting.Bytes},
		"vring_nat_bytes_total":               {Name: "bytes", Unit: counting.Bytes},
		"vring_nat_tcp_refused_bytes_total":   {Name: "tcp_refused", Unit: counting.Bytes},
		"vring_nat_poll_seconds":              {Name: "poll_us", Unit: counting.Microseconds, Gauge: true},
		"vring_nat_answer_time_seconds_total": {Name: "answer_time_us", Unit: counting.Microseconds},
	} {
		require.Equal(t, want, metricOf(setNAT, d).Name)
	}
}

// documented are the sections of the page with the metrics in them, by their headings.
func documented() [][2]string {
	own := ownMetrics()
	sections := [][2]string{{"The process, its guests and their threads", rows(own[:flowStates])}}
	for _, set := range append([]string{setThread}, networks()...) {
		heading := map[string]string{
			setThread: "Threads of queue pairs", setNAT: "Networks of `vring nat`", setTAP: "Devices of `vring tap`",
			setSwitch: "Ports of `vring switch`", setUplink: "Uplinks of switches", setStub: "Test back ends of `vring stub`",
		}[set]
		listed := metricsOf(set)
		if set == setNAT {
			listed = append(own[flowStates:], listed...)
		}
		sections = append(sections, [2]string{heading, rows(listed)})
	}
	return sections
}

// rows is a table of metrics.
func rows(metrics []Metric) string {
	text := "| metric | kind | labels | meaning |\n| --- | --- | --- | --- |\n"
	for _, m := range metrics {
		text += fmt.Sprintf("| `%s` | %s | %s | %s |\n", m.Name, m.Kind, strings.Join(m.Labels, ", "), strings.TrimSuffix(m.Help, "."))
	}
	return text
}

func TestTheDocumentationHasAllMetricsAndNoOthers(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "metrics.md")
	page, err := os.ReadFile(path)
	require.NoError(t, err)
	const begin, end = "<!-- made by: go test ./internal/metrics -update -->\n", "<!-- end -->\n"
	made := begin
	for _, s := range documented() {
		made += "\n### " + s[0] + "\n\n" + s[1]
	}
	made += "\n" + end
	between := regexp.MustCompile("(?s)" + begin + ".*" + end)
	require.Regexp(t, between, string(page))
	if *update {
		require.NoError(t, os.WriteFile(path, between.ReplaceAllLiteral(page, []byte(made)), 0o644))
		return
	}
	found := string(between.Find(page))
	for line := range strings.Lines(made) {
		if !strings.Contains(found, line) {
			t.Errorf("make docs/metrics.md again, by go test ./internal/metrics -update: it lacks %s", line)
		}
	}
	require.Len(t, found, len(made), "there is more; make it again: go test ./internal/metrics -update")
}
