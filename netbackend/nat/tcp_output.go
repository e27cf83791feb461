package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// largestFrame is the longest that the guest gets. In IPv6 it could be longer, but drivers have no room for more.
	largestFrame = etherLen + 65535
	// share is how many bytes a flow may send to the guest in one turn before others have theirs.
	share = 256 << 10
	// persistDelay is how long a closed window is left alone before it is probed.
	persistDelay = int64(200e6)
)

// serviceTCP does for a connection whatever is due.
func (p *Port) serviceTCP(f *flow) outcome {
	switch f.state {
	case stateConnecting:
		p.checkConnect(f)
		if f.state != stateSynRcvd {
			return idle
		}
		return p.sendSyn(f)
	case stateHeader:
		p.readHeader(f)
		return idle
	case stateReset:
		return p.sendReset(f)
	case stateSynRcvd, stateSynSent:
		return p.sendSyn(f)
	}
	if f.tcp.urgency&hostUrgent != 0 {
		p.findMark(f)
	}
	p.dropAcknowledged(f)
	p.hostWritable(f)
	result := p.sendStream(f)
	if f.state == stateOpen && f.bits&ackDue != 0 || f.tcp.dupDue > 0 {
		if !p.sendAcks(f) {
			result = starves
		}
	}
	if p.finished(f) {
		p.remove(f)
		return idle
	}
	return result
}

// finished tells whether both sides have ended their streams, and know it.
func (p *Port) finished(f *flow) bool {
	const both = guestFIN | finAcked
	return f.state == stateOpen && f.bits&both == both && f.bits&ackDue == 0
}

// dropAcknowledged removes from the host socket's queue what the guest has acknowledged.
func (p *Port) dropAcknowledged(f *flow) {
	t := &f.tcp
	if t.drop > 0 && (f.bits&unixSocket != 0 || t.urgency&hostMarked != 0) {
		f.bits |= readable // see peekedNothing
	}
	for t.drop > 0 {
		n, errno := p.dropSome(f, t.drop)
		if errno != 0 || n == 0 {
			break // the host's reset has emptied the queue
		}
		t.drop -= uint32(n)
		f.toGuest += uint64(n)
		t.peek -= min(t.peek, uint32(n)) // the kernel moves its peek offset back likewise
	}
	t.drop = 0
	if t.urgency != 0 {
		p.passMark(f)
	}
}

// hostWritable reopens the window if it was closed until the host's socket has room.
func (p *Port) hostWritable(f *flow) {
	if f.bits&writable == 0 {
		return
	}
	f.bits &^= writable
	if f.bits&stalled == 0 {
		return
	}
	f.bits &^= stalled
	f.bits |= ackDue
	f.tcp.room = 0 // measure again
	if f.bits&refused != 0 {
		// Three of a kind make the guest repeat at once what the socket had refused (RFC 5681 section 3.2).
		f.bits &^= refused
		f.tcp.dupDue = 3
	}
}

// sendStream sends the guest what it is to get of the host's stream, and its end.
func (p *Port) sendStream(f *flow) outcome {
	if f.bits&probeDue != 0 && !p.sendProbe(f) {
		return starves
	}
	if f.bits&resendDue != 0 && !p.resend(f) {
		return starves
	}
	result := p.sendData(f)
	if result != idle {
		return result
	}
	if f.bits&(hostReset|failed) != 0 {
		p.resetGuest(f, p.hostError(f)) // what the window allowed was sent, the rest is lost on both sides
		return p.sendReset(f)
	}
	return p.sendFIN(f)
}

// sendData sends new data within the guest's window.
func (p *Port) sendData(f *flow) outcome {
	t := &f.tcp
	for budget := share; p.hasMore(f); {
		hole := t.skipSACKed()
		flight := t.sndNxt - t.sndUna
		if !p.windowOpen(f, flight) {
			return idle
		}
		if budget <= 0 {
			return more
		}
		most := int(min(t.sndWnd-flight, hole))
		n := p.sendTrain(f, flight, most)
		if n == nothing && p.hasMore(f) {
			n = p.sendSegment(f, flight, most)
		}
		if n == noRoom {
			return starves
		}
		if n <= 0 {
			return idle
		}
		budget -= n
	}
	return idle
}

