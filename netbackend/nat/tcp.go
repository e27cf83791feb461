package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// tcpFlow is the state of a TCP connection between the guest's segments and the host's socket.
//
// Towards the guest, names are those of RFC 9293 section 3.3.1. The bytes from sndUna on are still in the receive
// queue of the host's socket, which is the retransmission buffer: they leave it when the guest has acknowledged them.
type tcpFlow struct {
	irs     uint32 // the guest's initial sequence number
	rcvNxt  uint32 // all before it was taken by the host's socket, and is acknowledged
	rcvEdge uint32 // first sequence number beyond the window that the guest knows; it never moves back
	room    uint32 // size of the window when it was last measured
	taken   uint32 // bytes taken since
	iss     uint32
	sndUna  uint32
	sndNxt  uint32
	sndMax  uint32 // one beyond all that was ever sent
	recover uint32 // fast recovery ends when this is acknowledged (RFC 6582)
	sndWnd  uint32 // in bytes
	maxWnd  uint32 // largest seen
	wl1     uint32 // sequence and acknowledgement number of the last window update
	wl2     uint32
	drop    uint32   // acknowledged by the guest, and not yet removed from the socket's queue
	peek    uint32   // the kernel's peek offset in that queue
	rttSeq  uint32   // acknowledging this ends the round trip that is being measured
	resent  uint32   // end of what was repeated last
	recent  uint32   // timestamp that the guest is echoed (TS.Recent of RFC 7323)
	sacked  seqRange // the first bytes beyond sndUna that the guest says it has, none if empty

	srtt, rttvar int32  // microseconds (RFC 6298)
	hostMark     uint32 // of the host's urgent byte, see urgency
	rto          int64  // nanoseconds
	rttStart     int64
	heard        int64 // when the guest last sent data

	mss      uint16 // of segments to the guest
	ask      uint16 // of segments from it, as it was told
	sndScale uint8  // shift of the windows that the guest sends
	rcvScale uint8  // and of those that it gets
	dupAcks  uint8  // acknowledgements in a row that told nothing new
	dupDue   uint8  // and how many of those are owed to the guest
	retries  uint8  // retransmissions since something was acknowledged
	answers  int8   // how many answers in a row came soon, see acknowledge
	silence  uint8  // how often watch has looked since the guest's last segment

	urgency   urgency
	guestMark uint32 // of the guest's urgent byte
}

const (
	initialRTO = int64(1e9)   // RFC 6298 section 2
	minRTO     = int64(200e6) // a guest may delay acknowledgements as long, and may not be running
	maxRTO     = int64(60e9)
	// maxRetries is when a guest that does not acknowledge is given up: after about ten minutes.
	maxRetries = 15
	// maxSynRetries is the same for a guest that does not answer a SYN: after about a minute.
	maxSynRetries = 6

	maxWindow = 65535

	microsecond = 1000 // nanoseconds
)

// tcp handles a TCP segment of the guest.
func (p *Port) tcp(k *packet) (retry bool) {
	s, ok := parseSegment(k)
	if !ok {
		p.counters.Malformed++
		return false
	}
	key, ok := p.key(k, protoTCP)
	if !ok {
		p.misaddressed(k, protoTCP)
		return false
	}
	if k.hops <= 1 && p.outlived(k, &key, k.l4Len) {
		return false
	}
	f, at := p.find(&key)
	switch at {
	case elsewhere:
		return true
	case nowhere:
		return p.tcpUnknown(&key, &s)
	}
	switch f.state {
	case stateConnecting:
		return p.tcpWhileConnecting(f, &s)
	case stateSynSent:
		p.tcpWhileSynSent(f, &s)
	case stateReset:
		// Nobody is there any more; the reset that is due says so.
	default:
		return p.tcpSegment(f, &s, k)
	}
	return false
}

// tcpUnknown handles a segment that belongs to no connection.
func (p *Port) tcpUnknown(key *flowKey, s *segment) (retry bool) {
	knocked := p.answerKnock(key, s)
	if s.flags&flagRST != 0 {
		return false
	}
	if s.flags&(flagSYN|flagACK) == flagSYN {
		return p.connect(key, s)
	}
	if !knocked {
		p.counters.Ends[endForgotten]++
	}
	p.refuse(key, s)
	return false
}

