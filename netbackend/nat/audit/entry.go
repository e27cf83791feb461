package audit

import (
	"net/netip"
	"time"
)

// Kind is what an Entry tells of.
type Kind uint8

// All kinds.
const (
	Query   Kind = iota // the guest has asked for a name: Name, Type and Verdict
	Begun               // a connection, an association or a series of echo requests has begun
	Denied              // one was not let through by its address, port and witnessed names
	Refused             // one was ended or not let through by what its first bytes tell: Name, and Detail says why
	Ended               // one that has begun is over: bytes, Duration and Detail
	Named               // one that has begun has told its server, or was found to tell none, while names are learned: Name
)

// kinds are the texts of all kinds, which are promises.
var kinds = [...]string{Query: "query", Begun: "begun", Denied: "denied", Refused: "refused", Ended: "ended", Named: "named"}

// String returns "query", "begun", "denied", "refused", "ended" or "named".
func (k Kind) String() string {
	if int(k) < len(kinds) {
		return kinds[k]
	}
	return "unknown"
}

// Kinds returns the texts of all kinds.
func Kinds() []string { return kinds[:] }

// NoRule is the Rule of what no rule decides.
const NoRule = -1

// Entry is one thing that a guest has done. Texts that come from the guest or from a name server may hold any bytes, and are MaxName
// long at most.
type Entry struct {
	Time   time.Time // of the recording, which Record sets
	Kind   Kind
	Proto  uint8          // of IP; that of the query, for one
	Type   uint16         // of the records that a query asks for
	From   netip.AddrPort // the guest's end; without a port for echo requests
	To     netip.AddrPort // the other end, as the guest names it; the name server's for queries
	Name   string         // of the query, the proof, or what the witness knows of To; "" if nothing tells one
	Others []string       // more names that the witness knows of To; a query and what has ended have none

	Verdict  string // "allowed", or why not, in one word or two
	Rule     int    // index in the rules of the policy by which it was judged, NoRule if none decides
	RuleText string // that rule as an option, "" for none
	IsHost   bool   // To is the router, which stands for the host
	Given    bool   // the configuration leads it to the host or elsewhere, whatever rules say
	Private  bool   // To is in a private network, in whatever form it is written
	Told     bool   // the connection has told Name itself; of what is Named only
	Answered bool   // the guest was answered Name with the address To, and that is good still
	Detail   string // more: why a proof was refused, why a connection has ended

	FromGuest, ToGuest uint64 // bytes of payload, of what has ended
	Duration           time.Duration
}

// MaxName is the longest name, in bytes, that an entry keeps: as long as one of DNS can be with each of its bytes written as `\DDD`, as RFC
// 1035 section 5.1 has it.
const MaxName = 4 * 255
