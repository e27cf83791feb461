package passtopt

import (
	"net/netip"
	"strconv"
	"strings"
)

// portSpec is a SPEC of -t or -u.
type portSpec struct {
	none       bool
	addr       netip.Addr // the zero Addr is all addresses of both versions
	ifName     string
	items      []portItem
	weak       bool          // all ports but excluded ones and the host's ephemeral ones, as far as they are free
	excluded   [1 << 16]bool // ports
	weakTarget netip.Addr    // where they lead to; the zero Addr is the guest
}

// portItem is a range of ports and where it leads.
type portItem struct {
	first, last uint16
	to          uint16     // the first one
	target      netip.Addr // the zero Addr is the guest
}

// cursor is what of a text is still to be read.
type cursor struct{ rest string }

func (c *cursor) literal(text string) bool {
	rest, found := strings.CutPrefix(c.rest, text)
	if found {
		c.rest = rest
	}
	return found
}

// number reads digits.
func (c *cursor) number() (n int, ok bool) {
	i := 0
	for i < len(c.rest) && c.rest[i] >= '0' && c.rest[i] <= '9' {
		i++
	}
	const most = 9 // digits that fit an int
	if i == 0 || i > most {
		return 0, false
	}
	n, _ = strconv.Atoi(c.rest[:i])
	c.rest = c.rest[i:]
	return n, true
}

// ports reads N or N-M.
func (c *cursor) ports() (first, last uint16, ok bool) {
	const highest = 1<<16 - 1
	at := *c
	a, ok := at.number()
	b := a
	if ok && at.literal("-") {
		b, ok = at.number()
	}
	if !ok || b < a || b > highest {
		return 0, 0, false
	}
	*c = at
	return uint16(a), uint16(b), true
}

// address reads one of either version, in brackets or not.
func (c *cursor) address() (netip.Addr, bool) {
	if inside, found := strings.CutPrefix(c.rest, "["); found {
		text, rest, closed := strings.Cut(inside, "]")
		if !closed {
			return netip.Addr{}, false
		}
		return c.addressIs(text, rest)
	}
	for _, digits := range []string{"0123456789aAbBcCdDeEfF:.", "0123456789."} {
		n := strings.IndexFunc(c.rest, func(r rune) bool { return !strings.ContainsRune(digits, r) })
		if n < 0 {
			n = len(c.rest)
		}
		if a, ok := c.addressIs(c.rest[:n], c.rest[n:]); ok {
			return a, true
		}
	}
	return netip.Addr{}, false
}

func (c *cursor) addressIs(text, rest string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, false
	}
	c.rest = rest
	return a.Unmap(), true
}

// where reads [ADDRESS|*][%INTERFACE]/ in front of ports.
func (c *cursor) where(s *portSpec) bool {
	at := *c
	addr, ok := at.address()
	if !ok {
		at.literal("*")
	}
	var name string
	if at.literal("%") {
		n := strings.IndexAny(at.rest, "/ \f\n\r\t\v")
		if n <= 0 || n > maxIfName {
			return false
		}
		name, at.rest = at.rest[:n], at.rest[n:]
	}
	if !at.literal("/") {
		return false
	}
	s.addr, s.ifName, *c = addr, name, at
	return true
}

// parsePorts reads a SPEC.
func parsePorts(text string) (*portSpec, error) {
	s := new(portSpec)
	if text == "none" {
		s.none = true
		return s, nil
	}
	c := cursor{text}
	if c.where(s) && (s.ifName == "." || s.ifName == "..") {
		return nil, faultf("Invalid interface name: %s", s.ifName)
	}
	list := c.rest
	const maxParts = 1024
	if strings.Count(list, ",") >= maxParts {
		return nil, faultf("Port specifier with more than %d parts", maxParts)
	}
	for more := true; more; more = c.literal(",") {
		if err := s.item(&c, list); err != nil {
			return nil, err
		}
		if c.rest != "" && c.rest[0] != ',' {
			return nil, invalid(list)
		}
	}
	s.weak = len(s.items) == 0
	return s, nil
}

func invalid(list string) error { return faultf("Invalid port specifier '%s'", list) }

// item reads one part of a list.
func (s *portSpec) item(c *cursor, list string) error {
	switch {
	case c.literal("all"):
		if c.literal(":") {
			a, ok := c.address()
			if !ok {
				return invalid(list)
			}
			s.weakTarget = a
		}
		return nil
	case c.literal("auto"):
		return faultf("'auto' port forwarding is only allowed for pasta")
	case c.literal("~"):
		first, last, ok := c.ports()
		if !ok {
			return invalid(list)
		}
		for p := int(first); p <= int(last); p++ {
			s.excluded[p] = true
		}
		return nil
	}
	return s.ports(c, list)
}

// ports reads a range and where it leads.
func (s *portSpec) ports(c *cursor, list string) error {
	first, last, ok := c.ports()
	if !ok {
		return invalid(list)
	}
	i := portItem{first: first, last: last, to: first}
	if c.literal(":") {
		if i.target, i.to, ok = c.target(first, last); !ok {
			return invalid(list)
		}
	}
	s.items = append(s.items, i)
	return nil
}

// target reads where a range leads: ADDRESS/PORTS, ADDRESS, or PORTS, of which there must be as many.
func (c *cursor) target(first, last uint16) (a netip.Addr, to uint16, ok bool) {
	at := *c
	if a, ok = at.address(); ok {
		to = first
		if slashed := at; slashed.literal("/") {
			end := last
			if to, end, ok = slashed.ports(); !ok || end-to != last-first {
				return a, 0, false
			}
			at = slashed
		}
		*c = at
		return a, to, true
	}
	to, end, ok := at.ports()
	if !ok || end-to != last-first {
		return a, 0, false
	}
	*c = at
	return netip.Addr{}, to, true
}
