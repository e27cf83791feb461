// Package reports deals with ICMP errors that the guest sends about packets of the engine's.
//
// What does not belong here: errors that the guest is told of (package icmperr), and the form of a message (package netpkt).
package reports
