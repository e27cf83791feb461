package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// largestFrame is the longest that the guest gets. In IPv6 it could be longer, but drivers have no room for more.
	largestFrame = netpkt.EtherLen + 65535
	// share is how many bytes a flow may send to the guest in one turn before others have theirs.
	share = 256 << 10
	// persistDelay is how long a closed window is left alone before it is probed.
	persistDelay = int64(200e6)
)

// Serve does for a connection whatever is due.
func (e *Engine) Serve(t *shard.Turn, of *shard.Flow) shard.Outcome {
	f := e.conn(of)
	switch f.State {
	case stateConnecting:
		e.checkConnect(t, f)
		if f.State != stateSynRcvd {
			return shard.Idle
		}
		return e.sendSyn(t, f)
	case stateAwaitProxy:
		e.readProxyHeader(t, f)
		return shard.Idle
	case stateReset:
		return e.sendReset(t, f)
	case stateSynRcvd, stateSynSent:
		return e.sendSyn(t, f)
	}
	if f.tcp.urgency&(hostUrgent|answerAwaited) != 0 {
		e.lookAtHost(t, f)
	}
	e.consumeAcked(t, f)
	if f.Bits&shard.Writable != 0 {
		e.hostWritable(t, f)
	}
	result := e.sendStream(t, f)
	if f.State == stateOpen && f.tcp.flags&pendAck != 0 || f.tcp.pendDupAcks > 0 {
		if !e.sendAcks(t, f) {
			result = shard.NoBuffers
		}
	}
	if e.finished(f) {
		e.finish(t, f)
		return shard.Idle
	}
	return result
}

// finished tells whether both sides have ended their streams, and know it.
func (e *Engine) finished(f conn) bool {
	const both = guestFIN | finAcked
	return f.State == stateOpen && f.tcp.flags&both == both && f.tcp.flags&pendAck == 0
}

// finish ends a connection that both sides have ended. What its peer has yet to take, the kernel sends.
func (e *Engine) finish(t *shard.Turn, f conn) {
	if f.Bits&shard.NoSocket == 0 && t.Linger(f.Flow) {
		e.nextKeepalive.start(false, t.Now)
	}
	t.Remove(f.Flow)
}

// consumeAcked removes from the host socket's queue what the guest has acknowledged.
func (e *Engine) consumeAcked(t *shard.Turn, f conn) {
	c := f.tcp
	if c.pendingDrop > 0 && (f.Bits&shard.UnixSocket != 0 || c.urgency&hostMarked != 0) {
		f.Bits |= shard.Readable // see onPeekEmpty
	}
	for c.pendingDrop > 0 {
		n, errno := e.consume(t, f.Flow, c.pendingDrop)
		if errno != 0 || n == 0 {
			break // the host's reset has emptied the queue
		}
		c.pendingDrop -= uint32(n)
		f.ToGuest += uint64(n)
		c.peek -= min(c.peek, uint32(n)) // the kernel moves its peek offset back likewise
	}
	c.pendingDrop = 0
	if c.urgency != 0 {
		e.passMark(t, f)
	}
}

// hostWritable takes note that the host's socket has room, and reopens the window if it was closed until then.
func (e *Engine) hostWritable(t *shard.Turn, f conn) {
	f.Bits &^= shard.Writable
	if f.tcp.flags&stalled == 0 {
		return
	}
	if f.tcp.flags&inspected != 0 && !e.hooks.Inspector.OnWritable(t, f.Flow) {
		return // what was taken already goes first
	}
	f.tcp.flags &^= stalled
	f.tcp.flags |= pendAck
	f.tcp.wndCredit = 0 // measure again
	if f.tcp.flags&refused != 0 {
		// Three of a kind make the guest repeat at once what the socket had refused (RFC 5681 section 3.2).
		f.tcp.flags &^= refused
		f.tcp.pendDupAcks = 3
	}
}

