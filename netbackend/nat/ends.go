package nat

import (
	"iter"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
)

// endCause is why a connection of TCP did not end by itself: who reset it, or what became of it before it was open. Each
// such end is counted once, where the engine learns of it.
type endCause uint8

const (
	endUnknown endCause = iota
	endByGuest
	endRefused
	endUnreachable
	endWithdrawn
	endReplaced
	endForgotten
	endMisanswered
	endUnanswered
	endUnacked
	endByHost
	endHostTimeout
	endHostFailed
	endConnectFailed
	endEvicted // see flowClass
	endGuestGone
	endDriverGone
	endNoGuest
	endBadHeader
	endCutHeader
	endLateHeader
	endNoRoom
	endTakenOver // see review
	endDenied    // see Port.SetPolicy
	endKilled    // see Port.EndFlows
	endClosed
	endNoQuery
	endIdle
	endCauses
)

// endText is what users read of a cause.
type endText struct{ name, help string }

// endTexts are the names of the counters, and what each one counts.
var endTexts = [endCauses]endText{
	endUnknown:       {"ended_for_no_reason", "Connections that ended by an error of the socket of the host, which then had none."},
	endByGuest:       {"ended_by_guest", "Open connections that the guest reset."},
	endRefused:       {"ended_refused_by_guest", "Calls that the guest refused."},
	endUnreachable:   {"ended_unreachable_in_guest", "Calls and handshakes that did not get there, as the guest told by ICMP."},
	endWithdrawn:     {"ended_withdrawn_by_guest", "Connects that the guest took back."},
	endReplaced:      {"ended_replaced_by_guest", "Connections in whose place the guest began another one with the same ports."},
	endForgotten:     {"ended_unknown_to_us", "Segments of the guest that belong to no connection."},
	endMisanswered:   {"ended_misanswered_by_guest", "Acknowledgements of the guest for a handshake that was never begun."},
	endUnanswered:    {"ended_unanswered_by_guest", "Calls and handshakes that the guest did not answer."},
	endUnacked:       {"ended_unacked_by_guest", "Connections of which the guest acknowledged nothing any more."},
	endByHost:        {"ended_by_host", "Connections that the peer of the host reset."},
	endHostTimeout:   {"ended_host_timed_out", "Connections of which the peer of the host acknowledged nothing any more, or no keepalive."},
	endHostFailed:    {"ended_host_failed", "Connections whose socket of the host failed for another reason."},
	endConnectFailed: {"ended_connect_failed", "Connects of the host that were refused, or failed."},
	endEvicted:       {"ended_evicted", "Connections that had to go for another flow."},
	endGuestGone:     {"ended_guest_gone", "Connections that ended with the front end."},
	endDriverGone:    {"ended_driver_gone", "Connections that ended because the driver of the guest reset its device, and none came after it."},
	endNoGuest:       {"ended_no_guest", "Calls while no front end was there."},
	endBadHeader:     {"ended_bad_proxy_header", "Calls that began with what is no PROXY header."},
	endCutHeader:     {"ended_cut_proxy_header", "Calls that ended before their PROXY header was complete."},
	endLateHeader:    {"ended_late_proxy_header", "Calls whose PROXY header did not come in time."},
	endNoRoom:        {"ended_no_room", "Calls for which there was no port, record or socket."},
	endTakenOver:     {"ended_address_taken_over", "Connections whose peer has an address that is the host by now."},
	endDenied:        {"ended_denied", "Connections whose destination a new policy closes."},
	endKilled:        {"ended_on_demand", "Connections that the user ended."},
	endClosed:        {"ended_with_engine", "Connections that ended with the engine."},
	endNoQuery:       {"ended_no_query", "Connections to the name server with something else than an ordinary query."},
	endIdle:          {"ended_idle", "Connections to the name server on which nothing passed."},
}

// Ends counts connections that did not end by themselves, by cause.
type Ends [endCauses]uint64

// All returns the counters with their names.
func (e Ends) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, text := range endTexts {
			if !yield(text.name, e[i]) {
				return
			}
		}
	}
}

// Help tells what the counter of a name counts, "" for one that there is not.
func (e Ends) Help(name string) string {
	for _, text := range endTexts {
		if text.name == name {
			return text.help
		}
	}
	return ""
}

// end counts the end of f, unless it is a connection that had ended before and whose guest is yet to be told.
func (s *shard) end(f *flow, c endCause) {
	if f.key.Proto == netpkt.TCP && f.state != stateReset {
		s.counters.Ends[c]++
	}
}

// hostFailed takes note that the host's side of a connection is dead. What its queue still holds may be sent.
func (e *tcpEngine) hostFailed(f conn, errno unix.Errno) {
	f.tcp.flags |= hostReset
	if f.tcp.cause == endUnknown {
		f.tcp.cause = causeOf(errno)
	}
}

// hasHostEnded reports whether the host's side of a connection has ended its stream, or is dead, as far as that was seen.
func (e *tcpEngine) hasHostEnded(f *flow) bool { return e.conn(f).tcp.flags&(hostEOF|hostReset) != 0 }

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
