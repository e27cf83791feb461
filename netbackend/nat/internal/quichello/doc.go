// Package quichello reads the server name that a client of QUIC asks for: from the ClientHello in its Initial packets, of version 1 (RFC
// 9000, RFC 9001) and version 2 (RFC 9369).
//
// Everybody can compute the keys of Initial packets, from the version and from an identifier that the client has chosen or that a Retry
// has told it. A [Reader] follows one flow of datagrams: a hello that several datagrams carry in any order; hellos that follow a Retry, a
// Version Negotiation, or a request of TLS for a second hello; and connections that follow each other on the same ports. What was read
// once does not become something else by being sent again.
//
// What does not belong here: datagrams that are kept, and whether a name is allowed. Package tlshello reads the hello itself.
package quichello
