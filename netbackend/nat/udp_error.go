package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// readErrors tells the guest what became of datagrams of a socket, which is f's own, or common to several flows and locked:
// else another pair could take what the kernel says of a datagram that this one has just failed to send, which is f's. One of
// the two may be nil. It returns how many errors were of datagrams sent earlier, and whether one was of that datagram.
func (e *udpEngine) readErrors(t *shard.Turn, fd int32, f *shard.Flow, common *sharedSocket) (earlier int, own bool) {
	for range shard.ErrorBurst {
		fault, ok := t.Msg.ReceiveError(fd, t.Quote[:])
		if !ok {
			break
		}
		from := f
		if fault.Origin == unix.SO_EE_ORIGIN_LOCAL {
			own = true // the kernel names no port then
		} else {
			earlier++
			from = e.sender(f, common, &fault.To)
		}
		if from != nil {
			e.tellError(t, from, &fault)
		}
	}
	return earlier, own
}

// sender returns the flow whose datagram went to a caller, nil if there is none any more.
func (e *udpEngine) sender(f *shard.Flow, common *sharedSocket, to *hostsock.Caller) *shard.Flow {
	if common == nil {
		return f
	}
	f, _ = e.callerFlow(common, to)
	return f
}

// tellError passes an error on, as the message that told the host if the guest speaks the same version of IP, and in the
// name of who sent it.
func (e *udpEngine) tellError(t *shard.Turn, f *shard.Flow, fault *hostsock.Error) {
	m, ok := e.icmp.errorMessage(f, fault)
	if !ok {
		return
	}
	m.key, m.n, m.l4, m.payload = &f.Key, netpkt.UDPLen+fault.N, e.header(f), t.Quote[:min(fault.N, len(t.Quote))]
	e.icmp.sendError(t, m)
}

// errorMessage returns the message by which the guest of a flow is told of an error, without what it quotes; !ok if there is
// none.
func (e *icmpSender) errorMessage(f *shard.Flow, fault *hostsock.Error) (m icmpError, ok bool) {
	is4 := f.Key.Guest.Is4()
	m.from = e.offender(f, fault)
	if unix.Errno(fault.Errno) == unix.EMSGSIZE {
		m.Message, m.info = netpkt.TooBig(is4), fault.Info
		if is4 {
			m.info = min(fault.Info, 0xffff) // RFC 1191 section 4
		}
		return m, true
	}
	if m.Message, ok = icmpOf(fault, is4); ok {
		return m, true
	}
	code, ok := unreachableCode(unix.Errno(fault.Errno))
	if !ok {
		code, ok = netpkt.CodePort, unix.Errno(fault.Errno) == unix.ECONNREFUSED
	}
	m.Message = netpkt.Unreachable(is4, code)
	return m, ok
}

// offender is who told of an error, as the guest sees it: the datagram's own destination by the address that the guest
// named, the host as the guest's router.
func (e *icmpSender) offender(f *shard.Flow, fault *hostsock.Error) ipaddr.Addr {
	gateway := e.shard.Nets.Of(&f.Key.Guest).Gateway
	switch {
	case fault.Offender == ipaddr.Addr{}: // the kernel itself
		return gateway
	case fault.Offender == fault.To.Peer.Addr:
		return f.Key.Remote
	case e.routes.IsLocal(&fault.Offender):
		return gateway
	}
	return e.shard.Nets.AsSeen(&fault.Offender, &f.Key.Guest)
}

// header returns the header of a flow's datagrams without payload, for quotes. It is valid until the next call.
func (e *udpEngine) header(f *shard.Flow) []byte {
	netpkt.PutUDP(e.quoted[:], f.Key.GuestPort, f.Key.RemotePort, netpkt.UDPLen)
	return e.quoted[:]
}

// hopsExceeded tells the guest that its datagram's time to live has run out at the first router, which is the engine.
func (e *icmpSender) hopsExceeded(t *shard.Turn, key *flowtable.Key, n int, l4 []byte) {
	m := netpkt.TimeExceeded(key.Guest.Is4(), netpkt.CodeHops)
	e.sendError(t, icmpError{from: t.Nets.Of(&key.Guest).Gateway, Message: m, key: key, n: n, l4: l4})
}

// icmpError is a message about a datagram of the guest's (RFC 792, RFC 4443), in the guest's version of IP.
type icmpError struct {
	netpkt.Message
	from    ipaddr.Addr
	info    uint32 // the second word of the message
	key     *flowtable.Key
	n       int    // length of the datagram from its transport header on
	l4      []byte // that header, of which 8 bytes are quoted
	payload []byte // what is quoted of what follows
}

// sendError sends the guest an ICMP message that quotes the IP header of its packet, made anew, and the beginning of what
// was in it.
func (e *icmpSender) sendError(t *shard.Turn, fault icmpError) {
	if !t.Allow(limits.Error) {
		return
	}
	ipLen := fault.key.Guest.HeaderLen()
	headers := netpkt.EtherLen + ipLen + netpkt.ICMPLen + ipLen + netpkt.ICMPLen
	b := t.Frame[:headers+len(fault.payload)]
	quoted := b[ipLen+netpkt.ICMPLen:] // an Ethernet header earlier, which is overwritten below
	t.PutIP(quoted, &fault.key.Guest, &fault.key.Remote, fault.key.Proto, fault.n)
	copy(quoted[netpkt.EtherLen+ipLen:], fault.l4[:netpkt.ICMPLen])
	copy(b[headers:], fault.payload)
	t.Counters.Unreachables++
	t.Reply(putICMP(t, b, &fault.from, &fault.key.Guest, fault.Message, fault.info))
}
