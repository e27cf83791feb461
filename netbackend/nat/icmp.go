package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/route"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// icmpSender tells the guest what does not go on.
type icmpSender struct {
	shard  *shard.Shard
	routes *route.Table
	told   map[policy.Destination]bool // denials that the user was told of
}

// setUp makes what tells the guest of a queue pair.
func (e *icmpSender) setUp(s *shard.Shard, routes *route.Table) {
	*e = icmpSender{shard: s, routes: routes, told: map[policy.Destination]bool{}}
}

// controlMessage handles an ICMP message of the guest: echo requests to the engine's own addresses are answered, others passed on.
func (p *Port) controlMessage(t *shard.Turn, k *shard.Packet) (retry bool) {
	if len(k.L4) < netpkt.ICMPLen {
		t.Counters.Malformed++
		return false
	}
	if !k.Src.Is4() && netpkt.IsNDP(k.L4[0]) {
		p.link.ndp(t, k)
		return false
	}
	if !t.IsUnicastPeer(k) {
		p.misaddressed(t, k, netpkt.ICMP)
		return false
	}
	if complaintIn(k) != netpkt.NoComplaint {
		return p.report(t, k)
	}
	if !netpkt.IsEchoRequest(&k.Src, k.L4) {
		t.Counters.Unsupported++
		return false
	}
	if !t.Nets.IsOurs(&k.Dst) {
		return p.ping.ping(t, k)
	}
	if !t.Allow(limits.Echo) {
		return false
	}
	start := k.L4Offset - t.HeaderLen
	frame := t.CopyFrame(k.Chain)
	if frame == nil {
		return false
	}
	// The request becomes the answer, behind headers without options.
	b := frame[start-netpkt.EtherLen-k.Src.HeaderLen() : start+k.L4Len]
	rest := binary.BigEndian.Uint32(frame[start+4:])
	t.Reply(putICMP(t, b, &k.Dst, &k.Src, netpkt.Message{Kind: netpkt.EchoReply(&k.Src)}, rest))
	return false
}

// putICMP makes of the frame b, whose ICMP message has its payload in place, a message to the guest. rest is the message's
// second word.
func putICMP(t *shard.Turn, b []byte, src, dst *ipaddr.Addr, m netpkt.Message, rest uint32) []byte {
	n := len(b) - netpkt.EtherLen - dst.HeaderLen()
	icmp := b[t.PutIP(b, src, dst, netpkt.ICMP, n):]
	copy(icmp, []byte{m.Kind, m.Code, 0, 0})
	binary.BigEndian.PutUint32(icmp[4:], rest)
	binary.BigEndian.PutUint16(icmp[2:], ^vnet.Sum(icmp, netpkt.ICMPSum(src, dst, n)))
	return b
}

// reject tells the guest that the policy is against its datagram or echo request. l4 is the packet's transport header,
// n its length from there on.
func (e *icmpSender) reject(t *shard.Turn, key *flowtable.Key, v policy.Verdict, n int, l4 []byte) {
	e.deny(key, v)
	e.sendUnreachable(t, key, e.rejection(key, v), n, l4)
}

// rejection returns the code for what the policy is against. Behind the gateway, the truth is that somebody filters: a
// port said to be closed would make the user search at the other end. The engine's own addresses are like a host on
// which nothing listens.
func (e *icmpSender) rejection(key *flowtable.Key, v policy.Verdict) uint8 {
	switch {
	case e.shard.Nets.IsOurs(&key.Remote):
		return netpkt.CodePort
	case v == policy.IsNobody:
		return netpkt.CodeHost
	}
	return netpkt.CodeProhibited
}

// unreachableCode returns the code of "destination unreachable" that makes of it the host's error errno again in the
// guest; !ok if there is none. Nothing gives EACCES or EPERM, which a route or firewall of the host's answers: the guest
// gets EHOSTUNREACH for the code of prohibition.
func unreachableCode(errno unix.Errno) (code uint8, ok bool) {
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

// undelivered tells the guest, if ICMP can, why its datagram led nowhere; else that nobody listens there.
func (e *icmpSender) undelivered(t *shard.Turn, key *flowtable.Key, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	code, ok := unreachableCode(errno)
	if !ok {
		code = netpkt.CodePort
	}
	e.sendUnreachable(t, key, code, n, l4)
}

// unreachableSYN tells the guest, if ICMP can, why its SYN with the sequence number seq led nowhere.
func (e *icmpSender) unreachableSYN(t *shard.Turn, key *flowtable.Key, seq seqnum.Value, errno unix.Errno) bool {
	code, ok := unreachableCode(errno)
	if !ok {
		return false
	}
	tcp := netpkt.QuotedSYN(key.GuestPort, key.RemotePort, seq)
	e.sendUnreachable(t, key, code, netpkt.TCPLen, tcp[:])
	return true
}

// sendUnreachable sends the guest an ICMP message "destination unreachable" about its packet with the transport header l4;
// n is what the packet's length was from there on. code is IPv4's.
func (e *icmpSender) sendUnreachable(t *shard.Turn, key *flowtable.Key, code uint8, n int, l4 []byte) {
	e.sendError(t, icmpError{
		from: t.Nets.Of(&key.Guest).Gateway, Message: netpkt.Unreachable(key.Guest.Is4(), code), key: key, n: n, l4: l4,
	})
}