// hasMore tells whether there may be something that the guest was not sent yet: of the header in front of the host's
// stream, or of the stream.
func (p *Port) hasMore(f *flow) bool {
	t := &f.tcp
	return f.bits&(readable|hostEOF) == readable || t.sndNxt-t.sndUna < uint32(f.proxied.left)
}

// windowOpen tells whether the guest's window allows a segment that is worth sending (RFC 9293 section 3.8.6.2.1). If
// it is closed, and nothing is under way whose acknowledgement could open it, the persist timer is started.
func (p *Port) windowOpen(f *flow, flight uint32) bool {
	t := &f.tcp
	if t.sndWnd > flight && (flight == 0 || t.sndWnd-flight >= min(uint32(t.mss), t.maxWnd/2)) {
		return true
	}
	if t.sndUna == t.sndMax && (f.deadline == 0 || f.bits&ackDelayed != 0) {
		p.hastenAck(f)
		f.bits |= persisting
		t.rto = max(t.baseRTO(), persistDelay)
		p.wheel.set(f, p.now+t.rto)
	}
	return false
}

// trainFrames is how many frames one system call fills at most. Where the guest takes frames of many segments, its share of a
// turn are four.
const trainFrames = netbackend.MaxFrames

// sendTrain sends several of the largest frames at once, all filled by one system call. Each look at a socket's queue makes the
// kernel acknowledge what has come since the last one, so looking seldom spares the work of both ends.
//
// It returns how many bytes there were: nothing if it does not come to two frames, or if the flow does not look as if it had so much.
func (p *Port) sendTrain(f *flow, offset uint32, most int) int {
	if f.bits&bulk == 0 || offset < uint32(f.proxied.left) {
		return nothing
	}
	each := p.largestSegment(f)
	frames := min(most/each, share/each, trainFrames)
	if frames < 2 {
		return nothing
	}
	room := f.headers() + each
	lease := p.rx.Reserve(netbackend.Request{Min: room, Max: room, Frames: frames})
	if lease.Len() < 2 {
		return nothing
	}
	n := p.peek(f, offset-uint32(f.proxied.left), lease.Frames(), each)
	seq, left := f.tcp.sndUna+offset, n
	for i := 0; left > 0; i++ {
		part := min(left, each)
		p.commitSegment(f, lease, i, seq, part)
		seq += uint32(part)
		p.sent(f, seq-uint32(part), seq)
		left -= part
	}
	if n < 2*each {
		f.bits &^= bulk
	}
	return n
}

// What sendSegment returns instead of a length.
const (
	nothing = 0  // the host has no more data now, or no more at all
	noRoom  = -1 // the guest's receive ring has no room
)

// sendSegment sends up to most bytes of the host's stream from offset on, counted from sndUna, in one frame. Unless it
// is a repetition, the flow's sequence numbers and timer follow.
func (p *Port) sendSegment(f *flow, offset uint32, most int) int {
	if p.rxFull {
		return noRoom
	}
	t := &f.tcp
	most = min(most, p.largestSegment(f))
	headers := f.headers()
	lease := p.rx.Reserve(netbackend.Request{
		Min: max(headers+1, netbackend.MinFrame), Max: max(headers+most, netbackend.MinFrame),
	})
	if lease.Len() == 0 {
		p.rxFull = true
		return noRoom
	}
	n := p.fill(f, offset, lease, most)
	if n <= 0 {
		return nothing
	}
	seq := t.sndUna + offset
	p.commitSegment(f, lease, 0, seq, n)
	if n == p.largestSegment(f) {
		f.bits |= bulk
	}
	if end := seq + uint32(n); offset == t.sndNxt-t.sndUna {
		p.sent(f, seq, end)
	}
	return n
}