// refuse answers a segment that belongs to no connection by a reset (RFC 9293 section 3.10.7.1).
func (p *Port) refuse(key *flowKey, s *segment) {
	seq, ack, flags := s.ack, uint32(0), uint8(flagRST)
	if s.flags&flagACK == 0 {
		seq, ack, flags = 0, s.seq+s.length(), flagRST|flagACK
	}
	p.counters.ResetsSent++
	p.sendBare(key, flags, seq, ack)
}

// tcpWhileConnecting handles a segment of a guest that waits for the host's connect.
func (p *Port) tcpWhileConnecting(f *flow, s *segment) (retry bool) {
	switch {
	case s.flags&flagRST != 0:
		if s.seq == f.tcp.rcvNxt || s.seq == f.tcp.irs {
			p.abandon(f, endWithdrawn)
		}
	case s.flags&flagSYN != 0 && s.seq != f.tcp.irs:
		key := f.key
		p.abandon(f, endReplaced)
		return p.connect(&key, s)
	}
	return false
}

// tcpWhileSynSent handles the guest's answer to our SYN (RFC 9293 section 3.10.7.3).
func (p *Port) tcpWhileSynSent(f *flow, s *segment) {
	t := &f.tcp
	if s.flags&flagACK != 0 && s.ack != t.iss+1 {
		if s.flags&flagRST == 0 {
			p.counters.Ends[endMisanswered]++
			p.refuse(&f.key, s)
		}
		return
	}
	if s.flags&flagRST != 0 {
		if s.flags&flagACK != 0 {
			p.refusedBy(&f.key)
			p.abandon(f, endRefused)
		}
		return
	}
	if s.flags&(flagSYN|flagACK) != flagSYN|flagACK {
		return
	}
	p.tcpOptions(f, s)
	t.rcvNxt, t.rcvEdge = s.seq+1, s.seq+1
	t.irs = s.seq
	t.sndUna, t.sndNxt, t.sndMax = s.ack, s.ack, s.ack
	p.established(f, s, s.window) // the window of a SYN is not scaled
	f.bits |= ackDue
	if s.flags&flagURG != 0 {
		p.noteMark(f, s)
	}
}

// established opens a connection after its handshake. window is the guest's, in bytes.
func (p *Port) established(f *flow, s *segment, window uint32) {
	f.state = stateOpen
	f.bits = f.bits&^synDue | readable
	p.leave(f)
	t := &f.tcp
	t.retries, t.rto = 0, initialRTO
	t.wl1, t.wl2 = s.seq, s.ack
	t.sndWnd, t.maxWnd = window, window
	p.wheel.set(f, 0)
	p.run.push(p.flows, f)
	p.startWatch(f)
}

// tcpOptions takes the options of the guest's SYN or SYN-ACK into account.
func (p *Port) tcpOptions(f *flow, s *segment) {
	o := parseOptions(s.options)
	const leastMSS = 88 // Linux's own lower bound: less serves only those who want to make work
	mss := min(max(int(o.mss), leastMSS), p.mtu-int(f.ipLen)-tcpLen)
	if o.scales {
		f.bits |= guestScales
		f.tcp.sndScale, f.tcp.rcvScale = o.scale, p.cfg.WindowScale
	}
	if o.sacks {
		f.bits |= guestSACKs
	}
	if o.times && f.bits&inbound == 0 { // ours does not offer them
		f.bits |= guestTimes
		f.tcp.recent = o.stamp
		mss -= timesLen // an MSS does not count options (RFC 6691)
	}
	p.setMSS(f, uint16(mss))
}

