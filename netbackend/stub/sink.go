package stub

import (
	"encoding/binary"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/testframe"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Sink takes every frame and sends none. It checks those of a Source, wherever that is on this host.
type Sink struct {
	base
	tester
}

var _ netbackend.Port = (*Sink)(nil)

// NewSink returns a Sink. clock is that of SourceConfig.
func NewSink(clock func() int64) *Sink {
	s := &Sink{}
	s.clock.host = clock
	return s
}

// Offers implements netbackend.Port, as that of a Null.
func (s *Sink) Offers() uint64 { return transmitOffloads | receiveOffloads }

// Turn implements netbackend.Port.
func (s *Sink) Turn(now int64, tx []virtqueue.Chain, _ []netbackend.Event, _ *netbackend.RXWriter) (done int, next int64) {
	if len(tx) > 0 {
		s.test(&s.base, s.clock.at(now), tx)
	}
	return len(tx), 0
}

// tester checks the frames of sources.
type tester struct {
	clock   clock
	check   testframe.Checker
	latency counting.FineHistogram
	head    [vnet.HeaderLen + testframe.End]byte
	// same are the last frames that all took the same time.
	same     uint64
	sameTime int64
}

// clock tells the time that frames carry, which their tester knows too, though it may be in another process.
type clock struct {
	host   func() int64 // in nanoseconds; nil for the clock of turns
	before int64        // the clock of turns
}

// at returns the time of a turn.
func (c *clock) at(now int64) int64 {
	if c.host != nil {
		c.before = c.host() - now // both go on alike
		c.host = nil
	}
	return now + c.before
}

// Latency returns what the given parts of the frames that came from sources took at most, from the turn that sent them to the one that
// took them, and the longest time. Anybody may call it at any time.
func (c *tester) Latency(parts ...float64) (times []time.Duration, longest time.Duration) {
	return c.latency.Quantiles(parts...)
}

// test takes frames that go nowhere, as swallow does, and checks those of sources.
func (c *tester) test(b *base, now int64, tx []virtqueue.Chain) {
	b.swallow(tx)
	for i := range tx {
		c.testOne(b, now, &tx[i])
	}
	c.flush()
	b.counters.Counts = c.check.Counts
}

// testOne checks the frame of a chain, if it is one of a source.
func (c *tester) testOne(b *base, now int64, chain *virtqueue.Chain) {
	length := int(chain.Len) - b.headerLen
	if length < testframe.End {
		return
	}
	head := c.head[:b.headerLen+testframe.End]
	guestmem.CopyFrom(head, chain.Iov, 0)
	frame := head[b.headerLen:]
	if binary.BigEndian.Uint16(frame[12:]) != testframe.EtherType {
		return
	}
	h := testframe.Parse(frame)
	if !c.check.Take(&h, length) {
		return
	}
	if took := now - int64(h.Stamp); took != c.sameTime {
		c.flush()
		c.sameTime = took
	}
	c.same++
}

// flush counts the last frames that all took the same time.
func (c *tester) flush() {
	if c.same > 0 {
		c.latency.Observe(c.sameTime, c.same)
		c.same = 0
	}
}
