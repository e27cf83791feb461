package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/vnet"
)

// Types of ICMP messages, and codes of "destination unreachable" (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section
// 5.2.7.1).
const (
	icmpEchoReply   = 0
	icmpUnreachable = 3
	icmpEchoRequest = 8
	icmpLen         = 8 // of the header; errors quote as much of a transport header

	codeNet        = 0
	codeHost       = 1
	codeProtocol   = 2
	codePort       = 3
	codeNoHost     = 7 // destination host unknown
	codeIsolated   = 8 // source host isolated
	codeProhibited = 13
)

// icmp handles an ICMP message of the guest: echo requests to the engine's own addresses are answered, others passed on.
func (p *Port) icmp(k *packet) {
	if len(k.l4) < icmpLen {
		p.counters.Malformed++
		return
	}
	const loopback = 127
	if !unicast(k.src) || !unicast(k.dst) || p.ours(k.src) || k.src[0] == loopback {
		p.counters.BadAddress++
		return
	}
	if k.l4[0] != icmpEchoRequest || k.l4[1] != 0 {
		p.counters.Unsupported++
		return
	}
	if !p.ours(k.dst) {
		p.ping(k)
		return
	}
	if !p.afford(errandEcho) {
		return
	}
	start := k.l4Offset - p.headerLen
	if frame := p.copyFrame(k.chain); frame != nil {
		p.echo(frame[start-etherLen-ipv4Len:start+k.l4Len], k.dst, k.src)
	}
}

// echo sends the answer to an echo request. b is the request's frame, which becomes the answer: its ICMP message stands
// behind room for headers without options.
func (p *Port) echo(b []byte, src, dst []byte) {
	p.putEtherIPv4(b, src, dst, protoICMP, len(b)-etherLen)
	icmp := b[etherLen+ipv4Len:]
	icmp[0], icmp[2], icmp[3] = icmpEchoReply, 0, 0
	binary.BigEndian.PutUint16(icmp[2:], ^vnet.Sum(icmp, 0))
	p.reply(b)
}

// reject tells the guest that the policy is against its datagram or echo request. l4 is the packet's transport header,
// n its length from there on.
func (p *Port) reject(key *flowKey, v verdict, n int, l4 []byte) {
	p.deny(key, v)
	p.sendUnreachable(key, p.rejection(key, v), n, l4)
}

// rejection returns the code for what the policy is against. Behind the gateway, the truth is that somebody filters: a
// port said to be closed would make the user search at the other end. The engine's own addresses are like a host on
// which nothing listens.
func (p *Port) rejection(key *flowKey, v verdict) uint8 {
	switch {
	case p.ours(key.remote.v4()):
		return codePort
	case v == isNobody:
		return codeHost
	}
	return codeProhibited
}

// unreachableCode returns the code of "destination unreachable" that makes of it the host's error errno again in the
// guest; !ok if there is none. Nothing gives EACCES or EPERM, which a route or firewall of the host's answers: the guest
// gets EHOSTUNREACH for the code of prohibition.
func unreachableCode(errno unix.Errno) (code uint8, ok bool) {
	switch errno {
	case unix.ENETUNREACH:
		return codeNet, true
	case unix.EHOSTUNREACH:
		return codeHost, true
	case unix.ENOPROTOOPT:
		return codeProtocol, true
	case unix.EHOSTDOWN:
		return codeNoHost, true
	case unix.ENONET:
		return codeIsolated, true
	case unix.EACCES, unix.EPERM:
		return codeProhibited, true
	}
	return 0, false
}

// undelivered tells the guest, if ICMP can, why its datagram led nowhere; else that nobody listens there.
func (p *Port) undelivered(key *flowKey, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	code, ok := unreachableCode(errno)
	if !ok {
		code = codePort
	}
	p.sendUnreachable(key, code, n, l4)
}

// unreachableSYN tells the guest, if ICMP can, why its SYN with the sequence number seq led nowhere.
func (p *Port) unreachableSYN(key *flowKey, seq uint32, errno unix.Errno) bool {
	code, ok := unreachableCode(errno)
	if !ok {
		return false
	}
	var tcp [icmpLen]byte
	binary.BigEndian.PutUint16(tcp[0:], key.guestPort)
	binary.BigEndian.PutUint16(tcp[2:], key.remotePort)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	p.sendUnreachable(key, code, tcpLen, tcp[:])
	return true
}

// sendUnreachable sends the guest an ICMP message "destination unreachable" about its packet with the transport header l4;
// n is what the packet's length was from there on.
func (p *Port) sendUnreachable(key *flowKey, code uint8, n int, l4 []byte) {
	p.sendError(icmpError{
		from: addressFrom(p.cfg.Gateway), kind: icmpUnreachable, code: code, key: key, n: n, l4: l4,
	})
}
