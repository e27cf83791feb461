// Package dhcp6 gives each host of a guest one IPv6 address, if it asks for one, and tells name servers and what else hosts are
// configured with (DHCPv6, RFC 8415, 3646, 4075, 5908 and 5970). Hosts choose addresses by themselves as well (package ndp);
// this is the one that forwards can lead to without anybody looking into the guest.
//
// It decides only: it takes a copy of one message and returns the answer. It owns no socket; which host gets which address is
// decided by a [lease.Book]. Any number of goroutines may share a [Server].
//
// What does not belong here: delegated prefixes, which are refused, relays, and the router, which only advertisements tell.
package dhcp6
