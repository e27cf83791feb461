// Package namerelay passes a guest's DNS queries on to the host's resolvers.
//
// Queries are no flows: each is asked of one resolver after the other until one answers, as the C library does, by a socket of
// its own for each resolver, of which the first answer goes to the guest. Queries and answers pass as they are. All of this is rare,
// so it works on copies and may allocate.
//
// Names of the guest's zones come first (package dnszone): no resolver is asked for them.
//
// If the guest has a cache, an answer to the same query that is kept comes first (package dnscache). It is forgotten with the guest,
// when there are other resolvers, and when the host was suspended.
//
// A guest that asks by TCP has a connection to the engine itself, a [Stream], whose questions are asked in the same way. It gets answers whole: a
// resolver whose answer by UDP was cut short is asked again by TCP (package dnsconn).
//
// What does not belong here: which resolvers there are and how they have done (package dns); rates, frames and flows (package nat).
package namerelay
