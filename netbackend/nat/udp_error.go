package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// errorBurst is how many errors of a socket are told in one turn.
	errorBurst = 8
	// quoteLen is how much of a datagram's payload an ICMP message quotes: what fits 576 bytes (RFC 1812 section 4.3.2.3).
	quoteLen = minMTU - 2*(ipv4Len+udpLen)

	icmpTimeExceeded = 11
	codeFragNeeded   = 4
	codeHopsExceeded = 0
)

// readErrors tells the guest what became of datagrams of a socket, which is f's own, or common to several flows and locked:
// else another pair could take what the kernel says of a datagram that this one has just failed to send, which is f's. One of
// the two may be nil. It returns how many errors were of datagrams sent earlier, and whether one was of that datagram.
func (p *Port) readErrors(fd int32, f *flow, common *sharedSocket) (earlier int, own bool) {
	for range errorBurst {
		e, ok := p.msg.receiveError(fd, p.quote[:])
		if !ok {
			break
		}
		from := f
		if e.origin == unix.SO_EE_ORIGIN_LOCAL {
			own = true // the kernel names no port then
		} else {
			earlier++
			from = p.sender(f, common, e.to)
		}
		if from != nil {
			p.tellError(from, &e)
		}
	}
	return earlier, own
}

// sender returns the flow whose datagram went to a peer, nil if there is none any more.
func (p *Port) sender(f *flow, common *sharedSocket, to endpoint) *flow {
	if common == nil {
		return f
	}
	key := p.forwardKey(common, to)
	if f = p.flows.lookup(&key); f != nil && f.udp.via == common.via && f.udp.peer == to {
		return f
	}
	return nil
}

// tellError passes an error on, as the message that told the host, and in the name of who sent it.
func (p *Port) tellError(f *flow, e *socketError) {
	kind, code, info := e.kind, e.code, uint32(0)
	switch {
	case e.origin == unix.SO_EE_ORIGIN_ICMP && (kind == icmpUnreachable || kind == icmpTimeExceeded):
	case unix.Errno(e.errno) == unix.EMSGSIZE:
		kind, code = icmpUnreachable, codeFragNeeded
	default:
		known := false
		if code, known = unreachableCode(unix.Errno(e.errno)); !known {
			return
		}
		kind = icmpUnreachable
	}
	if kind == icmpUnreachable && code == codeFragNeeded {
		info = min(e.info, 0xffff) // the MTU (RFC 1191 section 4)
	}
	if kind == icmpUnreachable && code == codePort && p.policy.dns == f.key.remote && f.udp.via == 0 {
		p.resolverFailed(f)
	}
	p.sendError(icmpError{
		from: p.offender(f, e), kind: kind, code: code, info: info,
		key: &f.key, n: udpLen + e.n, l4: p.header(f), payload: p.quote[:min(e.n, len(p.quote))],
	})
}

// offender is who told of an error, as the guest sees it: the datagram's own destination by the address that the guest
// named, the host as the guest's router.
func (p *Port) offender(f *flow, e *socketError) address {
	gateway := addressFrom(p.cfg.Gateway)
	switch {
	case e.offender == e.to.addr:
		return f.key.remote
	case e.offender == address{} || p.policy.routes.isLocal(&e.offender):
		return gateway
	}
	return p.asSeen(e.offender)
}

// header returns the header of a flow's datagrams without payload, for quotes. It is valid until the next call.
func (p *Port) header(f *flow) []byte {
	putUDP(p.quoted[:], f.key.guestPort, f.key.remotePort, udpLen)
	return p.quoted[:]
}

// hopsExceeded tells the guest that its datagram's time to live has run out at the first router, which is the engine.
func (p *Port) hopsExceeded(key *flowKey, n int, l4 []byte) {
	p.sendError(icmpError{
		from: addressFrom(p.cfg.Gateway), kind: icmpTimeExceeded, code: codeHopsExceeded, key: key, n: n, l4: l4,
	})
}

// icmpError is a message about a datagram of the guest's (RFC 792).
type icmpError struct {
	from       address
	kind, code uint8
	info       uint32 // the second word of the message
	key        *flowKey
	n          int    // length of the datagram from its transport header on
	l4         []byte // that header, of which 8 bytes are quoted
	payload    []byte // what is quoted of what follows
}

// sendError sends the guest an ICMP message that quotes the IP header of its packet, made anew, and the beginning of what
// was in it.
func (p *Port) sendError(e icmpError) {
	if !p.afford(errandError) {
		return
	}
	const headers = etherLen + ipv4Len + icmpLen + ipv4Len + icmpLen
	b := p.slow[:headers+len(e.payload)]
	quoted := b[etherLen+ipv4Len+icmpLen-etherLen:] // an Ethernet header earlier, which is overwritten below
	p.putEtherIPv4(quoted, e.key.guest.v4(), e.key.remote.v4(), e.key.proto, ipv4Len+e.n)
	copy(quoted[etherLen+ipv4Len:], e.l4[:icmpLen])
	copy(b[headers:], e.payload)
	p.putEtherIPv4(b, e.from.v4(), e.key.guest.v4(), protoICMP, len(b)-etherLen)
	icmp := b[etherLen+ipv4Len:]
	copy(icmp, []byte{e.kind, e.code, 0, 0})
	binary.BigEndian.PutUint32(icmp[4:], e.info)
	binary.BigEndian.PutUint16(icmp[2:], ^vnet.Sum(icmp, 0))
	p.counters.Unreachables++
	p.reply(b)
}
