package l2switch

import (
	"math/bits"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// slotLen is what a slot of an inbox holds, in bytes: a frame of an Ethernet's usual MTU.
	slotLen = 2048
	// slots is how many an inbox has, and frames at most.
	slots = 1024
	// maxFrame is the longest frame there is: an IP packet of 64 KiB behind an Ethernet header and two VLAN tags.
	maxFrame = 65535 + vnet.EthernetHeaderLen + 2*tagLen
	// maxSlots is how many slots the longest frame takes.
	maxSlots = (maxFrame + tagLen + slotLen - 1) / slotLen
)

// slotsOf returns how many slots a frame of n bytes takes.
func slotsOf(n int) int { return (n + slotLen - 1) / slotLen }

// parcel is a frame in an inbox, with its virtio-net header as words.
type parcel struct {
	first  uint64
	rest   uint32
	length uint32 // bytes
	slot   uint16 // the first one
	sender uint16 // the number of its Port
}

// inbox holds the frames that wait for a guest. A slot is free, or belongs to a sender that fills it, or to a frame that
// waits. Slots are filled and read without the lock, by the one whose they are.
type inbox struct {
	memory []byte
	next   [slots]uint16 // the slot that follows in a frame

	mu      sync.Mutex
	open    bool // the guest takes frames
	closed  bool // for good
	armed   bool // the receiver's thread has found nothing, and is to be woken
	free    [slots]uint16
	left    int // in free
	ring    [slots]parcel
	head    int                   // the oldest, in ring
	count   int                   // in ring
	held    [MaxPorts]uint16      // slots that are a sender's, or of its frames
	waiters [MaxPorts / 64]uint64 // numbers of Ports that wait for slots
	// released counts when slots were given back by the receiver.
	released uint32

	waking atomic.Int32 // threads that are about to wake the receiver
}

func (b *inbox) init() {
	b.memory = make([]byte, slots*slotLen)
	for i := range b.free {
		b.free[i] = uint16(slots - 1 - i)
	}
	b.left = slots
}

// slot returns the memory of a slot.
func (b *inbox) slot(i uint16) []byte {
	at := int(i) * slotLen
	return b.memory[at : at+slotLen : at+slotLen]
}

// demand is what a sender asks an inbox for.
type demand struct {
	sender int
	need   int  // slots
	whole  bool // fewer are none
	waits  bool // the sender is to be woken when slots are given back, if there are fewer
}

// take gives a sender slots, the number of which it returns. A sender may have as many as it leaves free for others.
func (b *inbox) take(d demand, to []uint16) (n int, open bool, released uint32) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return 0, false, b.released
	}
	n = min(d.need, max(0, (b.left-int(b.held[d.sender]))/2))
	if n < d.need && d.waits {
		b.waiters[d.sender/64] |= 1 << (d.sender % 64)
	}
	if n < d.need && d.whole {
		return 0, true, b.released
	}
	b.left -= n
	copy(to[:n], b.free[b.left:b.left+n])
	b.held[d.sender] += uint16(n)
	return n, true, b.released
}

// giveBack makes slots of a sender free that it has not used.
func (b *inbox) giveBack(sender int, unused []uint16) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putBack(sender, unused)
}

// putBack is giveBack for who holds the lock.
func (b *inbox) putBack(sender int, unused []uint16) {
	b.left += copy(b.free[b.left:], unused)
	b.held[sender] -= uint16(len(unused))
}

// handOver puts frames of a sender into the inbox, and makes slots free that it has not used. It reports whether the guest
// takes frames at all, and whether the receiver's thread is to be woken, of which b.waking then tells.
func (b *inbox) handOver(sender int, frames []parcel, unused []uint16) (open, wake bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.putBack(sender, unused)
	if !b.open {
		for i := range frames {
			b.drop(&frames[i])
		}
		return false, false
	}
	for i := range frames {
		b.ring[(b.head+b.count)%slots] = frames[i]
		b.count++
	}
	wake = b.armed && len(frames) > 0
	if wake {
		b.armed = false
		b.waking.Add(1)
	}
	return true, wake
}

// drop makes the slots of a frame free. It requires the lock.
func (b *inbox) drop(f *parcel) {
	slot, n := f.slot, slotsOf(int(f.length))
	for range n {
		b.free[b.left] = slot
		b.left++
		slot = b.next[slot]
	}
	b.held[f.sender] -= uint16(n)
}

// look returns how many frames wait. If there are none, who brings the next one wakes the receiver.
func (b *inbox) look() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.armed = b.count == 0
	return b.count
}

// at returns a frame that waits, by how many are older. The receiver's thread may read it until it has released it.
func (b *inbox) at(i int) *parcel { return &b.ring[(b.head+i)%slots] }

// release takes the n oldest frames out, and returns how many are left and who waits for slots. If none are left, who brings
// the next one wakes the receiver.
func (b *inbox) release(n int) (left int, waiters [MaxPorts / 64]uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for i := range n {
		b.drop(b.at(i))
	}
	b.head = (b.head + n) % slots
	b.count -= n
	b.armed = b.count == 0
	if n > 0 {
		b.released++
		waiters, b.waiters = b.waiters, waiters
	}
	return b.count, waiters
}

// setOpen says whether the guest takes frames. Those that wait for a guest that takes none are dropped, and counted.
func (b *inbox) setOpen(open bool) (dropped int, waiters [MaxPorts / 64]uint64) {
	if !open {
		b.mu.Lock()
		dropped = b.count
		b.open = false
		b.mu.Unlock()
		_, waiters = b.release(dropped)
		return dropped, waiters
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open, b.armed = true, b.count == 0
	return 0, waiters
}

// close keeps the inbox from being opened again, and its receiver from being woken.
func (b *inbox) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
}

// mayWake reports whether the receiver's thread can be woken, of which b.waking then tells.
func (b *inbox) mayWake() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.waking.Add(1)
	return true
}

// each calls f with the numbers in a set of Ports.
func each(set *[MaxPorts / 64]uint64, f func(int)) {
	for i, word := range set {
		for ; word != 0; word &= word - 1 {
			f(i*64 + bits.TrailingZeros64(word))
		}
	}
}
