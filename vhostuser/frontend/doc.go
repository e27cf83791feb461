// Package frontend is the front-end half of vhost-user: what QEMU does, as a library for tests, benchmarks and tools.
//
// A [Conn] has a method for each message. A [Setup] describes a whole device and brings it up in the order of messages of
// a real front end, or gives the single steps to send them in any other.
//
// Concurrency: a Conn is for one goroutine. Descriptors that are passed stay the caller's.
//
// What does not belong here: guest memory and rings (packages guestmem and vqtest), and running a guest.
package frontend
