// Package netbackend holds the seam between the rings of one guest and whatever its frames go to: the [Port].
//
// A worker (package worker) owns one queue pair and one Port. Once a turn it hands the Port the chains that the guest
// made available on its transmit queue (virtio 1.2 section 5.1.6.2), the readiness events of the sockets that the Port
// registered, the time, and a [RXWriter] as the only way into the guest's receive queue (section 5.1.6.4). One interface
// call a turn, none per frame.
//
// Concurrency: everything here is used by the worker's thread alone, unless a method says otherwise. Nothing in this
// package locks, logs, or starts a goroutine.
//
// What does not belong here: waiting, threads and epoll (package worker), ring memory (package virtqueue), and what a
// frame means (packages nat, stub and tap).
package netbackend
