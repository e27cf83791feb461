// Package proof holds connections of the guest until their first bytes have told which server they are for.
//
// Addresses are shared by many names, so that the guest was answered a name does not mean that it asks for that one there. Where a rule
// by name wants proof, the guest's bytes are kept: up to the server name of a ClientHello, and of HTTP up to the end of each request's
// head. Then the policy is asked. If it allows the name, the host's socket gets these bytes before any others; else the connection is
// reset before it has got one.
//
// A connection of TLS is looked at until the server's answer shows that it asks for no second hello, which could name another server;
// one of HTTP for its whole life, or until the server has answered 101 to a request for websocket.
//
// A [Guest] has what is kept for a guest, which is bounded by a number of connections and of bytes for each, and by a time. An [Inspector]
// is that of a queue pair.
//
// What does not belong here: how names are read (packages tlshello, httphead), rules (package policy), and the state of TCP.
package proof
