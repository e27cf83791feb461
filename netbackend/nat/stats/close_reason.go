package stats

import "iter"

// CloseReason is why a connection of TCP did not end by itself: who reset it, or what became of it before it was open. Each
// such end is counted once, where the engine learns of it.
type CloseReason uint8

const (
	EndUnknown CloseReason = iota
	EndByGuest
	EndRefused
	EndUnreachable
	EndWithdrawn
	EndReplaced
	EndForgotten
	EndMisanswered
	EndUnanswered
	EndUnacked
	EndByHost
	EndHostTimeout
	EndHostFailed
	EndConnectFailed
	EndEvicted // for another flow
	EndGuestGone
	EndDriverGone
	EndNoGuest
	EndBadHeader
	EndCutHeader
	EndLateHeader
	EndNoRoom
	EndTakenOver // see nat/policy_again.go
	EndDenied    // see nat.Port.SetPolicy
	EndKilled    // see nat.Port.EndFlows
	EndClosed
	EndNoQuery
	EndIdle
	EndUnproven
	EndProxyFailed
	reasons
)

// endText is what users read of a cause.
type endText struct{ name, help string }

// endTexts are the names of the counters, and what each one counts.
var endTexts = [reasons]endText{
	EndUnknown:       {"ended_for_no_reason", "Connections that ended by an error of the socket of the host, which then had none."},
	EndByGuest:       {"ended_by_guest", "Open connections that the guest reset."},
	EndRefused:       {"ended_refused_by_guest", "Calls that the guest refused."},
	EndUnreachable:   {"ended_unreachable_in_guest", "Calls and handshakes that did not get there, as the guest told by ICMP."},
	EndWithdrawn:     {"ended_withdrawn_by_guest", "Connects that the guest took back."},
	EndReplaced:      {"ended_replaced_by_guest", "Connections in whose place the guest began another one with the same ports."},
	EndForgotten:     {"ended_unknown_to_us", "Segments of the guest that belong to no connection."},
	EndMisanswered:   {"ended_misanswered_by_guest", "Acknowledgements of the guest for a handshake that was never begun."},
	EndUnanswered:    {"ended_unanswered_by_guest", "Calls and handshakes that the guest did not answer."},
	EndUnacked:       {"ended_unacked_by_guest", "Connections of which the guest acknowledged nothing any more."},
	EndByHost:        {"ended_by_host", "Connections that the peer of the host reset."},
	EndHostTimeout:   {"ended_host_timed_out", "Connections of which the peer of the host acknowledged nothing any more, or no keepalive."},
	EndHostFailed:    {"ended_host_failed", "Connections whose socket of the host failed for another reason."},
	EndConnectFailed: {"ended_connect_failed", "Connects of the host that were refused, or failed."},
	EndEvicted:       {"ended_evicted", "Connections that had to go for another flow."},
	EndGuestGone:     {"ended_guest_gone", "Connections that ended with the front end."},
	EndDriverGone:    {"ended_driver_gone", "Connections that ended because the driver of the guest reset its device, and none came after it."},
	EndNoGuest:       {"ended_no_guest", "Calls while no front end was there."},
	EndBadHeader:     {"ended_bad_proxy_header", "Calls that began with what is no PROXY header."},
	EndCutHeader:     {"ended_cut_proxy_header", "Calls that ended before their PROXY header was complete."},
	EndLateHeader:    {"ended_late_proxy_header", "Calls whose PROXY header did not come in time."},
	EndNoRoom:        {"ended_no_room", "Calls for which there was no port, record or socket."},
	EndTakenOver:     {"ended_address_taken_over", "Connections whose peer has an address that is the host by now."},
	EndDenied:        {"ended_denied", "Connections whose destination a new policy closes."},
	EndKilled:        {"ended_on_demand", "Connections that the user ended."},
	EndClosed:        {"ended_with_engine", "Connections that ended with the engine."},
	EndNoQuery:       {"ended_no_query", "Connections to the name server with something that is no message."},
	EndIdle:          {"ended_idle", "Connections to the name server on which nothing passed."},
	EndUnproven:      {"ended_unproven", "Connections whose first bytes name no server that the rules by name allow there."},
	EndProxyFailed:   {"ended_proxy_failed", "Connections that a proxy did not take, or has refused."},
}

// String returns the name of the counter that counts it.
func (c CloseReason) String() string { return endTexts[c].name }

// Ends counts connections that did not end by themselves, by cause.
type Ends [reasons]uint64

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
