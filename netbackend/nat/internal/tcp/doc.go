// Package tcp passes connections on between the guest's segments and sockets of the host (RFC 9293; the others are named where they
// are followed).
//
// The state of a connection is the package's own. What others may know of one they ask an [Engine]; what the engine asks of later
// parts it asks by its [Hooks], never for a segment of an open connection.
//
// From guest to host the bytes of in-order segments go to the socket by one sendmsg, and exactly what it took is acknowledged. From
// host to guest they are peeked at, and stay in the socket's queue until the guest has acknowledged them: that queue is the
// retransmission buffer. So no byte of a stream is kept here.
//
// What does not belong here: UDP, forwards' listeners, gates, and how a resolver is chosen.
package tcp
