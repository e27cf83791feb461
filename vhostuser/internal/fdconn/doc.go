// Package fdconn carries vhost-user messages and their file descriptors over a unix stream socket (unix(7),
// SCM_RIGHTS).
//
// Framing is strict. Descriptors belong to the message whose first byte they came with; anywhere else they break the
// connection. Where some are missing, since they are too many or this process has no room for them, the message says so. A
// header may come in pieces, and several messages at once.
//
// Ownership: each descriptor that arrives is close-on-exec and has one owner, the [FDs] of its message, until it is taken
// out of there. On every error path they are closed.
//
// Concurrency: one goroutine reads and one writes. Close and PeerGone may be called by any, at any time.
//
// What does not belong here: what a message means (package wire), and what becomes of a descriptor (package vhostuser).
package fdconn
