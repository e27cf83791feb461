package worker

import (
	"errors"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/netem"
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
	Returned netbackend.ReturnedBuffers
	// FrontEnd is of a guest whose rings this process has.
	FrontEnd netbackend.FrontEndCounters
	// Link is of a guest whose link is emulated, or was.
	Link             netem.Counters
	Interrupts       Interrupts
	Rings            Rings
	PollMicroseconds uint64 `counter:"poll_us" unit:"microseconds" kind:"gauge" help:"How long the thread looks at its rings at present before it sleeps."`
}

// Interrupts counts the notifications between guest and thread.
type Interrupts struct {
	ToGuestInterrupts   uint64 `counter:"to_guest_interrupts" help:"Times that the guest was interrupted since it had got frames."`
	FromGuestInterrupts uint64 `counter:"from_guest_interrupts" help:"Times that the guest was interrupted since frames of it had been taken."`
	ToGuestKicks        uint64 `counter:"to_guest_kicks" help:"Notifications of the guest that it has posted receive buffers."`
	FromGuestKicks      uint64 `counter:"from_guest_kicks" help:"Notifications of the guest that it has sent frames."`
}

// Rings are how full the rings were when the thread looked last. A ring that does not run has neither entries nor anything available.
type Rings struct {
	ToGuestEntries     uint64 `counter:"to_guest_ring_entries" kind:"gauge" help:"Entries of the receive ring; 0 if it does not run."`
	ToGuestAvailable   uint64 `counter:"to_guest_ring_available" kind:"gauge" help:"Receive buffers that the guest has posted and that nothing was written to yet, as the thread saw them last."`
	FromGuestEntries   uint64 `counter:"from_guest_ring_entries" kind:"gauge" help:"Entries of the transmit ring; 0 if it does not run."`
	FromGuestAvailable uint64 `counter:"from_guest_ring_available" kind:"gauge" help:"Frames of the guest that wait in the transmit ring, as the thread saw them last."`
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
	watched       []watched
}

func newPublication(own, port counting.Source) publication {
	p := publication{own: own, port: port}
	p.words = make([]uint64, 1+len(own.Names())+p.portCounters())
	p.watched = watchDrops(own, 1)
	if port != nil {
		p.watched = append(p.watched, watchDrops(port, 1+len(own.Names()))...)
	}
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
	if l.driver != nil {
		s.FrontEnd = l.driver.Counters()
	}
	s.ToGuestFrames, s.ToGuestBytes = l.writer.Frames, l.writer.Bytes
	s.Interrupts = Interrupts{l.rx.interrupts, l.tx.interrupts, l.rx.kicks, l.tx.kicks}
	s.Rings.ToGuestAvailable, s.Rings.ToGuestEntries = l.rx.occupancy()
	s.Rings.FromGuestAvailable, s.Rings.FromGuestEntries = l.tx.occupancy()
	s.PollMicroseconds = uint64(l.moderation.poller.window / 1000)
	return s
}

// turnSample is how many turns there are for each one whose length is taken: to read the clock once more costs as much as a short frame.
const turnSample = 16

// newTurnTimes returns a histogram for the lengths of turns, up to 0.26 s.
func newTurnTimes() *counting.Histogram { return counting.NewHistogram(time.Microsecond, 10) }

// measure takes the length of a turn that has begun at start, for one turn in turnSample.
func (l *loop) measure(start int64) {
	if l.stats.Turns%turnSample == 0 {
		l.turnTimes.Observe(l.now() - start)
	}
}

// TurnTimes returns how long one turn in 16 of queue pair i took. Anybody may call it at any time. It neither wakes the thread nor waits for it.
func (d *Device) TurnTimes(i int) counting.Distribution { return d.loops[i].turnTimes.Read() }

// Notices returns how many notices wait to be told, and how many can wait; others are lost. Anybody may call it at any time.
func (d *Device) Notices() (waiting, most int) { return len(d.notices), cap(d.notices) }

func (l *loop) publish(now int64) {
	l.publication.publish(&l.stats, now)
	l.publication.noteCounted(&l.drops, now)
}

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
