package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// countEnd counts the end of f, unless it is a connection that had ended before and whose guest is yet to be told. Who waits for it is told.
func (e *Engine) countEnd(f *shard.Flow, c stats.CloseReason) {
	if f.State != stateReset {
		e.shard.Counters.Ends[c]++
		e.ledger.Blame(f, c)
	}
	if f.Bits&shard.Awaited != 0 {
		e.callFailed(f, c)
	}
}

// IsOver reports whether f is a connection that has ended, and whose guest is yet to be told.
func (e *Engine) IsOver(f *shard.Flow) bool { return f.State == stateReset }

// IsOpen reports whether f is an open connection.
func (e *Engine) IsOpen(f *shard.Flow) bool { return f.State == stateOpen }

// IsHandshake reports whether f is a connection of which the guest was sent the first segment, and that is not open yet.
func (e *Engine) IsHandshake(f *shard.Flow) bool {
	return f.State == stateSynSent || f.State == stateSynRcvd
}

// End ends a connection since somebody wants it.
func (e *Engine) End(f *shard.Flow) {
	if f.State == stateAwaitProxy { // of which the guest knows nothing
		e.Drop(f, stats.EndKilled)
		return
	}
	e.ResetGuest(f, stats.EndKilled)
}

// hostFailed takes note that the host's side of a connection is dead. What its queue still holds may be sent.
func (e *Engine) hostFailed(f conn, errno unix.Errno) {
	f.tcp.flags |= hostReset
	if f.tcp.cause == stats.EndUnknown {
		f.tcp.cause = causeOf(errno)
	}
}

// HasHostEnded reports whether the host's side of a connection has ended its stream, or is dead, as far as that was seen.
func (e *Engine) HasHostEnded(f *shard.Flow) bool {
	return e.conn(f).tcp.flags&(hostEOF|hostReset) != 0
}

// causeOf returns what an error of the host's socket says of its connection.
func causeOf(errno unix.Errno) stats.CloseReason {
	switch errno {
	case 0:
		return stats.EndUnknown
	case unix.ECONNRESET, unix.EPIPE:
		return stats.EndByHost
	case unix.ETIMEDOUT:
		return stats.EndHostTimeout
	}
	return stats.EndHostFailed
}

// hostError finds out why the host's side of a connection is dead, if no call has told.
func (e *Engine) hostError(f conn) stats.CloseReason {
	if f.tcp.cause != stats.EndUnknown {
		return f.tcp.cause
	}
	errno, err := unix.GetsockoptInt(int(f.FD), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return stats.EndHostFailed
	}
	return causeOf(unix.Errno(errno))
}
