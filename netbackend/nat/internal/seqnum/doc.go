// Package seqnum has the sequence numbers of TCP, and ranges of them. They wrap at 2^32, so of two numbers the earlier one is not the
// one that is smaller as an integer: what is told by an operator that the compiler does not offer here is told by a method
// (RFC 9293 section 3.4).
//
// What does not belong here: segments (package netpkt), and what a number means to a connection (package nat).
package seqnum
