package archtest

import (
	"go/ast"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/metrics"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/vxlan"
	"github.com/vringnet/vring/tap"
)

// promised are the names of counters, which users have in their scripts: those of the NAT engine, TAP devices, test back ends
// receive buffers and front ends' sockets. They are tags of fields. A new counter gets its name here; a name that is here stays.
const (
	promisedNAT = `
accepts answers_cut answers_unreadable arp_over_budget associations_evicted bad_address bad_header boot_sessions_refused broadcast buffers_bounded calls calls_evicted chargen_over_budget connects_evicted
denied dhcp_over_budget echo_over_budget ended_address_taken_over ended_bad_proxy_header ended_by_guest ended_by_host
ended_connect_failed ended_cut_proxy_header ended_denied ended_driver_gone ended_evicted ended_for_no_reason ended_guest_gone
ended_host_failed ended_host_timed_out ended_idle ended_late_proxy_header ended_misanswered_by_guest ended_no_guest
ended_no_query ended_no_room ended_on_demand ended_proxy_failed ended_refused_by_guest ended_replaced_by_guest ended_unacked_by_guest
ended_unanswered_by_guest ended_unknown_to_us ended_unproven ended_unreachable_in_guest ended_with_engine ended_withdrawn_by_guest
errors_over_budget flows_moved fragment_overlaps fragment_timeouts fragments_evicted frames_in gates_opened
gates_shut hops_exceeded impostors knocks lingering_evicted lingering_given_up long_datagrams malformed measured_connections
measured_connections_too_many measured_datagrams measured_datagrams_ignored multicast multicast_answers_over_budget
multicast_asks_evicted multicast_denied multicast_distorted multicast_ignored multicast_kept multicast_over_budget
multicast_received multicast_sent multicast_strangers multicast_unsent ndp_over_budget new_flows_over_rate
names_forgotten no_guest no_room other_protocols paths_narrowed paths_over_budget peeks peers_evicted ping_flows ping_forbidden
ping_refused proofs_evicted proofs_late proofs_refused queries queries_cached queries_denied queries_named queries_over_budget queries_refused queries_stale queries_too_many queries_without_hints quic_dropped
quic_over_budget reports_heeded resets_sent
resolver_connections_too_many resolvers_left retransmits socket_errors sockets_spent sources_moved stale_events
strangers strangers_evicted strangers_in stray_reports table_full tcp_flows tcp_out_of_order tcp_outdated
tcp_refused timeouts udp_expired udp_flows udp_receives udp_refused udp_sends udp_sent unreachables unsupported
window_reads withdrawn`
	promisedTAP = `
bad_headers detached down full no_memory not_accepted read_errors received received_bytes refused respilled sent
sent_bytes too_long`
	promisedStub = `
bad bytes corrupt duplicates frames late missed missing sent_bytes sent_frames tested undeliverable`
	promisedSwitch = `
bad_headers bad_source copies_lost cut discarded flooded full guarded isolated local not_accepted not_learned received received_bytes
sent sent_bytes spoofed storm summed too_long too_many_macs uncut unreached waits wrong_vlan`
	promisedUplink = `
vxlan_bad_frame vxlan_bad_header vxlan_not_learned vxlan_received vxlan_sent vxlan_stranger vxlan_too_large vxlan_unmapped vxlan_unsent vxlan_wrong_vni`
	promisedBuffers = `
receive_buffers_bad_chain receive_buffers_empty receive_buffers_outside_memory receive_buffers_too_small
receive_buffers_wrong_direction`
	promisedFrontEnd = `
front_end_long_frames front_end_refused_frames front_end_short_frames`
	promisedLink = `
link_in_corrupted link_in_discarded link_in_duplicated link_in_lost link_in_queue_drops link_in_reordered link_in_store_drops link_in_too_long
link_out_bad link_out_corrupted link_out_damaged link_out_discarded link_out_duplicated link_out_lost link_out_queue_drops link_out_reordered
link_out_store_drops`
)

// Each counter of the source is a metric of Prometheus, with the help of its tag. A struct of counters that package metrics does not know
// is found so.
func TestEachCounterIsAMetricWithItsHelp(t *testing.T) {
	helps := map[string]bool{}
	for _, m := range metrics.Table() {
		helps[m.Help] = true
	}
	found := 0
	for _, f := range productOf(sourceFiles(t)) {
		ast.Inspect(f.syntax, func(n ast.Node) bool {
			field, isField := n.(*ast.Field)
			if !isField || field.Tag == nil {
				return true
			}
			text, _ := constant(field.Tag)
			tag := reflect.StructTag(text)
			if name, isCounter := tag.Lookup("counter"); isCounter {
				found++
				require.True(t, helps[tag.Get("help")], "%s: counter %s is no metric with the help %q", f.name, name, tag.Get("help"))
			}
			return true
		})
	}
	require.Greater(t, found, 100)
}

// The names that users know are in those of metrics, and no metric is of a counter that they do not know.
func TestCountersAndMetricsHaveTheSameNames(t *testing.T) {
	const (
		ofThreads = "turns polled sleeps from_guest_frames from_guest_bytes to_guest_frames to_guest_bytes poll turn" +
			" to_guest_interrupts from_guest_interrupts to_guest_kicks from_guest_kicks" +
			" to_guest_ring_entries to_guest_ring_available from_guest_ring_entries from_guest_ring_available"
		ofGuests = " flows connect kernel_memory_bytes kernel_memory_limit_bytes" + // behind NAT, as a whole
			" rule_flows rule_denied rule_from_guest_bytes rule_to_guest_bytes"
		respelled = "ended_unknown_to_us" // which has a unit to those who read metrics
	)
	var names []string
	for set, promised := range map[string]string{"nat": promisedNAT + ofGuests, "tap": promisedTAP, "switch": promisedSwitch, "uplink": promisedUplink, "stub": promisedStub, "thread": promisedBuffers + promisedFrontEnd + promisedLink + " " + ofThreads} {
		for _, name := range strings.Fields(promised) {
			names = append(names, set+"_"+name)
		}
	}
	names[slices.Index(names, "nat_"+respelled)] = "nat_ended_unknown_to_engine"
	of := regexp.MustCompile(`^vring_((?:nat|tap|switch|uplink|stub|thread)_\w+?)(?:_total|_seconds)?$`)
	var found []string
	for _, m := range metrics.Table() {
		if name := of.FindStringSubmatch(m.Name); name != nil {
			found = append(found, strings.Replace(name[1], "nat_tcp_refused_bytes", "nat_tcp_refused", 1))
		}
	}
	require.ElementsMatch(t, names, found)
}

// The order is that of the struct in the log, and that of the alphabet here.
func TestCountersKeepTheNamesThatUsersKnow(t *testing.T) {
	for promised, counters := range map[string]any{
		promisedNAT: nat.Counters{}, promisedTAP: tap.Counters{}, promisedSwitch: l2switch.Counters{}, promisedUplink: vxlan.Counters{}, promisedStub: stub.Counters{}, promisedBuffers: netbackend.ReturnedBuffers{},
		promisedFrontEnd: netbackend.FrontEndCounters{}, promisedLink: netem.Counters{},
	} {
		var names []string
		for name := range counting.All(counters) {
			names = append(names, name)
		}
		require.ElementsMatch(t, strings.Fields(promised), names, "of %T", counters)
	}
}
