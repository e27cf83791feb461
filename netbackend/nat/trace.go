package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
)

// A guest that traces a route sends packets with a small time to live, and reads who says that it has run out. The first to say
// so is the engine, as the guest's router. For the others, what the guest sent leaves with the time to live that is left, and
// the kernel keeps the message of a router for the socket.

// outlived reports whether a packet with a time to live of 1 or less ends at the engine, and tells the guest so. n is the packet's
// length in bytes from its transport header on. Callers look at the time to live first: there is a call less for each frame.
func (e *icmpSender) outlived(t *turn, k *packet, key *flowtable.Key, n int) bool {
	if t.nets.IsOurs(&k.Dst) {
		return false
	}
	t.counters.HopsExceeded++
	e.hopsExceeded(t, key, n, k.L4)
	return true
}

// ecnBits are those of congestion notification in a traffic class (RFC 3168 section 5). The others say how a packet is to be
// treated (DSCP, RFC 2474).
const ecnBits = 3

// depart lets the SYN of a connection leave by fd as the guest sent its own, and returns what was set. The kernel keeps the ICMP
// message that ends the attempt, if one does (Linux 5.8; older ones tell the errno alone): in IPv4 by itself, in IPv6 if asked.
func (e *tcpEngine) depart(fd int, to *ipaddr.Addr, key *flowtable.Key, s *segment) (set udpSender) {
	if set.v6 = !to.Is4(); set.v6 {
		hostsock.KeepErrors(to, fd, 1)
	}
	set.set(int32(fd), manner{hops: e.shard.hopsLeft(s.hops, &key.Remote), tos: s.tos &^ ecnBits})
	return set
}

// arrive ends what depart began: the connection is open, and from now on an ICMP message about it is a hint and no end (RFC
// 5461). The kernel would make each one the end as long as it keeps them.
func (e *tcpEngine) arrive(f *flow) {
	s := &f.sender
	if s.v6 {
		host := ipaddr.Addr{15: 1} // any of IPv6
		hostsock.KeepErrors(&host, int(f.fd), 0)
	}
	s.set(f.fd, manner{tos: s.manner.tos})
}

// mark lets what a connection sends from now on have the guest's traffic class. ECN is the kernel's own affair: it is at the end
// of a connection, as the engine is at the end of the guest's.
func (e *tcpEngine) mark(t *turn, f *flow, tos uint8) {
	e.flushOutgoing(t)
	if f.state != stateOpen {
		return
	}
	f.sender.set(f.fd, manner{tos: tos})
	if f.bits&inbound != 0 {
		// A client of a forward may have come by either version of IP, which is not remembered; the kernel knows.
		other := udpSender{v6: true}
		other.set(f.fd, manner{tos: tos})
	}
}

// tellConnectError tells the guest of the ICMP message that ended the host's connect, in its own words; false if none did, or
// none of the guest's version of IP.
func (e *tcpEngine) tellConnectError(t *turn, f conn) bool {
	fault, ok := t.msg.ReceiveError(f.fd, t.quote[:])
	if !ok {
		return false
	}
	m, ok := icmpOf(&fault, f.key.Guest.Is4())
	if !ok {
		return false
	}
	syn := netpkt.QuotedSYN(f.key.GuestPort, f.key.RemotePort, f.tcp.irs)
	e.icmp.sendError(t, icmpError{Message: m, from: e.icmp.offender(f.flow, &fault), key: &f.key, n: netpkt.TCPLen, l4: syn[:]})
	return true
}

// icmpOf returns the ICMP message that was the error, if it is one of the given version of IP that says that a packet has
// not arrived.
func icmpOf(e *hostsock.Error, is4 bool) (m netpkt.Message, ok bool) {
	m = netpkt.Message{Kind: e.Kind, Code: e.Code}
	origin := uint8(unix.SO_EE_ORIGIN_ICMP6)
	if is4 {
		origin = unix.SO_EE_ORIGIN_ICMP
	}
	return m, e.Origin == origin && m.IsLoss(is4)
}
