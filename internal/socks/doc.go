// Package socks lets programs of the host connect into the guests' networks by SOCKS 5 (RFC 1928): to a guest by its name, or to an
// address of its network. There is CONNECT, without authentication; BIND, UDP ASSOCIATE and SOCKS 4 are refused.
//
// [Server] answers the clients of a listener. It reads a handshake to its last byte and no further, so what follows is still in the socket,
// and the socket goes to whoever connects to guests ([Connector]), with the reply that the client gets when the guest has accepted. From then on
// nothing passes through the Server.
//
// A client can hold up nobody but itself. A handshake has a bounded length by its form, and a bounded time. So many clients may be in one at
// once; for one more, the one whose handshake has lasted longest is closed. How many connections are accepted in a second is bounded, too.
//
// What does not belong here: which guest has an address, and how a connection is passed on (package daemon).
package socks
