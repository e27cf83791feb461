package worker

import (
	"errors"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
)

// publishInterval is how long a thread waits, in nanoseconds, before it publishes its counters again.
const publishInterval = int64(100e6)

// ErrUnread tells that counters were published again and again while they were read.
var ErrUnread = errors.New("counters change faster than they can be read")

// Stats counts what a thread has done. They are plain numbers for the thread itself; see [Thread] and [Device.Counters].
type Stats struct {
	Turns           uint64 `counter:"turns" help:"Turns of the thread: times that it looked after its rings and sockets."`
	Polled          uint64 `counter:"polled" help:"Times that the thread found work by looking, without having slept."`
	Sleeps          uint64 `counter:"sleeps" help:"Times that the thread went to sleep."`
	FromGuestFrames uint64 `counter:"from_guest_frames" help:"Frames of the guest that left its ring, malformed ones among them."`
	FromGuestBytes  uint64 `counter:"from_guest_bytes" unit:"bytes" help:"Bytes of these frames, without virtio-net headers."`
	ToGuestFrames   uint64 `counter:"to_guest_frames" help:"Frames that the guest got."`
	ToGuestBytes    uint64 `counter:"to_guest_bytes" unit:"bytes" help:"Bytes of frames that the guest got, without virtio-net headers."`
	// Returned are the guest's receive buffers that could carry nothing.
	Returned         netbackend.ReturnedBuffers
	PollMicroseconds uint64 `counter:"poll_us" unit:"microseconds" kind:"gauge" help:"How long the thread looks at its rings at present before it sleeps."`
}

// Counters are those of a queue pair at one moment.
type Counters struct {
	// Age is how long ago that was. It is 0 if nothing can have been counted since.
	Age    time.Duration
	Thread Stats
	Port   counting.Values // none if the Port has no counters; see Config.Counters
}

// publication is how others see the counters of a thread: the thread copies them when they have changed, but not sooner
// than publishInterval after the last time. It is the thread's own, except out and what New sets.
type publication struct {
	own, port     counting.Source
	words         []uint64 // for the copies: the time, then the counters of own and port
	out           *counting.Published
	turns, sleeps uint64 // when they were copied last; nothing else changes without them
	due           int64  // when they may be copied again
}

func newPublication(own, port counting.Source) publication {
	p := publication{own: own, port: port}
	p.words = make([]uint64, 1+len(own.Names())+p.portCounters())
	p.out = counting.NewPublished(len(p.words))
	return p
}

// portCounters is how many counters the Port has.
func (p *publication) portCounters() int {
	if p.port == nil {
		return 0
	}
	return len(p.port.Names())
}

// behind reports whether there may be something that was not published.
func (p *publication) behind(s *Stats) bool { return s.Turns != p.turns || s.Sleeps != p.sleeps }

// publish copies the counters, of which s are some.
func (p *publication) publish(s *Stats, now int64) {
	p.words[0] = uint64(now)
	own, port := p.parts(p.words)
	p.own.Read(own)
	if p.port != nil {
		p.port.Read(port)
	}
	p.out.Publish(p.words)
	p.turns, p.sleeps, p.due = s.Turns, s.Sleeps, now+publishInterval
}

// parts returns the counters of own and port in a copy.
func (p *publication) parts(words []uint64) (own, port []uint64) {
	n := 1 + len(p.own.Names())
	return words[1:n], words[n:]
}

// read returns what was published last. Anybody may call it.
func (p *publication) read(now int64) (Counters, error) {
	words := make([]uint64, len(p.words))
	if !p.out.Read(words) {
		return Counters{}, ErrUnread
	}
	var c Counters
	own, port := p.parts(words)
	counting.NewValues(p.own.Names(), own).Fill(&c.Thread)
	if p.port != nil {
		c.Port = counting.NewValues(p.port.Names(), port)
	}
	if age := now - int64(words[0]); age <= 2*publishInterval { // else the thread has been idle
		c.Age = time.Duration(age)
	}
	return c, nil
}

// Counters returns the counters of queue pair i as its thread has published them: those of a thread that has work are up to
// about 0.1 s old, those of a thread that has been idle for longer are exact, and so are they after Close. They are zero
// before the first turn. Anybody may call it at any time. It neither wakes the thread nor waits for it.
func (d *Device) Counters(i int) (Counters, error) {
	l := d.loops[i]
	return l.publication.read(l.now())
}

// counted returns what the thread has counted.
func (l *loop) counted() Stats {
	s := l.stats
	s.Returned = l.writer.Returned
	s.ToGuestFrames, s.ToGuestBytes = l.writer.Frames, l.writer.Bytes
	s.PollMicroseconds = uint64(l.moderation.poller.window / 1000)
	return s
}

func (l *loop) publish(now int64) { l.publication.publish(&l.stats, now) }

// publishIfDue follows rounds.
func (l *loop) publishIfDue() {
	if l.began >= l.publication.due && l.publication.behind(&l.stats) {
		l.publish(l.began)
	}
}

// publishDue returns when the thread is to wake up for its counters alone, 0 if it need not.
func (l *loop) publishDue() int64 {
	if !l.publication.behind(&l.stats) {
		return 0
	}
	return l.publication.due
}

// wokeToPublish publishes the counters if that is all there is to do, and reports whether it was. A turn would change them
// again.
func (l *loop) wokeToPublish() bool {
	if l.nEvents > 0 || l.again || l.obeyed || l.plan.mode != block || !l.publication.behind(&l.stats) {
		return false
	}
	now := l.now()
	if l.hasCause(now) || l.rx.polled() || l.tx.polled() || (l.emptyAt != 0 && l.emptyAt <= now) {
		return false
	}
	l.publish(now)
	return true
}
