// Package nat is the network engine behind one guest: it maps what the guest sends to sockets of the host, and what
// those receive back to frames, without any right or set-up. Forwards open ports of the host that lead into the guest.
//
// # Theory of operation
//
// There is no TCP/IP stack between. Towards the guest the engine plays the network: one Ethernet neighbour with the
// gateway's address, that answers ARP, DHCP and echo requests (package services) and routes everything else. A TCP
// connection of the guest is mapped to exactly one connection of the host's kernel, and each side's state is shown on
// the other: the guest's SYN is answered when the host's connect succeeded, a FIN becomes a half close, a reset a reset.
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
// With that, the engine keeps no byte of a stream, and a connection is one record without pointers in a table. Readiness
// is a bit of the record that only EAGAIN clears; whatever is due to a flow (an acknowledgement, a window update, data,
// a FIN, a reset) is a bit as well, and if the guest has no receive buffer the flow waits with its bits.
//
// UDP associations have one connected socket each, so that errors of the host reach the guest as ICMP messages. Datagrams
// that are longer than the guest's MTU pass in fragments, either way.
//
// # Specification
//
// RFC 9293 (TCP), 6298 (retransmission timer), 5681 and 6582 (fast retransmit and recovery), 7323 (window scale), 5961
// (resets), 6528 (initial sequence numbers), 768 (UDP), 791 and 5722 (fragments), 792 (ICMP), 4787 and 5382 (behaviour
// of NATs). Rules that tests refer to by number (T1, T2, ...) are named where they are tested.
//
// # Policy
//
// The host's own services are closed to the guest unless Config.AllowHost opens them. The decision is made on where
// the packet would really go, after every mapping.
//
// # Concurrency
//
// A [Port] is used by one worker's thread alone. Nothing here starts a goroutine, locks, or logs; what a user should
// learn is raised as a notice.
//
// What does not belong here: rings and guest memory (package virtqueue), waiting (package worker), the answers of
// protocols that have a package of their own under services, and a switch between guests.
package nat
