// Package dnsconn asks resolvers by connections: TLS (RFC 7858), whose certificate must be good, and TCP (RFC 7766).
//
// A [Client] keeps one connection for each resolver, opened when there is a query, used for the next ones while answers to others are
// under way, in whatever order those come, and closed when it was not used for a while. All of it happens on goroutines of its own: who
// asks never waits. A query ends by an answer, an error, or when nobody wants it any more.
//
// By TLS there is no way back to clear text: where the connection, the certificate or the answer is not what it should be, the query has
// failed, and nothing was said.
//
// What does not belong here: which resolver is asked, and for which name (package dns); what becomes of an answer (package namerelay).
package dnsconn
