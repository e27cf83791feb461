// Package dnscache keeps answers of resolvers for a guest that asks again (RFC 1034 section 4.3.4, negative answers as RFC 2308 has them).
//
// A cache must not change what a guest sees. So [Cache] compares whole queries, and reads of an answer only what it must: where times to live
// are, and whether the answer is one that may be given again. What it does not understand to the last byte it does not keep.
//
// What does not belong here: who is asked (package dns), and when (package namerelay).
package dnscache