// fill puts up to most bytes from offset on, counted from sndUna, behind the headers of the only frame of lease, and returns
// how many.
func (p *Port) fill(f *flow, offset uint32, lease netbackend.Lease, most int) int {
	if left := uint32(f.proxied.left); offset >= left {
		return p.peek(f, offset-left, lease.Frames(), most)
	}
	return p.putHeader(f, offset, lease.Frame(0), most)
}

// largestSegment is how much data one frame may carry.
func (p *Port) largestSegment(f *flow) int {
	mss := int(f.tcp.mss)
	if !p.takesTSO(&f.key.guest) || f.tcp.urgency&hostMarked != 0 {
		return mss // who cuts a frame that announces a mark would announce it in each piece, at another place
	}
	return (largestFrame - f.headers()) / mss * mss
}

// sent moves the sequence numbers on after new data, and starts timer and measurement.
func (p *Port) sent(f *flow, seq, end uint32) {
	t := &f.tcp
	if f.bits&timing == 0 && seq == t.sndMax {
		f.bits |= timing
		t.rttSeq, t.rttStart = end, p.now
	}
	t.sndNxt = end
	if after(end, t.sndMax) {
		t.sndMax = end
	}
	if f.deadline == 0 || f.bits&persisting != 0 {
		if f.bits&persisting != 0 || t.retries == 0 {
			t.rto = t.baseRTO()
		}
		f.bits &^= persisting
		p.wheel.set(f, p.now+t.rto)
	}
}

// peek reads what there is from offset on in the socket's queue, without taking it from there, to its place in frames, up to
// each bytes behind the headers of each frame. It returns 0 if there is nothing, and takes note of why.
func (p *Port) peek(f *flow, offset uint32, frames [][]guestmem.Iovec, each int) int {
	pieces := p.pieces[:0]
	skipped := 0
	if p.cfg.PeekOffset {
		p.movePeek(f, offset)
	} else {
		pieces, skipped = p.swallowed(pieces, offset)
	}
	for _, iov := range frames {
		pieces, _ = appendRange(pieces, iov, f.headers(), each)
	}
	p.counters.Peeks++
	n, _, errno := p.msg.Receive(f.fd, pieces, unix.MSG_PEEK, false)
	if errno != 0 {
		p.peekFailed(f, offset, errno)
		return 0
	}
	n -= skipped
	if n <= 0 {
		p.peekedNothing(f, skipped)
		return 0
	}
	f.tcp.peek = offset + uint32(n)
	if n < capacity(pieces)-skipped && f.bits&(hungUp|failed) == 0 && !p.stopped(f, f.tcp.peek) {
		// A short answer of a stream socket means that its queue is empty (epoll(7)), and what comes now comes with
		// an event of its own. Only the end of the stream must be looked for.
		f.bits &^= readable
	}
	return n
}

// capacity is the sum of the lengths in iov.
func capacity(iov []guestmem.Iovec) int {
	n := 0
	for _, v := range iov {
		n += int(v.Len)
	}
	return n
}

// movePeek sets the kernel's peek offset, if it is not there already.
func (p *Port) movePeek(f *flow, offset uint32) {
	if f.tcp.peek != offset && hostsock.SetPeekOffset(f.fd, int32(offset)) == 0 {
		f.tcp.peek = offset
	}
}

// swallowed appends room for n bytes that are of no interest: without a peek offset the kernel begins at the oldest
// byte.
func (p *Port) swallowed(iov []guestmem.Iovec, n uint32) ([]guestmem.Iovec, int) {
	for left := n; left > 0; {
		part := min(left, uint32(len(p.swallow)))
		iov = append(iov, guestmem.PieceOf(p.swallow[:part]))
		left -= part
	}
	return iov, int(n)
}

