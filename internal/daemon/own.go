package daemon

import (
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/vhostuser"
)

// Guest is a guest that is connected to a network of its own: one of its last four fields, or to NAT and a Switch.
type Guest struct {
	Name       string     // by which users call it; "" is that of what it is connected to
	SocketPath string     // unix socket at which its front end is met, as FrontEnds.Client and the others say; at most 107 bytes
	FrontEnd   *FrontEnd  // how that one passes frames, nil for FrontEnds.Kind
	Link       netem.Link // how the guest's link is; zero is one that is not emulated
	NAT        *NAT
	TAP        *TAP
	Switch     *Switch
	Stub       *Stub
}

const (
	// MaxLater is how many guests there may be at once that were added while others were served.
	MaxLater = 128
	// maxName bounds the name of a guest, in bytes.
	maxName = 64
)

// names are of letters, digits and a few marks: a name stands in paths of requests, in labels and in the log.
var names = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*$`)

// part is what of a configuration is about one network and its guests.
type part struct {
	name     string       // of the only guest; "" for none of its own
	own      string       // the socket of the guest whose own network it is; "" for the one that guests share
	sockets  []string     // of its guests; "" for one that was inherited
	frontEnd FrontEnd     // of its guests
	links    []netem.Link // of its guests, as FrontEnds.Links
	nat      *NAT
	tap      *TAP
	lan      *Switch // beside nat, too
	stub     *Stub
}

// parts are the networks of a configuration, that which guests share first.
func (c *Config) parts() (all []part) {
	if f := &c.FrontEnds; len(f.SocketPaths) > 0 || f.FD != nil || len(c.Guests) == 0 {
		sockets := f.SocketPaths
		if len(sockets) == 0 && f.FD != nil {
			sockets = []string{""}
		}
		all = append(all, part{sockets: sockets, frontEnd: f.Kind, links: f.Links, nat: c.NAT, tap: c.TAP, lan: c.Switch, stub: c.Stub})
	}
	for i := range c.Guests {
		all = append(all, c.Guests[i].part(c.FrontEnds.Kind))
	}
	return all
}

// part is the guest's network, with the kind of front ends that guests have who do not say.
func (g *Guest) part(usual FrontEnd) part {
	return part{name: g.Name, own: g.SocketPath, sockets: []string{g.SocketPath}, frontEnd: g.frontEnd(usual), links: trimLinks([]netem.Link{g.Link}), nat: g.NAT, tap: g.TAP, lan: g.Switch, stub: g.Stub}
}

// frontEnd is how the guest's front end passes frames.
func (g *Guest) frontEnd(usual FrontEnd) FrontEnd {
	if g.FrontEnd != nil {
		return *g.FrontEnd
	}
	return usual
}

// FrontEndOf is how the front end of the guest with a socket passes frames.
func (c *Config) FrontEndOf(socket string) FrontEnd {
	if g := c.guest(socket); g != nil {
		return g.frontEnd(c.FrontEnds.Kind)
	}
	return c.FrontEnds.Kind
}

// network returns what the guests are connected to.
func (p *part) network() (network, error) {
	var all []network
	if p.nat != nil {
		all = append(all, p.nat)
	}
	if p.tap != nil {
		all = append(all, p.tap)
	}
	if p.lan != nil && p.nat == nil {
		all = append(all, p.lan)
	}
	if p.stub != nil {
		all = append(all, p.stub)
	}
	if len(all) != 1 {
		return nil, faultf("guests are connected to one network, not to %d", len(all))
	}
	return all[0], nil
}

// queues is how many queue pairs each guest can use.
func (p *part) queues() int {
	switch {
	case p.nat != nil:
		return p.nat.Queues
	case p.tap != nil:
		return p.tap.Queues
	}
	return 1
}

// plan returns what is to be opened for the guests, or all that is wrong. taken are addresses that other guests of their switch have.
func (p *part) plan(shares *nat.Shares, taken []netip.Addr, later bool) (plan, error) {
	n, err := p.network()
	if err != nil {
		return nil, err
	}
	at := places{name: p.name, sockets: p.sockets, shares: shares, later: later, lan: p.lan, taken: taken}
	plan, err := n.check(at)
	if p.nat != nil && p.lan != nil {
		_, wrong := p.lan.check(at)
		err = multierror.Append(nil, err, wrong, p.nat.checkOnSwitch()).ErrorOrNil()
	}
	return plan, err
}

// names are those of the guests of a plan.
func (p *part) names(of plan) []string {
	if p.name != "" {
		return []string{p.name}
	}
	return of.names()
}

// places are the guests that are to be connected to one network.
type places struct {
	name    string       // of the only guest; "" for none of its own
	lan     *Switch      // that they are on beside the network; nil for none
	taken   []netip.Addr // by other guests of that
	sockets []string     // of each, "" for one that was inherited
	shares  *nat.Shares  // of the process
	later   bool         // others are served already
}

// Sockets are those of all guests, in their order; "" for one that was inherited.
func (c *Config) Sockets() (all []string) {
	for _, p := range c.parts() {
		all = append(all, p.sockets...)
	}
	return all
}

// QueuePairs is how many queue pairs the guest with a socket can use.
func (c *Config) QueuePairs(socket string) int {
	for _, p := range c.parts() {
		if slices.Contains(p.sockets, socket) {
			return p.queues()
		}
	}
	return 1
}

// listens reports whether the process makes the sockets.
func (c *Config) listens() bool {
	return (len(c.FrontEnds.SocketPaths) > 0 || len(c.Guests) > 0) && !c.FrontEnds.Client
}

// NATOf returns the network behind the host's that the guest with a socket has for itself, or that guests share for "". It is nil if there
// is none.
func (c *Config) NATOf(own string) *NAT {
	if own == "" {
		return c.NAT
	}
	if g := c.guest(own); g != nil {
		return g.NAT
	}
	return nil
}

// allNAT are all networks behind the host's.
func (c *Config) allNAT() (all []*NAT) {
	if c.NAT != nil {
		all = append(all, c.NAT)
	}
	for i := range c.Guests {
		if n := c.Guests[i].NAT; n != nil {
			all = append(all, n)
		}
	}
	return all
}

// HasNAT reports whether a guest is behind NAT.
func (c *Config) HasNAT() bool { return len(c.allNAT()) > 0 }

// Reopens reports whether a guest waits for a TAP device that is deleted to come back.
func (c *Config) Reopens() bool {
	return slices.ContainsFunc(c.parts(), func(p part) bool { return p.tap != nil && p.tap.Reopen })
}

// HasTAP reports whether a guest is connected to a TAP device.
func (c *Config) HasTAP() bool {
	return slices.ContainsFunc(c.parts(), func(p part) bool { return p.tap != nil })
}

// Kinds are the kinds of the guests' networks, in the order of the guests, each once for each guest.
func (c *Config) Kinds() (all []Kind) {
	for _, p := range c.parts() {
		for range max(len(p.sockets), 1) {
			all = append(all, p.kind())
		}
	}
	return all
}

// kind is that of the network.
func (p *part) kind() Kind {
	switch {
	case p.nat != nil:
		return KindNAT
	case p.tap != nil:
		return KindTAP
	case p.lan != nil:
		return KindSwitch
	}
	return KindStub
}

// guest returns the guest with a network of its own that has a socket, nil for none.
func (c *Config) guest(socket string) *Guest {
	i := slices.IndexFunc(c.Guests, func(g Guest) bool { return g.SocketPath == socket })
	if i < 0 {
		return nil
	}
	return &c.Guests[i]
}

// asConfig is a configuration that has nothing but the guest's network and its link.
func (g *Guest) asConfig() *Config {
	return &Config{FrontEnds: FrontEnds{Links: trimLinks([]netem.Link{g.Link})}, NAT: g.NAT, TAP: g.TAP, Switch: g.Switch, Stub: g.Stub}
}

// Clone returns a copy of a configuration that shares no memory with it.
func (c *Config) Clone() Config { return clone(*c) }

// checkGuests returns what is wrong with guests that have a network of their own, beside that network.
func (c *Config) checkGuests() error {
	var errs *multierror.Error
	sockets := slices.Clone(c.FrontEnds.SocketPaths)
	for i := range c.Guests {
		g := &c.Guests[i]
		errs = multierror.Append(errs, g.check(sockets))
		if g.SocketPath != "" {
			errs = multierror.Append(errs, vhostuser.CheckSocketPath(g.SocketPath, c.FrontEnds.Client))
		}
		sockets = append(sockets, g.SocketPath)
	}
	return errs.ErrorOrNil()
}

// check returns what is wrong with the name and the socket of a guest, beside guests that have sockets. It does not look at the host.
func (g *Guest) check(sockets []string) error {
	var errs *multierror.Error
	if g.Name != "" {
		errs = multierror.Append(errs, checkName("name", g.Name))
	}
	switch {
	case g.SocketPath == "":
		errs = multierror.Append(errs, emptyFault(optionSocketPath))
	case slices.Contains(sockets, g.SocketPath):
		errs = multierror.Append(errs, twice(g.SocketPath))
	}
	return errs.ErrorOrNil()
}

// checkName returns what is wrong with a name that users give to something.
func checkName(of Option, name string) error {
	if len(name) <= maxName && names.MatchString(name) {
		return nil
	}
	return faultf("%s %q: want %d letters, digits, points and dashes at most, beginning with a letter or a digit", of, name[:min(len(name), maxName)], maxName)
}

func twice(socket string) *Fault {
	return faultf("%s %s is given twice: each guest needs its own", optionSocketPath, socket)
}

// checkNames returns what is wrong with names of guests, in the order of the sockets: two have the same.
func checkNames(all []string) error {
	var errs *multierror.Error
	for i, name := range all {
		if slices.Contains(all[:i], name) {
			errs = multierror.Append(errs, faultf("two guests are called %s; give one of them a name of its own, as in \"name: vm1\"", name))
		}
	}
	return errs.ErrorOrNil()
}

// checkDevices returns what is wrong with TAP devices of all networks together.
func checkDevices(all []part) error {
	var errs *multierror.Error
	var devices []string
	for _, p := range all {
		if p.tap == nil {
			continue
		}
		for _, name := range p.tap.Devices {
			if slices.Contains(devices, name) {
				errs = multierror.Append(errs, faultf("%s %s is given twice: each guest needs its own", optionTAP, name))
			}
		}
		devices = append(devices, p.tap.Devices...)
	}
	return errs.ErrorOrNil()
}

// checkLater returns why a guest cannot be added while others are served, whatever the host says. before is the configuration of these.
func (c *Config) checkLater(g *Guest) error {
	dir, kind := filepath.Dir(g.SocketPath), g.frontEnd(c.FrontEnds.Kind)
	switch {
	case g.SocketPath == "":
		return emptyFault(optionSocketPath)
	case c.FrontEnds.Client:
		return faultf("a guest cannot be added with %s: the sandbox connects to no sockets but those of the start", optionClient)
	case kind == FrontEndVfkit:
		return faultf("a guest cannot be added with %s %s: only the start makes such sockets", optionFrontEnd, kind)
	case !kind.known():
		return kind.unknown()
	case !kind.serves(g.part(kind)):
		return kind.queuesFault(g.part(kind))
	case g.TAP != nil:
		return faultf("%s: a guest that is added cannot have a TAP device, which only the start opens; start vring again with it", optionTAP)
	case g.NAT != nil && len(g.NAT.Multicast) > 0:
		return faultf("multicast: a guest that is added cannot have it, since the sandbox allows only what was there at the start; start vring again with it")
	case g.NAT != nil && g.NAT.bindsWhatOthersDoNot(c):
		return faultf("outbound-interface, outbound-address: a guest that is added can have one, or a rule that does, only if another guest has, since the sandbox allows only what was there at the start; start vring again with it")
	case g.NAT != nil && !slices.ContainsFunc(c.parts(), func(p part) bool { return p.nat != nil }):
		return faultf("nat: a guest that is added can be behind NAT only if another one is, since the sandbox has no sockets otherwise; start vring again with it")
	case filepath.Clean(g.SocketPath) != g.SocketPath:
		return faultf("%s %s: write it as %s", optionSocketPath, g.SocketPath, filepath.Clean(g.SocketPath))
	case !slices.ContainsFunc(c.Sockets(), func(path string) bool { return path != "" && filepath.Dir(path) == dir }):
		return faultf("%s %s: no guest has its socket in %s, so none that is added can; choose the directory of another one, or start vring again",
			optionSocketPath, g.SocketPath, dir)
	}
	return socketfile.CheckLength(g.SocketPath)
}
