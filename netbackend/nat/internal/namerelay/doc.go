// Package namerelay passes a guest's DNS queries on to the host's resolvers.
//
// Queries by UDP are no flows: each is asked of one resolver after the other until one answers, as the C library does, by a socket of
// its own for each resolver, of which the first answer goes to the guest. Queries and answers pass as they are. All of this is rare,
// so it works on copies and may allocate.
//
// If the guest has a cache, an answer to the same query by UDP that is kept comes first (package dnscache). It is forgotten with the guest,
// when there are other resolvers, and when the host was suspended.
//
// A connection to the name server by TCP is one to a resolver. It is a flow of the engine's, which opens its socket and carries its
// bytes; here is which resolver it goes to, whether what the guest sends on it are ordinary queries, and when it ends because no answer
// passes. Until the resolver has taken the connection another one can be tried, and the guest learns nothing of it. Later the stream is
// the resolver's: if it fails, the guest sees that, and its next connection goes elsewhere.
//
// What does not belong here: which resolvers there are and how they have done (package dns); rates, frames and flows (package nat).
package namerelay
