package stub

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
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
	s.swallowSlowly(tx)
	for range sourceBurst {
		binary.BigEndian.PutUint64(s.frame[sequenceAt:], s.counters.SentFrames)
		if !rx.Write(&s.plain, s.frame) {
			break
		}
		s.counters.SentFrames++
		s.counters.SentBytes += uint64(len(s.frame))
	}
	return len(tx)
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
