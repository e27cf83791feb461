package icmperr

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Sender tells the guest what does not go on.
type Sender struct {
	shard    *shard.Shard
	routes   *route.Table
	reported limits.Told[policy.Destination] // denials that the user was told of
	hooks    Hooks
	ledger   *ledger.Keeper
}

// Hooks know the rules as a user writes them.
type Hooks struct {
	// Denying returns the rule that closes the destination of a flow, as an option; "" for none.
	Denying func(flowtable.Key) string
	// Opening returns the option that would open the destination of a flow to which a verdict is closed; "" for none.
	Opening func(flowtable.Key, policy.Verdict) string
}

// SetUp makes what tells the guest of a queue pair.
func (e *Sender) SetUp(s *shard.Shard, routes *route.Table, l *ledger.Keeper, h Hooks) {
	*e = Sender{shard: s, routes: routes, ledger: l, hooks: h}
}

// PutMessage makes of the frame b, whose ICMP message has its payload in place, a message to the guest. rest is the message's
// second word.
func PutMessage(t *shard.Turn, b []byte, src, dst *ipaddr.Addr, m netpkt.Message, rest uint32) []byte {
	n := len(b) - netpkt.EtherLen - dst.HeaderLen()
	icmp := b[t.PutIP(b, src, dst, netpkt.ICMP, n):]
	copy(icmp, []byte{m.Kind, m.Code, 0, 0})
	binary.BigEndian.PutUint32(icmp[4:], rest)
	binary.BigEndian.PutUint16(icmp[2:], ^vnet.Sum(icmp, netpkt.ICMPSum(src, dst, n)))
	return b
}

// Reject tells the guest that the policy is against its datagram or echo request. l4 is the packet's transport header,
// n its length from there on.
func (e *Sender) Reject(t *shard.Turn, key *flowtable.Key, d *policy.Decision, n int, l4 []byte) {
	e.ReportDenied(key, d)
	e.SendUnreachable(t, key, e.rejectCode(key, d.Verdict), n, l4)
}

// rejectCode returns the code for what the policy is against. Behind the gateway, the truth is that somebody filters: a
// port said to be closed would make the user search at the other end. The engine's own addresses are like a host on
// which nothing listens.
func (e *Sender) rejectCode(key *flowtable.Key, v policy.Verdict) uint8 {
	switch {
	case e.shard.Nets.IsOurs(&key.Remote):
		return netpkt.CodePort
	case v == policy.IsNobody:
		return netpkt.CodeHost
	}
	return netpkt.CodeProhibited
}

// UnreachableCode returns the code of "destination unreachable" that makes of it the host's error errno again in the
// guest; !ok if there is none. Nothing gives EACCES or EPERM, which a route or firewall of the host's answers: the guest
// gets EHOSTUNREACH for the code of prohibition.
func UnreachableCode(errno unix.Errno) (code uint8, ok bool) {
	switch errno {
	case unix.ENETUNREACH:
		return netpkt.CodeNet, true
	case unix.EHOSTUNREACH:
		return netpkt.CodeHost, true
	case unix.ENOPROTOOPT:
		return netpkt.CodeProtocol, true
	case unix.EHOSTDOWN:
		return netpkt.CodeNoHost, true
	case unix.ENONET:
		return netpkt.CodeIsolated, true
	case unix.EACCES, unix.EPERM:
		return netpkt.CodeProhibited, true
	}
	return 0, false
}

// SendUndelivered tells the guest, if ICMP can, why its datagram led nowhere; else that nobody listens there.
func (e *Sender) SendUndelivered(t *shard.Turn, key *flowtable.Key, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	code, ok := UnreachableCode(errno)
	if !ok {
		code = netpkt.CodePort
	}
	e.SendUnreachable(t, key, code, n, l4)
}

// SendUnreachableSYN tells the guest, if ICMP can, why its SYN with the sequence number seq led nowhere.
func (e *Sender) SendUnreachableSYN(t *shard.Turn, key *flowtable.Key, seq seqnum.Value, errno unix.Errno) bool {
	code, ok := UnreachableCode(errno)
	if !ok {
		return false
	}
	tcp := netpkt.QuotedSYN(key.GuestPort, key.RemotePort, seq)
	e.SendUnreachable(t, key, code, netpkt.TCPLen, tcp[:])
	return true
}

// SendUnreachable sends the guest an ICMP message "destination unreachable" about its packet with the transport header l4;
// n is what the packet's length was from there on. code is IPv4's.
func (e *Sender) SendUnreachable(t *shard.Turn, key *flowtable.Key, code uint8, n int, l4 []byte) {
	e.SendError(t, Error{
		From: t.Nets.Of(&key.Guest).Gateway, Message: netpkt.Unreachable(key.Guest.Is4(), code), Key: key, Len: n, L4: l4,
	})
}

