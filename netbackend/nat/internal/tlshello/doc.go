// Package tlshello reads the server name that a client of TLS asks for (RFC 8446 section 4.1.2, RFC 6066 section 3), as its bytes come.
//
// It is stricter than a server has to be: a hello that two servers could read as different ones is none. A [Reader] finds the hello in
// the records of a stream, [Parse] reads one that is whole, as QUIC carries it, and a [Follower] finds the second hello of a client that
// was asked for one, which may name another server than the first.
//
// What does not belong here: where the bytes come from and are kept, and whether a name is allowed.
package tlshello
