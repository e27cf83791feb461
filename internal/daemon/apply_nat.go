package daemon

import (
	"sync"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// policyFields are the fields of NAT that say together where guests may go.
func policyFields() []string {
	return []string{"NAT.AllowHost", "NAT.Rules", "NAT.Restrict", "NAT.Resolvers"}
}

// policyChange replaces where guests may go. With keepFlows, what they have begun goes on.
func (d *Daemon) policyChange(keepFlows bool) *change {
	var next *nat.Policy
	return &change{
		check: func(after *Config) (err error) {
			next, err = d.policy(after.NAT)
			if err == nil && keepFlows {
				next = next.KeepingFlows()
			}
			return err
		},
		apply: func(*Config, *Applied) { d.setPolicy(next) },
	}
}

// policy returns where guests may go with n, which has the same network as they have. The error tells all that is wrong.
func (d *Daemon) policy(n *NAT) (*nat.Policy, error) {
	c := *d.opened.guests[0].network.NAT
	readable := readsResolvConf(&c)
	c.AllowHost, c.Rules, c.Restrict, c.Resolvers = n.AllowHost, n.Rules, n.Restrict, n.Resolvers
	p, err := c.NewPolicy()
	errs := multierror.Append(nil, err, d.config.checkOpen(n))
	if readsResolvConf(&c) && !readable {
		errs = multierror.Append(errs, faultf("%s: the host's resolvers were not asked at the start, and cannot be from now on; "+
			"name resolvers, or start vring again", optionDNS))
	}
	return p, errs.ErrorOrNil()
}

// setPolicy gives all guests a policy, and waits until their threads follow it. One that does not answer follows it before it
// handles a frame again.
func (d *Daemon) setPolicy(p *nat.Policy) {
	for _, s := range d.guests {
		s.engine().SetPolicy(p)
	}
	var guests sync.WaitGroup
	for _, s := range d.guests {
		guests.Go(s.wake)
	}
	guests.Wait()
}

// engine is the engine of a guest behind NAT, by one of its queue pairs.
func (s *served) engine() *nat.Port { return s.ports[0].(*nat.Port) }

// wake gives all threads of a guest a turn, and waits until it begins, or for a limited time.
func (s *served) wake() {
	var threads sync.WaitGroup
	for pair := range s.ports {
		threads.Go(func() { _ = s.device.Do(pair, func(*worker.Thread) {}) })
	}
	threads.Wait()
}