// peekedNothing tells the end of the stream from a queue that is empty for now. What was skipped may stand before file
// descriptors in the queue of a unix socket, or before an urgent byte: then nothing is known of what follows, until it was
// dropped.
func (p *Port) peekedNothing(f *flow, skipped int) {
	f.bits &^= readable
	if skipped == 0 || f.bits&(hungUp|unixSocket) == hungUp && f.tcp.urgency&hostMarked == 0 {
		f.bits |= hostEOF
	}
}

// peekFailed takes note of why there is nothing at offset in the socket's queue.
func (p *Port) peekFailed(f *flow, offset uint32, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		if !p.cfg.PeekOffset {
			offset = 0 // where the kernel has begun
		}
		if f.isMark(offset) {
			p.run.push(p.flows, f) // it is there: the kernel says so in front of an urgent byte while a signal is pending
			return
		}
		f.bits &^= readable
	case unix.EINTR:
	case unix.EFAULT:
		f.bits &^= readable
		p.worker.Fault(errno)
	default:
		f.bits &^= readable
		p.hostFailed(f, errno)
	}
}

// commitSegment writes the headers in front of n bytes of data in frame i of lease, and gives the guest the frame, which is the
// next of the lease.
func (p *Port) commitSegment(f *flow, lease netbackend.Lease, i int, seq uint32, n int) {
	iov := lease.Frame(i)
	headers := f.headers()
	b := p.template[:headers]
	tcp := b[p.putIP(b, &f.key.remote, &f.key.guest, protoTCP, headers-f.l4()+n):]
	flags := uint8(flagACK)
	if f.bits&readable == 0 || n < p.largestSegment(f) {
		flags |= flagPSH
	}
	p.putSegment(b, f, flags, seq)
	p.acked(f)
	p.answered(f)
	var h vnet.Header
	sum := f.key.pseudoSum(len(tcp) + n)
	if p.guestCsum {
		p.offload(&h, f, n)
		binary.BigEndian.PutUint16(tcp[16:], sum)
	} else {
		sum = p.sumRange(iov, headers, n, vnet.Sum(tcp, sum))
		binary.BigEndian.PutUint16(tcp[16:], ^sum)
	}
	guestmem.CopyTo(iov, 0, b)
	lease.Commit(&h, headers+n)
}

// offload fills the virtio-net header of a segment whose checksum the guest finishes (virtio 1.2 section 5.1.6.4.1).
func (p *Port) offload(h *vnet.Header, f *flow, n int) {
	h.Flags = vnet.FlagNeedsCSum
	h.CsumStart, h.CsumOffset = uint16(f.l4()), 16
	if mss := f.tcp.mss; n > int(mss) {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOTCPv4, mss, uint16(f.headers())
		if f.ipLen == ipv6Len {
			h.GSOType = vnet.GSOTCPv6
		}
	}
}

// sendFIN sends the end of the host's stream once the guest has acknowledged all of it, and again if it was lost.
func (p *Port) sendFIN(f *flow) outcome {
	t := &f.tcp
	switch {
	case f.bits&hostEOF == 0 || f.bits&finAcked != 0 || t.sndNxt != t.sndUna:
		return idle
	case f.bits&finSent == 0 && t.sndUna != t.sndMax:
		return idle
	}
	if !p.sendControl(f, flagFIN|flagACK, t.sndUna) {
		return starves
	}
	f.bits |= finSent
	p.acked(f)
	p.sent(f, t.sndUna, t.sndUna+1)
	f.bits &^= timing
	return idle
}

// sendProbe asks the guest whether its window is still closed, or whether it still knows the connection: by a byte that
// it has already (RFC 9293 section 3.8.6.1). It is asked again until it answers.
func (p *Port) sendProbe(f *flow) bool {
	t := &f.tcp
	if t.announces(t.sndUna) && !p.sendControl(f, flagACK, t.sndUna) { // the guest takes no news from an old segment
		return false
	}
	if !p.sendControl(f, flagACK, t.sndUna-1) {
		return false
	}
	p.acked(f)
	f.bits = f.bits&^probeDue | persisting
	p.wheel.set(f, p.now+t.rto)
	return true
}

