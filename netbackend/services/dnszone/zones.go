package dnszone

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/vringnet/vring/netbackend/services/dnsmsg"
)

// MaxEntries is how many entries there may be: a query is compared with all of them at worst.
const MaxEntries = 1024

// Zones answer queries. They do not change, and any thread may ask them.
type Zones struct {
	zones   []zone
	reverse map[netip.Addr]string  // full names of addresses, in lower case
	hosts   func(now int64) []Host // nil for none
	inside  string                 // the zone of hosts, as suffix
	bare    bool                   // hosts are found by their names alone, too
}

// Host is a host that has a name by itself, as it has told by DHCP.
type Host struct {
	Name string // which may be anything
	Addr netip.Addr
}

type zone struct {
	suffix string // with a dot in front and behind, in lower case
	names  []name
}

type name struct {
	kind    Kind
	text    string // of Exact in lower case, and of Pattern
	pattern *regexp.Regexp
	addr    netip.Addr
	target  string // full, in lower case; "" for none
	content string // of TXT
}

// New returns the zones of entries, in the order in which each was named first; own come behind them, without a limit. The error tells the first thing
// that is wrong.
func New(entries []Entry, own ...Entry) (*Zones, error) {
	if len(entries) > MaxEntries {
		return nil, fmt.Errorf("%d DNS names: there may be %d", len(entries), MaxEntries)
	}
	z := &Zones{reverse: map[netip.Addr]string{}}
	entries = slices.Concat(entries, own)
	for i := range entries {
		if err := z.add(&entries[i]); err != nil {
			return nil, fmt.Errorf("DNS name %s: %w", entries[i], err)
		}
	}
	for i := range entries {
		if e := &entries[i]; e.Target != "" && !z.knows(e.Target+".") {
			return nil, fmt.Errorf("DNS name %s: %s is a name of no zone; want one of these zones, since no resolver is asked for its addresses", *e, e.Target)
		}
	}
	return z, nil
}

// WithHosts returns zones that answer for names of hosts in a zone, too, where no entry of that zone does. hosts may be called by any thread.
func (z *Zones) WithHosts(zone string, hosts func(now int64) []Host) *Zones {
	with := *z
	with.hosts, with.inside = hosts, "."+strings.ToLower(zone)+"."
	with.zones = slices.Clone(z.zones)
	with.zone(with.inside)
	return &with
}

// WithoutZone returns zones that answer for the names of hosts without their zone, too, where there is one of that name.
func (z *Zones) WithoutZone() *Zones {
	with := *z
	with.bare = true
	return &with
}

func (z *Zones) knows(full string) bool {
	in, inside := z.find(full)
	return in != nil && in.find(inside) != nil
}

func (z *Zones) add(e *Entry) (err error) {
	if err := e.check(); err != nil {
		return err
	}
	in := z.zone("." + strings.ToLower(e.Zone) + ".")
	n := name{kind: e.Kind, text: strings.ToLower(e.Name), addr: e.Addr, content: e.Text}
	if e.Target != "" {
		n.target = strings.ToLower(e.Target) + "."
	}
	switch e.Kind {
	case Alone:
		return nil
	case Pattern:
		n.text = e.Name
		n.pattern, err = regexp.Compile(e.Name)
	case Exact:
		if full := n.text + in.suffix; e.Addr.IsValid() && z.reverse[e.Addr] == "" {
			z.reverse[e.Addr] = full
		}
	}
	in.names = append(in.names, n)
	return err
}

// zone returns the zone of a suffix, which is made if need be.
func (z *Zones) zone(suffix string) *zone {
	for i := range z.zones {
		if z.zones[i].suffix == suffix {
			return &z.zones[i]
		}
	}
	z.zones = append(z.zones, zone{suffix: suffix})
	return &z.zones[len(z.zones)-1]
}

// Answer returns the answer at now, as hosts takes it, to a message, nil if it is not about a name in a zone. Whoever has the same name of several zones is asked in
// the first of them. A name that is there without an address of the version that was asked for has an answer without records.
func (z *Zones) Answer(now int64, message []byte) []byte {
	if z == nil || len(z.zones) == 0 {
		return nil
	}
	var query dns.Msg
	if query.Unpack(message) != nil || len(query.Question) != 1 || query.Question[0].Qclass != dns.ClassINET {
		return nil
	}
	asked := &query.Question[0]
	answer := new(dns.Msg).SetReply(&query)
	answer.RecursionAvailable = true
	if !(lookup{z, now}).answer(answer, asked) {
		return nil
	}
	packed, err := answer.Pack()
	if err != nil {
		return nil // the resolver tells what is wrong with the query
	}
	return packed
}

// Addresses returns the addresses that a name has at now, as Answer gives them. !is is that the name is in no zone. The name has no final dot.
func (z *Zones) Addresses(now int64, name string) (addrs []netip.Addr, is bool) {
	if z == nil {
		return nil, false
	}
	full := strings.ToLower(name) + "."
	in, inside := z.find(full)
	if in == nil {
		return nil, false
	}
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		records, _ := lookup{z, now}.records(in, inside, full, kind, maxChain)
		for _, r := range records {
			switch r := r.(type) {
			case *dns.A:
				a, _ := netip.AddrFromSlice(r.A.To4())
				addrs = append(addrs, a)
			case *dns.AAAA:
				a, _ := netip.AddrFromSlice(r.AAAA)
				addrs = append(addrs, a)
			}
		}
	}
	return addrs, true
}

// lookup is what is looked up in zones at one time.
type lookup struct {
	*Zones
	now int64
}

