package metrics

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
)

// ContentType is that of a page: Prometheus' text format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Page makes pages of the metrics of a daemon. Any goroutine may use it, and several at once.
//
// It is a prometheus.Gatherer. It makes families of metrics itself: Prometheus' registry checks each sample of each page, which takes longer than all the
// rest, and here families follow from the table.
type Page struct {
	published func() daemon.Status
	own       [owns]Metric
	thread    []Metric
	network   map[daemon.Kind][]Metric // of the counters of a queue pair of each kind of networks, in their order
}

// NewPage returns the page of a daemon, which is open.
func NewPage(d *daemon.Daemon) *Page { return newPage(d.Published) }

func newPage(published func() daemon.Status) *Page {
	p := &Page{published: published, own: ownMetrics(), thread: metricsOf(setThread), network: map[daemon.Kind][]Metric{}}
	for _, kind := range kinds() {
		p.network[kind] = metricsOf(setOf(kind))
	}
	return p
}

// kinds are those of networks that guests can have.
func kinds() []daemon.Kind {
	return []daemon.Kind{daemon.KindNAT, daemon.KindTAP, daemon.KindSwitch, daemon.KindUplink, daemon.KindStub}
}

// setOf is the set of counters of a kind of networks.
func setOf(kind daemon.Kind) string {
	switch kind {
	case daemon.KindNAT:
		return setNAT
	case daemon.KindTAP:
		return setTAP
	case daemon.KindSwitch:
		return setSwitch
	case daemon.KindUplink:
		return setUplink
	}
	return setStub
}

// Text returns the metrics as they are now, as ContentType says.
func (p *Page) Text() ([]byte, error) {
	families, err := p.Gather()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	for _, f := range families {
		if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
			return nil, err
		}
	}
	return text.Bytes(), nil
}

// Gather returns the metrics as they are now, and never an error. It implements prometheus.Gatherer.
func (p *Page) Gather() ([]*dto.MetricFamily, error) {
	now := p.published()
	g := p.newGathering(len(now.Guests))
	g.own[uptime].add(now.Uptime.Seconds())
	g.own[heap].add(float64(now.Heap))
	g.own[goroutines].add(float64(now.Goroutines))
	g.own[weakWalls].add(float64(weak(&now)))
	for i := range now.Guests {
		g.addGuest(&now.Guests[i])
	}
	return g.families(), nil
}

// weak counts the parts of the sandbox that keep less than is promised.
func weak(s *daemon.Status) (n int) {
	for _, w := range s.Sandbox {
		if w.Weak {
			n++
		}
	}
	return n
}

// gathering are the metrics of one page.
type gathering struct {
	own     [owns]family
	thread  []family
	network map[daemon.Kind][]family
}

// newGathering returns metrics without samples.
func (p *Page) newGathering(guests int) *gathering {
	g := &gathering{thread: familiesOf(p.thread, guests), network: map[daemon.Kind][]family{}}
	for i := range g.own {
		g.own[i].metric = &p.own[i]
	}
	for kind, all := range p.network {
		g.network[kind] = familiesOf(all, 0)
	}
	return g
}

// familiesOf returns metrics without samples, which have room for so many.
func familiesOf(metrics []Metric, samples int) []family {
	all := make([]family, len(metrics))
	for i := range all {
		all[i] = family{&metrics[i], make([]*dto.Metric, 0, samples)}
	}
	return all
}

// families returns the metrics that have samples.
func (g *gathering) families() (all []*dto.MetricFamily) {
	some := [][]family{g.own[:], g.thread}
	for _, kind := range kinds() {
		some = append(some, g.network[kind])
	}
	for _, families := range some {
		for i := range families {
			if len(families[i].samples) > 0 {
				all = append(all, families[i].family())
			}
		}
	}
	return all
}

// addGuest adds the samples of a guest.
func (g *gathering) addGuest(of *daemon.GuestStatus) {
	name := label(labelGuest, labelOf(of.Name))
	guest := []*dto.LabelPair{name}
	g.own[stage].add(float64(of.Stage), guest...)
	g.own[disabledFrames].add(float64(of.Disabled), guest...)
	g.own[lostLines].add(float64(of.LostLines), guest...)
	for _, u := range of.Limits {
		labels := []*dto.LabelPair{name, label(labelLimit, strings.ReplaceAll(u.Name, " ", "_"))}
		g.own[limitUsed].add(float64(u.Used), labels...)
		g.own[limitMost].add(float64(u.Most), labels...)
	}
	if of.NAT != nil {
		g.addNAT(of.NAT, guest)
	}
	for i := range of.Pairs {
		g.addPair(&of.Pairs[i], g.networkOf(of), []*dto.LabelPair{name, label(labelPair, strconv.Itoa(i))})
	}
}

// addNAT adds what is known of a guest behind NAT as a whole.
func (g *gathering) addNAT(n *daemon.NATStatus, guest []*dto.LabelPair) {
	for _, s := range n.States {
		g.own[flowStates].add(float64(s.Flows), guest[0], label(labelState, s.State))
	}
	g.own[kernelHeld].add(float64(n.Kernel), guest...)
	g.own[kernelMost].add(float64(n.KernelLimit), guest...)
	g.own[handshakes].addTimes(&n.Opened, label(labelSide, byGuest), guest[0])
	g.own[handshakes].addTimes(&n.Took, label(labelSide, byHost), guest[0])
	for _, c := range boundRules(n.Rules) {
		g.addRule(&c, guest[0])
	}
}

