package metrics

import (
	"bytes"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
)

// numbered returns a struct of counters of the same type in which each has a value of its own, from first on.
func numbered(counters any, first uint64) any {
	v := reflect.New(reflect.TypeOf(counters)).Elem()
	number(v, &first)
	return v.Interface()
}

func number(v reflect.Value, next *uint64) {
	switch v.Kind() {
	case reflect.Uint64:
		v.SetUint(*next)
		*next++
	case reflect.Array:
		for i := range v.Len() {
			number(v.Index(i), next)
		}
	default:
		for i := range v.NumField() {
			number(v.Field(i), next)
		}
	}
}

// numberedPair is a queue pair whose counters have values of their own.
func numberedPair(set string, first uint64) daemon.PairStatus {
	return daemon.PairStatus{
		Report: daemon.Report{Counters: counting.ValuesOf(numbered(countersOf(set), 2*first))},
		Thread: numbered(worker.Stats{}, first).(worker.Stats), Age: 250 * time.Millisecond,
		Turns: timesOf(1, 3, first),
	}
}

// timesOf are so many that took up to 2 ms, up to 4 ms, and longer.
func timesOf(below2, below4, all uint64) counting.Distribution {
	return counting.Distribution{Buckets: []counting.Bucket{{Bound: 2 * time.Millisecond, Count: below2}, {Bound: 4 * time.Millisecond, Count: below4}}, Count: all, Sum: time.Second}
}

// natStatus is that of a guest behind NAT, nil for another network.
func natStatus(set string) *daemon.NATStatus {
	if set != setNAT {
		return nil
	}
	return &daemon.NATStatus{
		States: []nat.StateCount{{State: "associated", Flows: 16}, {State: "guest-closed", Flows: 17}}, Kernel: 18, KernelLimit: 19,
		Rules:  []nat.RuleCount{{Rule: "--deny a", Begun: 22, Denied: 23, FromGuest: 24, ToGuest: 25}, {}},
		Opened: timesOf(2, 5, 20), Took: timesOf(3, 6, 21),
	}
}

// status is one of two guests, of which the first has two queue pairs.
func status(set string) daemon.Status {
	return daemon.Status{
		Uptime: time.Hour, Heap: 11, Goroutines: 12, Sandbox: sandbox.State{{Weak: true}, {}},
		Guests: []daemon.GuestStatus{
			{Name: "a", Kind: daemon.Kind(set), Stage: vhostuser.DriverUp, Disabled: 13, LostLines: 14, Limits: []nat.Usage{{Name: "log lines", Used: 15, Most: 64}}, NAT: natStatus(set), Pairs: []daemon.PairStatus{numberedPair(set, 1000), numberedPair(set, 2000)}},
			{Name: "b", Kind: daemon.Kind(set), Pairs: []daemon.PairStatus{numberedPair(set, 3000)}},
		},
	}
}

