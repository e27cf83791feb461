package nat

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// checkDirectories returns for which forwards no socket can be made.
func (c *Config) checkDirectories() (faults []error) {
	for i := range c.Forwards {
		if err := c.Forwards[i].CheckDirectory(); err != nil {
			faults = append(faults, fmt.Errorf("forward %s: %w", &c.Forwards[i], err))
		}
	}
	return faults
}

const (
	// MaxForwards is how many Forwards a Config may have, and MaxForwardPorts how many ports they may have together. Each is a socket.
	MaxForwards     = 4096
	MaxForwardPorts = 2 << 16
)

// checkForwards returns what is wrong with the forwards, as far as that can be told without looking at the host.
func (c *Config) checkForwards() (faults []error) {
	ports := 0
	for i := range c.Forwards {
		ports += int(c.Forwards[i].Count)
	}
	if len(c.Forwards) > MaxForwards || ports > MaxForwardPorts {
		return []error{fmt.Errorf("%d forwards with %d ports: there may be %d forwards, and %d ports of all of them",
			len(c.Forwards), ports, MaxForwards, MaxForwardPorts)}
	}
	for i := range c.Forwards {
		f := &c.Forwards[i]
		if to := f.Guest.Addr(); to.IsValid() && !c.mayBeGuest(to) {
			faults = append(faults, fmt.Errorf("forward %s: %s is no guest's address in the network %s", f, to, c.networks()))
		}
		for _, err := range f.Check() {
			faults = append(faults, fmt.Errorf("forward %s: %w", f, err))
		}
	}
	return append(faults, c.checkOverlaps()...)
}

// checkOverlaps returns which forwards want the same of the host. Only those are compared that have a port or a path in common.
func (c *Config) checkOverlaps() (faults []error) {
	having, told := map[spec.HostSide][]int{}, map[[2]int]bool{}
	for i := range c.Forwards {
		f := &c.Forwards[i]
		for one := range f.Ports() {
			side := one.Side()
			for _, j := range having[side] {
				if what := f.Overlap(&c.Forwards[j]); what != "" && !told[[2]int{j, i}] && j != i {
					told[[2]int{j, i}] = true
					faults = append(faults, fmt.Errorf("forwards %s and %s both want %s", &c.Forwards[j], f, what))
				}
			}
			having[side] = append(having[side], i)
		}
	}
	return faults
}

// mayBeGuest tells whether a guest may have the address a.
func (c *Config) mayBeGuest(a netip.Addr) bool {
	return (c.Shared || c.Prefix.Contains(a) || c.Prefix6.Contains(a)) && !slices.Contains([]netip.Addr{c.Gateway, c.DNS, c.Gateway6, c.DNS6}, a)
}

// networks names the guest's networks.
func (c *Config) networks() string {
	if !c.Prefix6.IsValid() {
		return c.Prefix.String()
	}
	return c.Prefix.String() + " or " + c.Prefix6.String()
}

// listenAll opens all ports of the forwards, or none.
func listenAll(cfg *Config) (opened []*forwardset.Forward, err error) {
	var errs *multierror.Error
	for _, f := range cfg.Forwards {
		before, first := len(opened), error(nil)
		for one := range f.Ports() {
			socket, err := forward.Listen(&one, 0, cfg.KeepFiles)
			if f.Binding.IfFree && forward.IsElsewhere(err) {
				first = cmp.Or(first, err)
				continue
			}
			if err != nil {
				errs = multierror.Append(errs, err)
				continue
			}
			b := forwardset.Bind(forwardset.Bound{Forward: one, Socket: socket}, cfg.Guest)
			b.Place(uint32(len(opened)))
			opened = append(opened, b)
		}
		if len(opened) == before && first != nil {
			errs = multierror.Append(errs, fmt.Errorf("none of %d ports of the forward %s is free: %w", f.Count, f, first))
		}
	}
	if errs == nil {
		return opened, nil
	}
	closeAll(opened)
	return nil, errs.ErrorOrNil()
}

func closeAll(opened []*forwardset.Forward) {
	for _, b := range opened {
		b.Listener.Close()
	}
}
