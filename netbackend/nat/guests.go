package nat

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

// ForGuests divides the network of c among n guests, each of which gets an engine of its own: the first has the addresses
// c.Guest and c.Guest6, the second the next ones, and so on, but for c.Others. A forward leads to the guest whose address it names, or to the
// first one.
//
// No guest can reach another one, or use its address, or take the descriptors of its share.
func (c Config) ForGuests(n int) ([]Config, error) {
	s := NewShares(n, 0)
	s.first.sockets = c.MaxSockets
	return c.ForGuestsOf(s, n)
}

// ForGuestsOf is ForGuests for some of the guests that a process has at first, among which s is divided.
func (c Config) ForGuestsOf(s *Shares, n int) ([]Config, error) { return c.among(s, &s.first, n) }

// ForLater is ForGuests for one guest, which comes to a process later.
func (c Config) ForLater(s *Shares) ([]Config, error) { return c.among(s, &s.later, 1) }

// among is ForGuests, with a share of s for each.
func (c Config) among(s *Shares, of *guestShare, n int) ([]Config, error) {
	guests, err := c.addresses(n)
	if err != nil {
		return nil, err
	}
	guests6 := c.addresses6(n)
	if err := c.checkTargets(guests); err != nil {
		return nil, err
	}
	configs := make([]Config, n)
	s.limit(&c, of)
	for i := range configs {
		configs[i] = c
		configs[i].Guest = guests[i]
		configs[i].Others = slices.Concat(c.Others, slices.Delete(slices.Clone(guests), i, i+1))
		if len(guests6) > 0 {
			configs[i].Guest6 = guests6[i]
			configs[i].Others = append(configs[i].Others, slices.Delete(slices.Clone(guests6), i, i+1)...)
		}
	}
	for i, forwards := range ForwardsByGuest(configs, c.Forwards) {
		configs[i].Forwards = forwards
	}
	return configs, nil
}

// ForwardsByGuest returns which forwards lead to which guest, of configurations that ForGuests has made.
func ForwardsByGuest(configs []Config, forwards []spec.Forward) [][]spec.Forward {
	all := make([][]spec.Forward, len(configs))
	for _, f := range forwards {
		a := f.Guest.Addr()
		to := max(0, slices.IndexFunc(configs, func(c Config) bool { return a.IsValid() && (c.Guest == a || c.Guest6 == a) }))
		all[to] = append(all[to], f)
	}
	return all
}

// CheckForwards returns all that is wrong with forwards that are to take the place of those of configurations that ForGuests has made.
// It does not look at the host.
func CheckForwards(configs []Config, forwards []spec.Forward) error {
	c := configs[0]
	c.Forwards = forwards
	guests := make([]netip.Addr, len(configs))
	for i := range configs {
		guests[i] = configs[i].Guest
	}
	errs := multierror.Append(nil, c.checkForwards()...)
	errs = multierror.Append(errs, c.checkTargets(guests))
	for i, forwards := range ForwardsByGuest(configs, forwards) {
		one := configs[i]
		one.Forwards = forwards
		errs = multierror.Append(errs, one.checkSockets())
	}
	return errs.ErrorOrNil()
}

// checkTargets returns what is wrong with forwards to IPv4 addresses that no guest gets. In IPv6 guests choose their own.
func (c *Config) checkTargets(guests []netip.Addr) error {
	var errs *multierror.Error
	for i := range c.Forwards {
		f := &c.Forwards[i]
		to := f.Guest.Addr()
		if !to.Is4() || !c.mayBeGuest(to) || slices.Contains(guests, to) || c.isLeased(to) || c.Shared {
			continue // what is no guest's address at all is for Check; of a shared network, the guest may have more than one
		}
		errs = multierror.Append(errs, fmt.Errorf("forward %s: no guest has the address %s; %s", f, to, haveAddresses(guests)))
	}
	return errs.ErrorOrNil()
}

// isLeased reports whether the configuration gives a to a host.
func (c *Config) isLeased(a netip.Addr) bool {
	return slices.ContainsFunc(c.Hosts.Leases, func(l hostconf.Lease) bool { return l.Addr == a })
}

// haveAddresses says which addresses guests have.
func haveAddresses(guests []netip.Addr) string {
	if len(guests) == 1 {
		return fmt.Sprintf("the only guest is %s, and each --socket-path adds one", guests[0])
	}
	return fmt.Sprintf("guests are %s to %s, one for each --socket-path", guests[0], guests[len(guests)-1])
}

// A process has so many descriptors, whoever needs them. What a guest's flows may have is what is left when some are put
// aside: reservedFiles for the process, and filesPerGuest for the socket, the session and the threads of each guest.
const (
	reservedFiles = 64
	leastSockets  = 16 // with fewer nobody would be content
)

// filesPerGuest is how many descriptors a guest has beside its flows at most, all that its front end can leave with this
// process included.
func filesPerGuest(pairs int) int {
	const (
		session  = 54 // connections, those that wait, descriptors under way in a message, the back-end channel, sockets of the engine
		ringFDs  = 6  // of a queue pair: kick, call and error of two rings
		replaced = 1  // of a queue pair: one that a new one has just taken the place of
		thread   = 4  // of a queue pair: its epoll set, its mailbox, and what the engine keeps for it: its look-up of routes, and news of them
	)
	return session + max(pairs, 1)*(ringFDs+replaced+thread)
}

// checkSockets says so if too few descriptors are left.
func (c *Config) checkSockets() error {
	left := c.MaxSockets
	for i := range c.Forwards {
		left -= int(c.Forwards[i].Count)
	}
	if left >= leastSockets {
		return nil
	}
	return fmt.Errorf("guest %s would have %d sockets beside its forwards, and needs %d: the process may open too few files; "+
		"raise its limit (ulimit -n, or LimitNOFILE= of the systemd unit)", c.Guest, max(left, 0), leastSockets)
}

// addresses returns those of n guests.
func (c *Config) addresses(n int) ([]netip.Addr, error) {
	var guests []netip.Addr
	for a := c.Guest; len(guests) < n; a = a.Next() {
		if !c.Prefix.Contains(a) || !c.Prefix.Contains(a.Next()) && c.Prefix.Bits() < 31 { // a's next is for broadcasts
			return nil, fmt.Errorf("network %s has room for %d guests from %s on, not for %d", c.Prefix, len(guests), c.Guest, n)
		}
		if !slices.Contains(c.Others, a) {
			guests = append(guests, a)
		}
	}
	return guests, nil
}

// addresses6 returns those of n guests in IPv6, nil if there is none. The network has room for all there can be.
func (c *Config) addresses6(n int) (guests []netip.Addr) {
	for a := c.Guest6; a.IsValid() && len(guests) < n; a = a.Next() {
		if !slices.Contains(c.Others, a) {
			guests = append(guests, a)
		}
	}
	return guests
}

// setOf returns a set of addresses, nil if there are none.
func setOf(addrs []netip.Addr) map[ipaddr.Addr]bool {
	if len(addrs) == 0 {
		return nil
	}
	set := make(map[ipaddr.Addr]bool, len(addrs))
	for _, a := range addrs {
		set[ipaddr.From(a)] = true
	}
	return set
}
