// Package filter compiles a part of tcpdump's language (pcap-filter(7)) into a program of the Berkeley packet filter, and runs it.
//
// A program selects the frames that tcpdump selects with the same text: Ethernet frames without VLAN tags before IP. What
// is not in this part of the language is an error, never a program that selects something else. It has:
//
//   - tcp, udp, sctp, icmp, icmp6, igmp, ah, esp, ip, ip6, arp, rarp
//   - [ip|ip6|arp|rarp] [src|dst|src or dst|src and dst] host ADDRESS, and net ADDRESS/BITS or net ADDRESS mask MASK
//   - [tcp|udp|sctp] [src|dst|...] port N, and portrange N-M
//   - ether [src|dst|...] host MAC, [ether|ip|ip6] proto N
//   - [ether] broadcast, [ether|ip|ip6] multicast, less N, greater N
//   - comparisons such as tcp[13] & 2 != 0 and len > 100
//   - and, or, not; parentheses; a list of values such as port (80 or 443) or host 192.0.2.1 or 192.0.2.2
//
// Names of hosts, networks and ports are not resolved. Texts, nesting and programs have bounds, and so has what a program
// looks at of a frame ([Program.Reach]).
//
// A Program does not change: any goroutine may run it. Running it allocates nothing and takes at most maxProgram steps.
package filter