// A guest that traces a route sends packets with a small time to live, and reads who says that it has run out. The first to say
// so is the engine, as the guest's router. For the others, what the guest sent leaves with the time to live that is left, and
// the kernel keeps the message of a router for the socket.

// Outlived reports whether a packet with a time to live of 1 or less ends at the engine, and tells the guest so. n is the packet's
// length in bytes from its transport header on. Callers look at the time to live first: there is a call less for each frame.
func (e *Sender) Outlived(t *shard.Turn, k *shard.Packet, key *flowtable.Key, n int) bool {
	if t.Nets.IsOurs(&k.Dst) {
		return false
	}
	t.Drop(&t.Counters.HopsExceeded)
	e.hopsExceeded(t, key, n, k.L4)
	return true
}

// MessageOf returns the ICMP message that was the error, if it is one of the given version of IP that says that a packet has
// not arrived.
func MessageOf(e *hostsock.Error, is4 bool) (m netpkt.Message, ok bool) {
	m = netpkt.Message{Kind: e.Kind, Code: e.Code}
	origin := uint8(unix.SO_EE_ORIGIN_ICMP6)
	if is4 {
		origin = unix.SO_EE_ORIGIN_ICMP
	}
	return m, e.Origin == origin && m.IsLoss(is4)
}

// ErrorOf returns the message by which the guest of a flow is told of an error, without what it quotes; !ok if there is
// none.
func (e *Sender) ErrorOf(f *shard.Flow, fault *hostsock.Error) (m Error, ok bool) {
	is4 := f.Key.Guest.Is4()
	m.From = e.ErrorSource(f, fault)
	if unix.Errno(fault.Errno) == unix.EMSGSIZE {
		m.Message, m.Rest = netpkt.TooBig(is4), fault.Info
		if is4 {
			m.Rest = min(fault.Info, 0xffff) // RFC 1191 section 4
		}
		return m, true
	}
	if m.Message, ok = MessageOf(fault, is4); ok {
		return m, true
	}
	code, ok := UnreachableCode(unix.Errno(fault.Errno))
	if !ok {
		code, ok = netpkt.CodePort, unix.Errno(fault.Errno) == unix.ECONNREFUSED
	}
	m.Message = netpkt.Unreachable(is4, code)
	return m, ok
}

// ErrorSource is who told of an error, as the guest sees it: the datagram's own destination by the address that the guest
// named, the host as the guest's router.
func (e *Sender) ErrorSource(f *shard.Flow, fault *hostsock.Error) ipaddr.Addr {
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

// hopsExceeded tells the guest that its datagram's time to live has run out at the first router, which is the engine.
func (e *Sender) hopsExceeded(t *shard.Turn, key *flowtable.Key, n int, l4 []byte) {
	m := netpkt.TimeExceeded(key.Guest.Is4(), netpkt.CodeHops)
	e.SendError(t, Error{From: t.Nets.Of(&key.Guest).Gateway, Message: m, Key: key, Len: n, L4: l4})
}

// Error is a message about a datagram of the guest's (RFC 792, RFC 4443), in the guest's version of IP.
type Error struct {
	netpkt.Message
	From    ipaddr.Addr
	Rest    uint32 // the second word of the message
	Key     *flowtable.Key
	Len     int    // length of the datagram from its transport header on
	L4      []byte // that header, of which 8 bytes are quoted
	Payload []byte // what is quoted of what follows
}

// SendError sends the guest an ICMP message that quotes the IP header of its packet, made anew, and the beginning of what
// was in it.
func (e *Sender) SendError(t *shard.Turn, fault Error) {
	if !t.Allow(limits.Error) {
		return
	}
	ipLen := fault.Key.Guest.HeaderLen()
	headers := netpkt.EtherLen + ipLen + netpkt.ICMPLen + ipLen + netpkt.ICMPLen
	b := t.Frame[:headers+len(fault.Payload)]
	quoted := b[ipLen+netpkt.ICMPLen:] // an Ethernet header earlier, which is overwritten below
	t.PutIP(quoted, &fault.Key.Guest, &fault.Key.Remote, fault.Key.Proto, fault.Len)
	copy(quoted[netpkt.EtherLen+ipLen:], fault.L4[:netpkt.ICMPLen])
	copy(b[headers:], fault.Payload)
	t.Counters.Unreachables++
	t.Reply(PutMessage(t, b, &fault.From, &fault.Key.Guest, fault.Message, fault.Rest))
}
