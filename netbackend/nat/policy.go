package nat

import (
	"fmt"
	"net/netip"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// MaxRules is how many Rules a Config may have, and how many services in AllowHost. A new flow is compared with all rules at worst.
const MaxRules = 16384

// NamesLinkLocal reports whether all of r's network is link-local, or of a cloud's metadata: what is closed unless a rule
// for nothing else opens it.
func NamesLinkLocal(r spec.Rule) bool { return policy.NamesLinkLocal(r) }

// Policy is where a guest may go: what AllowHost, Rules, Restrict and Resolvers of a Config say, ready for Port.SetPolicy. It does
// not change.
type Policy struct {
	rules      *policy.Rules
	written    []spec.Rule // what rules were made from
	resolvers  []netip.AddrPort
	resolvConf string // "" if it is not looked at
	discovery  bool   // programs of the host hear the guest's questions by multicast
	keeps      bool   // flows that have begun go on, whatever it says of them
}

// KeepingFlows returns the same policy for flows that begin after SetPolicy only: those that there are go on. They still end when their
// destination becomes the host's own, or when they are judged by another policy.
func (p *Policy) KeepingFlows() *Policy {
	keeping := *p
	keeping.keeps = true
	return &keeping
}

// NewPolicy returns the policy of c. The error tells all that is wrong with it. It is good for all guests in the networks of c, and
// keeps c.Resolvers and c.Rules.
func (c *Config) NewPolicy() (*Policy, error) {
	if err := multierror.Append(nil, c.checkPolicy()...).ErrorOrNil(); err != nil {
		return nil, err
	}
	return c.policy(), nil
}

// policy is NewPolicy for a Config that was checked.
func (c *Config) policy() *Policy {
	nets := networksOf(c)
	return &Policy{
		rules:   policy.Compile(&policy.Config{AllowHost: c.AllowHost, Rules: c.Rules, Restrict: c.Restrict}, &nets),
		written: c.Rules, resolvers: c.Resolvers, resolvConf: c.resolvConf(), discovery: c.opensDiscovery(),
	}
}

// checkPolicy returns what is wrong with where a guest may go.
func (c *Config) checkPolicy() (faults []error) {
	if len(c.Rules) > MaxRules || len(c.AllowHost) > MaxRules {
		return []error{fmt.Errorf("%d rules and %d services of the host: there may be %d of each", len(c.Rules), len(c.AllowHost), MaxRules)}
	}
	for _, r := range c.Rules {
		faults = append(faults, r.Check(c.Prefix, c.Prefix6))
	}
	for _, r := range c.Resolvers {
		faults = append(faults, c.checkResolver(r))
	}
	for _, s := range c.AllowHost {
		faults = append(faults, c.checkService(s))
	}
	return faults
}

// SetPolicy replaces the policy of the guest whose queue pair p is, of all of its pairs. Each follows it from its next turn on, before
// it handles a frame: what begins from then on is judged by the new one. Flows that the guest has begun, and that are closed now, end:
// some of them in this turn, the rest in those that follow it without a pause, see package review. Others go on, and so do all
// with Policy.KeepingFlows. No turn is called for. Any thread may call it, one after the other, until the Ports are closed.
func (p *Port) SetPolicy(after *Policy) {
	p.guest.policy.Store(after)
	p.guest.dns.Use(after.resolvers, after.resolvConf)
	p.groups.SetLoop(after.discovery)
}

// adoptPolicy follows a policy that is new to this pair.
func (p *Port) adoptPolicy(after *Policy) {
	p.adopted = after
	p.icmp.ForgetReported()
	p.review.Adopt(after.rules, after.keeps)
}
