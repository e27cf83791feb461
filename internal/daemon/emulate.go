package daemon

import (
	"math/rand/v2"
	"slices"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/netem"
)

// linksPath is the field with the links of guests. Those of a guest that has a network of its own are one, in its configuration alone.
const linksPath = "FrontEnds.Links"

// ParseLink reads a link as users write it: netem.Form.
func ParseLink(text string) (netem.Link, error) {
	l, err := netem.Parse(text)
	if err != nil {
		return l, faultf("%s %s: %w", optionLink, text[:min(len(text), maxLinkQuoted)], err)
	}
	return l, nil
}

// maxLinkQuoted is how many bytes of a link a message quotes.
const maxLinkQuoted = 200

// trimLinks leaves out links at the end that are not emulated.
func trimLinks(links []netem.Link) []netem.Link {
	for len(links) > 0 && links[len(links)-1].IsZero() {
		links = links[:len(links)-1]
	}
	if len(links) == 0 {
		return nil
	}
	return links
}

// linkAt is the link of guest i.
func linkAt(links []netem.Link, i int) netem.Link {
	if i < 0 || i >= len(links) {
		return netem.Link{}
	}
	return links[i]
}

// checkLinks returns what is wrong with the guests' links.
func (c *Config) checkLinks() error {
	var errs *multierror.Error
	guests := max(len(c.FrontEnds.SocketPaths), 1)
	if n := len(c.FrontEnds.Links); n > guests {
		errs = multierror.Append(errs, faultf("%s is given %d times, and guests that share a network are %d; write it once for all, or once for each in order, with none for one without", optionLink, n, guests))
	}
	for _, p := range c.parts() {
		errs = multierror.Append(errs, checkLinks(p.links))
	}
	return errs.ErrorOrNil()
}

func checkLinks(links []netem.Link) error {
	var errs *multierror.Error
	for _, l := range links {
		if err := l.Check(); err != nil {
			errs = multierror.Append(errs, faultf("%s %s: %w", optionLink, l, err))
		}
	}
	return errs.ErrorOrNil()
}

// linksChange is the change of the links of guests that share a network, or of the one that has its own.
func (d *Daemon) linksChange(own string) *change {
	return &change{
		check: func(after *Config) error { return after.checkLinks() },
		apply: func(after *Config, done *Applied) {
			for _, s := range d.all() {
				if s.group.own != own {
					continue
				}
				if err := s.emulate(after.linkOf(s)); err != nil {
					done.Waiting = append(done.Waiting, s.name)
				}
			}
		},
	}
}

// emulate emulates a link for the guest, unless it has it already. A link without a seed gets one.
func (s *served) emulate(l netem.Link) error {
	if s.hasLink(l) {
		return nil
	}
	if l.IsZero() {
		s.link.Store(nil)
		return s.device.Emulate(l)
	}
	for l.Seed == 0 {
		l.Seed = rand.Uint64()
	}
	s.link.Store(&l)
	return s.device.Emulate(l)
}

// hasLink reports whether the guest has a link already. If that wants no seed, any will do.
func (s *served) hasLink(l netem.Link) bool {
	is := s.link.Load()
	if is == nil {
		return l.IsZero()
	}
	same := *is
	if l.Seed == 0 {
		same.Seed = 0
	}
	return same == l
}

// Emulated is the link of a guest.
type Emulated struct {
	Configured netem.Link // zero for one that is not emulated
	Seed       uint64     // that it has got; 0 if it is not emulated
}

// EmulatedLink returns the link of a guest. Any goroutine may call it. The error is a NoGuestError.
func (d *Daemon) EmulatedLink(guest string) (Emulated, error) {
	s, err := d.find(guest)
	if err != nil {
		return Emulated{}, err
	}
	c := d.Config()
	e := Emulated{Configured: c.linkOf(s)}
	if l := s.link.Load(); l != nil {
		e.Seed = l.Seed
	}
	return e, nil
}

// linkOf is the link of a guest in a configuration.
func (c *Config) linkOf(s *served) netem.Link {
	if s.group.own == "" {
		return linkAt(c.FrontEnds.Links, slices.Index(s.group.sockets, s.socket))
	}
	if g := c.guest(s.group.own); g != nil {
		return g.Link
	}
	return netem.Link{}
}

// SetEmulatedLink gives a guest a link in a configuration that Change alters. The error is a NoGuestError.
func (d *Daemon) SetEmulatedLink(c *Config, guest string, l netem.Link) error {
	s, err := d.find(guest)
	if err != nil {
		return err
	}
	if s.group.own != "" {
		if g := c.guest(s.group.own); g != nil { // else it was removed meanwhile
			g.Link = l
		}
		return nil
	}
	i, links := slices.Index(s.group.sockets, s.socket), slices.Clone(c.FrontEnds.Links)
	for len(links) <= i {
		links = append(links, netem.Link{})
	}
	links[i] = l
	c.FrontEnds.Links = trimLinks(links)
	return nil
}
