// Package ring gives typed views of split virtqueues in guest memory (virtio 1.2 section 2.7): the only place where
// memory of a ring is cast to something. It knows the layout and the order of accesses, and nothing of chains.
//
// [Device] is our side, [Driver] the guest's, for tests and benchmarks.
//
// # Accesses
//
// Ring memory is shared with a guest that may write it at any time, so every accessor reads or writes its field exactly
// once. Go has no 16-bit atomics:
//
//   - flags and idx of the used ring share a 32-bit word that is the device's alone, so one 32-bit store publishes.
//   - flags and idx of the available ring share a 32-bit word if the ring is aligned to 4. The specification promises 2.
//     With the lower alignment idx shares an aligned word with the first ring entry instead. [NewDevice] decides once
//     which word is loaded and where idx is in it.
//   - used_event and avail_event stand alone at the end of the rings, where a 32-bit access would touch foreign bytes.
//     They are read and written by plain 16-bit accesses that the race detector is told to ignore. They are hints, and
//     ordered by the barriers around them.
//
// The remaining fields are handed over by the index, and accessed plainly. Each atomic load acquires, each atomic store
// releases. The rings need a full barrier in one place, between a store to shared memory and a later load from it; the
// methods that must give it say so. It is an atomic store followed by an atomic load, which Go keeps in order.
//
// # Machines
//
// The rings are little-endian (virtio 1.2 section 2.7.4, with VIRTIO_F_VERSION_1), and unaligned 64-bit accesses are
// used. The package is built for amd64 and arm64 only.
//
// Accesses can fault (see package guestmem); callers use guestmem.Guard.
package ring
