// Package nat is the network engine behind one guest: it maps what the guest sends to sockets of the host, and what
// those receive back to frames, without any right or set-up. Forwards open ports of the host that lead into the guest.
//
// # Theory of operation
//
// There is no TCP/IP stack between. Towards the guest the engine plays the network: one Ethernet neighbour with the
// gateway's addresses, that answers ARP, neighbour discovery, DHCP, DHCPv6 and echo requests (package services) and
// routes everything else. A TCP connection of the guest is mapped to exactly one connection of the host's kernel, and
// each side's state is shown on the other: the guest's SYN is answered when the host's connect succeeded, a FIN becomes
// a half close, a reset a reset.
//
// From guest to host, the bytes of in-order segments go to the socket by one sendmsg that points at the guest's own
// buffers. Exactly what the kernel took is acknowledged, and the window follows what the socket has room for, so that
// it takes nearly everything. What it refuses is not kept: the guest repeats it, asked by duplicate acknowledgements as
// soon as there is room.
//
// From host to guest, recvmsg(MSG_PEEK) puts the bytes straight into the guest's receive buffers, behind headers
// written in front. They stay in the kernel's receive queue until the guest has acknowledged them, so that queue is the
// retransmission buffer, and a guest that does not read closes the window of the host's peer by itself. Where the kernel
// has no peek offset for TCP (before Linux 6.9), what was already sent is read again into a buffer that nobody looks at.
//
// With that, the engine keeps no byte of a stream, and a connection is an index of a table (package flowtable), with what there is of
// it beside: a record that all flows have, and the state of TCP, both without pointers. Readiness is a bit of the record that only EAGAIN clears; whatever is due to a flow (an acknowledgement, a window update, data,
// a FIN, a reset) is a bit as well, and if the guest has no receive buffer the flow waits with its bits.
//
// UDP associations have one connected socket each. The guest's datagrams of one turn leave by few calls, those of equal
// length as one message that the kernel cuts; for the guest, one call fills many receive buffers. What becomes of a
// datagram, the kernel keeps with the socket, and the guest gets it as the ICMP message that it was. Datagrams that are
// longer than the guest's MTU pass in fragments, either way.
//
// The guest's side of a flow and the host's may be of different versions of IP, for nothing is translated between them:
// each has its own headers. Addresses are 16 bytes long everywhere, and those of IPv4 are mapped ones.
//
// # Specification
//
// RFC 9293 (TCP), 6298 (retransmission timer), 5681 and 6582 (fast retransmit and recovery), 7323 (window scale,
// timestamps), 2018 (SACK), 5961 (resets), 6528 (initial sequence numbers), 768 (UDP), 8200 (IPv6), 791, 5722 and 6946
// (fragments), 792, 1191 and 4443 (ICMP), 4861 (neighbour discovery), 8415 (DHCPv6), 4787 and 5382 (behaviour of NATs).
// Rules that tests refer to by number (T1, E1, S1, P1, G1, A1 and so on) are listed in docs/nat-rules.md.
//
// An echo request of the guest goes out by a ping socket, one for each identifier and destination. A host that does not
// permit those (see hostcaps.CheckPing) leaves the guest only the engine's own addresses to ping.
//
// # Errors
//
// The guest learns of the host's errors what it would learn of its own network. A connection that is refused is reset. A
// destination that no route leads to, or that nobody has, is reported by ICMP "destination unreachable" with a quote of
// the guest's SYN, datagram or echo request, so that its kernel gives its program the errno that the host's would.
//
// # Death
//
// A guest whose front end is gone is dead, after Config.ReconnectGrace at least, and so are its connections. So is one whose
// driver has reset its device, if no driver is up soon after: see package presence. When a driver starts anew, or the guest
// has been silent for a while on a connection, the guest is asked whether it still knows it: one that does not answers by a
// reset. See the file keepalive.go of package tcp for how long. When the engine ends, the host's side of every
// connection is reset; the guest's is reset by the engine's successor, who knows none of them. A forward with a gate
// refuses connections while the guest does: see package gate.
//
// # Policy
//
// The decision is made on where a packet would really go, after every mapping, in this order:
//
//   - The engine's own services are always there, and port 53 of the name server's address leads to the resolver,
//     wherever that is. With Config.Restrict only Config.Resolvers are asked: a query can carry anything anywhere.
//   - Config.AllowHost opens the host's services one by one: behind the gateway's address those of its loopback, by
//     its other addresses what listens there. Nothing else opens the host, which is loopback and whatever the routing
//     table calls local, and no rule closes what this opens.
//   - Config.Redirects lead some destinations elsewhere, and that is open, whatever else is said of it.
//   - The rest of the guest's own network is nobody's.
//   - Of Config.Rules the first that matches decides; those of one version of IP say nothing of the other. Link-local addresses,
//     and those at which clouds keep their metadata, are opened by a rule only if all of its network lies in one of their
//     networks, for who opens everything does not mean that. See package policy.
//   - These are closed otherwise, and with Config.Restrict everything is; all else is open.
//
// What is closed is refused at once: a connection by a reset, a datagram or echo request by ICMP "prohibited". That is
// the truth, where silence would cost the guest its patience; "port unreachable" answers only for the engine's own
// addresses. Flows are judged when the guest begins them, and again when the host's addresses change, see package
// review, or the policy is replaced, see [Port.SetPolicy]. Answers to what the host began always pass.
//
// # Parts
//
// Each piece of state has one owner, a package below internal, and an owner knows only those that stand before it here:
//
//   - shard: what a queue pair has whatever the protocol: flows, their timers and lists, its share of limits, the way to the guest.
//     A turn is a shard with what is valid during one turn. It is passed as an argument, and nobody keeps it.
//   - link, icmperr, source, fragments: neighbours on the guest's link; errors by ICMP; source addresses of sockets; what fits no
//     frame of its own.
//   - listeners: the sockets of forwards and mappings.
//   - measure: what echo, discard and chargen of the router send; the protocols have their segments and datagrams.
//   - ping, udp, tcp: the protocols, each with its state of the flows that are its own.
//   - gate, forwardset, inbound: gates; the forwards that there are; who comes by forwards, and by calls.
//   - nameserver, groups, dhcp: sockets and frames for package namerelay; multicast; DHCP.
//   - reports, stray, review, presence: ICMP errors of the guest; packets that lead nowhere; flows that are judged again; a guest that
//     is gone.
//   - Port: the order of a turn, and who gets a frame, an event or a timer; flows between queue pairs.
//
// What an earlier part has to ask of a later one it asks by its hooks (file hooks.go), which Port sets.
//
// What the queue pairs of a guest share is made once (guest), and each part is given its own of it. Packages below have what needs nothing
// of a shard: headers of packets (netpkt), sequence numbers (seqnum), queries to resolvers (namerelay), counters (stats), limits.
//
// # Concurrency
//
// A [Port] is used by one worker's thread alone. Nothing here starts a goroutine or logs; what a user should learn is
// raised as a notice.
//
// The Ports of a guest with several queue pairs ([NewPairs]) share its table of flows. A flow belongs to one of them,
// and moves when the guest sends on another pair: who got the frame asks for the flow, the owner hands it over between
// two turns, and the frame waits in the ring. A record is written by its owner only, found without a lock, and used anew
// when every turn has ended in which somebody may have found it. Locks are taken once a flow (to insert, remove and move
// it; for a gated forward, when it is refused or ends), never for a frame of it. With one queue pair nothing of this
// takes place.
//
// What does not belong here: rings and guest memory (package virtqueue), waiting (package worker), the answers of
// protocols that have a package of their own under services, and a switch between guests.
package nat
