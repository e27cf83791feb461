package daemon

import (
	"sync"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// policyFields are the fields of NAT that say together where guests may go.
func policyFields() []string {
	return []string{"NAT.AllowHost", "NAT.Rules", "NAT.NameGroups", "NAT.RefuseNames", "NAT.Restrict", "NAT.Redirects", "NAT.Names", "NAT.Resolvers", "NAT.Split",
		"NAT.Via", "NAT.OutboundInterface", "NAT.OutboundInterface4", "NAT.OutboundInterface6", "NAT.OutboundAddresses"}
}

// policyChange replaces where the guests of one network may go. With keepFlows, what they have begun goes on.
func (d *Daemon) policyChange(own string, keepFlows bool) *change {
	var next policies
	return &change{
		check: func(after *Config) error {
			g := d.group(own)
			if g == nil {
				return nil // it comes with this change, or goes
			}
			p, err := d.policy(g, after.NATOf(own))
			next = policies{{g, p}}
			if err == nil && keepFlows {
				next = next.keepFlows()
			}
			return err
		},
		apply: func(*Config, *Applied) { next.adopt() },
	}
}

// group returns the guests that share a network, or the one with a socket that has its own; nil for none.
func (d *Daemon) group(own string) *group {
	for _, s := range d.all() {
		if s.group.own == own {
			return s.group
		}
	}
	return nil
}

// policies are where the guests of networks may go.
type policies []policyOf

// policyOf is where those of one may go.
type policyOf struct {
	group *group
	next  *nat.Policy
}

// policies returns where all guests may go with a configuration, whose networks are those of now. The error tells all that is wrong.
func (d *Daemon) policies(c *Config) (all policies, err error) {
	var errs *multierror.Error
	seen := map[*group]bool{}
	for _, s := range d.all() {
		n := c.NATOf(s.group.own)
		if n == nil || seen[s.group] {
			continue
		}
		seen[s.group] = true
		p, err := d.policy(s.group, n)
		all, errs = append(all, policyOf{s.group, p}), multierror.Append(errs, err)
	}
	return all, errs.ErrorOrNil()
}

// policy returns where guests may go with n, which has the same network as they have. The error tells all that is wrong.
func (d *Daemon) policy(g *group, n *NAT) (*nat.Policy, error) {
	c := g.engines[0]
	readable := readsResolvConf(&c)
	c.AllowHost, c.Rules, c.Restrict, c.Redirects, c.Resolvers = n.AllowHost, n.Rules, n.Restrict, n.Redirects, n.Resolvers
	c.Names, c.Split, c.NameGroups, c.RefuseNames = n.Names, n.Split, n.NameGroups, n.RefuseNames
	c.Way = n.Way()
	p, err := c.NewPolicy()
	errs := multierror.Append(nil, err, d.config.checkOpen(n), d.checkBound(n))
	if readsResolvConf(&c) && !readable {
		errs = multierror.Append(errs, faultf("%s: the host's resolvers were not asked at the start, and cannot be from now on; "+
			"name resolvers, or start vring again", optionDNS))
	}
	errs = multierror.Append(errs, d.checkRoots(&c))
	return p, errs.ErrorOrNil()
}

// keepFlows are policies with which flows go on that guests have begun.
func (all policies) keepFlows() (keeping policies) {
	for _, p := range all {
		keeping = append(keeping, policyOf{p.group, p.next.KeepingFlows()})
	}
	return keeping
}

// adopt gives guests their policies, and waits until their threads follow them. One that does not answer does so before it
// handles a frame again.
func (all policies) adopt() {
	for _, p := range all {
		for _, s := range p.group.guests {
			s.engine().SetPolicy(p.next)
		}
	}
	var guests sync.WaitGroup
	for _, p := range all {
		for _, s := range p.group.guests {
			guests.Go(s.wake)
		}
	}
	guests.Wait()
}

// engine is the engine of a guest behind NAT, by one of its queue pairs.
func (s *served) engine() *nat.Port { return engineOf(s.ports[0]) }

// wake gives all threads of a guest a turn, and waits until it begins, or for a limited time.
func (s *served) wake() {
	var threads sync.WaitGroup
	for pair := range s.ports {
		threads.Go(func() { _ = s.device.Do(pair, func(*worker.Thread) {}) })
	}
	threads.Wait()
}