// sendStream sends the guest what it is to get of the host's stream, and its end.
func (e *Engine) sendStream(t *shard.Turn, f conn) shard.Outcome {
	if f.tcp.flags&pendProbe != 0 && !e.sendProbe(t, f) {
		return shard.NoBuffers
	}
	if f.tcp.flags&pendRetransmit != 0 && !e.resend(t, f) {
		return shard.NoBuffers
	}
	result := e.sendData(t, f)
	if result != shard.Idle {
		return result
	}
	if f.tcp.flags&hostReset != 0 || f.Bits&shard.SockError != 0 {
		e.ResetGuest(f.Flow, e.hostError(f)) // what the window allowed was sent, the rest is lost on both sides
		return e.sendReset(t, f)
	}
	return e.sendFIN(t, f)
}

// sendData sends new data within the guest's window.
func (e *Engine) sendData(t *shard.Turn, f conn) shard.Outcome {
	c := f.tcp
	for budget := share; e.hasMore(f); {
		hole := c.skipSACKed()
		flight := c.sndNxt.Since(c.sndUna)
		if !e.windowOpen(t, f, flight) {
			return shard.Idle
		}
		if budget <= 0 {
			return shard.Again
		}
		most := int(min(c.sndWnd-flight, hole))
		n := e.sendBurst(t, f, flight, most)
		if n == nothing && e.hasMore(f) {
			n = e.sendSegment(t, f, flight, most)
		}
		if n == noRoom {
			return shard.NoBuffers
		}
		if n <= 0 {
			return shard.Idle
		}
		budget -= n
	}
	return shard.Idle
}

// hasMore tells whether there may be something that the guest was not sent yet: of the header in front of the host's
// stream, or of the stream.
func (e *Engine) hasMore(f conn) bool {
	c := f.tcp
	return f.Bits&shard.Readable != 0 && c.flags&hostEOF == 0 || c.sndNxt.Since(c.sndUna) < uint32(f.tcp.proxy.left)
}

// windowOpen tells whether the guest's window allows a segment that is worth sending (RFC 9293 section 3.8.6.2.1). If
// it is closed, and nothing is under way whose acknowledgement could open it, the persist timer is started.
func (e *Engine) windowOpen(t *shard.Turn, f conn, flight uint32) bool {
	c := f.tcp
	if c.sndWnd > flight && (flight == 0 || c.sndWnd-flight >= min(uint32(c.mss), c.maxWnd/2)) {
		return true
	}
	if c.sndUna == c.sndMax && (t.Wheel.Deadline(f.Index) == 0 || f.tcp.flags&ackDelayed != 0) {
		e.flushDelayedAck(f)
		f.tcp.flags |= persisting
		c.rto = max(c.baseRTO(), persistDelay)
		t.Wheel.Set(f.Index, t.Now+c.rto)
	}
	return false
}

// burstFrames is how many frames one system call fills at most. Where the guest takes frames of many segments, its share of a
// turn are four.
const burstFrames = netbackend.MaxFrames

