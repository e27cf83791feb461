package passtopt

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// rule is one range of ports that is forwarded.
type rule struct {
	proto  uint8
	addr   netip.Addr // the zero Addr is all of both versions
	ifName string
	portItem
	weak bool // ports that cannot be had are left out
}

// String is a rule as passt prints it.
func (r *rule) String() string {
	at, target, weak := "*", "", ""
	if r.addr.IsValid() {
		at = r.addr.String()
	}
	if r.ifName != "" {
		at += "]%" + r.ifName
	} else {
		at += "]"
	}
	if r.target.IsValid() {
		target = r.target.String() + ":"
	}
	if r.weak {
		weak = " (best effort)"
	}
	name := "TCP"
	if r.proto == unix.IPPROTO_UDP {
		name = "UDP"
	}
	if r.first == r.last {
		return fmt.Sprintf("%s [%s:%d  =>  %s%d %s", name, at, r.first, target, r.to, weak)
	}
	return fmt.Sprintf("%s [%s:%d-%d  =>  %s%d-%d %s", name, at, r.first, r.last, target, r.to, r.to+r.last-r.first, weak)
}

// maxRules is how many there may be: as many as passt takes.
const maxRules = 255

// ruleSet are the rules of a command line.
type ruleSet struct {
	has4, has6, tcp, udp bool
	all                  []rule
}

// addSpec adds the rules of a SPEC.
func (s *ruleSet) addSpec(p Ports, h *Host) error {
	of, err := parsePorts(p.Spec)
	if err != nil {
		return err
	}
	r := rule{proto: unix.IPPROTO_TCP, addr: of.addr, ifName: of.ifName}
	letter := "t"
	if p.UDP {
		r.proto, letter = unix.IPPROTO_UDP, "u"
	}
	if of.none {
		for i := range s.all {
			if s.all[i].proto == r.proto {
				return faultf("-%s none conflicts with previous options", letter)
			}
		}
		return nil
	}
	if !of.addr.IsValid() && of.ifName == "" { // all of the versions that there are
		switch {
		case !s.has6:
			r.addr = netip.IPv4Unspecified()
		case !s.has4:
			r.addr = netip.IPv6Unspecified()
		}
	}
	for _, i := range of.items {
		if err := s.addRange(r, i, func(port int) bool { return of.excluded[port] }); err != nil {
			return err
		}
	}
	if !of.weak {
		return nil
	}
	r.weak = true
	return s.addRange(r, portItem{first: 1, last: 1<<16 - 1, to: 1, target: of.weakTarget}, func(port int) bool {
		return of.excluded[port] || port >= int(h.FirstLocal) && port <= int(h.LastLocal)
	})
}

// addRange adds a range less some ports: one rule for each part that is left.
func (s *ruleSet) addRange(r rule, i portItem, isOut func(port int) bool) error {
	for p := int(i.first); p <= int(i.last); p++ {
		if isOut(p) {
			continue
		}
		from := p
		for p < int(i.last) && !isOut(p+1) {
			p++
		}
		r.portItem = portItem{first: uint16(from), last: uint16(p), to: i.to + uint16(from) - i.first, target: i.target}
		if why := s.add(r); why != "" {
			return faultf("%s; unable to add rule %s", why, &r)
		}
	}
	return nil
}

// add adds a rule. It returns why that is not possible, "" if it was.
func (s *ruleSet) add(r rule) (why string) {
	const highest = 1<<16 - 1
	switch {
	case r.first == 0:
		return "Forwarding rule attempts to map from port 0"
	case r.to == 0 || int(r.to)+int(r.last-r.first) > highest:
		return "Forwarding rule attempts to map to port 0"
	case r.addr.Is4() && !s.has4:
		return "IPv4 forward, but IPv4 not enabled"
	case r.addr.Is6() && !s.has6:
		return "IPv6 forward, but IPv6 not enabled"
	case r.proto == unix.IPPROTO_TCP && !s.tcp:
		return "Can't add TCP forwarding rule, TCP not enabled"
	case r.proto == unix.IPPROTO_UDP && !s.udp:
		return "Can't add UDP forwarding rule, UDP not enabled"
	case r.target.IsMulticast():
		return fmt.Sprintf("Multicast target address %s for forwarding rule", r.target)
	case r.target.IsValid() && !r.target.IsUnspecified() && !r.addr.IsValid():
		return fmt.Sprintf("Dual stack forward to %s address %s unsupported", versionOf(r.target), r.target)
	case r.target.IsValid() && !r.target.IsUnspecified() && r.target.Is4() != r.addr.Is4():
		return fmt.Sprintf("Forward from %s (%s) to %s (%s) unsupported", versionOf(r.addr), r.addr, versionOf(r.target), r.target)
	}
	for i := range s.all {
		if b := &s.all[i]; r.conflicts(b) {
			return fmt.Sprintf("Forwarding configuration conflict: %s versus %s", &r, b)
		}
	}
	if len(s.all) >= maxRules {
		return fmt.Sprintf("Too many rules (maximum %d)", maxRules)
	}
	s.all = append(s.all, r)
	return ""
}

func versionOf(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// conflicts reports whether two rules want the same port.
func (r *rule) conflicts(b *rule) bool {
	overlap := !r.addr.IsValid() || !b.addr.IsValid() || r.addr == b.addr ||
		r.addr.Is4() == b.addr.Is4() && (r.addr.IsUnspecified() || b.addr.IsUnspecified())
	return r.proto == b.proto && overlap && r.first <= b.last && b.first <= r.last
}

// forwards are the rule in vring's words. A guest is reached in IPv4 if it has it: its address in IPv6 may be another one than DHCPv6 gives.
func (r *rule) forwards(guest netip.Addr, freebind bool) (all []spec.Forward) {
	hosts := []netip.Addr{r.addr}
	if !r.addr.IsValid() {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	if r.target.IsValid() && !r.target.IsUnspecified() {
		guest = r.target
	}
	for _, host := range hosts {
		all = append(all, spec.Forward{
			Proto: r.proto, Host: netip.AddrPortFrom(host, r.first), Guest: netip.AddrPortFrom(guest, r.to), Count: r.last - r.first + 1,
			Binding: spec.Binding{Interface: r.ifName, IfFree: r.weak, Freebind: freebind && !host.IsUnspecified()},
		})
	}
	return all
}
