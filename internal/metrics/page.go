package metrics

import (
	"bytes"
	"cmp"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/daemon"
)

// ContentType is that of a page: Prometheus' text format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Page makes pages of the metrics of a daemon. Any goroutine may use it, and several at once.
type Page struct {
	registry *prometheus.Registry
}

// NewPage returns the page of a daemon, which is open.
func NewPage(d *daemon.Daemon) *Page { return newPage(newCollector(d.Published)) }

func newPage(c *collector) *Page {
	p := &Page{registry: prometheus.NewRegistry()}
	p.registry.MustRegister(c)
	return p
}

// setOf is the set of counters of a kind of networks.
func setOf(kind daemon.Kind) string {
	switch kind {
	case daemon.KindNAT:
		return setNAT
	case daemon.KindTAP:
		return setTAP
	}
	return setStub
}

// Text returns the metrics as they are now, as ContentType says.
func (p *Page) Text() ([]byte, error) {
	families, err := p.registry.Gather()
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

// collector makes metrics of what is published whenever it is asked. It is a prometheus.Collector.
type collector struct {
	published func() daemon.Status
	own       [owns]metric
	thread    []metric
	network   map[daemon.Kind][]metric // of the counters of a queue pair of each kind of networks, in their order
}

// metric is a Metric as Prometheus has it.
type metric struct {
	*prometheus.Desc
	gauge bool
	scale float64
}

func newCollector(published func() daemon.Status) *collector {
	c := &collector{published: published, thread: newMetrics(setThread), network: map[daemon.Kind][]metric{}}
	for i, m := range ownMetrics() {
		c.own[i] = newMetric(&m)
	}
	for _, kind := range kinds() {
		c.network[kind] = newMetrics(setOf(kind))
	}
	return c
}

// kinds are those of networks that guests can have.
func kinds() []daemon.Kind { return []daemon.Kind{daemon.KindNAT, daemon.KindTAP, daemon.KindStub} }

func newMetrics(set string) (all []metric) {
	for _, m := range metricsOf(set) {
		all = append(all, newMetric(&m))
	}
	return all
}

func newMetric(m *Metric) metric {
	return metric{prometheus.NewDesc(m.Name, m.Help, m.Labels, nil), m.Gauge, cmp.Or(m.scale, 1)}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(all chan<- *prometheus.Desc) {
	for i := range c.own {
		all <- c.own[i].Desc
	}
	for i := range c.thread {
		all <- c.thread[i].Desc
	}
	for _, kind := range kinds() {
		for i := range c.network[kind] {
			all <- c.network[kind][i].Desc
		}
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(to chan<- prometheus.Metric) {
	now := c.published()
	c.own[uptime].send(to, now.Uptime.Seconds())
	c.own[heap].send(to, float64(now.Heap))
	c.own[goroutines].send(to, float64(now.Goroutines))
	c.own[weakWalls].send(to, float64(weak(&now)))
	for i := range now.Guests {
		c.collectGuest(to, &now.Guests[i])
	}
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

func (c *collector) collectGuest(to chan<- prometheus.Metric, g *daemon.GuestStatus) {
	name := label(labelGuest, labelOf(g.Name))
	c.own[stage].send(to, float64(g.Stage), name)
	c.own[disabledFrames].send(to, float64(g.Disabled), name)
	c.own[lostLines].send(to, float64(g.LostLines), name)
	for i := range g.Pairs {
		p := &g.Pairs[i]
		if p.Err != nil {
			continue // a counter that is not known is no zero
		}
		labels := []*dto.LabelPair{name, label(labelPair, strconv.Itoa(i))}
		c.own[age].send(to, p.Age.Seconds(), labels...)
		sendAll(to, c.thread, counting.ValuesOf(p.Thread), labels)
		sendAll(to, c.network[g.Kind], p.Report.Counters, labels)
	}
}

// sendAll sends counters of a queue pair, which are in the order of their metrics.
func sendAll(to chan<- prometheus.Metric, metrics []metric, values counting.Values, labels []*dto.LabelPair) {
	i := 0
	for _, n := range values.All() {
		metrics[i].send(to, float64(n), labels...)
		i++
	}
}

// send sends a sample. Nobody changes labels any more.
func (m *metric) send(to chan<- prometheus.Metric, value float64, labels ...*dto.LabelPair) {
	to <- &sample{m, value * m.scale, labels}
}

// sample is the value of a metric at one moment. It is a prometheus.Metric, as the library's constant ones are, but all samples of a queue
// pair share their labels, which is a third of the allocations.
type sample struct {
	metric *metric
	value  float64
	labels []*dto.LabelPair
}

// Desc implements prometheus.Metric.
func (s *sample) Desc() *prometheus.Desc { return s.metric.Desc }

// Write implements prometheus.Metric.
func (s *sample) Write(to *dto.Metric) error {
	to.Label = s.labels
	if s.metric.gauge {
		to.Gauge = &dto.Gauge{Value: &s.value}
	} else {
		to.Counter = &dto.Counter{Value: &s.value}
	}
	return nil
}

func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// labelOf is the label of a guest, whose name may be a path of any bytes: a label is UTF-8. No two names have the same.
func labelOf(name string) string {
	if utf8.ValidString(name) && !strings.HasPrefix(name, `"`) {
		return name
	}
	return strconv.Quote(name)
}
