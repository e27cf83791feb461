package virtqueue

import (
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// Logging says what a queue marks in a dirty log while its guest is being migrated. The zero value marks nothing.
//
// All that a queue writes for a guest passes through it, so it is the only place where pages are marked: buffers when their
// chain is used, whoever has written them, and the used ring when it is stored to. A bit is set after what it stands for was
// written. A front end clears a bit and copies the page then; the other way around it could copy the page before, and
// would never learn of the write. A buffer is marked before the driver sees it as used. The used ring is marked after its index
// was stored: before that, nothing of it counts. A front end looks at the log a last time after the ring was stopped, with all
// of that done.
//
// What was written to buffers that were not used is not marked, nor what lies behind the length that was told: it means
// nothing, neither here nor where the guest goes on.
type Logging struct {
	Log     *guestmem.Log // borrowed until the queue has another one; nil marks nothing
	Buffers bool          // what is written to buffers is marked (VHOST_F_LOG_ALL)
	Ring    bool          // what is written to the used ring is marked (VHOST_VRING_F_LOG)
	UsedAt  guestmem.GPA  // where the used ring is, for Ring
}

// SetLogging replaces Config.Log. What was written before is not marked.
func (q *Queue) SetLogging(l Logging) {
	q.cfg.Log = l
	q.setMarkers()
}

// setMarkers follows a change of the memory or of the logging.
func (q *Queue) setMarkers() {
	l := q.cfg.Log
	q.marker, q.ringLog = guestmem.Marker{}, nil
	if l.Log == nil {
		return
	}
	if l.Buffers && q.cfg.Dir == ToGuest && q.mem != nil {
		q.marker = guestmem.NewMarker(l.Log, q.mem)
	}
	if l.Ring {
		q.ringLog = l.Log
	}
}

// markRun marks the buffers of the oldest pending chains, as many as written has elements.
func (q *Queue) markRun(written []uint32) {
	for i, n := range written {
		q.marker.Wrote(q.chains[q.first+i].Iov, uint64(n))
	}
}

// Parts of the used ring (virtio 1.2 section 2.7.8).
const (
	usedHeaderLen = 4 // flags and index
	usedElemLen   = 8
	eventLen      = 2
)

// markPublished marks the elements of the used ring from index from up to index to, and its index.
func (q *Queue) markPublished(from, to uint16) {
	size := q.cfg.Size
	n := min(to-from, size)
	at := from & (size - 1)
	first := min(n, size-at)
	q.markElements(at, first)
	q.markElements(0, n-first)
	q.markIndex()
}

// markElements marks n elements of the used ring.
func (q *Queue) markElements(at, n uint16) {
	q.ringLog.Mark(q.cfg.Log.UsedAt+usedHeaderLen+usedElemLen*guestmem.GPA(at), usedElemLen*uint64(n))
}

// markIndex marks flags and index of the used ring.
func (q *Queue) markIndex() { q.ringLog.Mark(q.cfg.Log.UsedAt, usedHeaderLen) }

// setAvailEvent asks for a kick at an index.
func (q *Queue) setAvailEvent(idx uint16) {
	q.dev.SetAvailEvent(idx)
	if q.ringLog != nil {
		q.markAvailEvent()
	}
}

// markAvailEvent marks the event index of the used ring.
func (q *Queue) markAvailEvent() {
	q.ringLog.Mark(q.cfg.Log.UsedAt+guestmem.GPA(ring.UsedLen(q.cfg.Size, false)), eventLen)
}
