package nat

import (
	"fmt"
	"net/netip"
	"slices"
)

// ForGuests divides the network of c among n guests, each of which gets an engine of its own: the first has the address
// c.Guest, the second the next one, and so on. A forward leads to the guest whose address it names, or to the first one.
//
// No guest can reach another one, or use its address.
func (c Config) ForGuests(n int) ([]Config, error) {
	guests, err := c.addresses(n)
	if err != nil {
		return nil, err
	}
	configs := make([]Config, n)
	for i := range configs {
		configs[i] = c
		configs[i].Guest = guests[i]
		configs[i].Others = slices.Delete(slices.Clone(guests), i, i+1)
		configs[i].Forwards = nil
	}
	for _, f := range c.Forwards {
		to := &configs[max(0, slices.Index(guests, f.Guest.Addr()))]
		to.Forwards = append(to.Forwards, f)
	}
	return configs, nil
}

// addresses returns those of n guests.
func (c *Config) addresses(n int) ([]netip.Addr, error) {
	var guests []netip.Addr
	for a := c.Guest; len(guests) < n; a = a.Next() {
		if !c.Prefix.Contains(a.Next()) { // a is not in the network, or its last address, which is for broadcasts
			return nil, fmt.Errorf("network %s has room for %d guests from %s on, not for %d", c.Prefix, len(guests), c.Guest, n)
		}
		guests = append(guests, a)
	}
	return guests, nil
}

// setOf returns a set of IPv4 addresses, nil if there are none.
func setOf(addrs []netip.Addr) map[[4]byte]bool {
	if len(addrs) == 0 {
		return nil
	}
	set := make(map[[4]byte]bool, len(addrs))
	for _, a := range addrs {
		set[a.As4()] = true
	}
	return set
}
