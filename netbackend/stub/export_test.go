package stub

import (
	"slices"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/testframe"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// What follows are the turns of the Ports without any of their short ways: each header is decoded and checked in full, and
// each frame dealt with on its own. The short ways must not be told from them.

// TurnSlowly is Turn.
func (n *Null) TurnSlowly(tx []virtqueue.Chain, _ *netbackend.RXWriter) (done int) {
	n.swallowSlowly(tx)
	return len(tx)
}

// TurnSlowly is Turn.
func (e *Echo) TurnSlowly(tx []virtqueue.Chain, rx *netbackend.RXWriter) (done int) {
	for done < len(tx) && e.frame(&tx[done], rx) {
		done++
	}
	return done
}

// TurnSlowly is Turn.
func (s *Source) TurnSlowly(tx []virtqueue.Chain, rx *netbackend.RXWriter) (done int) {
	s.testSlowly(&s.base, tx)
	for range sourceBurst {
		size := s.sizes[s.counters.SentFrames%uint64(len(s.sizes))].length
		frame := slices.Clone(s.frame[:size])
		testframe.Put(frame, s.counters.SentFrames, 0, s.stream)
		if !rx.Write(&s.plain, frame) {
			break
		}
		s.counters.SentFrames++
		s.counters.SentBytes += uint64(size)
	}
	return len(tx)
}

// TurnSlowly is Turn.
func (s *Sink) TurnSlowly(tx []virtqueue.Chain, _ *netbackend.RXWriter) (done int) {
	s.testSlowly(&s.base, tx)
	return len(tx)
}

// testSlowly is test at time 0, with a copy of each frame.
func (c *tester) testSlowly(b *base, tx []virtqueue.Chain) {
	b.swallowSlowly(tx)
	for i := range tx {
		frame := make([]byte, tx[i].Len)
		if guestmem.CopyFrom(frame, tx[i].Iov, 0) < b.headerLen+testframe.End {
			continue
		}
		frame = frame[b.headerLen:]
		if h := testframe.Parse(frame); frame[12] == 0x88 && frame[13] == 0xb5 {
			c.check.Take(&h, len(frame))
		}
	}
	b.counters.Counts = c.check.Counts
}

func (b *base) swallowSlowly(tx []virtqueue.Chain) {
	for i := range tx {
		if _, length, ok := b.header(&tx[i]); ok {
			b.counters.Frames++
			b.counters.Bytes += uint64(length)
		} else {
			b.counters.Bad++
		}
	}
}