// sendAcks sends the acknowledgement that is due, and the repetitions that are.
func (p *Port) sendAcks(f *flow) bool {
	t := &f.tcp
	if f.bits&ackDue != 0 {
		if !p.sendControl(f, flagACK, t.sndNxt) {
			return false
		}
		p.acked(f)
	}
	for ; t.dupDue > 0; t.dupDue-- {
		if !p.sendControl(f, flagACK, t.sndNxt) {
			return false
		}
	}
	return true
}

// sendControl sends a segment without data.
func (p *Port) sendControl(f *flow, flags uint8, seq uint32) bool {
	b := p.template[:f.headers()]
	p.putSegment(b, f, flags, seq)
	return p.sendTCP(b, &f.key)
}

// sendTCP completes the headers of the frame b, whose TCP header stands, and sends it.
func (p *Port) sendTCP(b []byte, key *flowKey) bool {
	n := len(b) - etherLen - key.guest.HeaderLen()
	tcp := b[p.putIP(b, &key.remote, &key.guest, protoTCP, n):]
	binary.BigEndian.PutUint16(tcp[16:], ^vnet.Sum(tcp, key.pseudoSum(n)))
	return p.send(b)
}

// advertise returns the window field of a segment to the guest. Its right edge never moves back.
func (p *Port) advertise(f *flow) uint16 {
	t := &f.tcp
	if f.state == stateOpen && f.bits&(guestFIN|stalled) == 0 && 2*t.taken >= t.room {
		p.measure(f)
	}
	// Rounded up, for rounding down would take back what was promised (RFC 7323 section 2.3).
	field := min((t.rcvEdge-t.rcvNxt+1<<t.rcvScale-1)>>t.rcvScale, maxWindow)
	if edge := t.rcvNxt + field<<t.rcvScale; after(edge, t.rcvEdge) {
		t.rcvEdge = edge
	}
	return uint16(field)
}

// measure opens the window as far as the host's socket has room for more, less what the kernel needs to describe it.
func (p *Port) measure(f *flow) {
	t := &f.tcp
	p.counters.WindowReads++
	if p.mem.Read(f.fd) != 0 {
		return
	}
	size, queued := p.mem[hostsock.MemSendBuffer], p.mem[hostsock.MemSendQueued]
	if f.bits&unixSocket != 0 {
		queued = p.mem[hostsock.MemSendTaken]
	}
	room := size - min(size, queued)
	room -= room / 8
	least := min(uint32(t.ask), size/4)
	if queued > 0 && room < least {
		room = 0 // a small window is worse than none (RFC 9293 section 3.8.6.2.2)
	}
	room = min(room, maxWindow<<t.rcvScale)
	if edge := t.rcvNxt + room; after(edge, t.rcvEdge) {
		t.rcvEdge = edge
	}
	t.room, t.taken = t.rcvEdge-t.rcvNxt, 0
	if t.room < least { // so the socket is not writable now: the kernel would say so if there were room for a third of size
		f.bits |= stalled
		_ = p.worker.Rearm(int(f.fd), token(tokenFlow, f.gen, f.index))
	}
}

// sendSyn sends our SYN, or our answer to the guest's, if it is due.
func (p *Port) sendSyn(f *flow) outcome {
	if f.bits&synDue == 0 {
		return idle
	}
	if f.deadline == 0 {
		p.wheel.set(f, p.now+f.tcp.rto)
	}
	if p.isLocated(f) && !p.sendSynSegment(f) {
		return starves
	}
	f.bits &^= synDue
	return idle
}

