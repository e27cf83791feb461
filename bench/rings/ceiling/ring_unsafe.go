package ceiling

import (
	"errors"
	"sync/atomic"
	"unsafe"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// noNotify in the flags of the used ring asks the driver not to kick (virtio 1.2 section 2.7.8).
const noNotify = 1

// ring is a split ring as far as indexes go. Available ring: flags, idx, entries of 16 bits; used ring: flags, idx, entries
// of 32 bits each for id and length.
type ring struct {
	avail, used unsafe.Pointer
	mask        uint16
	at          uint16 // the next entry
}

// newRing finds the ring in memory.
func newRing(mem *guestmem.Table, c virtqueue.Config) (*ring, error) {
	avail, ok := mem.PointerUVA(c.Avail, 4+2*uint64(c.Size))
	used, ok2 := mem.PointerUVA(c.Used, 4+8*uint64(c.Size))
	if !ok || !ok2 || uintptr(avail)%4 != 0 {
		return nil, errors.New("the ring is not in guest memory, or not aligned")
	}
	return &ring{avail: avail, used: used, mask: c.Size - 1, at: c.State.Used}, nil
}

// available returns how many entries the driver has made available.
func (r *ring) available() int {
	return int(uint16(atomic.LoadUint32((*uint32)(r.avail))>>16) - r.at)
}

// move gives n entries back, each with a length of so many bytes.
func (r *ring) move(n int, bytes uint32) {
	for range n {
		i := uintptr(r.at & r.mask)
		head := *(*uint16)(unsafe.Add(r.avail, 4+2*i))
		*(*uint64)(unsafe.Add(r.used, 4+8*i)) = uint64(head) | uint64(bytes)<<32
		r.at++
	}
	r.publish()
}

// publish stores the index, with the wish not to be kicked.
func (r *ring) publish() {
	atomic.StoreUint32((*uint32)(r.used), noNotify|uint32(r.at)<<16)
}
