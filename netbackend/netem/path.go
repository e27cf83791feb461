package netem

import (
	"math"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// path is one direction of the link of a queue pair. It is the thread's own, but for line.
type path struct {
	d        Direction
	pace     pace
	model    lossModel
	chance   chance
	bad      bool // the state of the model
	line     *line
	waiting  departures
	store    *store
	last     int64 // when the last frame is due that is not late
	counters *pathCounters
	// damages returns whether a bit of a frame that has changed is found by the frame's checksums; nil to let frames pass however corrupt.
	damages func(frame []byte, at int) bool
}

// pathCounters are where a path counts.
type pathCounters struct {
	lost, duplicated, reordered, corrupted, queueDrops, storeDrops, discarded *uint64
}

// set gives the path another direction. What is under way stays as it is, and comes before what follows. spare is a store that is as
// large as the direction needs, or nil if the path has one.
func (p *path) set(d *Direction, c chance, spare *store) {
	p.d, p.pace, p.model, p.chance, p.bad = *d, d.pace(), d.model(), c, false
	p.waiting.room(d.queue())
	if spare == nil {
		return
	}
	if p.store != nil {
		p.store.moveTo(spare)
	}
	p.store = spare
}

// fate is what becomes of a frame by chance.
type fate struct {
	lost, corrupt, duplicate, late bool
	jitter                         int64
}

func (p *path) draw() (f fate) {
	d := &p.d
	f.lost = p.model.loses(&p.chance, &p.bad)
	f.corrupt = p.chance.hits(d.Corrupt)
	f.duplicate = p.chance.hits(d.Duplicate)
	f.late = p.chance.hits(d.Reorder)
	f.jitter = p.chance.around(d.Jitter)
	return f
}

// enter takes a frame that has come at a time, as a wire would carry it. The path keeps a copy, or drops it.
func (p *path) enter(now int64, frame []byte) {
	f := p.draw()
	if !p.pass(now, frame, &f) || !f.duplicate || f.lost {
		return
	}
	*p.counters.duplicated++
	f = fate{jitter: p.chance.around(p.d.Jitter)}
	p.pass(now, frame, &f)
}

// pass takes a frame whose fate is known. It reports whether the queue had room.
func (p *path) pass(now int64, frame []byte, f *fate) bool {
	left, ok := p.depart(now, len(frame))
	if !ok {
		*p.counters.queueDrops++
		return false
	}
	if f.lost { // on the way, so that it has taken its time on the line
		*p.counters.lost++
		return true
	}
	i := p.store.take(max(len(frame), minFrame))
	if i == none {
		*p.counters.storeDrops++
		return true
	}
	bytes := p.store.bytes(i)
	clear(bytes[copy(bytes, frame):])
	if f.corrupt && len(frame) > vnet.EthernetHeaderLen {
		p.corrupt(i)
	}
	p.store.add(i, p.arrival(left, f))
	return true
}

// minFrame is the length in bytes of the shortest frame of Ethernet without its check sequence.
const minFrame = 60

// arrival returns when a frame is there that has left at a time. Frames keep their order, but for those that are late.
func (p *path) arrival(left int64, f *fate) int64 {
	at := left + int64(p.d.Delay) + f.jitter
	at = max(at, p.last)
	if f.late {
		*p.counters.reordered++
		return at + int64(p.d.reorderBy())
	}
	p.last = at
	return at
}

// depart sends a frame of n bytes to the line, and returns when it has left the queue. It reports false if the queue is full.
func (p *path) depart(now int64, n int) (at int64, ok bool) {
	p.leave(now)
	if p.pace.rate == 0 {
		return now, true
	}
	n = max(n, minFrame)
	if p.line.frames.Add(1) > int64(p.d.queue()) {
		p.line.frames.Add(-1)
		return 0, false
	}
	if p.line.bytes.Add(int64(n)) > int64(p.d.queueBytes()) {
		p.line.frames.Add(-1)
		p.line.bytes.Add(int64(-n))
		return 0, false
	}
	at = p.line.send(now, n, p.pace)
	p.waiting.add(at, n)
	return at, true
}

// leave lets frames leave the queue whose time has come.
func (p *path) leave(now int64) {
	if p.waiting.count == 0 {
		return
	}
	frames, bytes := p.waiting.leave(now)
	if frames != 0 {
		p.line.frames.Add(-frames)
		p.line.bytes.Add(-bytes)
	}
}

// room returns how many frames of the usual length the path takes now, at most so many.
func (p *path) room(now int64, most int) int {
	p.leave(now)
	if p.pace.rate != 0 {
		frames := int64(p.d.queue()) - p.line.frames.Load()
		bytes := (int64(p.d.queueBytes()) - p.line.bytes.Load()) / usualFrame
		most = int(max(0, min(int64(most), frames, bytes)))
	}
	return min(most, p.store.room()/usualFrame)
}

// corrupt changes one bit behind the Ethernet header, whose own check sequence would show it.
func (p *path) corrupt(i int32) {
	bytes := p.store.bytes(i)
	at := vnet.EthernetHeaderLen + int(p.chance.below(uint64(len(bytes)-vnet.EthernetHeaderLen)))
	bit := p.chance.below(8)
	if p.damages != nil {
		p.store.frames[i].damage = p.damages(bytes, at)
	}
	bytes[at] ^= 1 << bit
	*p.counters.corrupted++
}

// discard drops all that is under way, but what has been passed on already. The line goes on with what it has.
func (p *path) discard() {
	for len(p.store.heap) > 0 {
		p.store.release(p.store.pop())
		*p.counters.discarded++
	}
	p.last = 0
}

// forget takes what waits for the line out of what all queue pairs count.
func (p *path) forget() { p.leave(math.MaxInt64) }
