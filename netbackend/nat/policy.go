package nat

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnszone"
)

// MaxRules is how many Rules a Config may have, and how many services in AllowHost. A new flow is compared with all rules at worst.
const MaxRules = 16384

// NamesLinkLocal reports whether all of r's network is link-local, or of a cloud's metadata: what is closed unless a rule
// for nothing else opens it.
func NamesLinkLocal(r spec.Rule) bool { return policy.NamesLinkLocal(r) }

// MaxRedirects is how many Redirects a Config may have.
const MaxRedirects = 1024

// Policy is where a guest may go: what AllowHost, Rules, Restrict, Redirects, Names, Resolvers and Split of a Config say, ready for Port.SetPolicy. It does
// not change.
type Policy struct {
	rules      *policy.Rules
	redirects  []spec.Redirect
	zones      *dnszone.Zones
	resolvers  []dns.Server
	split      []dns.Route
	resolvConf string        // "" if it is not looked at
	discovery  bool          // programs of the host hear the guest's questions by multicast
	texts      []string      // of rules, as options
	entered    *ledger.Rules // of the guest that it is given to
	nxdomain   bool          // names that are refused do not exist
	keeps      bool          // flows that have begun go on, whatever it says of them
}

// KeepingFlows returns the same policy for flows that begin after SetPolicy only: those that there are go on. They still end when their
// destination becomes the host's own, or when they are judged by another policy.
func (p *Policy) KeepingFlows() *Policy {
	keeping := *p
	keeping.keeps = true
	return &keeping
}

// NewPolicy returns the policy of c. The error tells all that is wrong with it. It is good for all guests in the networks of c, and
// keeps c.Resolvers, c.Split, c.Rules and c.Redirects.
func (c *Config) NewPolicy() (*Policy, error) {
	if err := multierror.Append(nil, c.checkPolicy()...).ErrorOrNil(); err != nil {
		return nil, err
	}
	return c.policy(), nil
}

// policy is NewPolicy for a Config that was checked.
func (c *Config) policy() *Policy {
	nets := networksOf(c)
	zones, _ := c.newZones() // which were checked
	return &Policy{
		zones:     zones,
		texts:     optionsOf(c.Rules),
		rules:     policy.Compile(&policy.Config{AllowHost: c.AllowHost, Rules: c.Rules, Restrict: c.Restrict, Redirects: c.Redirects, Way: c.Way, Groups: c.groups(), Learn: c.Learn}, &nets),
		nxdomain:  c.RefuseNames == DenyName,
		redirects: c.Redirects, resolvers: c.Resolvers, split: c.Split, resolvConf: c.resolvConf(), discovery: c.opensDiscovery(),
	}
}

// checkPolicy returns what is wrong with where a guest may go.
func (c *Config) checkPolicy() (faults []error) {
	if len(c.Rules) > MaxRules || len(c.AllowHost) > MaxRules {
		return []error{fmt.Errorf("%d rules and %d services of the host: there may be %d of each", len(c.Rules), len(c.AllowHost), MaxRules)}
	}
	faults = append(faults, c.checkNames()...)
	for _, r := range c.Rules {
		if c.Shared {
			faults = append(faults, r.Check(netip.Prefix{}, netip.Prefix{})) // others have addresses there, too
			continue
		}
		faults = append(faults, r.Check(c.Prefix, c.Prefix6))
	}
	for _, r := range c.Resolvers {
		faults = append(faults, c.checkResolver("--dns", r))
	}
	faults = append(faults, c.checkSplit()...)
	for _, s := range c.AllowHost {
		faults = append(faults, c.checkService(s))
	}
	faults = append(faults, c.checkWay())
	_, wrong := c.newZones()
	return append(append(faults, wrong), c.checkRedirects()...)
}

// checkWay returns what is wrong with the way of what no rule speaks of.
func (c *Config) checkWay() error {
	if c.Way.Redirect.IsValid() {
		return errors.New("a redirect to a proxy is a key of a rule: write --allow '0.0.0.0/0;redirect=ADDRESS:PORT'")
	}
	return c.Way.Check()
}

