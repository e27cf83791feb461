// Package virtqueue serves the device side of a split virtqueue (virtio 1.2 section 2.7): it takes the chains that a
// driver made available, checks and translates them, and gives them back as used.
//
// A turn of a device is one [Queue.Fetch], any number of [Queue.Use] and one [Queue.Flush]; before it sleeps, it calls
// [Queue.EnableKicks] and looks again if that says so. Fetching and flushing cost one access to the driver's index and
// one store of ours, whatever the size of the batch, and nothing is allocated.
//
// Chains are used in the order in which they were made available. So the index of the used ring is the point at which
// another back end can resume, and feature IN_ORDER can be offered.
//
// # Trust
//
// The guest may write ring memory at any time. Each descriptor is copied once and checked as copied. A malformed chain
// comes out without buffers, to be used up with length 0, and the queue goes on. A driver that moves its index ahead by
// more than the queue holds breaks the queue for good: see [Queue.Err].
//
// # Buffers that the driver takes back
//
// A driver that lowers its index takes entries back. Linux does so when a driver is unloaded, before the front end says
// that the ring stops. What was fetched and is not available any more is then forgotten: see [Queue.Withdrawals].
//
// Some of it cannot be excluded by a device. A driver that takes a buffer back after the last look at its index, and before
// the device has used it, is not noticed in time. Neither is an index that is lowered and raised again between two looks.
//
// # Concurrency
//
// A Queue belongs to one thread at a time. Its methods touch guest memory: they are called inside guestmem.Guard, and a
// queue in which a fault happened is given up.
//
// # What does not belong here
//
// File descriptors, waiting and notifying, goroutines, logs; and what is in the buffers (package vnet).
package virtqueue
