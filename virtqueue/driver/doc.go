// Package driver is the driver side of a split virtqueue in memory of this process, for who feeds a device without a guest.
//
// A [Queue] gives out the heads of its chains as its user adds them, and takes used ones back in the order in which the device
// used them. What chains are made of is the user's: a descriptor is written once and stays as it is until it is written again.
// There are no interrupts and no kicks: both sides look at the ring in turns. Not safe for concurrent use.
//
// What does not belong here: drivers that lie (package vqtest), event indexes, indirect tables, and what is in the buffers.
package driver