// checkSplit returns what is wrong with resolvers beside each other.
func (c *Config) checkSplit() (faults []error) {
	if err := dns.CheckServers(c.Resolvers); err != nil {
		faults = append(faults, fmt.Errorf("--dns: %w", err))
	}
	if err := dns.CheckRoutes(c.Split); err != nil {
		return append(faults, err)
	}
	for i := range c.Split {
		for _, r := range c.Split[i].Servers {
			faults = append(faults, c.checkResolver("--dns-for "+c.Split[i].Domain, r))
		}
	}
	return faults
}

// checkRedirects returns what is wrong with redirects.
func (c *Config) checkRedirects() (faults []error) {
	if len(c.Redirects) > MaxRedirects {
		return []error{fmt.Errorf("%d redirects: there may be %d", len(c.Redirects), MaxRedirects)}
	}
	for i := range c.Redirects {
		r := &c.Redirects[i]
		faults = append(faults, r.Check(), c.checkRedirect(r))
		for j := range c.Redirects[:i] {
			if r.Overlaps(&c.Redirects[j]) {
				faults = append(faults, fmt.Errorf("redirect %s: redirect %s says otherwise where that leads", r, c.Redirects[j]))
			}
		}
	}
	return faults
}

// checkRedirect returns why the guest could not use r.
func (c *Config) checkRedirect(r *spec.Redirect) error {
	from, to := r.From.Addr(), r.To.Addr()
	inNetwork := func(a netip.Addr) bool { return !c.Shared && (c.Prefix.Contains(a) || c.Prefix6.Contains(a)) }
	switch {
	case from.Is6() && !c.Prefix6.IsValid():
		return fmt.Errorf("redirect %s: the guest has no IPv6; write an IPv4 address that it names", r)
	case from.Is6() && from.IsLinkLocalUnicast() && from != c.linkLocal6():
		return fmt.Errorf("redirect %s: of addresses on its link, the guest can name that of the router only, %s", r, c.linkLocal6())
	case from == c.Guest || from == c.Guest6:
		return fmt.Errorf("redirect %s: %s is the guest itself", r, from)
	case !to.IsLoopback() && inNetwork(to):
		return fmt.Errorf("redirect %s: %s is in the guest's own network; want an address that the host can reach", r, to)
	case r.Proto != netpkt.TCP && c.EndpointIndependent:
		return fmt.Errorf("redirect %s: with --udp-endpoint-independent, answers from there would not find the way back; redirect TCP only", r)
	}
	return nil
}

// SetPolicy replaces the policy of the guest whose queue pair p is, of all of its pairs. Each follows it from its next turn on, before
// it handles a frame: what begins from then on is judged by the new one. Flows that the guest has begun, and that are closed now, end:
// some of them in this turn, the rest in those that follow it without a pause, see package review. Others go on, and so do all
// with Policy.KeepingFlows. No turn is called for. Any thread may call it, one after the other, until the Ports are closed.
func (p *Port) SetPolicy(after *Policy) {
	p.guest.policy.Store(p.guest.entered(after))
	p.guest.dns.Rest().Use(after.resolvers, after.resolvConf)
	p.guest.dns.UseRoutes(after.split)
	p.guest.useZones(after.zones)
	p.groups.SetLoop(after.discovery)
}

// entered returns a policy with rows in the guest's ledger for its rules.
func (g *guest) entered(p *Policy) *Policy {
	own := *p
	own.entered = g.ledger.Adopt(p.texts)
	return &own
}

// adoptPolicy follows a policy that is new to this pair.
func (p *Port) adoptPolicy(after *Policy) {
	p.adopted = after
	p.ledger.Adopt(after.entered)
	p.icmp.ForgetReported()
	p.namesTold.Forget()
	p.names.ForgetTold()
	p.link.AnswerFor(after.rules.Aliases())
	p.review.Adopt(after.rules, after.keeps)
}
