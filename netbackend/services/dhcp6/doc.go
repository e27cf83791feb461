// Package dhcp6 gives the guest one IPv6 address, if it asks for one, and tells its name server (DHCPv6, RFC 8415 and 3646).
// Guests choose addresses by themselves as well (package ndp); this is the one that forwards can lead to without anybody
// looking into the guest.
//
// It decides only: it takes a copy of one message and returns the answer. It owns no socket, keeps no pool and no lease: the
// address is the guest's anyway. A [Server] is immutable, so any number of goroutines may share it.
//
// What does not belong here: delegated prefixes, which are refused, relays, and the router, which only advertisements tell.
package dhcp6