// answer fills in an answer, and reports whether the question is about a name of a zone, or the address of one.
func (z lookup) answer(answer *dns.Msg, asked *dns.Question) bool {
	full := strings.ToLower(asked.Name)
	if name := z.nameOf(full); name != "" {
		if asked.Qtype == dns.TypePTR {
			answer.Answer = []dns.RR{&dns.PTR{Hdr: header(asked.Name, dns.TypePTR), Ptr: name}}
		}
		return true
	}
	in, inside := z.find(full)
	if in == nil {
		return z.bareName(answer, asked, full)
	}
	ok := false
	if answer.Answer, ok = z.records(in, inside, asked.Name, asked.Qtype, maxChain); !ok {
		answer.Rcode = dns.RcodeNameError
	}
	return true
}

// bareName is answer for a name of one label, if a host has it.
func (z lookup) bareName(answer *dns.Msg, asked *dns.Question, full string) (ok bool) {
	inside, isOne := strings.CutSuffix(full, ".")
	if !z.bare || !isOne || strings.Contains(inside, ".") {
		return false
	}
	in, _ := z.find("x" + z.inside)
	answer.Answer, ok = z.hostRecords(in, inside, asked.Name, asked.Qtype)
	return ok
}

// maxChain is how many names lead from one to the next (CNAME).
const maxChain = 8

// records returns the records of a type that a name in a zone has, with those of the names that it leads to. !ok is that the name is not there.
func (z lookup) records(in *zone, inside, owner string, kind uint16, chain int) (all []dns.RR, ok bool) {
	first := in.find(inside)
	if first == nil {
		return z.hostRecords(in, inside, owner, kind)
	}
	for i := range in.names {
		n := &in.names[i]
		if n.kind != first.kind || n.text != first.text {
			continue
		}
		if n.target != "" && n != first {
			continue
		}
		if n.target != "" {
			return z.follow(n.target, owner, kind, chain), true
		}
		if r := n.record(owner, kind); r != nil && (kind == dns.TypeTXT || len(all) == 0) {
			all = append(all, r)
		}
	}
	return all, true
}

// follow returns a record that leads to another name, and what that has.
func (z lookup) follow(target, owner string, kind uint16, chain int) []dns.RR {
	all := []dns.RR{&dns.CNAME{Hdr: header(owner, dns.TypeCNAME), Target: target}}
	in, inside := z.find(target)
	if in == nil || chain == 0 || kind == dns.TypeCNAME {
		return all
	}
	more, _ := z.records(in, inside, target, kind, chain-1)
	return append(all, more...)
}

// hostRecords is records for a host that has a name by itself.
func (z lookup) hostRecords(in *zone, inside, owner string, kind uint16) (all []dns.RR, ok bool) {
	if z.hosts == nil || in.suffix != z.inside {
		return nil, false
	}
	for _, h := range z.hosts(z.now) {
		if inside == "" || Label(h.Name) != inside {
			continue
		}
		ok = true
		n := name{addr: h.Addr}
		if r := n.record(owner, kind); r != nil && len(all) == 0 {
			all = []dns.RR{r}
		}
	}
	return all, ok
}

// Label returns the first label of a host's name in lower case, "" if that is none which a host can have (RFC 1123 section 2.1).
func Label(name string) string {
	const allowed = "abcdefghijklmnopqrstuvwxyz0123456789-"
	name, _, _ = strings.Cut(strings.ToLower(name), ".")
	if len(name) > 63 || strings.Trim(name, allowed) != "" || strings.HasPrefix(name, "-") {
		return ""
	}
	return name
}

// nameOf returns the full name of the address that a name of a reverse zone is about, "" for none.
func (z lookup) nameOf(full string) string {
	addr, ok := dnsmsg.AddrOf(full)
	if !ok {
		return ""
	}
	if name := z.reverse[addr]; name != "" || z.hosts == nil {
		return name
	}
	for _, h := range z.hosts(z.now) {
		if name := Label(h.Name); h.Addr == addr && name != "" {
			return name + z.inside
		}
	}
	return ""
}

// find returns the zone of a full name, and what stands in front of the zone's; nil if it is in none.
func (z *Zones) find(full string) (in *zone, inside string) {
	for i := range z.zones {
		if inside, ok := strings.CutSuffix(full, z.zones[i].suffix); ok {
			return &z.zones[i], inside
		}
	}
	return nil, ""
}

// find returns who decides about a name, nil for nobody.
func (z *zone) find(inside string) (rest *name) {
	for i := range z.names {
		switch n := &z.names[i]; {
		case n.kind == Exact && n.text == inside, n.kind == Pattern && n.pattern.MatchString(inside):
			return n
		case n.kind == Rest && rest == nil:
			rest = n
		}
	}
	return rest
}

// header is that of a record, which lives for no time: it may be another one with the next query.
func header(owner string, kind uint16) dns.RR_Header {
	return dns.RR_Header{Name: owner, Rrtype: kind, Class: dns.ClassINET}
}

// record returns the record of a type that n has, nil for none.
func (n *name) record(owner string, kind uint16) dns.RR {
	switch {
	case kind == dns.TypeA && n.addr.Is4():
		return &dns.A{Hdr: header(owner, kind), A: n.addr.AsSlice()}
	case kind == dns.TypeAAAA && n.addr.Is6():
		return &dns.AAAA{Hdr: header(owner, kind), AAAA: n.addr.AsSlice()}
	case kind == dns.TypeTXT && n.content != "":
		return &dns.TXT{Hdr: header(owner, kind), Txt: []string{strings.ReplaceAll(strings.ReplaceAll(n.content, `\`, `\\`), `"`, `\"`)}}
	}
	return nil
}
