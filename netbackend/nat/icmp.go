package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Types of ICMP messages, and codes of "destination unreachable" (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section
// 5.2.7.1).
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpEchoRequest  = 8
	icmpTimeExceeded = 11
	icmpLen          = 8 // of the header; errors quote as much of a transport header

	codeNet        = 0
	codeHost       = 1
	codeProtocol   = 2
	codePort       = 3
	codeFragNeeded = 4
	codeNoHost     = 7 // destination host unknown
	codeIsolated   = 8 // source host isolated
	codeProhibited = 13
)

// The same of ICMPv6 (RFC 4443).
const (
	icmp6Unreachable  = 1
	icmp6TooBig       = 2
	icmp6TimeExceeded = 3
	icmp6EchoRequest  = 128
	icmp6EchoReply    = 129

	code6NoRoute    = 0
	code6Prohibited = 1
	code6Address    = 3
	code6Port       = 4
)

// icmpSender tells the guest what does not go on.
type icmpSender struct {
	shard  *shard
	routes *route.Table
	told   map[policy.Destination]bool // denials that the user was told of
}

// icmpMessage is what stands first in an ICMP message.
type icmpMessage struct{ kind, code uint8 }

// unreachable is the message "destination unreachable" for a code of IPv4's, in either version of IP.
func unreachable(is4 bool, code uint8) icmpMessage {
	if is4 {
		return icmpMessage{icmpUnreachable, code}
	}
	m := icmpMessage{icmp6Unreachable, code6Address}
	switch code {
	case codeNet, codeIsolated:
		m.code = code6NoRoute
	case codeProhibited:
		m.code = code6Prohibited
	case codePort, codeProtocol:
		m.code = code6Port
	}
	return m
}

// tooBig is the message that tells that a packet does not fit the way.
func tooBig(is4 bool) icmpMessage {
	if is4 {
		return icmpMessage{icmpUnreachable, codeFragNeeded}
	}
	return icmpMessage{kind: icmp6TooBig}
}

// isEchoRequest tells whether l4 begins with an echo request from a.
func isEchoRequest(a *ipaddr.Addr, l4 []byte) bool {
	kind := uint8(icmpEchoRequest)
	if !a.Is4() {
		kind = icmp6EchoRequest
	}
	return l4[0] == kind && l4[1] == 0
}

// echoReply is the type of the answers that a gets.
func echoReply(a *ipaddr.Addr) uint8 {
	if a.Is4() {
		return icmpEchoReply
	}
	return icmp6EchoReply
}

// controlMessage handles an ICMP message of the guest: echo requests to the engine's own addresses are answered, others passed on.
func (p *Port) controlMessage(t *turn, k *packet) (retry bool) {
	if len(k.l4) < icmpLen {
		t.counters.Malformed++
		return false
	}
	if !k.src.Is4() && isNDP(k.l4[0]) {
		p.link.ndp(t, k)
		return false
	}
	if !t.conversational(k) {
		p.misaddressed(t, k, protoICMP)
		return false
	}
	if complaintOf(&k.src, icmpMessage{k.l4[0], k.l4[1]}) != noComplaint {
		return p.report(t, k)
	}
	if !isEchoRequest(&k.src, k.l4) {
		t.counters.Unsupported++
		return false
	}
	if !t.nets.IsOurs(&k.dst) {
		return p.ping.ping(t, k)
	}
	if !t.allow(slowEcho) {
		return false
	}
	start := k.l4Offset - t.headerLen
	frame := t.copyFrame(k.chain)
	if frame == nil {
		return false
	}
	// The request becomes the answer, behind headers without options.
	b := frame[start-etherLen-k.src.HeaderLen() : start+k.l4Len]
	rest := binary.BigEndian.Uint32(frame[start+4:])
	t.reply(t.putICMP(b, &k.dst, &k.src, icmpMessage{kind: echoReply(&k.src)}, rest))
	return false
}

// putICMP makes of the frame b, whose ICMP message has its payload in place, a message to the guest. rest is the message's
// second word.
func (t *turn) putICMP(b []byte, src, dst *ipaddr.Addr, m icmpMessage, rest uint32) []byte {
	n := len(b) - etherLen - dst.HeaderLen()
	icmp := b[t.putIP(b, src, dst, protoICMP, n):]
	copy(icmp, []byte{m.kind, m.code, 0, 0})
	binary.BigEndian.PutUint32(icmp[4:], rest)
	binary.BigEndian.PutUint16(icmp[2:], ^vnet.Sum(icmp, icmpSum(src, dst, n)))
	return b
}

// icmpSum is the part of an ICMP message's checksum that is not in the message, which is n bytes long: in IPv6 there is a
// pseudo header (RFC 4443 section 2.3).
func icmpSum(src, dst *ipaddr.Addr, n int) uint16 {
	if dst.Is4() {
		return 0
	}
	return vnet.PseudoHeaderSum(protoICMPv6, src[:], dst[:], uint32(n))
}

// reject tells the guest that the policy is against its datagram or echo request. l4 is the packet's transport header,
// n its length from there on.
func (e *icmpSender) reject(t *turn, key *flowKey, v policy.Verdict, n int, l4 []byte) {
	e.deny(key, v)
	e.sendUnreachable(t, key, e.rejection(key, v), n, l4)
}

// rejection returns the code for what the policy is against. Behind the gateway, the truth is that somebody filters: a
// port said to be closed would make the user search at the other end. The engine's own addresses are like a host on
// which nothing listens.
func (e *icmpSender) rejection(key *flowKey, v policy.Verdict) uint8 {
	switch {
	case e.shard.nets.IsOurs(&key.Remote):
		return codePort
	case v == policy.IsNobody:
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
func (e *icmpSender) undelivered(t *turn, key *flowKey, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	code, ok := unreachableCode(errno)
	if !ok {
		code = codePort
	}
	e.sendUnreachable(t, key, code, n, l4)
}

// unreachableSYN tells the guest, if ICMP can, why its SYN with the sequence number seq led nowhere.
func (e *icmpSender) unreachableSYN(t *turn, key *flowKey, seq uint32, errno unix.Errno) bool {
	code, ok := unreachableCode(errno)
	if !ok {
		return false
	}
	tcp := quotedSYN(key, seq)
	e.sendUnreachable(t, key, code, tcpLen, tcp[:])
	return true
}

// quotedSYN returns the beginning of the guest's SYN with the sequence number seq.
func quotedSYN(key *flowKey, seq uint32) (tcp [icmpLen]byte) {
	binary.BigEndian.PutUint16(tcp[0:], key.GuestPort)
	binary.BigEndian.PutUint16(tcp[2:], key.RemotePort)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	return tcp
}

// sendUnreachable sends the guest an ICMP message "destination unreachable" about its packet with the transport header l4;
// n is what the packet's length was from there on. code is IPv4's.
func (e *icmpSender) sendUnreachable(t *turn, key *flowKey, code uint8, n int, l4 []byte) {
	e.sendError(t, icmpError{
		from: t.nets.Of(&key.Guest).Gateway, icmpMessage: unreachable(key.Guest.Is4(), code), key: key, n: n, l4: l4,
	})
}
