package policy

import (
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Rules by name rest on what the engine's own name server answers. While there are some, other name servers are closed: DNS and DNS over
// TLS or QUIC by their ports, DNS over HTTPS by the addresses and names of those that browsers and systems know by themselves (as of 2026-11). A list
// cannot have all; what it lacks opens no address that a rule would not open, since a guest that is restricted needs an answer of the
// engine's own name server for each.

// dohAddresses are addresses that are public resolvers by HTTPS, and nothing else.
func dohAddresses() []string {
	return strings.Fields(`
		1.1.1.1 1.0.0.1 1.1.1.2 1.0.0.2 1.1.1.3 1.0.0.3
		2606:4700:4700::1111 2606:4700:4700::1001 2606:4700:4700::1112 2606:4700:4700::1002 2606:4700:4700::1113 2606:4700:4700::1003
		2606:4700:4700::64 2606:4700:4700::6400
		8.8.8.8 8.8.4.4 2001:4860:4860::8888 2001:4860:4860::8844 2001:4860:4860::64 2001:4860:4860::6464
		9.9.9.9 149.112.112.112 9.9.9.10 149.112.112.10 9.9.9.11 149.112.112.11 2620:fe::fe 2620:fe::9 2620:fe::10 2620:fe::fe:10 2620:fe::11 2620:fe::fe:11
		208.67.222.222 208.67.220.220 208.67.222.123 208.67.220.123 2620:119:35::35 2620:119:53::53
		94.140.14.14 94.140.15.15 94.140.14.15 94.140.15.16 94.140.14.140 94.140.14.141
		2a10:50c0::ad1:ff 2a10:50c0::ad2:ff 2a10:50c0::bad1:ff 2a10:50c0::bad2:ff 2a10:50c0::1:ff 2a10:50c0::2:ff
		185.228.168.9 185.228.169.9 185.228.168.10 185.228.169.11 185.228.168.168 185.228.169.168
		194.242.2.2 194.242.2.3 194.242.2.4 194.242.2.5 194.242.2.6 194.242.2.9 2a07:e340::2 2a07:e340::3 2a07:e340::4 2a07:e340::5 2a07:e340::6 2a07:e340::9
		76.76.2.0 76.76.10.0 76.76.2.11 76.76.10.11 2606:1a40:: 2606:1a40:1::
		45.90.28.0 45.90.30.0 2a07:a8c0:: 2a07:a8c1::
		193.110.81.0 185.253.5.0 2a0f:fc80:: 2a0f:fc81::
		223.5.5.5 223.6.6.6 2400:3200::1 2400:3200:baba::1 1.12.12.12 120.53.53.53
		77.88.8.8 77.88.8.1 77.88.8.88 77.88.8.2 77.88.8.7 77.88.8.3
		101.101.101.101 101.102.103.104 149.112.121.10 149.112.122.10 130.59.31.248 130.59.31.251 185.222.222.222 45.11.45.11`)
}

// dohNames are the names of public resolvers by HTTPS; all below them is meant, too. The last ones are those by which programs ask whether
// they may use one.
func dohNames() []string {
	return strings.Fields(`
		cloudflare-dns.com one.one.one.one dns.google dns.google.com dns64.dns.google dns.quad9.net dns9.quad9.net dns10.quad9.net dns11.quad9.net dns12.quad9.net
		doh.opendns.com doh.familyshield.opendns.com doh.umbrella.com dns.umbrella.com doh.sandbox.opendns.com
		dns.adguard.com dns.adguard-dns.com dns-family.adguard.com unfiltered.adguard-dns.com family.adguard-dns.com
		doh.cleanbrowsing.org dns.mullvad.net doh.mullvad.net adblock.dns.mullvad.net dns.nextdns.io firefox.dns.nextdns.io dns.controld.com freedns.controld.com
		doh.dns4.eu joindns4.eu doh.dns0.eu dns0.eu zero.dns0.eu doh.applied-privacy.net dns.digitale-gesellschaft.ch doh.ffmuc.net dns.njal.la
		doh.xfinity.com doh.cox.net mozilla.cloudflare-dns.com chrome.cloudflare-dns.com doh.pub dns.alidns.com doh.360.cn dns.twnic.tw
		common.dot.dns.yandex.net dns.switch.ch private.canadianshield.cira.ca protected.canadianshield.cira.ca family.canadianshield.cira.ca
		doh.sb dns.sb doh.li doh.tiar.app jp.tiar.app dns.rabbitdns.org public.dns.iij.jp dns.aa.net.uk dns.bebasid.com doh.libredns.gr
		use-application-dns.net mask.icloud.com mask-h2.icloud.com _dns.resolver.arpa`)
}

// doh are the lists as they are asked.
type doh struct {
	addresses map[netip.Addr]bool
	names     map[string]bool
}

func newDoH() doh {
	d := doh{addresses: map[netip.Addr]bool{}, names: map[string]bool{}}
	for _, a := range dohAddresses() {
		d.addresses[netip.MustParseAddr(a)] = true
	}
	for _, n := range dohNames() {
		d.names[n] = true
	}
	return d
}

// hasName reports whether a name is one of a resolver, or below one.
func (d *doh) hasName(name string) bool {
	for {
		if d.names[name] {
			return true
		}
		dot := strings.IndexByte(name, '.')
		if dot < 0 {
			return false
		}
		name = name[dot+1:]
	}
}

const (
	portDNS   = 53
	portDoT   = 853
	portHTTPS = 443
)

// isByPort reports whether a destination is a resolver by its port.
func isByPort(to *Destination) bool {
	return (to.Proto == unix.IPPROTO_TCP || to.Proto == unix.IPPROTO_UDP) && (to.Port == portDNS || to.Port == portDoT)
}

// isResolver reports whether a destination is another name server, which rules by name close.
func (r *Rules) isResolver(to *Destination) bool {
	return r.names != nil && (isByPort(to) || to.Port == portHTTPS && r.doh.addresses[to.Addr.Netip()])
}

// opensResolver reports whether a rule by address opens other name servers: it must name one address, or the port of DNS alone.
func (f *filter) opensResolver(port uint16) bool {
	return f.alone || f.first == port && f.last == port && port != portHTTPS
}

// opensResolver is the same for a rule by name: it must name the port of DNS alone, or the resolver itself.
func (q *question) opensResolver(r *nameRule) bool {
	if isByPort(&q.to) {
		return slices.Contains(r.named.Ports, spec.Ports{First: q.to.Port, Last: q.to.Port})
	}
	return r.resolver
}
