package nat

// Counters is what the engine counts. Each dropped frame is in exactly one of the first group.
type Counters struct {
	// Frames that are too short, or whose lengths contradict each other.
	Malformed uint64 `counter:"malformed"`
	BadHeader uint64 `counter:"bad_header"` // frames with a virtio-net header that lies
	// Frames of other protocols than IP and ARP, and ICMP messages that nobody asks the engine for.
	Unsupported uint64 `counter:"unsupported"`
	// Packets of other IP protocols than TCP, UDP and ICMP; the guest is told by an ICMP error.
	OtherProtocols uint64 `counter:"other_protocols"`
	Multicast      uint64 `counter:"multicast"`   // packets to groups, which do not leave the guest's network
	Broadcast      uint64 `counter:"broadcast"`   // packets to everybody, of which the same is true
	BadAddress     uint64 `counter:"bad_address"` // frames from or to addresses and ports that cannot be meant
	Impostors      uint64 `counter:"impostors"`   // frames that another guest's address claims to come from
	// ICMP errors about what is not under way to the guest, or that change nothing.
	StrayReports uint64 `counter:"stray_reports"`
	Denied       uint64 `counter:"denied"` // frames to what the policy closes
	// Flows that ended because their destination has become the host's, or is closed by a new policy.
	Withdrawn    uint64 `counter:"withdrawn"`
	HopsExceeded uint64 `counter:"hops_exceeded"` // datagrams whose time to live ended here
	NoRoom       uint64 `counter:"no_room"`       // replies and datagrams that found no receive buffer
	NoGuest      uint64 `counter:"no_guest"`      // forwarded datagrams for a guest that has not been heard of
	// Datagrams from somebody the guest has not sent to (Config.UDPFiltering), or that answer no query.
	Strangers     uint64 `counter:"strangers"`
	UDPRefused    uint64 `counter:"udp_refused"`    // datagrams that the host's socket did not take
	PingForbidden uint64 `counter:"ping_forbidden"` // echo requests that the host forbids to send; see hostcaps.CheckPing
	PingRefused   uint64 `counter:"ping_refused"`   // echo requests that the host's socket did not take

	// Messages of mDNS and SSDP with Config.Multicast.
	MulticastKept   uint64 `counter:"multicast_kept"`   // the guest's announcements, and its claims of names
	MulticastUnsent uint64 `counter:"multicast_unsent"` // questions that no interface took, or that were too long

	// Frames beyond what the engine answers in a second, which are dropped; see slowKind.
	ARPOverBudget  uint64 `counter:"arp_over_budget"`
	NDPOverBudget  uint64 `counter:"ndp_over_budget"`
	DHCPOverBudget uint64 `counter:"dhcp_over_budget"`
	EchoOverBudget uint64 `counter:"echo_over_budget"` // echo requests to the engine's own addresses
	// Times that a socket's buffer was made smaller; see kernelMemory.
	BuffersBounded uint64 `counter:"buffers_bounded"`
	// First packets of flows, when too many others were not answered; see newFlows.
	NewFlowsOverRate  uint64 `counter:"new_flows_over_rate"`
	QueriesOverBudget uint64 `counter:"queries_over_budget"` // DNS; a connection to the name server is refused
	ErrorsOverBudget  uint64 `counter:"errors_over_budget"`  // ICMP errors that were not sent
	PathsOverBudget   uint64 `counter:"paths_over_budget"`   // ICMP errors of the guest, "too big"

	MulticastOverBudget uint64 `counter:"multicast_over_budget"` // questions of the guest to the host's networks

	// Bytes within the advertised window that the host's socket did not take; the guest repeats them.
	TCPRefused    uint64 `counter:"tcp_refused"`
	TCPOutOfOrder uint64 `counter:"tcp_out_of_order"` // segments that came too early; the guest repeats them
	TCPOutdated   uint64 `counter:"tcp_outdated"`     // segments whose timestamps are older than what came before

	// Fragments of packets that never became whole.

	// Of datagrams whose fragments overlap or contradict each other.
	FragmentOverlaps uint64 `counter:"fragment_overlaps"`
	FragmentTimeouts uint64 `counter:"fragment_timeouts"` // of those whose rest has not come in time
	// Of the oldest, when too many datagrams were incomplete at once.
	FragmentsEvicted uint64 `counter:"fragments_evicted"`

	// Datagrams of mDNS and SSDP; see Config.Multicast.

	// Questions of others in the networks of the host, and what is nobody's answer.
	MulticastIgnored uint64 `counter:"multicast_ignored"`
	// From outside of an interface's networks, or that could be.
	MulticastStrangers uint64 `counter:"multicast_strangers"`
	// Responses that cannot be understood, or are longer than the guest's MTU.
	MulticastDistorted uint64 `counter:"multicast_distorted"`
	// Responses and announcements of whom the guest may not reach.
	MulticastDenied uint64 `counter:"multicast_denied"`
	// Responses beyond what the guest gets in a second.
	MulticastAnswersOverBudget uint64 `counter:"multicast_answers_over_budget"`
	// Ports of the guest that waited for answers by unicast, given up for newer ones.
	MulticastAsksEvicted uint64 `counter:"multicast_asks_evicted"`
	MulticastSent        uint64 `counter:"multicast_sent"` // questions that left
	// Responses and announcements that the guest got.
	MulticastReceived uint64 `counter:"multicast_received"`

	FramesIn    uint64 `counter:"frames_in"`    // all frames of the guest
	TCPFlows    uint64 `counter:"tcp_flows"`    // connections that were begun, from either side
	UDPFlows    uint64 `counter:"udp_flows"`    // associations that were begun, from either side
	UDPSent     uint64 `counter:"udp_sent"`     // datagrams that the host's sockets took
	UDPSends    uint64 `counter:"udp_sends"`    // system calls that they took
	UDPReceives uint64 `counter:"udp_receives"` // system calls spent on receiving datagrams
	UDPExpired  uint64 `counter:"udp_expired"`  // associations that ended by silence
	// Ends that the guest had not sent to, and that were let in; see Config.UDPFiltering.
	StrangersIn uint64 `counter:"strangers_in"`
	// Sockets connected again because the host's addresses or routes had changed.
	SourcesMoved  uint64 `counter:"sources_moved"`
	PingFlows     uint64 `counter:"ping_flows"`     // series of echo requests that were begun
	LongDatagrams uint64 `counter:"long_datagrams"` // datagrams sent to the guest in fragments
	FlowsMoved    uint64 `counter:"flows_moved"`    // flows that went on to another queue pair
	TableFull     uint64 `counter:"table_full"`     // flows that were refused because there were too many
	// Flows that were refused because the guest's share of descriptors was used up.
	SocketsSpent uint64 `counter:"sockets_spent"`
	SocketErrors uint64 `counter:"socket_errors"` // flows that failed because the host gave no socket
	StaleEvents  uint64 `counter:"stale_events"`  // events of sockets that were closed in the meantime
	Retransmits  uint64 `counter:"retransmits"`   // segments sent to the guest again
	Timeouts     uint64 `counter:"timeouts"`      // connections given up because the guest did not answer
	// ICMP errors of the guest, "too big", by which packets to it became shorter.
	PathsNarrowed uint64 `counter:"paths_narrowed"`
	// Other ICMP errors of the guest by which a call or a UDP flow ended, or is to end sooner.
	ReportsHeeded uint64 `counter:"reports_heeded"`
	Unreachables  uint64 `counter:"unreachables"` // ICMP messages "destination unreachable" sent to the guest
	ResetsSent    uint64 `counter:"resets_sent"`  // resets sent to the guest
	WindowReads   uint64 `counter:"window_reads"` // system calls spent on finding what a host socket will take
	Peeks         uint64 `counter:"peeks"`        // system calls spent on what host sockets have for the guest
	Accepts       uint64 `counter:"accepts"`      // connections taken by forwards
	Knocks        uint64 `counter:"knocks"`       // times that a port of the guest was asked for a gated forward
	GatesOpened   uint64 `counter:"gates_opened"` // times that a gate was opened, and shut
	GatesShut     uint64 `counter:"gates_shut"`

	// Of the name server.
	Queries uint64 `counter:"queries"` // queries by UDP that were passed on
	// Those answered by SERVFAIL, because too many were under way.
	QueriesTooMany uint64 `counter:"queries_too_many"`
	// Messages that are no ordinary queries, by UDP or TCP.
	QueriesRefused uint64 `counter:"queries_refused"`
	// Connections refused, because there were too many.
	ResolverConnectionsTooMany uint64 `counter:"resolver_connections_too_many"`
	// Times that a resolver did not answer, and others were preferred from then on.
	ResolversLeft uint64 `counter:"resolvers_left"`

	Ends Ends // connections that did not end by themselves, by cause

	// Flows given up for newer ones; see flowClass.
	ConnectsEvicted     uint64 `counter:"connects_evicted"`     // the guest's connections that were not open yet
	CallsEvicted        uint64 `counter:"calls_evicted"`        // forwarded connections that the guest had not answered
	AssociationsEvicted uint64 `counter:"associations_evicted"` // the guest's UDP associations and series of pings
	PeersEvicted        uint64 `counter:"peers_evicted"`        // UDP associations through forwards
	// Ends that had been let in, and that the guest had not sent to.
	StrangersEvicted uint64 `counter:"strangers_evicted"`
}
