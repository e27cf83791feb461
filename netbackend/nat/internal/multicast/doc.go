// Package multicast lets a guest discover the services of a network that the host is connected to, by multicast DNS
// (RFC 6762) and SSDP (UPnP Device Architecture 2.0 section 1).
//
// What passes is decided by direction, and by what a message is:
//
//	guest to network   questions of mDNS, and SSDP searches
//	network to guest   responses of mDNS, SSDP announcements, and answers to a search of the guest
//
// Nothing else does. The guest's own announcements would name an address that nobody in the network can reach, and the
// questions by which a host claims a name ("probes") would take names away from hosts there. Since a question never comes in
// and a response never goes out, nothing can go round, however many reflectors of whatever kind a network has.
//
// Of a question of mDNS only the question itself leaves, not what the guest knows already (it could be about itself), and never the
// wish for an answer by unicast: that answer would go to the host's own responder. Of a response, IPv6 addresses that are good
// on the other link only are hidden, because the guest would try them first (RFC 6724 section 5, rules 2 and 8) and wait.
//
// # Sockets
//
// For each interface, group and version of IP there is a socket that is bound to the group, not to all addresses: unicast
// to the ports 5353 and 1900 goes on to the programs of the host that use them. It hears its interface only, and sends what
// comes from port 5353 of the guest. A search, and a question from another port, is answered by unicast to the port that it came
// from. So each port of the guest that asks gets a socket for a while; there are few of these at once.
//
// A [Reflector] belongs to one guest. Its methods may be called by several threads, but only one may use what
// [Reflector.Receive] returns. It starts no goroutine, and a call never waits. Except for Open and Refresh nothing is allocated.
//
// What does not belong here: frames and addresses of the guest, the policy, budgets and counters (package nat).
package multicast