// addRule adds what was counted for a rule.
func (g *gathering) addRule(c *nat.RuleCount, guest *dto.LabelPair) {
	labels := []*dto.LabelPair{guest, label(labelRule, c.Rule)}
	g.own[ruleBegun].add(float64(c.Begun), labels...)
	g.own[ruleDenied].add(float64(c.Denied), labels...)
	g.own[ruleFromGuest].add(float64(c.FromGuest), labels...)
	g.own[ruleToGuest].add(float64(c.ToGuest), labels...)
}

// boundRules returns what was counted for rules, the last of which is what no rule decides, as it is told: with the sum of those of which there
// are too many. A rule that is written twice is there once.
func boundRules(counts []nat.RuleCount) (told []nat.RuleCount) {
	if len(counts) == 0 {
		return nil
	}
	rest, seen := nat.RuleCount{Rule: otherRules}, map[string]bool{}
	last := counts[len(counts)-1]
	last.Rule = noRule
	for _, c := range counts[:len(counts)-1] {
		switch {
		case seen[c.Rule]:
		case len(told) < maxRules:
			told = append(told, c)
		default:
			rest.Begun, rest.Denied = rest.Begun+c.Begun, rest.Denied+c.Denied
			rest.FromGuest, rest.ToGuest = rest.FromGuest+c.FromGuest, rest.ToGuest+c.ToGuest
		}
		seen[c.Rule] = true
	}
	if len(seen) > maxRules {
		told = append(told, rest)
	}
	return append(told, last)
}

// networkOf are the metrics of the counters of a guest's queue pairs, in their order.
func (g *gathering) networkOf(of *daemon.GuestStatus) [][]family {
	if of.Uplink != nil {
		return [][]family{g.network[daemon.KindSwitch], g.network[daemon.KindUplink]}
	}
	if of.OnSwitch {
		return [][]family{g.network[daemon.KindNAT], g.network[daemon.KindSwitch]}
	}
	return [][]family{g.network[of.Kind]}
}

// addPair adds the samples of a queue pair of a guest, whose network has those metrics. A counter that is not known is no zero: it is left out.
func (g *gathering) addPair(p *daemon.PairStatus, network [][]family, labels []*dto.LabelPair) {
	if p.Err != nil {
		return
	}
	g.own[age].add(p.Age.Seconds(), labels...)
	g.own[turnTimes].addTimes(&p.Turns, labels...)
	addAll([][]family{g.thread}, counting.ValuesOf(p.Thread), labels)
	addAll(network, p.Report.Counters, labels)
}

// addAll adds counters of a queue pair, which are in the order of their families.
func addAll(to [][]family, values counting.Values, labels []*dto.LabelPair) {
	set, i := 0, 0
	for _, n := range values.All() {
		for i == len(to[set]) {
			set, i = set+1, 0
		}
		to[set][i].add(float64(n), labels...)
		i++
	}
}

// family is a metric with its samples.
type family struct {
	metric  *Metric
	samples []*dto.Metric
}

// add adds a sample. Samples may share their labels, which nobody changes any more.
func (f *family) add(value float64, labels ...*dto.LabelPair) {
	s := &struct {
		dto.Metric
		counter dto.Counter
		gauge   dto.Gauge
		value   float64
	}{value: value * cmp.Or(f.metric.scale, 1)} // one piece of memory instead of three
	s.Label = labels
	if f.metric.Kind == Gauge {
		s.gauge.Value, s.Gauge = &s.value, &s.gauge
	} else {
		s.counter.Value, s.Counter = &s.value, &s.counter
	}
	f.samples = append(f.samples, &s.Metric)
}

// addTimes adds the samples of a histogram, which nobody changes any more.
func (f *family) addTimes(d *counting.Distribution, labels ...*dto.LabelPair) {
	sum, n := d.Sum.Seconds(), len(d.Buckets)
	buckets, bounds := make([]dto.Bucket, n), make([]float64, n)
	h := &dto.Histogram{SampleCount: &d.Count, SampleSum: &sum, Bucket: make([]*dto.Bucket, n)}
	for i := range buckets {
		bounds[i] = d.Buckets[i].Bound.Seconds()
		buckets[i].UpperBound, buckets[i].CumulativeCount = &bounds[i], &d.Buckets[i].Count
		h.Bucket[i] = &buckets[i]
	}
	f.samples = append(f.samples, &dto.Metric{Label: labels, Histogram: h})
}

// family returns the metric as Prometheus has it.
func (f *family) family() *dto.MetricFamily {
	return &dto.MetricFamily{Name: &f.metric.Name, Help: &f.metric.Help, Type: f.metric.Kind.dto().Enum(), Metric: f.samples}
}

// dto is a kind as Prometheus has it.
func (k Kind) dto() dto.MetricType {
	return [...]dto.MetricType{dto.MetricType_COUNTER, dto.MetricType_GAUGE, dto.MetricType_HISTOGRAM}[k]
}

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// labelOf is the label of a guest, whose name may be a path of any bytes: a label is UTF-8. No two names have the same.
func labelOf(name string) string {
	if utf8.ValidString(name) && !strings.HasPrefix(name, `"`) {
		return name
	}
	return strconv.Quote(name)
}