// isLocated reports whether the SYN of f can be sent: its host is known. If it is not, the link is asked, and the SYN goes to the
// host that was heard last if that has led to nothing.
func (p *Port) isLocated(f *flow) bool {
	if f.state != stateSynSent {
		return true // the guest has sent its own
	}
	f.host = p.hosts.user(&f.key.guest)
	if p.to = f.host; f.host != anyHost {
		return true
	}
	p.askOnce(f.key.guest)
	return f.tcp.rto > initialRTO && p.hosts.mac(anyHost) != 0
}

func (p *Port) sendSynSegment(f *flow) bool {
	t := &f.tcp
	flags, ack, window := uint8(flagSYN), uint32(0), uint16(maxWindow)
	options := guestScales | guestSACKs
	if f.state == stateSynRcvd {
		flags, ack, window = flagSYN|flagACK, t.rcvNxt, uint16(t.rcvEdge-t.rcvNxt)
		options = f.bits
	}
	n := f.l4() + tcpLen + synOptions
	if options&guestTimes != 0 {
		n += timesLen
	}
	b := p.template[:n]
	tcp := b[f.l4():]
	p.putTCP(tcp, &f.key, flags, t.iss, ack, window)
	p.chooseSegment(f)
	p.putSynOptions(tcp[tcpLen:], t.ask, options)
	if options&guestTimes != 0 {
		p.putTimes(tcp[tcpLen+synOptions:], f)
	}
	tcp[12] = byte(len(tcp)) / 4 << 4
	return p.sendTCP(b, &f.key)
}

// synOptions is the length of the options of our SYN and SYN-ACK, without timestamps.
const synOptions = 12

// chooseSegment chooses how long the guest's segments may be. A guest waits until the window has room for a whole one; so that
// what the kernel calls writable is such a room, that is a quarter of the socket's buffer at most. With TSO, frames are as long as
// ever.
func (p *Port) chooseSegment(f *flow) {
	t := &f.tcp
	t.ask = uint16(p.mtu - int(f.ipLen) - tcpLen)
	if t.ask <= smallSegment || p.mem.Read(f.fd) != 0 {
		return
	}
	t.ask = uint16(min(uint32(t.ask), max(smallSegment, p.mem[hostsock.MemSendBuffer]/4)))
}

// smallSegment fits a quarter of the send buffers that sockets have (16 KiB at least, net.ipv4.tcp_wmem).
const smallSegment = 4096

func (p *Port) putSynOptions(b []byte, mss uint16, options flowBits) {
	for i := range b[:synOptions] {
		b[i] = optionNop
	}
	b[0], b[1] = optionMSS, 4
	binary.BigEndian.PutUint16(b[2:], mss)
	if options&guestSACKs != 0 {
		b[6], b[7] = optionSACKPermitted, 2
	}
	if options&guestScales != 0 {
		b[9], b[10], b[11] = optionScale, 3, p.cfg.WindowScale
	}
}

// resetHost ends the host's side of a connection by a reset.
func (p *Port) resetHost(f *flow) {
	if f.fd < 0 {
		return
	}
	// Closing a socket that lingers for no time sends a reset (socket(7)).
	_ = unix.SetsockoptLinger(int(f.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	p.closeSocket(f)
}

// resetGuest ends the guest's side of a connection by a reset, as soon as there is room for it. The host's side is
// closed at once.
func (p *Port) resetGuest(f *flow, c endCause) {
	p.end(f, c)
	p.resetHost(f)
	f.state = stateReset
	f.bits |= rstDue
	if f.crowd == noCrowd {
		p.join(f, crowdConnects)
	}
	const forget = int64(60e9)
	p.wheel.set(f, p.now+forget)
	p.run.push(p.flows, f)
}

// sendReset sends the reset that is left of a connection.
func (p *Port) sendReset(f *flow) outcome {
	t := &f.tcp
	if !p.sendBare(&f.key, flagRST|flagACK, t.sndMax, t.rcvNxt) {
		return starves
	}
	p.counters.ResetsSent++
	p.remove(f)
	return idle
}
