// Package dhcp4 tells the guest its IPv4 address, router, name servers and MTU (DHCP, RFC 2131 and 2132; BOOTP, RFC 951
// and 1534).
//
// A network of vring has one guest and the guest one address, fixed by configuration. So there is no pool, no lease
// database and no clock: whoever asks on the guest's link is given that address, and a request for any other is refused
// at once, which makes a guest that was moved here from another network start over instead of waiting.
//
// The package decides only: it takes a copy of the payload of one UDP datagram to port 67 and returns the payload of the
// answer, with the addresses that it must go to. It owns no socket and remembers nothing between calls. A [Server] is
// immutable, so any number of goroutines may share it.
//
// It does not belong here to build UDP, IP or Ethernet headers (the engine does), to serve relay agents, or to speak
// DHCPv6.
package dhcp4
