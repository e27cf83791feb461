package virtqueue

import "github.com/vringnet/vring/virtqueue/guestmem"

// Chain is one descriptor chain of the guest, translated and checked (virtio 1.2 section 2.7.13 and 2.7.14).
//
// Its memory is the queue's and the guest's: valid until the queue's next Fetch, Use, UseN, Rewind or SetMemory. The
// guest can change the bytes at any time, so whoever decides by them copies them first.
type Chain struct {
	// Iov are the chain's buffers in the guest's order, split at region borders. It is empty for a malformed chain.
	Iov []guestmem.Iovec
	// Len is the sum of the lengths in Iov, in bytes.
	Len uint32
}

// RingFDs are the file descriptors of one ring, -1 for none. They belong to the control plane that passes them.
type RingFDs struct {
	Kick int // readable when the driver made buffers available
	Call int // written to interrupt the driver
	Err  int // written when the ring is broken
}
