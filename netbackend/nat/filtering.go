package nat

import "github.com/vringnet/vring/netbackend/nat/internal/udp"

// Filtering says from whom datagrams may come in for a UDP port of the guest that has sent something (RFC 4787 section 5).
type Filtering = udp.Filtering

// The kinds of filtering, from the strictest on.
const (
	AddressAndPortDependent = udp.AddressAndPortDependent
	AddressDependent        = udp.AddressDependent
	EndpointIndependent     = udp.EndpointIndependent
)

// FilteringNames returns how the kinds of filtering are written, in their order.
func FilteringNames() []string { return udp.FilteringNames() }

// ParseFiltering reads one of FilteringNames, or "endpoint-dependent", which is the strictest of them. The error says what to write.
func ParseFiltering(text string) (Filtering, error) { return udp.ParseFiltering(text) }
