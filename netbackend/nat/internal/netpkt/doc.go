// Package netpkt has the headers of packets as bytes: Ethernet, IP of both versions, TCP, UDP and ICMP. It writes those of packets to
// the guest, and reads those of the guest's. Everything is a function of its arguments, and nothing is kept.
//
// Bytes to read are the guest's: each length in them is checked against how many there are. Bytes to write into are the caller's, who
// knows how long a header is, and gives that many at least; else these functions panic.
//
// What does not belong here: guest memory and virtio-net headers (packages guestmem and vnet), what a packet means to a flow, and
// whether it is answered (package nat).
package netpkt
