package netpkt

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// ICMPLen is the length of the header of an ICMP message, in bytes. Errors quote as much of a transport header.
const ICMPLen = 8

// Types of ICMP messages, and codes of "destination unreachable" (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section
// 5.2.7.1).
const (
	icmpEchoReply    = 0
	icmpUnreachable  = 3
	icmpEchoRequest  = 8
	icmpTimeExceeded = 11

	CodeNet        = 0
	CodeHost       = 1
	CodeProtocol   = 2
	CodePort       = 3
	codeFragNeeded = 4
	CodeNoHost     = 7 // destination host unknown
	CodeIsolated   = 8 // source host isolated
	CodeProhibited = 13
)

// The same of ICMPv6 (RFC 4443).
const (
	icmp6Unreachable      = 1
	icmp6TooBig           = 2
	icmp6TimeExceeded     = 3
	icmp6ParameterProblem = 4
	icmp6EchoRequest      = 128
	icmp6EchoReply        = 129

	code6NoRoute    = 0
	code6Prohibited = 1
	code6Address    = 3
	code6Port       = 4
	code6NextHeader = 1 // the next header is unknown, as a protocol is unreachable in IPv4 (section 3.4)
)

// Codes of "time exceeded", in either version of IP.
const (
	CodeHops       = 0 // on the way
	CodeReassembly = 1 // while fragments were awaited
)

// PointerToNextHeader is where the next header stands in an IPv6 header, for the message of UnknownProtocol.
const PointerToNextHeader = 6

// Message is what stands first in an ICMP message.
type Message struct{ Kind, Code uint8 }

// Unreachable is the message "destination unreachable" for a code of IPv4's, in either version of IP.
func Unreachable(is4 bool, code uint8) Message {
	if is4 {
		return Message{icmpUnreachable, code}
	}
	m := Message{icmp6Unreachable, code6Address}
	switch code {
	case CodeNet, CodeIsolated:
		m.Code = code6NoRoute
	case CodeProhibited:
		m.Code = code6Prohibited
	case CodePort, CodeProtocol:
		m.Code = code6Port
	}
	return m
}

// UnknownProtocol is the message that a host does not know the protocol of a packet.
func UnknownProtocol(is4 bool) Message {
	if is4 {
		return Message{icmpUnreachable, CodeProtocol}
	}
	return Message{icmp6ParameterProblem, code6NextHeader}
}

// TooBig is the message that a packet does not fit the way.
func TooBig(is4 bool) Message {
	if is4 {
		return Message{icmpUnreachable, codeFragNeeded}
	}
	return Message{Kind: icmp6TooBig}
}

// TimeExceeded is the message that the time of a packet has run out, by a code of "time exceeded".
func TimeExceeded(is4 bool, code uint8) Message {
	if is4 {
		return Message{icmpTimeExceeded, code}
	}
	return Message{icmp6TimeExceeded, code}
}

// IsLoss reports whether m says that a packet has not arrived: it is "destination unreachable" or "time exceeded".
func (m Message) IsLoss(is4 bool) bool {
	if is4 {
		return m.Kind == icmpUnreachable || m.Kind == icmpTimeExceeded
	}
	return m.Kind == icmp6Unreachable || m.Kind == icmp6TimeExceeded
}

// Complaint is what an ICMP error says of a packet.
type Complaint uint8

const (
	NoComplaint   Complaint = iota
	DoesNotFit              // it does not fit a link
	NobodyTakes             // nobody takes it at its destination
	DoesNotArrive           // it did not get there
)

// Complaint returns what a message from a says of a packet.
func (m Message) Complaint(a *ipaddr.Addr) Complaint {
	if !a.Is4() {
		return m.complaint6()
	}
	switch {
	case m == TooBig(true):
		return DoesNotFit
	case m.Kind == icmpUnreachable && (m.Code == CodePort || m.Code == CodeProtocol):
		return NobodyTakes
	case m.Kind == icmpUnreachable, m == Message{icmpTimeExceeded, CodeHops}:
		return DoesNotArrive
	}
	return NoComplaint
}

// complaint6 is Complaint for ICMPv6.
func (m Message) complaint6() Complaint {
	switch {
	case m.Kind == icmp6TooBig:
		return DoesNotFit
	case m == Message{icmp6Unreachable, code6Port}, m == Message{icmp6ParameterProblem, code6NextHeader}:
		return NobodyTakes
	case m.Kind == icmp6Unreachable, m == Message{icmp6TimeExceeded, CodeHops}:
		return DoesNotArrive
	}
	return NoComplaint
}

// IsEchoRequest reports whether l4, which has an ICMP header, begins with an echo request from a.
func IsEchoRequest(a *ipaddr.Addr, l4 []byte) bool {
	kind := uint8(icmpEchoRequest)
	if !a.Is4() {
		kind = icmp6EchoRequest
	}
	return l4[0] == kind && l4[1] == 0
}

// EchoReply is the type of the answers that a gets.
func EchoReply(a *ipaddr.Addr) uint8 {
	if a.Is4() {
		return icmpEchoReply
	}
	return icmp6EchoReply
}

// IsNDP reports whether an ICMPv6 message is one of neighbour discovery (RFC 4861 section 4).
func IsNDP(kind uint8) bool {
	const routerSolicitation, redirect = 133, 137
	return kind >= routerSolicitation && kind <= redirect
}

// ICMPSum is the part of an ICMP message's checksum that is not in the message, which is n bytes long: in IPv6 there is a
// pseudo header (RFC 4443 section 2.3).
func ICMPSum(src, dst *ipaddr.Addr, n int) uint16 {
	if dst.Is4() {
		return 0
	}
	return vnet.PseudoHeaderSum(ICMPv6, src[:], dst[:], uint32(n))
}

// ReplaceIdentifier writes an identifier into the header of an echo request or reply in the place of another one, and corrects the
// checksum by the difference (RFC 1624). In IPv6 the address of who chose the other one may be in the sum; it stays there.
func ReplaceIdentifier(icmp []byte, id uint16) {
	sum := uint32(^binary.BigEndian.Uint16(icmp[2:])) + uint32(^binary.BigEndian.Uint16(icmp[4:])) + uint32(id)
	for sum > 0xffff {
		sum = sum&0xffff + sum>>16
	}
	binary.BigEndian.PutUint16(icmp[2:], ^uint16(sum))
	binary.BigEndian.PutUint16(icmp[4:], id)
}
