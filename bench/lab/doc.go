// Package lab sets up what a throughput benchmark compares, and sends streams through it.
//
// A Subject is something with a name that can carry TCP streams: the host's own loopback, or a guest behind a back end.
// Started, it becomes a Path. A peer of vring is an implementation of BackEnd, if User-mode Linux can be its front end;
// if not, of Subject. What is not installed says so with an error for which NotInstalled is true.
//
//	Subject ── Loopback
//	        └─ Guest: User-mode Linux behind a BackEnd ── Vring
//	                                                   └─ Passt
//
// All traffic is between processes of this machine: the guest's network exists in the back end only, and all that the guest
// can reach is one port of the host's loopback. All processes end with the context that started them.
//
// A Path carries one stream at a time and is used by one goroutine.
package lab
