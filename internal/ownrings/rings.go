package ownrings

import (
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/driver"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// TXChains is how many frames the transmit ring holds. Each has two descriptors.
	TXChains = 256
	// RXBuffers is how many buffers the receive ring has, of RXBuffer bytes each: one for a frame of an MTU of up to 4000 bytes, and 16 for the
	// longest. Their distance is no multiple of a page, so that headers are not all in the same lines of a cache.
	RXBuffers = 256
	RXBuffer  = 4096 + 64

	// base is where the device has the memory, as a guest and as a front end would.
	base = 1 << 20
)

// Rings are the rings of a queue pair with their buffers.
type Rings struct {
	// Memory has the rings and their buffers, and input from Input on.
	Memory []byte
	Input  int

	table  *guestmem.Table // of Memory
	host   uintptr         // where Memory begins
	tx, rx *driver.Queue
	output int // where the receive buffers are
	added  uint16
	nextTX uint16 // the chain of the transmit ring that is to be added next
}

// New makes rings. inputSize is how many bytes of input there are at a time.
func New(inputSize int) *Rings {
	const align = 4096
	up := func(n int) int { return (n + align - 1) &^ (align - 1) }
	txAt := align // behind the headers
	rxAt := txAt + up(driver.Bytes(2*TXChains))
	r := &Rings{output: rxAt + up(driver.Bytes(RXBuffers))}
	r.Input = r.output + up(RXBuffers*RXBuffer)
	r.Memory = aligned(r.Input+inputSize, align)
	r.host = address(r.Memory)
	r.table = guestmem.NewHeap(guestmem.HeapRegion{GPA: base, UVA: base, Mem: r.Memory})
	r.tx = driver.New(2*TXChains, r.Memory[txAt:], guestmem.UVA(base+txAt))
	r.rx = driver.New(RXBuffers, r.Memory[rxAt:], guestmem.UVA(base+rxAt))
	for i := range uint16(TXChains) {
		r.tx.Reads(2*i, base, vnet.HeaderLen, true)
	}
	for i := range uint16(RXBuffers) {
		r.rx.Writes(i, guestmem.GPA(base+r.buffer(i)), RXBuffer)
	}
	return r
}

// Restart makes rings of it that no device has seen, with all receive buffers available.
func (r *Rings) Restart() {
	r.added, r.nextTX = 0, 0
	r.tx.Restart()
	r.rx.Restart()
	for i := range uint16(RXBuffers) {
		r.rx.Add(i)
	}
	r.rx.Publish()
}

// Table is the memory as a device sees it.
func (r *Rings) Table() *guestmem.Table { return r.table }

// Ring describes ring i to a device: 0 is the receive ring, 1 the transmit ring.
func (r *Rings) Ring(i int) virtqueue.Config {
	if i == 0 {
		return r.rx.Config()
	}
	return r.tx.Config()
}

// buffer is where receive buffer i is in Memory.
func (r *Rings) buffer(i uint16) int { return r.output + int(i)*RXBuffer }

// Iovec is n bytes of Memory, off bytes into it.
func (r *Rings) Iovec(off, n int) guestmem.Iovec {
	return guestmem.Iovec{Base: r.host + uintptr(off), Len: uint64(n)}
}

// Reclaim takes back chains of the transmit ring that the device has used.
func (r *Rings) Reclaim() {
	if n := r.tx.Used(); n > 0 {
		r.tx.Next(n)
	}
}

// Outstanding is how many frames of the input the device has not used yet.
func (r *Rings) Outstanding() int { return r.tx.Outstanding() }

// Room is how many chains can be added to the transmit ring.
func (r *Rings) Room() int { return TXChains - r.tx.Outstanding() }

// Add makes n bytes of Memory, off bytes into it, a frame for the device. There must be room.
func (r *Rings) Add(off, n int) {
	i := 2 * (r.nextTX % TXChains)
	r.tx.Reads(i+1, guestmem.GPA(base+off), uint32(n), false)
	r.tx.Add(i)
	r.nextTX++
	r.added++
}

// Publish shows the device what was added, and reports whether that is anything.
func (r *Rings) Publish() bool {
	if r.added == 0 {
		return false
	}
	r.tx.Publish()
	r.added = 0
	return true
}

// Used is how many receive buffers the device has used that were not posted again.
func (r *Rings) Used() int { return r.rx.Used() }

// Buffer returns where in Memory used receive buffer i is, the oldest being 0, and how many bytes were written to it.
func (r *Rings) Buffer(i int) (at, written int) {
	head, n := r.rx.Peek(i)
	return r.buffer(head), int(n)
}

// Frame looks at the frame that begins in used receive buffer i. It returns how many buffers it fills, and its length without the header.
func (r *Rings) Frame(i int) (buffers, length int) {
	at, written := r.Buffer(i)
	buffers = int(r.Memory[at+10]) | int(r.Memory[at+11])<<8
	length = written - vnet.HeaderLen
	for k := 1; k < buffers; k++ {
		_, written := r.Buffer(i + k)
		length += written
	}
	return buffers, length
}

// Repost makes the n oldest used receive buffers available again.
func (r *Rings) Repost(n int) {
	for i := range n {
		head, _ := r.rx.Peek(i)
		r.rx.Add(head)
	}
	r.rx.Next(n)
	r.rx.Publish()
}
