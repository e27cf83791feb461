package measure

import (
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/guestnet"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
)

// Service is a service of the router, by its port.
type Service uint8

// All that there are.
const (
	None    Service = 0
	Echo    Service = 7  // sends back what it gets (RFC 862)
	Discard Service = 9  // throws it away (RFC 863)
	Chargen Service = 19 // throws it away, and sends characters (RFC 864)
)

// of returns the service of a port, None for other ports.
func of(port uint16) Service {
	switch s := Service(port); {
	case port > 0xff:
		return None
	case s == Echo || s == Discard || s == Chargen:
		return s
	}
	return None
}

// String returns the name that IANA has registered.
func (s Service) String() string {
	switch s {
	case Echo:
		return "echo"
	case Discard:
		return "discard"
	case Chargen:
		return "chargen"
	}
	return "none"
}

// Finder knows which destinations of a guest are services of its router. The zero value knows none.
type Finder struct {
	nets   *guestnet.Networks
	policy *policy.Policy
}

// NewFinder returns a Finder for a guest in nets. What p leads elsewhere goes first: the user has named it.
func NewFinder(nets *guestnet.Networks, p *policy.Policy) Finder { return Finder{nets, p} }

// Find returns the service that a flow leads to, None if it leads elsewhere.
func (f *Finder) Find(key *flowtable.Key) Service {
	if f.nets == nil { // which the caller asks without a call
		return None
	}
	return f.find(key)
}

func (f *Finder) find(key *flowtable.Key) Service {
	s := of(key.RemotePort)
	if s == None || !f.nets.IsGateway(&key.Remote) || f.policy.Leads(policy.DestinationOf(key)) {
		return None
	}
	return s
}

// Answers reports whether a service answers a datagram from a port of the guest. A port below 1024 may be that of a service of the guest
// that answers, too, and the two would not end.
func Answers(guestPort uint16) bool { return guestPort >= 1024 }
