// Package dns decides where the guest's name queries go.
//
// The guest knows one name server, an address of the network itself. A query to it is an ordinary flow of the NAT engine
// towards one of the host's resolvers, so the bytes of query and answer pass unchanged: all record types, EDNS and
// DNSSEC work as the resolver does them. What is decided here is only which resolver that is, and what to say when there
// is none (RFC 1035 section 4.1.1: SERVFAIL, so that the guest need not wait for a timeout).
//
// A [Relay] may be used by several workers at once. It looks at resolv.conf(5) at most once a second, and only when it is
// asked. It owns no socket and starts no goroutine.
//
// It does not belong here to cache, or to resolve names for the host.
package dns
