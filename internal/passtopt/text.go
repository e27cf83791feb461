package passtopt

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vringnet/vring/internal/daemon"
)

// tell writes what passt prints at its start. Programs read "assign:" and "router:" in it.
func (p *plan) tell() {
	p.line("%s", interfaces("Template", p.v4.link, p.v6.link))
	p.tellOutbound()
	p.line("MAC:")
	p.line("    host: %s", p.out.Config.NAT.RouterMAC)
	if p.v4.on {
		p.tellV4()
	}
	if p.v6.on {
		p.tellV6()
	}
	if len(p.rules.all) > 0 {
		p.line("Inbound forwarding rules (HOST):")
		for i := range p.rules.all {
			p.line("    %s", &p.rules.all[i])
		}
	}
	p.tellDifferences()
}

func (p *plan) line(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); text != "" {
		p.out.Text = append(p.out.Text, text)
	}
}

// interfaces says which interface is one of a kind for each version of IP, "" if there is none.
func interfaces(kind, four, six string) string {
	var names []string
	if four != "" {
		names = append(names, four+" (IPv4)")
	}
	if six != "" {
		names = append(names, six+" (IPv6)")
	}
	if names == nil {
		return ""
	}
	return kind + " interface: " + strings.Join(names, ", ")
}

// tellOutbound says how what the guest sends leaves the host, where that was given.
func (p *plan) tellOutbound() {
	o := p.o
	p.line("%s", interfaces("Outbound", o.OutboundIf4, o.OutboundIf6))
	if o.Outbound4.IsValid() {
		p.line("Outbound IPv4 address: %s", o.Outbound4)
	}
	if o.Outbound6.IsValid() {
		p.line("Outbound IPv6 address: %s", o.Outbound6)
	}
}

func (p *plan) tellV4() {
	v := &p.v4
	if v.mapHost.IsValid() {
		p.line("    NAT to host 127.0.0.1: %s", v.mapHost)
	}
	if !p.o.Without["dhcp"] {
		p.line("DHCP:")
		p.line("    assign: %s", v.guest)
		p.line("    mask: %s", net.IP(net.CIDRMask(v.prefix.Bits(), v.guest.BitLen())))
		p.line("    router: %s", v.gateway)
	}
	p.tellNames(true)
}

func (p *plan) tellV6() {
	v := &p.v6
	if v.mapHost.IsValid() {
		p.line("    NAT to host ::1: %s", v.mapHost)
	}
	ndp, dhcp := !p.o.Without["ndp"] && !p.o.Without["icmp"], !p.o.Without["dhcpv6"]
	switch {
	case ndp && dhcp:
		p.line("NDP/DHCPv6:")
	case dhcp:
		p.line("DHCPv6:")
	case ndp:
		p.line("NDP:")
	}
	if ndp || dhcp {
		p.line("    assign: %s", v.guest)
		p.line("    router: %s", v.gateway)
		if v.local.IsValid() {
			p.line("    our link-local: %s", v.local)
		}
	}
	p.tellNames(false)
}

func (p *plan) tellNames(is4 bool) {
	for i, a := range ofVersion(p.told, is4) {
		if i == 0 {
			p.line("DNS:")
		}
		p.line("    %s", a)
	}
	for i, d := range p.search {
		if i == 0 {
			p.line("DNS search list:")
		}
		p.line("    %s", d)
	}
}

// tellDifferences says what is otherwise than with passt, and than as a rule with vring.
func (p *plan) tellDifferences() {
	for _, text := range slices.Compact(slices.Sorted(slices.Values(p.o.Idle))) {
		p.note("%s", text)
	}
	for _, a := range []netip.Addr{p.v4.mapHost, p.v6.mapHost} {
		if a.IsValid() {
			p.except("as with passt, the guest reaches the services of the host's loopback at %s; --no-map-gw closes them", a)
		}
	}
	if exposed(p.out.Config.NAT) {
		p.except("as with passt, forwards without an address are open to other machines; 127.0.0.1/PORT is for this host only")
	}
}

func (p *plan) except(format string, args ...any) {
	p.out.Exceptions = append(p.out.Exceptions, fmt.Sprintf(format, args...))
}

// exposed reports whether forwards are bound on all addresses.
func exposed(n *daemon.NAT) bool {
	for i := range n.Forwards {
		if n.Forwards[i].Host.Addr().IsUnspecified() {
			return true
		}
	}
	return false
}
