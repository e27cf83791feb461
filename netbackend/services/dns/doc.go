// Package dns knows the host's resolvers, and decides where the guest's name queries go.
//
// The guest knows one name server, an address of the network itself. Queries to it go to the host's resolvers, and the bytes of
// query and answer pass unchanged: all record types, EDNS and DNSSEC work as the resolver does them. What is decided here is
//
//   - which resolver is asked next ([Relay]): the first that works, by what the engine tells of answers, errors and silence;
//   - what goes on to a resolver at all ([Inspect]): ordinary queries;
//   - what an answer means ([Classify]), and what the guest is told if there is none ([Fail], [Refuse]).
//
// A [Relay] may be used by several workers at once. It looks at resolv.conf(5) at most once a second, and only when it is
// asked. It owns no socket and starts no goroutine.
//
// It does not belong here to cache, or to resolve names for the host.
package dns
