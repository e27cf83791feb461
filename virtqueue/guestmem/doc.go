// Package guestmem maps the memory of a guest and translates the guest's addresses.
//
// A front end announces its guest's memory as a list of regions (vhost-user specification, "Memory region description",
// VHOST_USER_SET_MEM_TABLE and VHOST_USER_ADD_MEM_REG). [Map] checks the whole list and makes a [Table] of it, which
// never changes: an update is a new Table with a higher epoch that shares the mappings of unchanged regions.
//
// Two address spaces meet here, so they are two types: descriptors hold guest-physical addresses ([GPA]), ring addresses
// are the front end's own virtual addresses ([UVA]). What comes out is host memory, as [Iovec] for buffers and as a
// pointer for ring areas.
//
// # Trust
//
// Neither the guest nor the front end is trusted. Every translation checks the whole range, in 64 bits, without
// wrap-around. The bytes behind it can change at any time, and vanish: the owner of an unsealed file can cut it short
// under the mapping. Whoever touches guest memory therefore does it inside [Guard], which turns the fault into an error.
// A fault in a system call is an EFAULT of that call.
//
// # Concurrency
//
// A Table may be used by any number of goroutines; a [Translator] by one. [Table.Release] is the owner's: it must know
// that nobody uses the Table, or an Iovec or pointer that came from it, any more.
//
// # What does not belong here
//
// Rings (package virtqueue), and messages and file descriptors' ownership (package vhostuser).
package guestmem