// tcpSegment handles a segment of a connection that the guest knows (RFC 9293 section 3.10.7.4).
func (p *Port) tcpSegment(f *flow, s *segment, k *packet) (retry bool) {
	t := &f.tcp
	t.silence = 0
	if s.flags&(flagRST|flagSYN) != 0 {
		p.flushOutgoing() // what came before counts first
		if f.state == stateDead {
			return false
		}
	}
	switch {
	case s.flags&flagRST != 0:
		p.tcpReset(f, s)
		return false
	case s.flags&flagSYN != 0:
		return p.tcpRepeatedSyn(f, s)
	case s.flags&flagACK == 0:
		return false
	case f.bits&guestTimes != 0 && !p.timely(f, s):
		p.counters.TCPOutdated++
		p.owe(f, ackDue)
		return false
	case f.state == stateSynRcvd && s.ack != t.iss+1:
		p.counters.Ends[endMisanswered]++
		p.refuse(&f.key, s)
		return false
	case f.state == stateSynRcvd:
		t.sndUna = s.ack
		p.established(f, s, s.window<<t.sndScale)
	}
	if after(s.seq, t.rcvEdge) {
		p.owe(f, ackDue) // beyond the window (RFC 9293 section 3.10.7.4, first step)
		return false
	}
	if tos := s.tos &^ ecnBits; tos != f.udp.sender.manner.tos && s.n > 0 {
		if p.mark(f, tos); f.state == stateDead {
			return false
		}
	}
	if p.tcpAck(f, s) {
		if s.flags&flagURG != 0 {
			p.noteMark(f, s)
		}
		p.tcpData(f, s, k.chain)
	}
	return false
}

// tcpReset handles the guest's reset (RFC 5961 section 3.2).
func (p *Port) tcpReset(f *flow, s *segment) {
	t := &f.tcp
	if s.seq == t.rcvNxt {
		p.endedBy(&f.key)
		p.abandon(f, endByGuest)
		return
	}
	if after(s.seq, t.rcvNxt) && before(s.seq, t.rcvEdge) {
		p.owe(f, ackDue)
	}
}

// tcpRepeatedSyn handles a SYN on a connection that exists. The same SYN again means that our answer was lost. Another
// one means that the guest has begun anew and knows nothing of the old connection.
func (p *Port) tcpRepeatedSyn(f *flow, s *segment) (retry bool) {
	switch {
	case s.flags&flagACK != 0:
		p.owe(f, ackDue)
	case s.seq != f.tcp.irs:
		key := f.key
		p.abandon(f, endReplaced)
		return p.connect(&key, s)
	case f.state == stateSynRcvd:
		p.owe(f, synDue)
	default:
		p.owe(f, ackDue)
	}
	return false
}

// owe notes that something is to be sent to the guest.
func (p *Port) owe(f *flow, b flowBits) {
	f.bits |= b
	p.run.push(p.flows, f)
}

// tcpAck handles the acknowledgement and window of a segment, and tells whether the rest of it counts.
func (p *Port) tcpAck(f *flow, s *segment) bool {
	t := &f.tcp
	holes := p.tcpSACK(f, s)
	switch {
	case after(s.ack, t.sndMax):
		p.owe(f, ackDue)
		return false
	case after(s.ack, t.sndUna):
		p.tcpAcked(f, s)
	case s.ack == t.sndUna && s.n == 0 && s.flags&flagFIN == 0 && t.sndUna != t.sndMax &&
		(holes || s.window<<t.sndScale == t.sndWnd):
		p.tcpDuplicateAck(f)
	}
	p.tcpWindow(f, s)
	return true
}

// tcpAcked takes note that the guest has all before what s acknowledges.
func (p *Port) tcpAcked(f *flow, s *segment) {
	t := &f.tcp
	ack := s.ack
	n := ack - t.sndUna
	p.measureRTT(f, s)
	if f.bits&finSent != 0 && ack == t.sndMax {
		f.bits |= finAcked
		p.startWatch(f)
		n--
	}
	t.drop += f.proxied.headerAcked(n)
	t.sndUna = ack
	if before(t.sndNxt, ack) {
		t.sndNxt = ack
	}
	p.afterTimeout(f, ack)
	t.dupAcks, t.retries = 0, 0
	f.bits &^= persisting
	t.rto = t.baseRTO()
	if f.bits&recovering != 0 {
		f.bits &^= resendDue
		if atLeast(ack, t.recover) {
			f.bits &^= recovering
		} else {
			f.bits |= resendDue // the next hole (RFC 6582 section 3.2)
		}
	}
	if t.sndUna == t.sndMax {
		p.wheel.set(f, 0)
	} else {
		p.wheel.set(f, p.now+t.rto)
	}
	p.run.push(p.flows, f)
}