// sendBurst sends several of the largest frames at once, all filled by one system call. Each look at a socket's queue makes the
// kernel acknowledge what has come since the last one, so looking seldom spares the work of both ends.
//
// It returns how many bytes there were: nothing if it does not come to two frames, or if the flow does not look as if it had so much.
func (e *Engine) sendBurst(t *shard.Turn, f conn, offset uint32, most int) int {
	if f.tcp.flags&bulk == 0 || offset < uint32(f.tcp.proxy.left) {
		return nothing
	}
	each := e.largestSegment(f)
	frames := min(most/each, share/each, burstFrames)
	if frames < 2 {
		return nothing
	}
	room := f.headers() + each
	lease := t.RX.Reserve(netbackend.Request{Min: room, Max: room, Frames: frames})
	if lease.Len() < 2 {
		return nothing
	}
	n := e.peek(t, f, offset-uint32(f.tcp.proxy.left), lease.Frames(), each)
	seq, left := f.tcp.sndUna.Plus(offset), n
	for i := 0; left > 0; i++ {
		part := min(left, each)
		e.commitSegment(t, f, lease, i, seq, part)
		end := seq.Plus(uint32(part))
		e.sent(t, f, seq, end)
		seq = end
		left -= part
	}
	if n < 2*each {
		f.tcp.flags &^= bulk
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
func (e *Engine) sendSegment(t *shard.Turn, f conn, offset uint32, most int) int {
	if t.RXFull {
		return noRoom
	}
	c := f.tcp
	most = min(most, e.largestSegment(f))
	headers := f.headers()
	lease := t.RX.Reserve(netbackend.Request{
		Min: max(headers+1, netbackend.MinFrame), Max: max(headers+most, netbackend.MinFrame),
	})
	if lease.Len() == 0 {
		t.RXFull = true
		return noRoom
	}
	n := e.fill(t, f, offset, lease, most)
	if n <= 0 {
		return nothing
	}
	seq := c.sndUna.Plus(offset)
	e.commitSegment(t, f, lease, 0, seq, n)
	if n == e.largestSegment(f) {
		f.tcp.flags |= bulk
	}
	if end := seq.Plus(uint32(n)); offset == c.sndNxt.Since(c.sndUna) {
		e.sent(t, f, seq, end)
	}
	return n
}

// fill puts up to most bytes from offset on, counted from sndUna, behind the headers of the only frame of lease, and returns
// how many.
func (e *Engine) fill(t *shard.Turn, f conn, offset uint32, lease netbackend.Lease, most int) int {
	if left := uint32(f.tcp.proxy.left); offset >= left {
		return e.peek(t, f, offset-left, lease.Frames(), most)
	}
	return e.putHeader(f, offset, lease.Frame(0), most)
}

// largestSegment is how much data one frame may carry.
func (e *Engine) largestSegment(f conn) int {
	mss := int(f.tcp.mss)
	if !e.shard.TakesTSO(&f.Key.Guest) || f.tcp.urgency&hostMarked != 0 {
		return mss // who cuts a frame that announces a mark would announce it in each piece, at another place
	}
	return (largestFrame - f.headers()) / mss * mss
}

// sent moves the sequence numbers on after new data, and starts timer and measurement.
func (e *Engine) sent(t *shard.Turn, f conn, seq, end seqnum.Value) {
	c := f.tcp
	if f.tcp.flags&timing == 0 && seq == c.sndMax {
		f.tcp.flags |= timing
		c.rttSeq, c.rttStart = end, t.Now
	}
	c.sndNxt = end
	if end.After(c.sndMax) {
		c.sndMax = end
	}
	if t.Wheel.Deadline(f.Index) == 0 || f.tcp.flags&persisting != 0 {
		if f.tcp.flags&persisting != 0 || c.retries == 0 {
			c.rto = c.baseRTO()
		}
		f.tcp.flags &^= persisting
		t.Wheel.Set(f.Index, t.Now+c.rto)
	}
}

// peek reads what there is from offset on in the socket's queue, without taking it from there, to its place in frames, up to
// each bytes behind the headers of each frame. It returns 0 if there is nothing, and takes note of why.
func (e *Engine) peek(t *shard.Turn, f conn, offset uint32, frames [][]guestmem.Iovec, each int) int {
	if f.Bits&shard.NoSocket != 0 {
		return e.produce(f, offset, frames, each)
	}
	pieces := t.Pieces[:0]
	skipped := 0
	if e.cfg.PeekOffset {
		e.movePeekOffset(f, offset)
	} else {
		pieces, skipped = e.appendDiscard(pieces, offset)
	}
	for _, iov := range frames {
		pieces, _ = shard.AppendRange(pieces, iov, f.headers(), each)
	}
	t.Counters.Peeks++
	n, _, errno := t.Msg.Receive(f.FD, pieces, unix.MSG_PEEK, false)
	if errno != 0 {
		e.peekFailed(f, offset, errno)
		return 0
	}
	n -= skipped
	if n <= 0 {
		e.onPeekEmpty(f, skipped)
		return 0
	}
	f.tcp.peek = offset + uint32(n)
	if n < shard.Capacity(pieces)-skipped && f.Bits&(shard.PeerClosed|shard.SockError) == 0 && !e.stopped(t, f, f.tcp.peek) {
		// A short answer of a stream socket means that its queue is empty (epoll(7)), and what comes now comes with
		// an event of its own. Only the end of the stream must be looked for.
		f.Bits &^= shard.Readable
	}
	return n
}

// movePeekOffset sets the kernel's peek offset, if it is not there already.
func (e *Engine) movePeekOffset(f conn, offset uint32) {
	if f.tcp.peek != offset && hostsock.SetPeekOffset(f.FD, int32(offset)) == 0 {
		f.tcp.peek = offset
	}
}

// appendDiscard appends room for n bytes that are of no interest: without a peek offset the kernel begins at the oldest
// byte.
func (e *Engine) appendDiscard(iov []guestmem.Iovec, n uint32) ([]guestmem.Iovec, int) {
	for left := n; left > 0; {
		part := min(left, uint32(len(e.discardBuf)))
		iov = append(iov, guestmem.PieceOf(e.discardBuf[:part]))
		left -= part
	}
	return iov, int(n)
}

// onPeekEmpty tells the end of the stream from a queue that is empty for now. What was skipped may stand before file
// descriptors in the queue of a unix socket, or before an urgent byte: then nothing is known of what follows, until it was
// dropped.
func (e *Engine) onPeekEmpty(f conn, skipped int) {
	f.Bits &^= shard.Readable
	if skipped == 0 || f.Bits&(shard.PeerClosed|shard.UnixSocket) == shard.PeerClosed && f.tcp.urgency&hostMarked == 0 {
		f.tcp.flags |= hostEOF
	}
}

// peekFailed takes note of why there is nothing at offset in the socket's queue.
func (e *Engine) peekFailed(f conn, offset uint32, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		if !e.cfg.PeekOffset {
			offset = 0 // where the kernel has begun
		}
		if f.isMark(offset) {
			e.shard.Schedule(f.Flow) // it is there: the kernel says so in front of an urgent byte while a signal is pending
			return
		}
		f.Bits &^= shard.Readable
	case unix.EINTR:
	case unix.EFAULT:
		f.Bits &^= shard.Readable
		e.shard.Worker.Fault(errno)
	default:
		f.Bits &^= shard.Readable
		e.hostFailed(f, errno)
	}
}

// commitSegment writes the headers in front of n bytes of data in frame i of lease, and gives the guest the frame, which is the
// next of the lease.
func (e *Engine) commitSegment(t *shard.Turn, f conn, lease netbackend.Lease, i int, seq seqnum.Value, n int) {
	iov := lease.Frame(i)
	headers := f.headers()
	b := t.Template[:headers]
	tcp := b[t.PutIP(b, &f.Key.Remote, &f.Key.Guest, netpkt.TCP, headers-f.l4()+n):]
	flags := uint8(netpkt.ACK)
	if f.Bits&shard.Readable == 0 || n < e.largestSegment(f) {
		flags |= netpkt.PSH
	}
	e.writeSegment(t, b, f, flags, seq)
	e.acked(f)
	e.answered(t, f)
	var h vnet.Header
	sum := shard.PseudoSum(&f.Key, len(tcp)+n)
	if t.GuestCsum {
		e.offload(&h, f, n)
		netpkt.PutTCPSum(tcp, sum)
	} else {
		sum = t.SumRange(iov, headers, n, vnet.Sum(tcp, sum))
		netpkt.PutTCPSum(tcp, ^sum)
	}
	guestmem.CopyTo(iov, 0, b)
	lease.Commit(&h, headers+n)
}

// offload fills the virtio-net header of a segment whose checksum the guest finishes (virtio 1.2 section 5.1.6.4.1).
func (e *Engine) offload(h *vnet.Header, f conn, n int) {
	h.Flags = vnet.FlagNeedsCSum
	h.CsumStart, h.CsumOffset = uint16(f.l4()), 16
	if mss := f.tcp.mss; n > int(mss) {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOTCPv4, mss, uint16(f.headers())
		if f.IPLen == netpkt.IPv6Len {
			h.GSOType = vnet.GSOTCPv6
		}
	}
}

// sendFIN sends the end of the host's stream once the guest has acknowledged all of it, and again if it was lost.
func (e *Engine) sendFIN(t *shard.Turn, f conn) shard.Outcome {
	c := f.tcp
	switch {
	case f.tcp.flags&hostEOF == 0 || f.tcp.flags&finAcked != 0 || c.sndNxt != c.sndUna:
		return shard.Idle
	case f.tcp.flags&finSent == 0 && c.sndUna != c.sndMax:
		return shard.Idle
	}
	if !e.sendControl(t, f, netpkt.FIN|netpkt.ACK, c.sndUna) {
		return shard.NoBuffers
	}
	f.tcp.flags |= finSent
	e.stand(f)
	e.acked(f)
	e.sent(t, f, c.sndUna, c.sndUna.Plus(1))
	f.tcp.flags &^= timing
	return shard.Idle
}

// sendProbe asks the guest whether its window is still closed, or whether it still knows the connection: by a byte that
// it has already (RFC 9293 section 3.8.6.1). It is asked again until it answers.
func (e *Engine) sendProbe(t *shard.Turn, f conn) bool {
	c := f.tcp
	if c.announces(c.sndUna) && !e.sendControl(t, f, netpkt.ACK, c.sndUna) { // the guest takes no news from an old segment
		return false
	}
	if !e.sendControl(t, f, netpkt.ACK, c.sndUna.Minus(1)) {
		return false
	}
	e.acked(f)
	f.tcp.flags = f.tcp.flags&^pendProbe | persisting
	t.Wheel.Set(f.Index, t.Now+c.rto)
	return true
}

// sendAcks sends the acknowledgement that is due, and the repetitions that are.
func (e *Engine) sendAcks(t *shard.Turn, f conn) bool {
	c := f.tcp
	if f.tcp.flags&pendAck != 0 {
		if !e.sendControl(t, f, netpkt.ACK, c.sndNxt) {
			return false
		}
		e.acked(f)
	}
	for ; c.pendDupAcks > 0; c.pendDupAcks-- {
		if !e.sendControl(t, f, netpkt.ACK, c.sndNxt) {
			return false
		}
	}
	return true
}

// sendControl sends a segment without data.
func (e *Engine) sendControl(t *shard.Turn, f conn, flags uint8, seq seqnum.Value) bool {
	b := t.Template[:f.headers()]
	e.writeSegment(t, b, f, flags, seq)
	return finishSegment(t, b, &f.Key)
}

// finishSegment completes the headers of the frame b, whose TCP header stands, and sends it.
func finishSegment(t *shard.Turn, b []byte, key *flowtable.Key) bool {
	n := len(b) - netpkt.EtherLen - key.Guest.HeaderLen()
	tcp := b[t.PutIP(b, &key.Remote, &key.Guest, netpkt.TCP, n):]
	netpkt.PutTCPSum(tcp, ^vnet.Sum(tcp, shard.PseudoSum(key, n)))
	return t.Send(b)
}

// advertise returns the window field of a segment to the guest. Its right edge never moves back.
func (e *Engine) advertise(t *shard.Turn, f conn) uint16 {
	c := f.tcp
	if f.State == stateOpen && f.tcp.flags&(guestFIN|stalled) == 0 && 2*c.wndUsed >= c.wndCredit {
		e.measure(t, f)
	}
	// Rounded up, for rounding down would take back what was promised (RFC 7323 section 2.3).
	field := min((c.rcvWndEdge.Since(c.rcvNxt)+1<<c.rcvScale-1)>>c.rcvScale, maxWindow)
	if edge := c.rcvNxt.Plus(field << c.rcvScale); edge.After(c.rcvWndEdge) {
		c.rcvWndEdge = edge
	}
	return uint16(field)
}

// measure opens the window as far as the host's socket has room for more, less what the kernel needs to describe it.
func (e *Engine) measure(t *shard.Turn, f conn) {
	c := f.tcp
	size, queued, ok := e.hostRoom(t, f)
	if !ok {
		return
	}
	room := size - min(size, queued)
	room -= room / 8
	least := min(uint32(c.advMSS), size/4)
	if queued > 0 && room < least {
		room = 0 // a small window is worse than none (RFC 9293 section 3.8.6.2.2)
	}
	room = min(room, maxWindow<<c.rcvScale)
	if edge := c.rcvNxt.Plus(room); edge.After(c.rcvWndEdge) {
		c.rcvWndEdge = edge
	}
	c.wndCredit, c.wndUsed = c.rcvWndEdge.Since(c.rcvNxt), 0
	if c.wndCredit < least { // so the socket is not writable now: the kernel would say so if there were room for a third of size
		f.tcp.flags |= stalled
		if f.Bits&shard.NoSocket == 0 {
			_ = t.Worker.Rearm(int(f.FD), shard.Token(shard.TokenFlow, t.Flows.Generation(f.Index), f.Index))
		}
	}
}

// hostRoom returns how many bytes of the guest's the host's side may have that its peer has not taken, and how many it has.
func (e *Engine) hostRoom(t *shard.Turn, f conn) (size, queued uint32, ok bool) {
	if f.Bits&shard.NoSocket != 0 {
		size, queued = e.room(f)
		return size, queued, true
	}
	t.Counters.WindowReads++
	if t.MemInfo.Read(f.FD) != 0 {
		return 0, 0, false
	}
	size, queued = t.MemInfo[hostsock.MemSendBuffer], t.MemInfo[hostsock.MemSendQueued]
	if f.Bits&shard.UnixSocket != 0 {
		queued = t.MemInfo[hostsock.MemSendTaken]
	}
	return size, queued, true
}

// sendSyn sends our SYN, or our answer to the guest's, if it is due.
func (e *Engine) sendSyn(t *shard.Turn, f conn) shard.Outcome {
	if f.tcp.flags&pendSYN == 0 {
		return shard.Idle
	}
	if t.Wheel.Deadline(f.Index) == 0 {
		t.Wheel.Set(f.Index, t.Now+f.tcp.rto)
	}
	if e.isLocated(t, f) && !e.sendSynSegment(t, f) {
		return shard.NoBuffers
	}
	f.tcp.flags &^= pendSYN
	return shard.Idle
}

// isLocated reports whether the SYN of f can be sent: its host is known. If it is not, the link is asked, and the SYN goes to the
// host that was heard last if that has led to nothing.
func (e *Engine) isLocated(t *shard.Turn, f conn) bool {
	if f.State != stateSynSent {
		return true // the guest has sent its own
	}
	f.Host = t.Hosts.User(&f.Key.Guest)
	if t.To = f.Host; f.Host != hosts.Any {
		return true
	}
	e.link.AskOnce(t, f.Key.Guest)
	return f.tcp.rto > initialRTO && t.Hosts.MAC(hosts.Any) != 0
}

func (e *Engine) sendSynSegment(t *shard.Turn, f conn) bool {
	c := f.tcp
	flags, ack, window := uint8(netpkt.SYN), seqnum.Value{}, uint16(maxWindow)
	options := guestScales | guestSACKs
	if f.State == stateSynRcvd {
		flags, ack, window = netpkt.SYN|netpkt.ACK, c.rcvNxt, uint16(c.rcvWndEdge.Since(c.rcvNxt))
		options = c.flags
	}
	n := f.l4() + netpkt.TCPLen + netpkt.SYNOptionsLen
	if options&guestTimes != 0 {
		n += netpkt.TimesLen
	}
	b := t.Template[:n]
	tcp := b[f.l4():]
	writeHeader(tcp, &f.Key, flags, c.iss, ack, window)
	e.chooseSegment(t, f)
	netpkt.PutSYNOptions(tcp[netpkt.TCPLen:], netpkt.SYNOptions{
		MSS: c.advMSS, SACKs: options&guestSACKs != 0, Scales: options&guestScales != 0, Scale: e.cfg.WindowScale,
	})
	if options&guestTimes != 0 {
		e.writeTimestamps(t, tcp[netpkt.TCPLen+netpkt.SYNOptionsLen:], f)
	}
	netpkt.SetTCPLen(tcp, len(tcp))
	return finishSegment(t, b, &f.Key)
}

// chooseSegment chooses how long the guest's segments may be. A guest waits until the window has room for a whole one; so that
// what the kernel calls writable is such a room, that is a quarter of the socket's buffer at most. With TSO, frames are as long as
// ever.
func (e *Engine) chooseSegment(t *shard.Turn, f conn) {
	c := f.tcp
	c.advMSS = uint16(t.MTU - int(f.IPLen) - netpkt.TCPLen)
	if c.advMSS <= smallSegment {
		return
	}
	var size uint32
	switch {
	case f.Bits&shard.NoSocket != 0:
		size, _ = e.room(f)
	case t.MemInfo.Read(f.FD) != 0:
		return
	default:
		size = t.MemInfo[hostsock.MemSendBuffer]
	}
	c.advMSS = uint16(min(uint32(c.advMSS), max(smallSegment, size/4)))
}

// smallSegment fits a quarter of the send buffers that sockets have (16 KiB at least, net.ipv4.tcp_wmem).
const smallSegment = 4096

// resetHost ends the host's side of a connection by a reset.
func (e *Engine) resetHost(f *shard.Flow) {
	if f.FD < 0 {
		return
	}
	// Closing a socket that lingers for no time sends a reset (socket(7)).
	_ = unix.SetsockoptLinger(int(f.FD), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	e.shard.CloseSocket(f)
}

// Drop ends a connection whose guest is gone: the host's side learns it by a reset.
func (e *Engine) Drop(f *shard.Flow, c stats.CloseReason) {
	e.countEnd(f, c)
	e.resetHost(f)
	e.shard.Remove(f)
}

// ResetEvicted tells the guest that f has to go for another connection.
func (e *Engine) ResetEvicted(t *shard.Turn, of *shard.Flow) {
	f := e.conn(of)
	if f.State != stateAwaitProxy && SendControlSegment(t, &f.Key, netpkt.RST|netpkt.ACK, f.tcp.sndMax, f.tcp.rcvNxt) {
		t.Counters.ResetsSent++
	}
}

// ResetGuest ends the guest's side of a connection by a reset, as soon as there is room for it. The host's side is
// closed at once.
func (e *Engine) ResetGuest(f *shard.Flow, c stats.CloseReason) {
	e.countEnd(f, c)
	e.resetHost(f)
	f.State = stateReset
	e.shard.Flows.Stand(f, standsResetting)
	if f.Class == shard.ClassNone {
		e.shard.JoinClass(f, shard.ClassConnects)
	}
	const forget = int64(60e9)
	e.shard.Wheel.Set(f.Index, e.shard.LastTurn+forget)
	e.shard.Schedule(f)
}

// sendReset sends the reset that is left of a connection.
func (e *Engine) sendReset(t *shard.Turn, f conn) shard.Outcome {
	c := f.tcp
	if !SendControlSegment(t, &f.Key, netpkt.RST|netpkt.ACK, c.sndMax, c.rcvNxt) {
		return shard.NoBuffers
	}
	t.Counters.ResetsSent++
	t.Remove(f.Flow)
	return shard.Idle
}
