package worker

import (
	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/drops"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// ReasonDisabled is the reason of drops of frames that the guest sent on a ring that was disabled, or while its link was down. Dropped counts them.
const ReasonDisabled = "frames_on_disabled_rings"

// Drops returns what the thread of queue pair i has dropped last, the oldest first: frames of disabled rings, and what its Port counts as drops and keeps
// no log of. Anybody may call it at any time. It neither wakes the thread nor waits for it.
func (d *Device) Drops(i int) []drops.Drop { return d.loops[i].drops.Last() }

// noteDisabled keeps in the log that frames of a disabled ring were dropped. The first one stands for all.
func (l *loop) noteDisabled(chains []virtqueue.Chain) {
	if len(chains) == 0 {
		return
	}
	l.drops.Skip(len(chains) - 1)
	if !l.drops.Takes(l.at) {
		return
	}
	header := vnet.HeaderLength(l.features)
	head := l.scratch[:header+drops.HeadLen]
	n := guestmem.CopyFrom(head, chains[0].Iov, 0)
	d := drops.Drop{Time: l.at, Reason: ReasonDisabled, Detail: "the front end has disabled the ring"}
	if l.down {
		d.Detail = "the link is down"
	}
	d.Frame = drops.ParseFrame(head[min(n, header):n], max(int(chains[0].Len)-header, 0))
	l.drops.Add(d)
}

// watched is a counter of drops of which nobody keeps a log.
type watched struct {
	at   int // among the words that are published
	name string
	last uint64
}

// watchDrops returns the counters of a source that are to be watched, whose words begin with first.
func watchDrops(s counting.Source, first int) (all []watched) {
	for i, d := range s.Describe() {
		if d.Drop {
			all = append(all, watched{first + i, d.Name, 0})
		}
	}
	return all
}

// noteCounted keeps in the log what has been counted since the last time.
func (p *publication) noteCounted(log *drops.Log, now int64) {
	for i := range p.watched {
		w := &p.watched[i]
		if n := p.words[w.at] - w.last; n > 0 {
			w.last += n
			log.Skip(int(n - 1))
			if log.Takes(now) {
				log.Add(drops.Drop{Time: now, Reason: w.name})
			}
		}
	}
}
