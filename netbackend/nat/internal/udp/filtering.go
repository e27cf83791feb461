package udp

import (
	"fmt"
)

// Filtering says from whom datagrams may come in for a UDP port of the guest that has sent something (RFC 4787 section 5).
// All but the first need a socket that everybody can send to, so they come with Config.EndpointIndependent.
type Filtering uint8

const (
	// AddressAndPortDependent lets in what comes from an address and port that the guest's port has sent to.
	AddressAndPortDependent Filtering = iota
	// AddressDependent lets in what comes from any port of an address that the guest's port has sent to.
	AddressDependent
	// EndpointIndependent lets in what comes from anybody, as long as the guest's port has an association with somebody.
	EndpointIndependent
)

// filteringNames are the values of --udp-filtering, by what they mean.
var filteringNames = [...]string{"address-and-port-dependent", "address-dependent", "endpoint-independent"}

// FilteringNames returns how the kinds of filtering are written, in their order.
func FilteringNames() []string { return filteringNames[:] }

// String returns f as ParseFiltering reads it.
func (f Filtering) String() string { return filteringNames[f] }

// ParseFiltering reads one of FilteringNames, or "endpoint-dependent", which is the strictest of them. The error says what to
// write.
func ParseFiltering(text string) (Filtering, error) {
	for i, name := range filteringNames {
		if text == name {
			return Filtering(i), nil
		}
	}
	if text == "endpoint-dependent" {
		return AddressAndPortDependent, nil
	}
	return 0, fmt.Errorf("--udp-filtering %q: want %s, %s or %s", text, filteringNames[0], filteringNames[1], filteringNames[2])
}
