// Package ndp is the guest's router and its neighbours in IPv6 neighbour discovery (RFC 4861): it tells the guest the
// network's prefix, MTU and name server (RFC 8106), in which the guest chooses its own address (RFC 4862), and where the
// network's own addresses are.
//
// It decides only: it takes a copy of one frame and returns the frame to send, if any. It owns no socket, keeps no
// neighbour table, and remembers nothing between calls; when to advertise without being asked is the engine's business. A
// [Responder] is immutable, so any number of goroutines may share it.
//
// What does not belong here: learning where the guest is (the engine does so from the guest's own frames), and DHCPv6 (package
// dhcp6), of which advertisements tell that it is there.
package ndp
