// Package vxlan carries the frames of a switch to switches on other hosts, by VXLAN (RFC 7348): each frame in a datagram of UDP, behind a header
// of 8 bytes with the number of its network (VNI).
//
// A [Driver] is a netbackend.Driver: it stands where a guest's driver would, with rings of our own (package ownrings), and the Port behind them is
// one of the switch. So the switch treats what comes from other hosts as it treats guests. The socket needs no rights.
//
// # The way of a frame
//
// A frame from the switch lies in a receive buffer behind its virtio-net header, the end of which the VXLAN header takes. It goes to the remote
// switch behind which its destination was seen, or to all of them, one datagram each (section 4.2, with unicast instead of a multicast group). A
// datagram is received where its frame is made available. Up to 64 pass in one system call, and no frame is copied.
//
// # What is believed
//
// Nothing of a datagram is secret or signed: whoever can send from the address of a remote switch can send frames. Datagrams from
// other addresses are dropped, and so are those whose header or network is wrong. A frame that came from a remote switch goes to none of them.
//
// # Sizes
//
// Datagrams are not fragmented by this host (section 4.3): the kernel refuses one that the path does not carry, which is counted and told.
// [Driver.InnerMTU] says what the paths carry, as far as the kernel knows.
//
// # Concurrency
//
// A Driver belongs to its device's thread. Counters, table and remotes are published as their methods say.
//
// What does not belong here: the switch (package l2switch), threads, and configuration as users write it.
package vxlan
