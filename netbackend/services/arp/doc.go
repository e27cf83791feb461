// Package arp answers the guest's address resolution requests (RFC 826) for the addresses that the network itself
// holds: the gateway and the name server.
//
// It decides only: it takes a copy of one frame and returns the frame to send, if any, and who sent the request, so
// that the engine learns the guest's hardware address. It owns no socket, keeps no neighbour table, and remembers
// nothing between calls. A [Responder] is immutable, so any number of goroutines may share it.
//
// It does not belong here to resolve addresses (the engine learns what it needs from the guest's own frames), nor to
// announce the guest after a migration.
package arp