// measureRTT takes a round trip that s ends (RFC 6298 section 2). s acknowledges something.
func (p *Port) measureRTT(f *flow, s *segment) {
	t := &f.tcp
	r, ok := p.now-t.rttStart, f.bits&timing != 0 && atLeast(s.ack, t.rttSeq)
	if f.bits&timing == 0 && (t.retries > 0 || f.bits&(recovering|timedOut) != 0) {
		r, ok = p.sinceEcho(f, s)
	}
	if !ok {
		return
	}
	f.bits &^= timing
	us := int32(min(r, maxRTO) / microsecond)
	if t.srtt == 0 {
		t.srtt, t.rttvar = us, us/2
	} else {
		t.rttvar += (max(t.srtt-us, us-t.srtt) - t.rttvar) / 4
		t.srtt += (us - t.srtt) / 8
	}
}

// baseRTO is the retransmission timeout before any back-off.
func (t *tcpFlow) baseRTO() int64 {
	if t.srtt == 0 {
		return initialRTO
	}
	return min(max(microsecond*(int64(t.srtt)+4*int64(t.rttvar)), minRTO), maxRTO)
}

// tcpDuplicateAck counts an acknowledgement that tells that the guest misses something (RFC 5681 section 3.2).
func (p *Port) tcpDuplicateAck(f *flow) {
	t := &f.tcp
	const threshold = 3
	if t.dupAcks < threshold {
		t.dupAcks++
	}
	if t.sacked.length() >= threshold*uint32(t.mss) {
		t.dupAcks = threshold // one segment that the guest has behind the hole stands for many (RFC 6675 section 4)
	}
	if t.dupAcks < threshold || f.bits&recovering != 0 {
		return
	}
	t.recover = t.sndMax
	p.owe(f, recovering|resendDue)
}

// tcpWindow takes the guest's window, unless the segment is older than one already seen.
func (p *Port) tcpWindow(f *flow, s *segment) {
	t := &f.tcp
	if before(s.ack, t.sndUna) || before(s.seq, t.wl1) || (s.seq == t.wl1 && before(s.ack, t.wl2)) {
		return
	}
	t.wl1, t.wl2 = s.seq, s.ack
	w := s.window << t.sndScale
	if w > t.sndWnd {
		p.run.push(p.flows, f)
	}
	t.sndWnd = w
	t.maxWnd = max(t.maxWnd, w)
	if f.bits&persisting != 0 {
		p.probeAnswered(f)
	}
}

// probeAnswered takes note that a guest that was probed is alive. If its window is open, that was all.
func (p *Port) probeAnswered(f *flow) {
	t := &f.tcp
	t.retries = 0
	if t.sndWnd == 0 || t.sndUna != t.sndMax {
		return
	}
	f.bits &^= persisting | probeDue
	t.rto = t.baseRTO()
	p.wheel.set(f, 0)
}

// outgoing is a run of the guest's bytes that are to go out by one system call.
type outgoing struct {
	flow *flow // nil if there is nothing
	end  uint32
	n    int
	fin  bool
	iov  []guestmem.Iovec
	// flags are those of sendmsg(2): with MSG_OOB the last byte is an urgent one.
	flags uintptr
}

// expected is the sequence number of the first byte of the guest that was neither taken nor queued.
func (p *Port) expected(f *flow) uint32 {
	if p.out.flow == f {
		return p.out.end
	}
	return f.tcp.rcvNxt
}

// takesFrom tells whether the host's socket has taken all before seq, and may take more.
func (f *flow) takesFrom(seq uint32) bool {
	return f.state == stateOpen && f.tcp.rcvNxt == seq && f.bits&(guestFIN|hostReset) == 0
}

