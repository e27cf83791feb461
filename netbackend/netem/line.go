package netem

import (
	"math/bits"
	"sync/atomic"
)

// Shared is what the queue pairs of a guest share of its link.
type Shared struct {
	in, out line
}

// line is when the line of a direction is free, and what waits for it. Threads share it without a lock.
type line struct {
	free   atomic.Int64 // when it has sent all, in ticks
	frames atomic.Int64 // that wait
	bytes  atomic.Int64 // of them
}

const (
	// ticks are how many there are in a nanosecond: a short frame takes 5 ns at the highest rate.
	ticks       = 16
	ticksSecond = ticks * 1e9
)

// pace is a rate as it is computed.
type pace struct {
	rate  uint64 // bits per second; 0 for no limit
	burst int64  // ticks that a burst takes
}

func (d *Direction) pace() pace {
	p := pace{rate: d.Rate}
	if d.Burst > 0 {
		p.burst = p.cost(d.Burst)
	}
	return p
}

// cost returns how many ticks so many bytes take, rounded to the nearest.
func (p pace) cost(n int) int64 {
	high, low := bits.Mul64(uint64(n)*bitsOfByte, ticksSecond)
	low, carry := bits.Add64(low, p.rate/2, 0)
	quotient, _ := bits.Div64(high+carry, low, p.rate) // bytes have 27 bits, and a rate is at least 1000: it is short enough
	return int64(quotient)
}

// send returns when a frame of n bytes that comes at a time has left. This is when its last bit is sent, or at once within a burst.
func (l *line) send(now int64, n int, p pace) int64 {
	cost := p.cost(n)
	for {
		free := l.free.Load()
		next := max(free, now*ticks) + cost
		if !l.free.CompareAndSwap(free, next) {
			continue // another queue pair was faster
		}
		return max(now, (next-p.burst+ticks-1)/ticks)
	}
}

// departures are when frames that wait leave the queue, the oldest first. They are those of one queue pair.
type departures struct {
	ring  []departure
	first int
	count int
}

type departure struct {
	at    int64
	bytes int32
}

// room makes room for n.
func (q *departures) room(n int) {
	if n <= len(q.ring) {
		return
	}
	ring := make([]departure, n)
	for i := range q.count {
		ring[i] = q.ring[(q.first+i)%len(q.ring)]
	}
	q.ring, q.first = ring, 0
}

// leave takes those out that have left by a time, and returns how many and how many bytes those are.
func (q *departures) leave(now int64) (frames, bytes int64) {
	for q.count > 0 && q.ring[q.first].at <= now {
		bytes += int64(q.ring[q.first].bytes)
		frames++
		q.count--
		if q.first++; q.first == len(q.ring) {
			q.first = 0
		}
	}
	return frames, bytes
}

// add adds one, for which there is room.
func (q *departures) add(at int64, n int) {
	i := q.first + q.count
	if i >= len(q.ring) {
		i -= len(q.ring)
	}
	q.ring[i] = departure{at, int32(n)}
	q.count++
}

// next returns when the oldest leaves, 0 if none waits.
func (q *departures) next() int64 {
	if q.count == 0 {
		return 0
	}
	return q.ring[q.first].at
}
