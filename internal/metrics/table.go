package metrics

import (
	"strings"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/vxlan"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/tap"
)

// Labels. Their values are as many as the process has from its start, or as this package and its networks name: nothing that a guest does makes another one.
const (
	labelGuest = "guest"
	labelPair  = "pair"
	labelLimit = "limit" // what a guest can have too much of
	labelState = "state" // of a flow
	labelSide  = "begun_by"
	labelRule  = "rule"
)

// Values of labelRule that are no rules, which all begin with dashes.
const (
	noRule     = "none"   // what no rule decides
	otherRules = "others" // all rules but the first maxRules, in sum
)

// maxRules is how many rules of a guest have samples of their own.
const maxRules = 100

// Values of labelSide.
const (
	byGuest = "guest"
	byHost  = "host"
)

// Kind is how a metric goes on.
type Kind uint8

const (
	Counter   Kind = iota // it grows
	Gauge                 // it goes down as well as up
	Histogram             // it counts how long something took
)

// String returns what Prometheus calls a kind.
func (k Kind) String() string { return [...]string{"counter", "gauge", "histogram"}[k] }

// Metric is one of those that the page has.
type Metric struct {
	Name   string
	Help   string
	Kind   Kind
	Labels []string

	scale float64 // from what is counted to the unit of Name; 0 is 1
}

// Sets of counters, which are part of the names of their metrics.
const (
	setThread = "thread"
	setNAT    = "nat"
	setTAP    = "tap"
	setSwitch = "switch"
	setUplink = "uplink"
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
	case setSwitch:
		return l2switch.Counters{}
	case setUplink:
		return vxlan.Counters{}
	}
	return stub.Counters{}
}

// Table returns all metrics that there are: those of the process, of guests, of their threads, and of all kinds of networks.
func Table() (all []Metric) {
	for _, m := range ownMetrics() {
		all = append(all, m)
	}
	for _, set := range []string{setThread, setNAT, setTAP, setSwitch, setUplink, setStub} {
		all = append(all, metricsOf(set)...)
	}
	return all
}

// own are the metrics that are no counters of a queue pair.
type own int

const (
	uptime own = iota
	heap
	goroutines
	weakWalls
	stage
	disabledFrames
	lostLines
	limitUsed
	limitMost
	age
	turnTimes
	flowStates // this one and those below are of guests behind NAT alone
	kernelHeld
	kernelMost
	handshakes
	ruleBegun
	ruleDenied
	ruleFromGuest
	ruleToGuest
	owns
)

func ownMetrics() [owns]Metric {
	rule := []string{labelGuest, labelRule}
	guest, pair, limit := []string{labelGuest}, []string{labelGuest, labelPair}, []string{labelGuest, labelLimit}
	return [owns]Metric{
		uptime:         {Name: "vring_uptime_seconds", Kind: Gauge, Help: "For how long the process has served guests."},
		heap:           {Name: "vring_heap_bytes", Kind: Gauge, Help: "Bytes of the heap in use."},
		goroutines:     {Name: "vring_goroutines", Kind: Gauge, Help: "Goroutines that there are."},
		weakWalls:      {Name: "vring_sandbox_weak_walls", Kind: Gauge, Help: "Parts of the sandbox that keep less than is promised."},
		stage:          {Name: "vring_guest_stage", Kind: Gauge, Labels: guest, Help: "How far the front end of the guest has come: 0 is waited for, 1 is connected, 2 has a driver that is up."},
		disabledFrames: {Name: "vring_guest_frames_on_disabled_rings_total", Labels: guest, Help: "Frames dropped because the front end had disabled their ring."},
		lostLines:      {Name: "vring_guest_log_lines_left_out_total", Labels: guest, Help: "Lines of the log that were left out because too many came at once."},
		limitUsed:      {Name: "vring_guest_limit_used", Kind: Gauge, Labels: limit, Help: "How much the guest has of what it may have so many of, or may do in a second; see vring_guest_limit_most."},
		limitMost:      {Name: "vring_guest_limit_most", Kind: Gauge, Labels: limit, Help: "How much the guest may have; what is beyond that is refused, or takes the place of what is oldest."},
		age:            {Name: "vring_publication_age_seconds", Kind: Gauge, Labels: pair, Help: "How long ago the thread published its counters; 0 if nothing can have been counted since."},
		turnTimes:      {Name: "vring_thread_turn_seconds", Kind: Histogram, Labels: pair, Help: "How long turns of the thread took, of one turn in 16."},
		flowStates:     {Name: "vring_nat_flows", Kind: Gauge, Labels: []string{labelGuest, labelState}, Help: "Flows that there are: UDP associations (associated), series of pings (pinging), and connections by their state."},
		kernelHeld:     {Name: "vring_nat_kernel_memory_bytes", Kind: Gauge, Labels: guest, Help: "Bytes that the kernel of the host holds in sockets of the guest, as the last look at each has found."},
		kernelMost:     {Name: "vring_nat_kernel_memory_limit_bytes", Kind: Gauge, Labels: guest, Help: "Bytes that the kernel may hold for the guest; from half of it on, buffers of its sockets are made smaller."},
		handshakes:     {Name: "vring_nat_connect_seconds", Kind: Histogram, Labels: []string{labelGuest, labelSide}, Help: "How long connections took to open: from the SYN of the guest to the answer of the host's peer, or from the accept of a forward to the answer of the guest."},
		ruleBegun:      {Name: "vring_nat_rule_flows_total", Labels: rule, Help: "Connections, UDP associations and series of pings of the guest that a rule has let through. The first 100 rules have samples of their own, the rest is rule=\"others\"; rule=\"none\" is what no rule decides."},
		ruleDenied:     {Name: "vring_nat_rule_denied_total", Labels: rule, Help: "Those that it has not let through."},
		ruleFromGuest:  {Name: "vring_nat_rule_from_guest_bytes_total", Labels: rule, Help: "Bytes of payload that the guest has sent by a rule, in what is over."},
		ruleToGuest:    {Name: "vring_nat_rule_to_guest_bytes_total", Labels: rule, Help: "Bytes of payload that the guest has got by a rule, in what is over."},
	}
}

// metricsOf are the metrics of a set of counters, in the order of the counters.
func metricsOf(set string) (all []Metric) {
	for _, d := range counting.Describe(countersOf(set)) {
		all = append(all, metricOf(set, d))
	}
	return all
}

// Meaning returns what the counter of a name counts, that of frames on disabled rings among them; "" if there is no such counter.
func Meaning(counter string) string {
	if counter == worker.ReasonDisabled {
		own := ownMetrics()
		return own[disabledFrames].Help
	}
	for _, set := range []string{setThread, setNAT, setTAP, setSwitch, setUplink, setStub} {
		for _, d := range counting.Describe(countersOf(set)) {
			if d.Name == counter {
				return d.Help
			}
		}
	}
	return ""
}

// metricOf is the metric of a counter. Its name is the counter's, with the set in front, and the unit and "total" behind as Prometheus
// has them.
func metricOf(set string, d counting.Description) Metric {
	m := Metric{Help: d.Help, Labels: []string{labelGuest, labelPair}}
	if d.Gauge {
		m.Kind = Gauge
	}
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
