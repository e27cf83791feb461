package archtest

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/tap"
)

// promised are the names of counters, which users have in their scripts: those of the NAT engine, TAP devices, test back ends
// and receive buffers. They are tags of fields. A new counter gets its name here; a name that is here stays.
const (
	promisedNAT = `
accepts arp_over_budget associations_evicted bad_address bad_header broadcast buffers_bounded calls_evicted connects_evicted
denied dhcp_over_budget echo_over_budget ended_address_taken_over ended_bad_proxy_header ended_by_guest ended_by_host
ended_connect_failed ended_cut_proxy_header ended_denied ended_driver_gone ended_evicted ended_for_no_reason ended_guest_gone
ended_host_failed ended_host_timed_out ended_idle ended_late_proxy_header ended_misanswered_by_guest ended_no_guest
ended_no_query ended_no_room ended_on_demand ended_refused_by_guest ended_replaced_by_guest ended_unacked_by_guest
ended_unanswered_by_guest ended_unknown_to_us ended_unreachable_in_guest ended_with_engine ended_withdrawn_by_guest
errors_over_budget flows_moved fragment_overlaps fragment_timeouts fragments_evicted frames_in gates_opened
gates_shut hops_exceeded impostors knocks long_datagrams malformed multicast multicast_answers_over_budget
multicast_asks_evicted multicast_denied multicast_distorted multicast_ignored multicast_kept multicast_over_budget
multicast_received multicast_sent multicast_strangers multicast_unsent ndp_over_budget new_flows_over_rate
no_guest no_room other_protocols paths_narrowed paths_over_budget peeks peers_evicted ping_flows ping_forbidden
ping_refused queries queries_over_budget queries_refused queries_too_many reports_heeded resets_sent
resolver_connections_too_many resolvers_left retransmits socket_errors sockets_spent sources_moved stale_events
strangers strangers_evicted strangers_in stray_reports table_full tcp_flows tcp_out_of_order tcp_outdated
tcp_refused timeouts udp_expired udp_flows udp_receives udp_refused udp_sends udp_sent unreachables unsupported
window_reads withdrawn`
	promisedTAP = `
bad_headers detached down full no_memory not_accepted read_errors received received_bytes refused respilled sent
sent_bytes too_long`
	promisedStub = `
bad bytes frames missed sent_bytes sent_frames undeliverable`
	promisedBuffers = `
receive_buffers_bad_chain receive_buffers_empty receive_buffers_outside_memory receive_buffers_too_small
receive_buffers_wrong_direction`
)

// The order is that of the struct in the log, and that of the alphabet here.
func TestCountersKeepTheNamesThatUsersKnow(t *testing.T) {
	for promised, counters := range map[string]any{
		promisedNAT: nat.Counters{}, promisedTAP: tap.Counters{}, promisedStub: stub.Counters{}, promisedBuffers: netbackend.ReturnedBuffers{},
	} {
		var names []string
		for name := range counting.All(counters) {
			names = append(names, name)
		}
		require.ElementsMatch(t, strings.Fields(promised), names, "of %T", counters)
	}
}
