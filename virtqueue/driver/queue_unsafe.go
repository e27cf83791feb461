package driver

import (
	"unsafe"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// Queue is the driver side of a queue. See the package documentation for its use.
type Queue struct {
	ring   ring.Driver
	cfg    virtqueue.Config
	memory []byte // of the three parts

	avail uint16 // behind the last entry that was added
	used  uint16 // of the used element to look at next
}

// Bytes returns how much memory a queue of so many descriptors needs.
func Bytes(size uint16) int { return int(parts(size).end) }

// layout is where the parts of a queue are, from its beginning on.
type layout struct{ avail, used, end uint64 }

func parts(size uint16) layout {
	const align = ring.DescAlign // more than the others need
	up := func(n uint64) uint64 { return (n + align - 1) &^ (align - 1) }
	avail := up(ring.DescLen(size))
	used := avail + up(ring.AvailLen(size, true))
	return layout{avail: avail, used: used, end: used + up(ring.UsedLen(size, true))}
}

// New makes a queue of size descriptors, a power of two, in memory, which has [Bytes] of them, begins at a multiple of 16, and which the
// device sees at address at. Nothing is available.
func New(size uint16, memory []byte, at guestmem.UVA) *Queue {
	l := parts(size)
	q := &Queue{memory: memory[:l.end], cfg: virtqueue.Config{
		Size: size, Desc: at, Avail: at + guestmem.UVA(l.avail), Used: at + guestmem.UVA(l.used), StateIsExact: true,
	}}
	base := unsafe.Pointer(unsafe.SliceData(memory))
	var ok bool
	if q.ring, ok = ring.NewDriver(size, base, unsafe.Add(base, l.avail), unsafe.Add(base, l.used)); !ok {
		panic("driver: the memory of a queue does not begin at a multiple of 16")
	}
	return q
}

// Config describes the queue to a device that begins with it, after New or Restart. The caller sets Dir.
func (q *Queue) Config() virtqueue.Config { return q.cfg }

// Restart makes the queue one in which nothing was ever available. No device may use it.
func (q *Queue) Restart() {
	q.avail, q.used = 0, 0
	q.ring.PublishUsed(0, 0)
	q.ring.PublishAvail(0, 0)
}

// Reads makes descriptor i a buffer that the device reads. With more, its chain goes on at the next descriptor.
func (q *Queue) Reads(i uint16, addr guestmem.GPA, n uint32, more bool) {
	d := ring.Desc{Addr: uint64(addr), Len: n}
	if more {
		d.Flags, d.Next = ring.FlagNext, i+1
	}
	q.ring.SetDesc(i, d)
}

// Writes makes descriptor i a buffer that the device writes, and all of its chain.
func (q *Queue) Writes(i uint16, addr guestmem.GPA, n uint32) {
	q.ring.SetDesc(i, ring.Desc{Addr: uint64(addr), Len: n, Flags: ring.FlagWrite})
}

// Add makes the chain that begins at descriptor head available. The device sees it after Publish.
func (q *Queue) Add(head uint16) {
	q.ring.SetAvail(q.avail, head)
	q.avail++
}

// Publish shows the device what was added.
func (q *Queue) Publish() { q.ring.PublishAvail(0, q.avail) }

// Outstanding returns how many chains were added that Next has not returned yet.
func (q *Queue) Outstanding() int { return int(q.avail - q.used) }

// Used returns how many chains the device has used that Next has not returned yet.
func (q *Queue) Used() int { return int(q.ring.UsedIdx() - q.used) }

// Peek returns the head of chain i of those that are used, the oldest being 0, and how many bytes were written to it. There must
// be so many.
func (q *Queue) Peek(i int) (head uint16, written uint32) {
	id, written := q.ring.Used(q.used + uint16(i))
	return uint16(id), written
}

// Next takes the n oldest used chains back, which there must be.
func (q *Queue) Next(n int) { q.used += uint16(n) }
