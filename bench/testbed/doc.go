// Package testbed sets up what a benchmark compares, and runs traffic through it.
//
// A Subject is a guest behind a back end; started, it becomes a Path. The host's own loopback is a Subject too: its guest is
// an ordinary program of the host. A peer of vring is one more implementation of BackEnd. What is not installed says so with
// an error for which NotInstalled is true.
//
//	Subject ─┬─ FrontEnd ── UML, TCG (QEMU), Bare (the loopback)
//	         └─ BackEnd ─── Vring, Passt (vhost-user), PasstStream, QEMUUser (both TCG only), none (Bare)
//
// The program in the guest is bench/guest, whose other end, on the host, is a Path. One of the two is the client of the
// traffic (package traffic), which the Direction tells.
//
// All traffic is between processes of this machine: the guest's network exists in the back end only, and all that the guest
// can reach is one port of the host's loopback. All processes end with the context that started them.
//
// A Path carries one run at a time and is used by one goroutine.
package testbed
