package nat

import (
	"encoding/binary"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/pathmtu"
)

// A guest answers packets of the engine by ICMP errors: one is too big for a link behind the guest, nobody listens on a port,
// a container is gone. Each quotes the packet, by which its flow is found. The guest is not believed everything: what is
// quoted must be something that was sent and is still under way, or whoever is behind the guest could end or slow down
// conversations of others there (RFC 5927).

// complaint is what an ICMP error says of a packet.
type complaint uint8

const (
	noComplaint   complaint = iota
	doesNotFit              // it does not fit a link
	nobodyTakes             // nobody takes it at its destination
	doesNotArrive           // it did not get there
)

// report is an ICMP error of the guest.
type report struct {
	complaint
	mtu  int     // too big: what fits, in bytes, 0 if that was not told
	key  flowKey // of the flow that the packet belongs to, by its quote
	size int     // of the packet in bytes
	seq  uint32  // TCP: its sequence number
}

// shortly is how much longer a UDP flow may be silent of which a datagram did not get there, in nanoseconds.
const shortly = int64(10e9)

// complaintOf returns what an ICMP message of the guest says of a packet.
func complaintOf(a *ipaddr.Addr, m icmpMessage) complaint {
	if !a.Is4() {
		return complaint6(m)
	}
	switch {
	case m == tooBig(true):
		return doesNotFit
	case m.kind == icmpUnreachable && (m.code == codePort || m.code == codeProtocol):
		return nobodyTakes
	case m.kind == icmpUnreachable, m == icmpMessage{icmpTimeExceeded, codeHopsExceeded}:
		return doesNotArrive
	}
	return noComplaint
}

// complaint6 is complaintOf for ICMPv6.
func complaint6(m icmpMessage) complaint {
	switch {
	case m.kind == icmp6TooBig:
		return doesNotFit
	case m == icmpMessage{icmp6Unreachable, code6Port}, m == icmpMessage{icmp6ParameterProblem, code6NextHeader}:
		return nobodyTakes
	case m.kind == icmp6Unreachable, m == icmpMessage{icmp6TimeExceeded, codeHopsExceeded}:
		return doesNotArrive
	}
	return noComplaint
}

// readReport reads an ICMP error; !ok if the packet that it quotes cannot be one of the engine's.
func readReport(k *packet) (r report, ok bool) {
	r.complaint = complaintOf(&k.src, icmpMessage{k.l4[0], k.l4[1]})
	rest := binary.BigEndian.Uint32(k.l4[4:])
	quote := k.l4[icmpLen:]
	var l4 []byte
	if k.src.Is4() {
		r.mtu = int(uint16(rest)) // RFC 1191 section 4
		l4, ok = r.quote4(quote)
	} else {
		r.mtu = int(min(rest, maxIPPayload))
		l4, ok = r.quote6(quote)
	}
	if !ok || len(l4) < icmpLen || r.key.Remote != k.dst { // who is told of a packet has sent it
		return r, false
	}
	return r, r.quoteTransport(l4)
}

// quote4 reads the IPv4 header of what was quoted, and returns what follows. Only a first fragment names a flow.
func (r *report) quote4(q []byte) (l4 []byte, ok bool) {
	if len(q) < ipv4Len || q[0]>>4 != 4 || len(q) < int(q[0]&15)*4 || binary.BigEndian.Uint16(q[fragmentField:])&fragmentOffset != 0 {
		return nil, false
	}
	r.size = int(binary.BigEndian.Uint16(q[2:]))
	r.key.Remote, r.key.Guest, r.key.Proto = ipaddr.From4(q[12:]), ipaddr.From4(q[16:]), q[9]
	return q[int(q[0]&15)*4:], true
}

// quote6 is quote4 for IPv6.
func (r *report) quote6(q []byte) (l4 []byte, ok bool) {
	if len(q) < ipv6Len || q[0]>>4 != 6 {
		return nil, false
	}
	r.size = ipv6Len + int(binary.BigEndian.Uint16(q[4:]))
	r.key.Remote, r.key.Guest, r.key.Proto = ipaddr.Addr(q[8:24]), ipaddr.Addr(q[24:40]), q[6]
	q = q[ipv6Len:]
	if r.key.Proto == protoFragment {
		if len(q) < fragmentHeader || binary.BigEndian.Uint16(q[2:])&fragmentOffset6 != 0 {
			return nil, false
		}
		r.key.Proto, q = q[0], q[fragmentHeader:]
	}
	r.key.Proto = protocolOf(r.key.Proto)
	return q, true
}

