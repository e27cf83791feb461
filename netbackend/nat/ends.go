package nat

import (
	"iter"

	"golang.org/x/sys/unix"
)

// endCause is why a connection of TCP did not end by itself: who reset it, or what became of it before it was open. Each
// such end is counted once, where the engine learns of it.
type endCause uint8

const (
	endUnknown       endCause = iota // the host's socket told of an error, and had none
	endByGuest                       // the guest reset an open connection
	endRefused                       // the guest refused a call
	endUnreachable                   // the guest told by ICMP that a call, or our SYN-ACK, did not get there
	endWithdrawn                     // the guest took its own connect back
	endReplaced                      // the guest began another connection with the same ports
	endForgotten                     // the guest sent a segment of a connection that the engine does not know
	endMisanswered                   // the guest acknowledged a handshake that was never begun
	endUnanswered                    // the guest answered no call, or not our SYN-ACK
	endUnacked                       // the guest acknowledged nothing any more
	endByHost                        // the host's peer reset it
	endHostTimeout                   // the host's peer has acknowledged nothing any more, or no keepalive
	endHostFailed                    // the host's socket failed for another reason
	endConnectFailed                 // the host's connect was refused, or failed
	endEvicted                       // it had to go for another flow; see flowClass
	endGuestGone                     // the front end is gone, and the guest with it
	endDriverGone                    // the guest's driver has reset its device, and none has come after it
	endNoGuest                       // a call while no front end was there
	endBadHeader                     // a call began with what is no PROXY header
	endCutHeader                     // it ended before its PROXY header was complete
	endLateHeader                    // its PROXY header did not come in time
	endNoRoom                        // a call for which there was no port, record or socket
	endTakenOver                     // the address of the host's peer has become the host's own; see review
	endDenied                        // a new policy closes its destination; see Port.SetPolicy
	endKilled                        // the user wanted it; see Port.EndFlows
	endClosed                        // the engine was closed
	endNoQuery                       // the guest sent the name server something else than an ordinary query
	endIdle                          // it led to the name server, and nothing passed on it
	endCauses
)

// endNames are the counters' names as they are printed.
var endNames = [endCauses]string{
	"ended_for_no_reason", "ended_by_guest", "ended_refused_by_guest", "ended_unreachable_in_guest", "ended_withdrawn_by_guest", "ended_replaced_by_guest",
	"ended_unknown_to_us", "ended_misanswered_by_guest", "ended_unanswered_by_guest", "ended_unacked_by_guest",
	"ended_by_host", "ended_host_timed_out", "ended_host_failed", "ended_connect_failed", "ended_evicted",
	"ended_guest_gone", "ended_driver_gone", "ended_no_guest",
	"ended_bad_proxy_header", "ended_cut_proxy_header", "ended_late_proxy_header", "ended_no_room", "ended_address_taken_over", "ended_denied", "ended_on_demand",
	"ended_with_engine", "ended_no_query", "ended_idle",
}

// Ends counts connections that did not end by themselves, by cause.
type Ends [endCauses]uint64

// All returns the counters with their names.
func (e Ends) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, n := range e {
			if !yield(endNames[i], n) {
				return
			}
		}
	}
}

// end counts the end of f, unless it is a connection that had ended before and whose guest is yet to be told.
func (s *shard) end(f *flow, c endCause) {
	if f.key.Proto == protoTCP && f.state != stateReset {
		s.counters.Ends[c]++
	}
}

// hostFailed takes note that the host's side of a connection is dead. What its queue still holds may be sent.
func (e *tcpEngine) hostFailed(f conn, errno unix.Errno) {
	f.bits |= hostReset
	if f.tcp.cause == endUnknown {
		f.tcp.cause = causeOf(errno)
	}
}

// causeOf returns what an error of the host's socket says of its connection.
func causeOf(errno unix.Errno) endCause {
	switch errno {
	case 0:
		return endUnknown
	case unix.ECONNRESET, unix.EPIPE:
		return endByHost
	case unix.ETIMEDOUT:
		return endHostTimeout
	}
	return endHostFailed
}

// hostError finds out why the host's side of a connection is dead, if no call has told.
func (e *tcpEngine) hostError(f conn) endCause {
	if f.tcp.cause != endUnknown {
		return f.tcp.cause
	}
	errno, err := unix.GetsockoptInt(int(f.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return endHostFailed
	}
	return causeOf(unix.Errno(errno))
}
