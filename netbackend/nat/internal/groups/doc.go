// Package groups passes multicast between the guest and networks of the host (package multicast): frames and policy.
//
// What does not belong here: sockets, interfaces, and what mDNS and SSDP say.
package groups
