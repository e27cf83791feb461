// Package measure is what a guest measures its link with: the services echo, discard and chargen (RFC 862, 863 and 864) of its router.
// It says which destinations are such a service, what chargen sends, and keeps what echo has to send back.
//
// The engine is the other end itself, without a socket of the host. Of discard and chargen there is nothing to keep: what chargen sends
// at a place of its stream follows from the place. Echo keeps what the guest has sent until the guest has acknowledged it, in a buffer of
// fixed size; while that is full, the guest's window is closed.
//
// What does not belong here: segments and datagrams (packages tcp and udp).
package measure