// tcpData takes the segment's bytes that the host's socket has not got yet, in order, and its FIN.
func (p *Port) tcpData(f *flow, s *segment, c *virtqueue.Chain) {
	if s.n == 0 && s.flags&flagFIN == 0 {
		p.answerProbe(f, s)
		return
	}
	if f.bits&(guestFIN|hostReset) != 0 {
		p.owe(f, ackDue)
		return
	}
	t := &f.tcp
	next := p.expected(f)
	skip := next - s.seq // already taken; repeated bytes are cut off
	if after(s.seq, next) {
		p.counters.TCPOutOfOrder++
		t.dupDue = min(t.dupDue+1, 3)
		p.run.push(p.flows, f)
		return
	}
	fin := s.flags&flagFIN != 0
	if p.out.fin && p.out.flow == f || skip > uint32(s.n) || (skip == uint32(s.n) && !fin) {
		p.owe(f, ackDue)
		return
	}
	n := uint32(s.n) - skip
	if room := t.rcvEdge - next; n > room {
		n, fin = room, false
	}
	if n == 0 && !fin {
		p.owe(f, ackDue)
		return
	}
	if t.urgency&guestMarked != 0 {
		p.queueMarked(f, next, s.offset+int(skip), int(n), fin, c)
		return
	}
	p.queue(f, next, s.offset+int(skip), int(n), fin, c)
}

// answerProbe answers a keepalive or window probe: a segment without data from before what was acknowledged.
func (p *Port) answerProbe(f *flow, s *segment) {
	if s.seq == f.tcp.rcvNxt-1 {
		p.watchHost(f)
	}
	if before(s.seq, f.tcp.rcvNxt) || after(s.seq, f.tcp.rcvEdge) {
		p.owe(f, ackDue)
	}
}

// queue appends n bytes of the guest's to what goes out next.
func (p *Port) queue(f *flow, seq uint32, offset, n int, fin bool, c *virtqueue.Chain) {
	if p.out.flow != f {
		p.flushOutgoing()
		if f.state != stateOpen {
			return
		}
		p.out.flow, p.out.end = f, seq
	}
	iov, ok := appendRange(p.out.iov, c.Iov, offset, n)
	if !ok && p.out.n > 0 {
		p.flushOutgoing()
		if f.takesFrom(seq) {
			p.queue(f, seq, offset, n, fin, c)
		}
		return
	}
	if !ok {
		p.out = outgoing{iov: p.out.iov[:0]}
		p.counters.Malformed++ // more pieces than one call takes
		return
	}
	p.out.iov = iov
	p.out.n += n
	p.out.end = seq + uint32(n)
	p.out.fin = fin
}

// flushOutgoing gives the host's socket what has been queued for it. Exactly what it takes is acknowledged.
func (p *Port) flushOutgoing() {
	f := p.out.flow
	if f == nil {
		return
	}
	n, fin, iov, flags := p.out.n, p.out.fin, p.out.iov, p.out.flags
	p.out = outgoing{iov: iov[:0]}
	if f.state != stateOpen {
		return
	}
	if n > 0 && !p.passOn(f, iov, n, flags) {
		p.owe(f, ackDue)
		return
	}
	p.acknowledge(f, n, fin)
	if fin {
		f.tcp.rcvNxt++
		if atMost(f.tcp.rcvEdge, f.tcp.rcvNxt) {
			f.tcp.rcvEdge = f.tcp.rcvNxt
		}
		f.bits |= guestFIN
		p.startWatch(f)
		p.endedBy(&f.key)
		_ = unix.Shutdown(int(f.fd), unix.SHUT_WR) // if the host is gone, reading tells so
	}
}

// passOn gives the host's socket n bytes, as deliver does.
func (p *Port) passOn(f *flow, iov []guestmem.Iovec, n int, flags uintptr) bool {
	if p.isQuery(&f.key) {
		return p.deliverQueries(f, iov, n)
	}
	return p.deliver(f, iov, n, flags)
}

