package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Urgent data are ordinary bytes of a stream, one of which has a mark (RFC 9293 section 3.8.5, RFC 6093). The byte stays at
// its place: all sockets here are read with SO_OOBINLINE. The mark is passed on by its own means, MSG_OOB towards the host and
// the URG flag towards the guest. A connection has one mark in each direction, the newest, as it has in every kernel.
//
// A mark makes the host's queue other than a row of bytes. A read that begins in front of it ends there, though there is
// more. So a short answer does not mean that the queue is empty, and without a peek offset what stands behind the mark is
// out of reach until the guest has acknowledged what stands before it.

// urgency is what is known of the marks of a connection.
type urgency uint8

const (
	hostUrgent    urgency = 1 << iota // the host's socket has told of a mark (EPOLLPRI), which is to be looked for
	hostMarked                        // the byte at hostMark is in the queue of the host's socket
	guestMarked                       // the byte at guestMark is yet to come from the guest
	answerAwaited                     // no mark: how the host's stream begins is to be told, see AwaitAnswer
)

// findMark looks for the mark that the host's socket has told of. Its byte is there, for nothing was dropped since.
func (e *Engine) findMark(t *shard.Turn, f conn) {
	c := f.tcp
	c.urgency &^= hostUrgent
	if offset, ok := e.markOffset(t, f); ok {
		c.urgency |= hostMarked
		c.hostMark = c.sndUna.Minus(c.pendingDrop).Plus(uint32(f.tcp.proxy.left) + offset)
	}
}

// markOffset returns how many bytes stand before the mark in the host's queue. It is not ok if there is a newer mark, of which an
// event will tell, or if file descriptors of a unix client stand before it.
func (e *Engine) markOffset(t *shard.Turn, f conn) (offset uint32, ok bool) {
	at, err := unix.IoctlGetUint32(int(f.FD), unix.SIOCATMARK)
	if err != nil || at != 0 {
		return 0, err == nil
	}
	queued := hostsock.Queued(f.FD)
	if e.cfg.PeekOffset {
		e.movePeekOffset(f, 0)
	}
	pieces, _ := e.appendDiscard(t.Pieces[:0], uint32(min(queued, shard.MaxIovecs*len(e.discardBuf))))
	n, _, errno := t.Msg.Receive(f.FD, pieces, unix.MSG_PEEK|unix.MSG_TRUNC, false) // TCP copies nothing
	if errno != 0 {
		return 0, false
	}
	f.tcp.peek = uint32(n)
	if t.Msg.ControlCut() {
		f.tcp.urgency |= hostUrgent // to be looked for again when they are gone
		return 0, false
	}
	return uint32(n), n < queued
}

// peekPastMark goes on to look at the beginning of the host's queue where a read into b has ended for a mark, or for a signal in
// front of one, after n bytes or with errno. It returns what that read should have.
func (e *Engine) peekPastMark(t *shard.Turn, f *shard.Flow, b []byte, n int, errno unix.Errno) (int, unix.Errno) {
	if errno != 0 && errno != unix.EAGAIN {
		return n, errno
	}
	n = max(n, 0)
	want := min(hostsock.Queued(f.FD), len(b))
	for tries := 0; n < want && tries < hostsock.MaxTries && (e.cfg.PeekOffset || n == 0); tries++ {
		if e.cfg.PeekOffset {
			hostsock.SetPeekOffset(f.FD, int32(n))
		}
		got, _, _ := t.Msg.Receive(f.FD, append(t.Pieces[:0], guestmem.PieceOf(b[n:want])), unix.MSG_PEEK, false)
		n += max(got, 0)
	}
	if e.cfg.PeekOffset {
		hostsock.SetPeekOffset(f.FD, -1)
	}
	if n > 0 {
		errno = 0
	}
	return n, errno
}

// isMark tells whether the byte at offset of the host's queue is the one with the mark.
func (f conn) isMark(offset uint32) bool {
	t := f.tcp
	return t.urgency&hostMarked != 0 && t.sndUna.Plus(uint32(f.tcp.proxy.left)+offset) == t.hostMark
}

// stopped tells whether the peek that ended at offset was short for something else than the end of the queue: a mark that is known,
// or file descriptors that a unix client has sent along. If it was a mark that is not known yet, its event is still to come.
func (e *Engine) stopped(t *shard.Turn, f conn, offset uint32) bool {
	return t.Msg.ControlCut() || f.isMark(offset)
}

// passMark forgets the mark once its byte was dropped, and looks again for one that could not be found.
func (e *Engine) passMark(t *shard.Turn, f conn) {
	c := f.tcp
	if c.urgency&hostMarked != 0 && c.sndUna.After(c.hostMark) {
		c.urgency &^= hostMarked
	}
	if c.urgency&hostUrgent != 0 {
		e.findMark(t, f)
	}
}

// announces tells whether a segment that begins at seq can tell the guest of the mark: it is not behind it, nor too far from it.
func (c *state) announces(seq seqnum.Value) bool {
	const reach = 65535 // of the pointer
	return c.urgency&hostMarked != 0 && c.hostMark.Since(seq) < reach
}

// putMark tells the guest of the mark in the TCP header of a segment that begins at seq. The pointer is to the byte behind, as
// all stacks read it (RFC 6093 section 2.1).
func (c *state) putMark(tcp []byte, seq seqnum.Value) {
	if c.announces(seq) {
		netpkt.PutUrgent(tcp, uint16(c.hostMark.Since(seq)+1))
	}
}

// noteMark takes the mark that a segment of the guest tells of, as Linux does: a pointer of 0 is one of 1, and an old mark does
// not replace a newer one. A mark at what the host's socket has already comes too late.
func (e *Engine) noteMark(f conn, s *Segment) {
	c := f.tcp
	next := e.expected(f)
	mark := s.Seq.Plus(max(uint32(s.Urgent), 1) - 1)
	if s.Seq.Plus(s.Len()).Before(next) || mark.Before(next) || c.urgency&guestMarked != 0 && mark.AtMost(c.guestMark) {
		return
	}
	c.urgency |= guestMarked
	c.guestMark = mark
}

// queueMarked is queue while a mark of the guest is ahead. The byte with the mark goes out alone, for MSG_OOB marks the last byte
// that the socket takes. What it does not take, the guest repeats, and then it is the same again.
func (e *Engine) queueMarked(t *shard.Turn, f conn, seq seqnum.Value, offset, n int, fin bool, c *virtqueue.Chain) {
	conn := f.tcp
	before := int(conn.guestMark.Since(seq))
	if before >= n {
		e.queue(t, f, seq, offset, n, fin, c)
		return
	}
	if before > 0 {
		e.queue(t, f, seq, offset, before, false, c)
	}
	e.FlushOutgoing(t)
	if !f.takesFrom(conn.guestMark) {
		return
	}
	e.queue(t, f, conn.guestMark, offset+before, 1, false, c)
	if e.out.Flow == f.Flow {
		e.out.flags = unix.MSG_OOB
	}
	e.FlushOutgoing(t)
	if !f.takesFrom(conn.guestMark.Plus(1)) {
		return
	}
	conn.urgency &^= guestMarked
	if left := n - before - 1; left > 0 || fin {
		e.queue(t, f, conn.guestMark.Plus(1), offset+before+1, left, fin, c)
	}
}

// OnUrgent takes note that the host's socket has told of a mark.
func (e *Engine) OnUrgent(of *shard.Flow) {
	f := e.conn(of)
	f.tcp.urgency |= hostUrgent
}
