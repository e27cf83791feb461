package metrics

import (
	"strings"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/tap"
)

// Labels. A metric has none, the first, or both.
const (
	labelGuest = "guest"
	labelPair  = "pair"
)

// Metric is one of those that the page has.
type Metric struct {
	Name   string
	Help   string
	Gauge  bool // it goes down as well as up
	Labels []string

	scale float64 // from what is counted to the unit of Name; 0 is 1
}

// Sets of counters, which are part of the names of their metrics.
const (
	setThread = "thread"
	setNAT    = "nat"
	setTAP    = "tap"
	setStub   = "stub"
)

// countersOf are the counters of a set.
func countersOf(set string) any {
	switch set {
	case setThread:
		return worker.Stats{}
	case setNAT:
		return nat.Counters{}
	case setTAP:
		return tap.Counters{}
	}
	return stub.Counters{}
}

// Table returns all metrics that there are: those of the process, of guests, of their threads, and of all kinds of networks.
func Table() (all []Metric) {
	for _, m := range ownMetrics() {
		all = append(all, m)
	}
	for _, set := range []string{setThread, setNAT, setTAP, setStub} {
		all = append(all, metricsOf(set)...)
	}
	return all
}

// own are the metrics that are no counters of a queue pair, by their fields of Collector's samples.
type own int

const (
	uptime own = iota
	heap
	goroutines
	weakWalls
	stage
	disabledFrames
	lostLines
	age
	owns
)

func ownMetrics() [owns]Metric {
	guest, pair := []string{labelGuest}, []string{labelGuest, labelPair}
	return [owns]Metric{
		uptime:         {Name: "vring_uptime_seconds", Gauge: true, Help: "For how long the process has served guests."},
		heap:           {Name: "vring_heap_bytes", Gauge: true, Help: "Bytes of the heap in use."},
		goroutines:     {Name: "vring_goroutines", Gauge: true, Help: "Goroutines that there are."},
		weakWalls:      {Name: "vring_sandbox_weak_walls", Gauge: true, Help: "Parts of the sandbox that keep less than is promised."},
		stage:          {Name: "vring_guest_stage", Gauge: true, Labels: guest, Help: "How far the front end of the guest has come: 0 is waited for, 1 is connected, 2 has a driver that is up."},
		disabledFrames: {Name: "vring_guest_frames_on_disabled_rings_total", Labels: guest, Help: "Frames dropped because the front end had disabled their ring."},
		lostLines:      {Name: "vring_guest_log_lines_left_out_total", Labels: guest, Help: "Lines of the log that were left out because too many came at once."},
		age:            {Name: "vring_publication_age_seconds", Gauge: true, Labels: pair, Help: "How long ago the thread published its counters; 0 if nothing can have been counted since."},
	}
}

// metricsOf are the metrics of a set of counters, in the order of the counters.
func metricsOf(set string) (all []Metric) {
	for _, d := range counting.Describe(countersOf(set)) {
		all = append(all, metricOf(set, d))
	}
	return all
}

// metricOf is the metric of a counter. Its name is the counter's, with the set in front, and the unit and "total" behind as Prometheus
// has them.
func metricOf(set string, d counting.Description) Metric {
	m := Metric{Help: d.Help, Gauge: d.Gauge, Labels: []string{labelGuest, labelPair}}
	name := respelled(d.Name)
	switch d.Unit {
	case counting.Bytes:
		name = withSuffix(name, "bytes")
	case counting.Microseconds:
		const seconds = 1e-6
		name, m.scale = withSuffix(strings.TrimSuffix(name, "_us"), "seconds"), seconds
	}
	if !d.Gauge {
		name = withSuffix(name, "total")
	}
	m.Name = "vring_" + set + "_" + name
	return m
}

// respelled is the name of a counter without what those who read metrics take for a unit: "us" are microseconds to them.
func respelled(name string) string {
	if name == "ended_unknown_to_us" {
		return "ended_unknown_to_engine"
	}
	return name
}

// withSuffix adds a word to a name, unless it ends with that.
func withSuffix(name, word string) string {
	if name == word || strings.HasSuffix(name, "_"+word) {
		return name
	}
	return name + "_" + word
}