// deliver sends n bytes to the host's socket, with flags of sendmsg(2), and tells whether it took all.
func (p *Port) deliver(f *flow, iov []guestmem.Iovec, n int, flags uintptr) bool {
	sent, errno := p.msg.Send(f.fd, iov, flags)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EINTR:
		sent = 0
	case unix.EFAULT:
		p.worker.Fault(errno)
		return false
	default:
		if errno == unix.EOPNOTSUPP && flags != 0 {
			return p.deliver(f, iov, n, 0) // a unix socket takes no urgent byte before Linux 5.15: it is one like the others
		}
		p.hostFailed(f, errno)
		return false
	}
	f.tcp.rcvNxt += uint32(sent)
	f.tcp.taken += uint32(sent)
	f.fromGuest += uint64(sent)
	if sent == n {
		return true
	}
	p.counters.TCPRefused += uint64(n - sent)
	f.tcp.room = 0 // measure again
	f.bits = f.bits&^writable | refused | stalled
	return false
}

// expireTCP is called when a connection's timer has run out.
func (p *Port) expireTCP(f *flow) {
	t := &f.tcp
	p.run.push(p.flows, f)
	switch f.state {
	case stateReset:
		p.remove(f)
		return
	case stateHeader:
		p.abandon(f, endLateHeader)
		return
	case stateConnecting:
		p.resolverSilent(f)
		return
	}
	if f.bits&ackDelayed != 0 {
		p.ackWasLate(f)
		return
	}
	limit, cause := uint8(maxRetries), endUnacked
	if f.state != stateOpen {
		limit, cause = maxSynRetries, endUnanswered
	}
	if t.retries >= limit {
		p.counters.Timeouts++
		p.resetGuest(f, cause)
		return
	}
	t.retries++
	t.rto = min(2*t.rto, maxRTO)
	f.bits &^= timing | recovering
	switch {
	case f.state != stateOpen:
		p.tellUnanswered(f)
		f.bits |= synDue
		p.wheel.set(f, p.now+t.rto) // though the ring be full: who calls does not wait for ever
	case t.sndUna != t.sndMax:
		p.timeOut(f)
	default:
		f.bits |= probeDue
	}
}

// tellUnanswered warns, once for each address, that a forward leads to an address that the guest does not answer at. A
// guest that boots needs its time, so it is not the first repetition that tells.
func (p *Port) tellUnanswered(f *flow) {
	const patience = 3 // repetitions; the third is sent after seven seconds
	a := f.key.guest
	if f.bits&inbound == 0 || f.tcp.retries != patience || p.unansweredAt[a] {
		return
	}
	if p.unansweredAt == nil {
		p.unansweredAt = map[ipaddr.Addr]bool{}
	}
	p.unansweredAt[a] = true // as many as forwards lead to
	message := "no answer from the guest at the address that a forward leads to"
	if a == ipaddr.From(p.cfg.Guest6) {
		message += "; it has this one only if it asks for it by DHCPv6"
	}
	p.warn(message, "address", a.Netip().String())
}

// sendBare sends a segment without data, and without a connection to speak of.
func (p *Port) sendBare(key *flowKey, flags uint8, seq, ack uint32) bool {
	b := p.template[:etherLen+key.guest.HeaderLen()+tcpLen]
	p.putTCP(b[len(b)-tcpLen:], key, flags, seq, ack, 0)
	return p.sendTCP(b, key)
}

// putTCP writes a TCP header without options or checksum.
func (p *Port) putTCP(tcp []byte, key *flowKey, flags uint8, seq, ack uint32, window uint16) {
	clear(tcp[:tcpLen])
	binary.BigEndian.PutUint16(tcp[0:], key.remotePort)
	binary.BigEndian.PutUint16(tcp[2:], key.guestPort)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	binary.BigEndian.PutUint32(tcp[8:], ack)
	tcp[12] = tcpLen / 4 << 4
	tcp[13] = flags
	binary.BigEndian.PutUint16(tcp[14:], window)
}
