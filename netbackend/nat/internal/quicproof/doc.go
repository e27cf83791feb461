// Package quicproof holds UDP associations of the guest until their first datagrams have told which server they are for, as QUIC does.
//
// Until the server name of a ClientHello is allowed, no byte of an association leaves: its datagrams are kept, as copies, for the guest
// could change its own. With the verdict they go on, or away. Then what has no long header passes by itself (package udp): no connection
// of any version begins so (RFC 8999 section 5.1). Initial packets are read as long as the association lasts, since others can begin
// behind the first: after a Retry, a Version Negotiation, or since the client has two connections on one port. Each must name the server
// that the first has named.
//
// A server may have got a part of what was sent only. So what belongs to one connection must be the same whenever it is sent: its hello
// is kept for comparison until the client sends a Handshake packet, with which its Initial packets end, or for ten seconds. A connection
// is known by the identifier that its client has chosen. Such an identifier counts once, whatever the association: else a server could put
// together a hello of parts of two, each of which has an allowed name.
//
// A [Guest] has what is kept for a guest, which is bounded by a number of associations, of datagrams and bytes for each, and by a time.
// An [Inspector] is that of a queue pair.
//
// What does not belong here: how hellos are read (package quichello), rules (package policy), and how datagrams are sent (package udp).
package quicproof
