// Package fdb is a forwarding database: a [Table] has the MAC addresses that were seen, each with its VLAN and the port behind which it was
// seen last (IEEE 802.1Q section 8.8). Ports are numbers; what they are is the user's.
//
// A table has a fixed number of entries, in buckets that nobody outside can choose. An address is forgotten that is not seen for a time. A
// port with many addresses loses some to one with few, and never the other way around.
//
// # Concurrency
//
// Any thread may call any method. Look-ups take no lock, and neither does it to see an address again where it was. Times are of one clock of
// all callers, in nanoseconds.
//
// What does not belong here: frames, and what is done with an address that is not known.
package fdb
