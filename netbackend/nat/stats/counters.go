package stats

// Counters is what the engine counts. Each dropped frame is in exactly one of the first group.
type Counters struct {
	Malformed      uint64 `counter:"malformed" help:"Frames that are too short, or whose lengths contradict each other."`
	BadHeader      uint64 `counter:"bad_header" help:"Frames with a virtio-net header that lies."`
	Unsupported    uint64 `counter:"unsupported" help:"Frames of other protocols than IP and ARP, and ICMP messages that nobody asks the engine for."`
	OtherProtocols uint64 `counter:"other_protocols" help:"Packets of other IP protocols than TCP, UDP and ICMP; the guest is told by an ICMP error."`
	Multicast      uint64 `counter:"multicast" help:"Packets to groups, which do not leave the network of the guest."`
	Broadcast      uint64 `counter:"broadcast" help:"Packets to everybody, which do not leave the network of the guest."`
	BadAddress     uint64 `counter:"bad_address" help:"Frames from or to addresses and ports that cannot be meant."`
	Impostors      uint64 `counter:"impostors" help:"Frames that claim to come from the address of another guest."`
	StrayReports   uint64 `counter:"stray_reports" help:"ICMP errors about what is not under way to the guest, or that change nothing."`
	Denied         uint64 `counter:"denied" help:"Frames to what the policy closes."`
	Withdrawn      uint64 `counter:"withdrawn" help:"Flows that ended because their destination is the host by now, or is closed by a new policy."`
	HopsExceeded   uint64 `counter:"hops_exceeded" help:"Datagrams whose time to live ended here."`
	NoRoom         uint64 `counter:"no_room" help:"Replies and datagrams that found no receive buffer."`
	NoGuest        uint64 `counter:"no_guest" help:"Forwarded datagrams for a guest that has not been heard of."`
	Strangers      uint64 `counter:"strangers" help:"Datagrams from somebody the guest has not sent to, or that answer no query."` // see nat.Config.UDPFiltering
	UDPRefused     uint64 `counter:"udp_refused" help:"Datagrams that the socket of the host did not take."`
	PingForbidden  uint64 `counter:"ping_forbidden" help:"Echo requests that the host forbids to send."` // see hostcaps.CheckPing
	PingRefused    uint64 `counter:"ping_refused" help:"Echo requests that the socket of the host did not take."`

	// Messages of mDNS and SSDP with Config.Multicast.
	MulticastKept   uint64 `counter:"multicast_kept" help:"Announcements of the guest by mDNS and SSDP, and its claims of names, which stay in its network."`
	MulticastUnsent uint64 `counter:"multicast_unsent" help:"Questions by mDNS and SSDP that no interface took, or that were too long."`

	// Frames beyond what the engine answers in a second, which are dropped; see package limits.
	ARPOverBudget     uint64 `counter:"arp_over_budget" help:"Frames of ARP beyond what is answered in a second."`
	NDPOverBudget     uint64 `counter:"ndp_over_budget" help:"Messages of neighbour discovery beyond what is answered in a second."`
	DHCPOverBudget    uint64 `counter:"dhcp_over_budget" help:"Messages of DHCP beyond what is answered in a second."`
	EchoOverBudget    uint64 `counter:"echo_over_budget" help:"Echo requests to the router beyond what is answered in a second."`
	BuffersBounded    uint64 `counter:"buffers_bounded" help:"Times that the buffer of a socket was made smaller."`                          // see nat/kernel_memory.go
	NewFlowsOverRate  uint64 `counter:"new_flows_over_rate" help:"First packets of flows that came when too many others were not answered."` // see nat/new_flows.go
	QueriesOverBudget uint64 `counter:"queries_over_budget" help:"DNS queries beyond what is passed on in a second."`                        // a connection to the name server is refused
	ErrorsOverBudget  uint64 `counter:"errors_over_budget" help:"ICMP errors that were not sent, beyond what is sent in a second."`
	PathsOverBudget   uint64 `counter:"paths_over_budget" help:"ICMP errors of the guest about packets that are too big, beyond what is heeded in a second."`

	MulticastOverBudget uint64 `counter:"multicast_over_budget" help:"Questions of the guest to networks of the host beyond what is passed on in a second."`

	ChargenOverBudget uint64 `counter:"chargen_over_budget" help:"Datagrams to chargen beyond what is answered in a second."`
	BootRefused       uint64 `counter:"boot_sessions_refused" help:"Requests for boot files that were dropped, since as many files as a guest may have at once were being sent."`
	MeasuredIgnored   uint64 `counter:"measured_datagrams_ignored" help:"Datagrams to services of --measure from ports below 1024, which are not answered."`

	// Datagrams of QUIC where rules by name want to know the server; see package quicproof.
	HellosDropped    uint64 `counter:"quic_dropped" help:"Datagrams of QUIC that waited for the name of their server to be known, and went nowhere; the one that was refused is counted as denied."`
	HellosOverBudget uint64 `counter:"quic_over_budget" help:"Datagrams that begin connections of QUIC, beyond what rules by name have looked at in a second."`

	TCPRefused    uint64 `counter:"tcp_refused" unit:"bytes" help:"Bytes within the advertised window that the socket of the host did not take; the guest repeats them."`
	TCPOutOfOrder uint64 `counter:"tcp_out_of_order" help:"Segments that came too early; the guest repeats them."`
	TCPOutdated   uint64 `counter:"tcp_outdated" help:"Segments whose timestamps are older than what came before."`

	// Fragments of packets that never became whole.
	FragmentOverlaps uint64 `counter:"fragment_overlaps" help:"Fragments of datagrams whose fragments overlap or contradict each other."`
	FragmentTimeouts uint64 `counter:"fragment_timeouts" help:"Fragments of datagrams whose rest has not come in time."`
	FragmentsEvicted uint64 `counter:"fragments_evicted" help:"Fragments of the oldest datagrams, given up when too many were incomplete at once."`

	// Datagrams of mDNS and SSDP; see Config.Multicast.
	MulticastIgnored           uint64 `counter:"multicast_ignored" help:"Questions of others in networks of the host, and what answers nobody."`
	MulticastStrangers         uint64 `counter:"multicast_strangers" help:"Messages of mDNS and SSDP from outside of the networks of an interface, or that could be."`
	MulticastDistorted         uint64 `counter:"multicast_distorted" help:"Responses that cannot be understood, or are longer than the MTU of the guest."`
	MulticastDenied            uint64 `counter:"multicast_denied" help:"Responses and announcements of whom the guest may not reach."`
	MulticastAnswersOverBudget uint64 `counter:"multicast_answers_over_budget" help:"Responses beyond what the guest gets in a second."`
	MulticastAsksEvicted       uint64 `counter:"multicast_asks_evicted" help:"Ports of the guest that waited for answers by unicast, given up for newer ones."`
	MulticastSent              uint64 `counter:"multicast_sent" help:"Questions by mDNS and SSDP that left."`
	MulticastReceived          uint64 `counter:"multicast_received" help:"Responses and announcements that the guest got."`

	FramesIn      uint64 `counter:"frames_in" help:"All frames of the guest."`
	TCPFlows      uint64 `counter:"tcp_flows" help:"Connections that were begun, from either side."`
	UDPFlows      uint64 `counter:"udp_flows" help:"UDP associations that were begun, from either side."`
	UDPSent       uint64 `counter:"udp_sent" help:"Datagrams that sockets of the host took."`
	UDPSends      uint64 `counter:"udp_sends" help:"System calls spent on sending datagrams."`
	UDPReceives   uint64 `counter:"udp_receives" help:"System calls spent on receiving datagrams."`
	UDPExpired    uint64 `counter:"udp_expired" help:"UDP associations that ended by silence."`
	StrangersIn   uint64 `counter:"strangers_in" help:"Ends that the guest had not sent to, and that were let in."` // see nat.Config.UDPFiltering
	SourcesMoved  uint64 `counter:"sources_moved" help:"Sockets connected again because addresses or routes of the host had changed."`
	PingFlows     uint64 `counter:"ping_flows" help:"Series of echo requests that were begun."`
	LongDatagrams uint64 `counter:"long_datagrams" help:"Datagrams sent to the guest in fragments."`
	FlowsMoved    uint64 `counter:"flows_moved" help:"Flows that went on to another queue pair."`
	TableFull     uint64 `counter:"table_full" help:"Flows that were refused because there were too many."`
	SocketsSpent  uint64 `counter:"sockets_spent" help:"Flows that were refused because the share of descriptors of the guest was used up."`
	SocketErrors  uint64 `counter:"socket_errors" help:"Flows that failed because the host gave no socket."`
	StaleEvents   uint64 `counter:"stale_events" help:"Events of sockets that were closed in the meantime."`
	Retransmits   uint64 `counter:"retransmits" help:"Segments sent to the guest again."`
	Timeouts      uint64 `counter:"timeouts" help:"Connections given up because the guest did not answer."`
	PathsNarrowed uint64 `counter:"paths_narrowed" help:"ICMP errors of the guest by which packets to it became shorter."`
	ReportsHeeded uint64 `counter:"reports_heeded" help:"Other ICMP errors of the guest by which a call or a UDP flow ended, or is to end sooner."`
	Unreachables  uint64 `counter:"unreachables" help:"ICMP messages that a destination is unreachable, sent to the guest."`
	ResetsSent    uint64 `counter:"resets_sent" help:"Resets sent to the guest."`
	WindowReads   uint64 `counter:"window_reads" help:"System calls spent on finding what a socket of the host will take."`
	Peeks         uint64 `counter:"peeks" help:"System calls spent on what sockets of the host have for the guest."`
	Accepts       uint64 `counter:"accepts" help:"Connections taken by forwards."`
	Calls         uint64 `counter:"calls" help:"Connections into the guest that somebody has asked for without a forward."`
	Knocks        uint64 `counter:"knocks" help:"Times that a port of the guest was asked for a gated forward."`
	GatesOpened   uint64 `counter:"gates_opened" help:"Times that a gate was opened."`
	GatesShut     uint64 `counter:"gates_shut" help:"Times that a gate was shut."`

	// Of the name server.
	Queries                    uint64 `counter:"queries" help:"DNS queries by UDP that were passed on."`
	QueriesNamed               uint64 `counter:"queries_named" help:"DNS queries by UDP for names of the configuration, which were answered without a resolver."`
	QueriesCached              uint64 `counter:"queries_cached" help:"DNS queries by UDP that were answered by an answer that was kept."`
	QueriesStale               uint64 `counter:"queries_stale" help:"DNS queries by UDP that were answered by an answer that was kept and is over, since no resolver has given one."`
	QueriesDenied              uint64 `counter:"queries_denied" help:"DNS queries that rules by name have refused."`
	QueriesWithoutHints        uint64 `counter:"queries_without_hints" help:"DNS queries for types of records that rules by name leave without an answer, such as HTTPS."`
	AnswersCut                 uint64 `counter:"answers_cut" help:"DNS answers from which addresses were taken that rules by name do not open."`
	AnswersUnreadable          uint64 `counter:"answers_unreadable" help:"DNS answers that could not be read, or answer another question, under rules by name."`
	NamesForgotten             uint64 `counter:"names_forgotten" help:"Names of addresses that were forgotten before their time, because a guest has too many."`
	QueriesTooMany             uint64 `counter:"queries_too_many" help:"DNS queries that were answered by SERVFAIL, because too many were under way."`
	QueriesRefused             uint64 `counter:"queries_refused" help:"Messages to the name server that are no ordinary queries, by UDP or TCP."`
	ResolverConnectionsTooMany uint64 `counter:"resolver_connections_too_many" help:"Connections to the name server that were refused, because there were too many."`
	ResolversLeft              uint64 `counter:"resolvers_left" help:"Times that a resolver did not answer, and others were preferred from then on."`

	// Of services to measure with; see package measure.
	Measured          uint64 `counter:"measured_connections" help:"Connections to services of --measure."`
	MeasuredTooMany   uint64 `counter:"measured_connections_too_many" help:"Connections to services of --measure that were refused, because there were too many."`
	MeasuredDatagrams uint64 `counter:"measured_datagrams" help:"Datagrams that services of --measure took."`

	Ends Ends // connections that did not end by themselves, by cause

	// Flows given up for newer ones; see nat/class.go.
	ProofsRefused       uint64 `counter:"proofs_refused" help:"Connections, and associations of QUIC, that were refused because they do not tell the name of a server that the rules by name allow there."`
	ProofsLate          uint64 `counter:"proofs_late" help:"Those whose first bytes did not come in time."`
	ProofsEvicted       uint64 `counter:"proofs_evicted" help:"Those given up for newer ones, because too many had not told their server yet."`
	ConnectsEvicted     uint64 `counter:"connects_evicted" help:"Connections of the guest that were not open yet, given up for newer flows."`
	CallsEvicted        uint64 `counter:"calls_evicted" help:"Forwarded connections that the guest had not answered, given up for newer flows."`
	AssociationsEvicted uint64 `counter:"associations_evicted" help:"UDP associations and series of pings of the guest, given up for newer flows."`
	PeersEvicted        uint64 `counter:"peers_evicted" help:"UDP associations through forwards, given up for newer flows."`
	StrangersEvicted    uint64 `counter:"strangers_evicted" help:"Ends that had been let in and that the guest had not sent to, given up for newer ones."`
	LingeringEvicted    uint64 `counter:"lingering_evicted" help:"Connections that both sides had ended, reset before the peer had taken all because too many or too much waited."` // see nat/internal/shard/lingering.go
	LingeringGivenUp    uint64 `counter:"lingering_given_up" help:"Connections that both sides had ended, reset because the peer had taken nothing for an hour."`
}
