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
	// Fault is what is wrong with a malformed chain. It means nothing for others.
	Fault Fault
}

// Fault is why a chain is malformed.
type Fault uint8

const (
	// FaultMemory is a buffer, or an indirect table, outside of the guest's memory.
	FaultMemory Fault = iota
	// FaultLinks is a loop, more descriptors or pieces than a chain can have, a descriptor that there is not, or an
	// indirect table that is not allowed.
	FaultLinks
	// FaultDirection is a buffer for the other direction.
	FaultDirection
	// FaultEmpty is a chain without a byte.
	FaultEmpty
	// Faults is how many there are.
	Faults = iota
)

// RingFDs are the file descriptors of one ring, -1 for none. They belong to the control plane that passes them.
type RingFDs struct {
	Kick int // readable when the driver made buffers available
	Call int // written to interrupt the driver
	Err  int // written when the ring is broken
}
