package tcp

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// ecnBits are those of congestion notification in a traffic class (RFC 3168 section 5). The others say how a packet is to be
// treated (DSCP, RFC 2474).
const ecnBits = 3

// depart lets the SYN of a connection leave by fd as the guest sent its own, and returns what was set. The kernel keeps the ICMP
// message that ends the attempt, if one does (Linux 5.8; older ones tell the errno alone): in IPv4 by itself, in IPv6 if asked.
func (e *Engine) depart(fd int, to *ipaddr.Addr, key *flowtable.Key, s *Segment) (set hostsock.Sender) {
	if set.V6 = !to.Is4(); set.V6 {
		hostsock.KeepErrors(to, fd, 1)
	}
	set.Set(int32(fd), hostsock.Manner{HopLimit: e.shard.HopsLeft(s.HopLimit, &key.Remote), TrafficClass: s.trafficClass &^ ecnBits})
	return set
}

// arrive ends what depart began: the connection is open, and from now on an ICMP message about it is a hint and no end (RFC
// 5461). The kernel would make each one the end as long as it keeps them.
func (e *Engine) arrive(f *shard.Flow) {
	s := &f.Sender
	if s.V6 {
		host := ipaddr.Addr{15: 1} // any of IPv6
		hostsock.KeepErrors(&host, int(f.FD), 0)
	}
	s.Set(f.FD, hostsock.Manner{TrafficClass: s.Manner.TrafficClass})
}

// mark lets what a connection sends from now on have the guest's traffic class. ECN is the kernel's own affair: it is at the end
// of a connection, as the engine is at the end of the guest's.
func (e *Engine) mark(t *shard.Turn, f *shard.Flow, tos uint8) {
	e.FlushOutgoing(t)
	if f.State != stateOpen {
		return
	}
	if f.Bits&shard.NoSocket != 0 {
		f.Sender.Manner.TrafficClass = tos // nothing goes on
		return
	}
	f.Sender.Set(f.FD, hostsock.Manner{TrafficClass: tos})
	if f.Bits&shard.Inbound != 0 {
		// A client of a forward may have come by either version of IP, which is not remembered; the kernel knows.
		other := hostsock.Sender{V6: true}
		other.Set(f.FD, hostsock.Manner{TrafficClass: tos})
	}
}

// tellConnectError tells the guest of the ICMP message that ended the host's connect, in its own words; false if none did, or
// none of the guest's version of IP.
func (e *Engine) tellConnectError(t *shard.Turn, f conn) bool {
	fault, ok := t.Msg.ReceiveError(f.FD, t.Quote[:])
	if !ok {
		return false
	}
	m, ok := icmperr.MessageOf(&fault, f.Key.Guest.Is4())
	if !ok {
		return false
	}
	syn := netpkt.QuotedSYN(f.Key.GuestPort, f.Key.RemotePort, f.tcp.irs)
	e.icmp.SendError(t, icmperr.Error{Message: m, From: e.icmp.ErrorSource(f.Flow, &fault), Key: &f.Key, Len: netpkt.TCPLen, L4: syn[:]})
	return true
}
