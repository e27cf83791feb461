package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

const (
	// errorBurst is how many errors of a socket are told in one turn.
	errorBurst = 8
	// quoteLen is how much of a datagram's payload an ICMP message quotes: what fits 576 bytes (RFC 1812 section 4.3.2.3).
	quoteLen = minMTU - 2*(ipv4Len+udpLen)

	codeHopsExceeded = 0
)

// readErrors tells the guest what became of datagrams of a socket, which is f's own, or common to several flows and locked:
// else another pair could take what the kernel says of a datagram that this one has just failed to send, which is f's. One of
// the two may be nil. It returns how many errors were of datagrams sent earlier, and whether one was of that datagram.
func (p *Port) readErrors(fd int32, f *flow, common *sharedSocket) (earlier int, own bool) {
	for range errorBurst {
		e, ok := p.msg.ReceiveError(fd, p.quote[:])
		if !ok {
			break
		}
		from := f
		if e.Origin == unix.SO_EE_ORIGIN_LOCAL {
			own = true // the kernel names no port then
		} else {
			earlier++
			from = p.sender(f, common, &e.To)
		}
		if from != nil {
			p.tellError(from, &e)
		}
	}
	return earlier, own
}

// sender returns the flow whose datagram went to a caller, nil if there is none any more.
func (p *Port) sender(f *flow, common *sharedSocket, to *hostsock.Caller) *flow {
	if common == nil {
		return f
	}
	f, _ = p.callerFlow(common, to)
	return f
}

// tellError passes an error on, as the message that told the host if the guest speaks the same version of IP, and in the
// name of who sent it.
func (p *Port) tellError(f *flow, e *hostsock.Error) {
	m, ok := p.errorMessage(f, e)
	if !ok {
		return
	}
	m.key, m.n, m.l4, m.payload = &f.key, udpLen+e.N, p.header(f), p.quote[:min(e.N, len(p.quote))]
	p.sendError(m)
}

// errorMessage returns the message by which the guest of a flow is told of an error, without what it quotes; !ok if there is
// none.
func (p *Port) errorMessage(f *flow, e *hostsock.Error) (m icmpError, ok bool) {
	is4 := f.key.guest.Is4()
	m.from = p.offender(f, e)
	if unix.Errno(e.Errno) == unix.EMSGSIZE {
		m.icmpMessage, m.info = tooBig(is4), e.Info
		if is4 {
			m.info = min(e.Info, 0xffff) // RFC 1191 section 4
		}
		return m, true
	}
	if m.icmpMessage, ok = icmpOf(e, is4); ok {
		return m, true
	}
	code, ok := unreachableCode(unix.Errno(e.Errno))
	if !ok {
		code, ok = codePort, unix.Errno(e.Errno) == unix.ECONNREFUSED
	}
	m.icmpMessage = unreachable(is4, code)
	return m, ok
}

// offender is who told of an error, as the guest sees it: the datagram's own destination by the address that the guest
// named, the host as the guest's router.
func (p *Port) offender(f *flow, e *hostsock.Error) ipaddr.Addr {
	gateway := p.nets.of(&f.key.guest).gateway
	switch {
	case e.Offender == ipaddr.Addr{}: // the kernel itself
		return gateway
	case e.Offender == e.To.Peer.Addr:
		return f.key.remote
	case p.policy.routes.IsLocal(&e.Offender):
		return gateway
	}
	return p.nets.asSeen(&e.Offender, &f.key.guest)
}

// header returns the header of a flow's datagrams without payload, for quotes. It is valid until the next call.
func (p *Port) header(f *flow) []byte {
	putUDP(p.quoted[:], f.key.guestPort, f.key.remotePort, udpLen)
	return p.quoted[:]
}

// hopsExceeded tells the guest that its datagram's time to live has run out at the first router, which is the engine.
func (p *Port) hopsExceeded(key *flowKey, n int, l4 []byte) {
	m := icmpMessage{icmpTimeExceeded, codeHopsExceeded}
	if !key.guest.Is4() {
		m.kind = icmp6TimeExceeded
	}
	p.sendError(icmpError{from: p.nets.of(&key.guest).gateway, icmpMessage: m, key: key, n: n, l4: l4})
}

// icmpError is a message about a datagram of the guest's (RFC 792, RFC 4443), in the guest's version of IP.
type icmpError struct {
	icmpMessage
	from    ipaddr.Addr
	info    uint32 // the second word of the message
	key     *flowKey
	n       int    // length of the datagram from its transport header on
	l4      []byte // that header, of which 8 bytes are quoted
	payload []byte // what is quoted of what follows
}

// sendError sends the guest an ICMP message that quotes the IP header of its packet, made anew, and the beginning of what
// was in it.
func (p *Port) sendError(e icmpError) {
	if !p.afford(errandError) {
		return
	}
	ipLen := e.key.guest.HeaderLen()
	headers := etherLen + ipLen + icmpLen + ipLen + icmpLen
	b := p.slow[:headers+len(e.payload)]
	quoted := b[ipLen+icmpLen:] // an Ethernet header earlier, which is overwritten below
	p.putIP(quoted, &e.key.guest, &e.key.remote, e.key.proto, e.n)
	copy(quoted[etherLen+ipLen:], e.l4[:icmpLen])
	copy(b[headers:], e.payload)
	p.counters.Unreachables++
	p.reply(p.putICMP(b, &e.from, &e.key.guest, e.icmpMessage, e.info))
}
