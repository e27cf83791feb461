package nat

// Counters is what the engine counts. Each dropped frame is in exactly one of the first group.
type Counters struct {
	Malformed      uint64 // frames that are too short, or whose lengths contradict each other
	BadHeader      uint64 // frames with a virtio-net header that lies
	Unsupported    uint64 // frames of other protocols than IP and ARP, and ICMP messages that nobody asks the engine for
	OtherProtocols uint64 // packets of other IP protocols than TCP, UDP and ICMP; the guest is told by an ICMP error
	Multicast      uint64 // packets to groups, which do not leave the guest's network
	Broadcast      uint64 // packets to everybody, of which the same is true
	BadAddress     uint64 // frames from or to addresses and ports that cannot be meant
	Impostors      uint64 // frames that another guest's address claims to come from
	StrayReports   uint64 // ICMP errors about what is not under way to the guest, or that change nothing
	Denied         uint64 // frames to what the policy closes
	Withdrawn      uint64 // flows that ended because their destination has become the host's
	HopsExceeded   uint64 // datagrams whose time to live ended here
	NoRoom         uint64 // replies and datagrams that found no receive buffer
	NoGuest        uint64 // forwarded datagrams for a guest that has not been heard of
	Strangers      uint64 // datagrams from somebody the guest has not sent to (Config.UDPFiltering), or that answer no query
	UDPRefused     uint64 // datagrams that the host's socket did not take
	PingForbidden  uint64 // echo requests that the host forbids to send; see CheckPing
	PingRefused    uint64 // echo requests that the host's socket did not take

	// Messages of mDNS and SSDP with Config.Multicast.
	MulticastKept   uint64 // the guest's announcements, and its claims of names
	MulticastUnsent uint64 // questions that no interface took, or that were too long

	// Frames beyond what the engine answers in a second, which are dropped; see errand.
	ARPOverBudget     uint64
	NDPOverBudget     uint64
	DHCPOverBudget    uint64
	EchoOverBudget    uint64 // echo requests to the engine's own addresses
	BuffersBounded    uint64 // times that a socket's buffer was made smaller; see kernelMemory
	NewFlowsOverRate  uint64 // first packets of flows, when too many others were not answered; see newFlows
	QueriesOverBudget uint64 // DNS; a connection to the name server is refused
	ErrorsOverBudget  uint64 // ICMP errors that were not sent
	PathsOverBudget   uint64 // ICMP errors of the guest, "too big"

	MulticastOverBudget uint64 // questions of the guest to the host's networks

	TCPRefused    uint64 // bytes within the advertised window that the host's socket did not take; the guest repeats them
	TCPOutOfOrder uint64 // segments that came too early; the guest repeats them
	TCPOutdated   uint64 // segments whose timestamps are older than what came before

	// Fragments of packets that never became whole.
	FragmentOverlaps uint64 // of datagrams whose fragments overlap or contradict each other
	FragmentTimeouts uint64 // of those whose rest has not come in time
	FragmentsEvicted uint64 // of the oldest, when too many datagrams were incomplete at once

	// Datagrams of mDNS and SSDP; see Config.Multicast.
	MulticastIgnored           uint64 // questions of others in the networks of the host, and what is nobody's answer
	MulticastStrangers         uint64 // from outside of an interface's networks, or that could be
	MulticastDistorted         uint64 // responses that cannot be understood, or are longer than the guest's MTU
	MulticastDenied            uint64 // responses and announcements of whom the guest may not reach
	MulticastAnswersOverBudget uint64 // responses beyond what the guest gets in a second
	MulticastAsksEvicted       uint64 // ports of the guest that waited for answers by unicast, given up for newer ones
	MulticastSent              uint64 // questions that left
	MulticastReceived          uint64 // responses and announcements that the guest got

	FramesIn      uint64 // all frames of the guest
	TCPFlows      uint64 // connections that were begun, from either side
	UDPFlows      uint64 // associations that were begun, from either side
	UDPSent       uint64 // datagrams that the host's sockets took
	UDPSends      uint64 // system calls that they took
	UDPReceives   uint64 // system calls spent on receiving datagrams
	UDPExpired    uint64 // associations that ended by silence
	StrangersIn   uint64 // ends that the guest had not sent to, and that were let in; see Config.UDPFiltering
	SourcesMoved  uint64 // sockets connected again because the host's addresses or routes had changed
	PingFlows     uint64 // series of echo requests that were begun
	LongDatagrams uint64 // datagrams sent to the guest in fragments
	FlowsMoved    uint64 // flows that went on to another queue pair
	TableFull     uint64 // flows that were refused because there were too many
	SocketsSpent  uint64 // flows that were refused because the guest's share of descriptors was used up
	SocketErrors  uint64 // flows that failed because the host gave no socket
	StaleEvents   uint64 // events of sockets that were closed in the meantime
	Retransmits   uint64 // segments sent to the guest again
	Timeouts      uint64 // connections given up because the guest did not answer
	PathsNarrowed uint64 // ICMP errors of the guest, "too big", by which packets to it became shorter
	ReportsHeeded uint64 // other ICMP errors of the guest by which a call or a UDP flow ended, or is to end sooner
	Unreachables  uint64 // ICMP messages "destination unreachable" sent to the guest
	ResetsSent    uint64 // resets sent to the guest
	WindowReads   uint64 // system calls spent on finding what a host socket will take
	Peeks         uint64 // system calls spent on what host sockets have for the guest
	Accepts       uint64 // connections taken by forwards
	Knocks        uint64 // times that a port of the guest was asked for a gated forward
	GatesOpened   uint64 // times that a gate was opened, and shut
	GatesShut     uint64

	// Of the name server.
	Queries                    uint64 // queries by UDP that were passed on
	QueriesTooMany             uint64 // those answered by SERVFAIL, because too many were under way
	QueriesRefused             uint64 // messages that are no ordinary queries, by UDP or TCP
	ResolverConnectionsTooMany uint64 // connections refused, because there were too many
	ResolversLeft              uint64 // times that a resolver did not answer, and others were preferred from then on

	Ends Ends // connections that did not end by themselves, by cause

	// Flows given up for newer ones; see crowd.
	ConnectsEvicted     uint64 // the guest's connections that were not open yet
	CallsEvicted        uint64 // forwarded connections that the guest had not answered
	AssociationsEvicted uint64 // the guest's UDP associations and series of pings
	PeersEvicted        uint64 // UDP associations through forwards
	StrangersEvicted    uint64 // ends that had been let in, and that the guest had not sent to
}
