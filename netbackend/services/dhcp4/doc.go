// Package dhcp4 tells the hosts of a guest their IPv4 addresses, router, name servers and what else they are configured with
// (DHCP, RFC 2131 and 2132; BOOTP, RFC 951 and 1534).
//
// Which host gets which address is decided by a [lease.Book]. The server is the only one of the guest's network: a request for
// an address that is not the host's is refused at once, which makes a guest that was moved here from another network start over
// instead of waiting.
//
// The package decides only: it takes a copy of the payload of one UDP datagram to port 67 and returns the payload of the
// answer, with the addresses that it must go to. It owns no socket and remembers nothing between calls but what the Book does.
// Any number of goroutines may share a [Server].
//
// It does not belong here to build UDP, IP or Ethernet headers (the engine does), to serve relay agents, or to speak
// DHCPv6.
package dhcp4
