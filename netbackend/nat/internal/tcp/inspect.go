package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Somebody may look at what the guest sends on a connection before the host's socket gets it: who holds a connection until it has told
// which server it is for. Of other connections this costs one test of a flag.

// InspectorHooks are what TCP asks of whom a connection was given to by Inspect.
type InspectorHooks struct {
	// Hold is called for a connection of the guest's that begins and has to tell its server, in one of the ways. It is to Inspect it.
	Hold func(f *shard.Flow, ways policy.Proof)
	// Deliver takes n bytes of the guest, passes them on or keeps them, and reports whether it took all, and so the end of the stream that
	// follows them if fin. n may be 0.
	Deliver func(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int, fin bool) bool
	// OnWritable is called when the host's socket has room, and reports whether nothing is kept that it could not take.
	OnWritable func(t *shard.Turn, f *shard.Flow) bool
	// OnAnswer is told how the host's stream begins, once after AwaitAnswer, before the guest gets anything of it. answer is valid
	// during the call, and empty if that cannot be told.
	OnAnswer func(t *shard.Turn, f *shard.Flow, answer []byte)
}

// answerLen is how many bytes of the host's stream OnAnswer gets at most.
const answerLen = 64

// Inspect lets all that the guest sends on f pass through the hooks from now on.
func (e *Engine) Inspect(f *shard.Flow) { e.conn(f).tcp.flags |= inspected }

// EndInspection lets what the guest sends on f pass by itself again.
func (e *Engine) EndInspection(f *shard.Flow) { e.conn(f).tcp.flags &^= inspected }

// AwaitAnswer has OnAnswer called when the host's stream begins.
func (e *Engine) AwaitAnswer(f *shard.Flow) {
	e.conn(f).tcp.urgency |= answerAwaited
	e.shard.Schedule(f)
}

// inspect gives n bytes of the guest to who looks at them. Urgent data lose their mark, so that the host's peer reads what was read here.
func (e *Engine) inspect(t *shard.Turn, f conn, iov []guestmem.Iovec, n int, fin bool) bool {
	return e.hooks.Inspector.Deliver(t, f.Flow, iov, n, fin)
}

// DeliverTo is deliver for who looks at what the guest sends.
func (e *Engine) DeliverTo(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int) bool {
	return e.deliver(t, e.conn(f), iov, n, 0)
}

// Take acknowledges n bytes of the guest that the inspector keeps.
func (e *Engine) Take(f *shard.Flow, n int) {
	c := e.conn(f).tcp
	c.rcvNxt = c.rcvNxt.Plus(uint32(n))
	c.wndUsed += uint32(n)
}

// SendTaken gives the host's socket bytes that Take has acknowledged, and returns how many it took. !ok means that the host's side is
// dead.
func (e *Engine) SendTaken(t *shard.Turn, f *shard.Flow, b []byte) (n int, ok bool) {
	t.Pieces[0] = guestmem.PieceOf(b)
	n, errno := t.Msg.Send(f.FD, t.Pieces[:1], 0)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EINTR:
		n = 0
	default:
		e.hostFailed(e.conn(f), errno)
		e.shard.Schedule(f)
		return 0, false
	}
	f.FromGuest += uint64(n)
	return n, true
}

// Stall closes the guest's window until the host's socket can be written. refusedBytes of the guest were not taken, which it then repeats.
func (e *Engine) Stall(f *shard.Flow, refusedBytes int) {
	c := e.conn(f).tcp
	c.wndCredit = 0
	f.Bits &^= shard.Writable
	c.flags |= stalled
	if refusedBytes > 0 {
		e.shard.Counters.TCPRefused += uint64(refusedBytes)
		c.flags |= refused
	}
}

// IsStalled reports whether the guest's window is closed until the host's socket can be written.
func (e *Engine) IsStalled(f *shard.Flow) bool { return e.conn(f).tcp.flags&stalled != 0 }

// Abort ends a connection while it is being served: the guest is reset in this turn, and so is the host's peer.
func (e *Engine) Abort(of *shard.Flow, c stats.CloseReason) {
	f := e.conn(of)
	f.tcp.flags |= hostReset
	f.tcp.cause = c
}

// IsAlive reports whether the connection is open and the host's side is not known to be dead.
func (e *Engine) IsAlive(f *shard.Flow) bool {
	return f.State == stateOpen && e.conn(f).tcp.flags&hostReset == 0
}

// lookAtHost looks at the host's stream for what is to be known before the guest gets more of it.
func (e *Engine) lookAtHost(t *shard.Turn, f conn) {
	if f.tcp.urgency&hostUrgent != 0 {
		e.findMark(t, f)
	}
	if f.tcp.urgency&answerAwaited != 0 {
		e.showAnswer(t, f)
	}
}

// showAnswer tells the inspector how the host's stream begins, if it has.
func (e *Engine) showAnswer(t *shard.Turn, f conn) {
	b := e.discardBuf[:answerLen]
	n := 0
	if f.tcp.sndMax == f.tcp.iss.Plus(1) { // nothing was sent to the guest, so all is in the queue
		if f.Bits&(shard.Readable|shard.PeerClosed|shard.SockError) == 0 {
			return
		}
		got, errno := e.peekFirst(t, f, b)
		if errno == unix.EAGAIN {
			f.Bits &^= shard.Readable // so nothing of it goes to the guest before an event has told of it
			return
		}
		if errno == 0 {
			n = got
		}
	}
	f.tcp.urgency &^= answerAwaited
	e.hooks.Inspector.OnAnswer(t, f.Flow, b[:n])
}

// peekFirst looks at the first bytes of the queue of the host's socket.
func (e *Engine) peekFirst(t *shard.Turn, f conn, b []byte) (n int, errno unix.Errno) {
	if e.cfg.PeekOffset {
		e.movePeekOffset(f, 0)
	}
	t.Pieces[0] = guestmem.PieceOf(b)
	n, _, errno = t.Msg.Receive(f.FD, t.Pieces[:1], unix.MSG_PEEK, false)
	if errno == 0 {
		f.tcp.peek = uint32(n)
	}
	return n, errno
}