// samplesOf reads a page: values by names and labels. Prometheus' own parser does that.
func samplesOf(t *testing.T, text []byte) map[string]float64 {
	t.Helper()
	parser := expfmt.NewTextParser(model.LegacyValidation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	require.NoError(t, err)
	samples := map[string]float64{}
	for name, f := range families {
		require.NotEmpty(t, f.GetHelp(), name)
		for _, m := range f.GetMetric() {
			key := name
			for _, l := range m.GetLabel() {
				key += fmt.Sprintf(" %s=%s", l.GetName(), l.GetValue())
			}
			if h := m.GetHistogram(); h != nil {
				addTimes(samples, key, h)
				continue
			}
			samples[key] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return samples
}

// addTimes adds the buckets of a histogram, its sum, and how much there is.
func addTimes(samples map[string]float64, key string, h *dto.Histogram) {
	for _, b := range h.GetBucket() {
		samples[fmt.Sprintf("%s le=%g", key, b.GetUpperBound())] = float64(b.GetCumulativeCount())
	}
	samples[key+" sum"], samples[key+" count"] = h.GetSampleSum(), float64(h.GetSampleCount())
}

// textOf is the page of a status.
func textOf(t *testing.T, s daemon.Status) []byte {
	text, err := newPage(func() daemon.Status { return s }).Text()
	require.NoError(t, err)
	return text
}

// Every counter that is published is there, once for each queue pair, and has its value.
func TestThePageHasEachCounterOfEachQueuePair(t *testing.T) {
	for _, set := range networks() {
		t.Run(set, func(t *testing.T) {
			s := status(set)
			want := map[string]float64{
				"vring_uptime_seconds": 3600, "vring_heap_bytes": 11, "vring_goroutines": 12, "vring_sandbox_weak_walls": 1,
				"vring_guest_stage guest=a": 2, "vring_guest_frames_on_disabled_rings_total guest=a": 13, "vring_guest_log_lines_left_out_total guest=a": 14,
				"vring_guest_stage guest=b": 0, "vring_guest_frames_on_disabled_rings_total guest=b": 0, "vring_guest_log_lines_left_out_total guest=b": 0,
			}
			want["vring_guest_limit_used guest=a limit=log_lines"], want["vring_guest_limit_most guest=a limit=log_lines"] = 15, 64
			if set == setNAT {
				want["vring_nat_flows guest=a state=associated"], want["vring_nat_flows guest=a state=guest-closed"] = 16, 17
				want["vring_nat_kernel_memory_bytes guest=a"], want["vring_nat_kernel_memory_limit_bytes guest=a"] = 18, 19
				for i, name := range []string{"flows", "denied", "from_guest_bytes", "to_guest_bytes"} {
					want["vring_nat_rule_"+name+"_total guest=a rule=--deny a"], want["vring_nat_rule_"+name+"_total guest=a rule=none"] = float64(22+i), 0
				}
				addWantedTimes(want, "vring_nat_connect_seconds begun_by=guest guest=a", 2, 5, 20)
				addWantedTimes(want, "vring_nat_connect_seconds begun_by=host guest=a", 3, 6, 21)
			}
			for _, g := range s.Guests {
				for i, p := range g.Pairs {
					at := fmt.Sprintf(" guest=%s pair=%d", g.Name, i)
					want["vring_publication_age_seconds"+at] = 0.25
					addWantedTimes(want, "vring_thread_turn_seconds"+at, 1, 3, float64(p.Turns.Count))
					addWanted(want, setThread, counting.ValuesOf(p.Thread), at)
					addWanted(want, set, p.Report.Counters, at)
				}
			}
			samples := samplesOf(t, textOf(t, s))
			require.Equal(t, want, samples)
		})
	}
}

// Of a guest that is behind NAT and on a switch there are the counters of both.
func TestAGuestOnASwitchBehindNATHasTheCountersOfBoth(t *testing.T) {
	both := struct {
		NAT    nat.Counters
		Switch l2switch.Counters
	}{numbered(nat.Counters{}, 1000).(nat.Counters), numbered(l2switch.Counters{}, 5000).(l2switch.Counters)}
	s := daemon.Status{Guests: []daemon.GuestStatus{{
		Name: "a", Kind: daemon.KindNAT, OnSwitch: true, Pairs: []daemon.PairStatus{{Report: daemon.Report{Counters: counting.ValuesOf(both)}}},
	}}}
	want := map[string]float64{}
	addWanted(want, setNAT, counting.ValuesOf(both.NAT), " guest=a pair=0")
	addWanted(want, setSwitch, counting.ValuesOf(both.Switch), " guest=a pair=0")
	samples := samplesOf(t, textOf(t, s))
	for key, value := range want {
		require.Equal(t, value, samples[key], key)
	}
}

// addWantedTimes adds what timesOf counts.
func addWantedTimes(want map[string]float64, key string, below2, below4, all float64) {
	want[key+" le=0.002"], want[key+" le=0.004"], want[key+" le=+Inf"] = below2, below4, all
	want[key+" sum"], want[key+" count"] = 1, all
}

// addWanted adds counters by the names of their metrics.
func addWanted(want map[string]float64, set string, values counting.Values, at string) {
	byName := map[string]Metric{}
	for _, d := range counting.Describe(countersOf(set)) {
		byName[d.Name] = metricOf(set, d)
	}
	for name, n := range values.All() {
		m := byName[name]
		scale := 1.0
		if strings.HasSuffix(m.Name, "_seconds") {
			scale = 1e-6
		}
		want[m.Name+at] = float64(n) * scale
	}
}

// A page has the metrics of the table that belong to its network, and no others.
func TestThePageHasTheMetricsOfTheTable(t *testing.T) {
	for _, set := range networks() {
		var want, found []string
		for _, m := range Table() {
			if other := strings.Split(m.Name, "_")[1]; other == set || !strings.Contains(setNAT+setTAP+setSwitch+setUplink+setStub, other) {
				want = append(want, m.Name)
			}
		}
		for line := range strings.Lines(string(textOf(t, status(set)))) {
			if name, isType := strings.CutPrefix(line, "# TYPE "); isType {
				found = append(found, strings.Fields(name)[0])
			}
		}
		require.ElementsMatch(t, want, found, set)
	}
}

func TestPrometheusFindsNothingWrongWithNamesAndHelp(t *testing.T) {
	for _, set := range networks() {
		s := status(set)
		problems, err := testutil.GatherAndLint(newPage(func() daemon.Status { return s }))
		require.NoError(t, err)
		require.Empty(t, problems, set)
		_, err = prometheus.Gatherers{newPage(func() daemon.Status { return s })}.Gather() // which looks for samples of the same labels
		require.NoError(t, err, set)
	}
}

// Whoever starts vring names guests by paths, of any bytes. Each guest is told apart from the others.
func TestNamesOfAnyBytesMakeNoBadPage(t *testing.T) {
	names := []string{"/a\xff", "/a\xfe", `"/a\xff"`, `/a"} 1`, "/a\nvring_heap_bytes 7", `/a\n`, "", `"`, "/a\x00"}
	s := daemon.Status{}
	for _, name := range names {
		s.Guests = append(s.Guests, daemon.GuestStatus{Name: name, Kind: daemon.KindStub, Pairs: []daemon.PairStatus{numberedPair(setStub, 1)}})
	}
	stages := 0
	for name := range samplesOf(t, textOf(t, s)) {
		if strings.HasPrefix(name, "vring_guest_stage ") {
			stages++
		}
	}
	require.Equal(t, len(names), stages)
}

// A counter that could not be read is left out: a zero would look as if the process was a new one.
func TestCountersThatAreNotKnownAreNotZero(t *testing.T) {
	s := status(setNAT)
	s.Guests[0].Pairs[1] = daemon.PairStatus{Err: errors.New("unread")}
	samples := samplesOf(t, textOf(t, s))
	require.Contains(t, samples, "vring_nat_frames_in_total guest=a pair=0")
	require.NotContains(t, samples, "vring_nat_frames_in_total guest=a pair=1")
	require.NotContains(t, samples, "vring_publication_age_seconds guest=a pair=1")
	require.Contains(t, samples, "vring_guest_stage guest=a")
}