// quoteTransport reads the first eight bytes of the transport header that was quoted.
func (r *report) quoteTransport(l4 []byte) (ok bool) {
	switch r.key.Proto {
	case protoTCP:
		r.seq = binary.BigEndian.Uint32(l4[4:])
	case protoICMP:
		r.key.GuestPort = binary.BigEndian.Uint16(l4[4:]) // the identifier
		return l4[0] == echoReply(&r.key.Guest)
	case protoUDP:
	default:
		return false
	}
	r.key.RemotePort, r.key.GuestPort = binary.BigEndian.Uint16(l4), binary.BigEndian.Uint16(l4[2:])
	return true
}

// report deals with an ICMP error of the guest about a packet of the engine's.
func (p *Port) report(t *turn, k *packet) (retry bool) {
	r, ok := readReport(k)
	if !ok {
		t.counters.StrayReports++
		return false
	}
	f, at := t.find(&r.key)
	switch {
	case at == elsewhere:
		return true
	case f == nil && r.complaint != doesNotFit && p.gates.knockFailed(&r.key, r.seq):
	case f == nil || !p.mayHaveSent(f, &r):
		t.counters.StrayReports++
	case r.complaint == doesNotFit:
		p.tooBig(t, f, &r)
	default:
		p.unreached(t, f, &r)
	}
	return false
}

// mayHaveSent tells whether what r quotes may have been sent for f, and is under way still. Datagrams have nothing to tell
// that by.
func (p *Port) mayHaveSent(f *flow, r *report) bool {
	return f.key.Proto != protoTCP || p.tcp.isUnderWay(f, r.seq)
}

// isUnderWay tells whether a segment that begins with seq was sent to the guest, which has not acknowledged it.
func (e *tcpEngine) isUnderWay(of *flow, seq uint32) bool {
	f := e.conn(of)
	switch f.state {
	case stateSynSent, stateSynRcvd, stateOpen:
		return atLeast(seq, f.tcp.sndUna) && before(seq, f.tcp.sndMax)
	}
	return false
}

// tooBig makes a flow's packets fit a path, if it is news that they do not. A path is never believed to be so narrow that
// what its version of IP promises does not pass (RFC 8201 section 4).
func (p *Port) tooBig(t *turn, f *flow, r *report) {
	size := t.pathMTU(&f.key.Guest)
	if f.key.Proto == protoTCP {
		size = p.tcp.packetSize(f)
	}
	size = min(size, r.size)
	least := pathmtu.Least
	if !f.key.Guest.Is4() {
		least = minMTU6
	}
	mtu := max(r.mtu, pathmtu.Least)
	if r.mtu == 0 {
		mtu = pathmtu.Plateau(size)
	}
	if mtu >= size || mtu < least {
		t.counters.StrayReports++
		return
	}
	if !t.allow(slowPathMTU) {
		return
	}
	narrower := t.pairs.paths.Narrow(&f.key.Guest, mtu, t.now)
	shorter := f.key.Proto == protoTCP && p.tcp.obeyPath(f)
	if !narrower && !shorter {
		t.counters.StrayReports++
		return
	}
	t.counters.PathsNarrowed++
	p.tcp.watchSoon(t)
	if f.key.Proto == protoTCP {
		p.tcp.sendShorter(t, f)
	}
}

// unreached deals with a packet that did not arrive. A connection that is not open yet ends, as it does in the kernel of a host
// that connects; an open one does not (RFC 5927 section 5.2). A UDP flow to a closed port ends, so that the kernel tells
// the peer what it sends next; but a port of the host that other flows share stays. If a datagram was lost on the way, the
// flow has a while to show that it is alive.
func (p *Port) unreached(t *turn, f *flow, r *report) {
	mapped := p.udp.isOfMapping(f)
	switch {
	case f.state == stateSynSent || f.state == stateSynRcvd:
		t.counters.ReportsHeeded++
		p.gates.refusedBy(&f.key)
		p.drop(f, endUnreachable)
	case f.state == stateUDP && r.complaint == nobodyTakes && !mapped:
		t.counters.ReportsHeeded++
		t.remove(f)
	case f.state == stateUDP && t.wheel.Deadline(f.index) > t.now+shortly:
		t.counters.ReportsHeeded++
		t.wheel.Set(f.index, t.now+shortly)
	default:
		t.counters.StrayReports++
	}
}
