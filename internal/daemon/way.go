package daemon

import (
	"cmp"
	"errors"
	"net/netip"
	"slices"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Way is how what no rule says otherwise of leaves the host. What is wrong with it is found by checkWays.
func (n *NAT) Way() spec.Way {
	w := spec.Way{
		Via: n.Via, Interface4: cmp.Or(n.OutboundInterface4, n.OutboundInterface), Interface6: cmp.Or(n.OutboundInterface6, n.OutboundInterface),
	}
	for _, a := range n.OutboundAddresses {
		if a.Is4() {
			w.Address4 = a
		} else {
			w.Address6 = a
		}
	}
	return w
}

// SetWay takes over a way that has no redirect.
func (n *NAT) SetWay(w spec.Way) {
	n.Via = w.Via
	n.OutboundInterface, n.OutboundInterface4, n.OutboundInterface6 = "", w.Interface4, w.Interface6
	if w.Interface4 == w.Interface6 {
		n.OutboundInterface, n.OutboundInterface4, n.OutboundInterface6 = w.Interface4, "", ""
	}
	n.OutboundAddresses = slices.DeleteFunc([]netip.Addr{w.Address4, w.Address6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// anyWay reports whether some of the ways has something.
func anyWay(usual spec.Way, rules []spec.Rule, has func(*spec.Way) bool) bool {
	return has(&usual) || slices.ContainsFunc(rules, func(r spec.Rule) bool { return has(&r.Way) })
}

func hasDevice(w *spec.Way) bool { return w.Interface4 != "" || w.Interface6 != "" }
func hasSource(w *spec.Way) bool { return w.Address4.IsValid() || w.Address6.IsValid() }

// checkWays returns what is wrong with how guests' packets leave, beside each way by itself.
func (c *Config) checkWays(n *NAT) error {
	versions := map[bool]bool{}
	for _, a := range n.OutboundAddresses {
		if versions[a.Is4()] {
			return faultf("%s %s: there is another one for that version of IP; write one for IPv4 and one for IPv6 at most", optionOutboundAddress, a)
		}
		versions[a.Is4()] = true
	}
	ways := []spec.Way{n.Way()}
	for i := range n.Rules {
		ways = append(ways, n.Rules[i].Way)
	}
	for _, w := range ways {
		for _, to := range []netip.AddrPort{w.Redirect, w.Via.At} {
			if !to.IsValid() || !to.Addr().IsLoopback() {
				continue
			}
			if fault := c.checkOpenPort(optionVia, w.String(), to.Port()); fault != nil {
				return fault
			}
		}
	}
	return nil
}

// bindsWhatOthersDoNot reports whether sockets are bound to interfaces or source addresses for n, and for no guest of c: then the sandbox
// may not allow it.
func (n *NAT) bindsWhatOthersDoNot(c *Config) bool {
	for _, has := range []func(*spec.Way) bool{hasDevice, hasSource} {
		others := slices.ContainsFunc(c.allNAT(), func(o *NAT) bool { return anyWay(o.Way(), o.Rules, has) })
		if anyWay(n.Way(), n.Rules, has) && !others {
			return true
		}
	}
	return false
}

// checkBound returns why interfaces or source addresses cannot be used from now on.
func (d *Daemon) checkBound(n *NAT) error {
	needs, usual := &d.asked.needs, n.Way()
	switch {
	case d.config.Sandbox == sandbox.Off:
	case !needs.Devices && anyWay(usual, n.Rules, hasDevice):
		return errors.New("an interface to leave by was named nowhere at the start, so the sandbox lets nothing be bound to one; " +
			"start vring again with --outbound-interface, or with a rule that has interface=")
	case !needs.Sources && anyWay(usual, n.Rules, hasSource):
		return errors.New("a source address was named nowhere at the start, so the sandbox lets nothing be bound to one; " +
			"start vring again with --outbound-address, or with a rule that has address=")
	}
	return nil
}
