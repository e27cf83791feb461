package l2switch

import (
	"slices"

	"github.com/vringnet/vring/netbackend/fdb"
)

// reason is why a frame is dropped.
type reason uint8

const (
	none reason = iota
	badHeader
	badSource
	spoofed
	tooMany
	wrongVLAN
	isolated
	local
	unreached
	storm
	fullInbox
	guarded
	uncut
)

// count returns the counter of a reason.
func (c *Counters) count(r reason) *uint64 {
	switch r {
	case badHeader:
		return &c.BadHeaders
	case badSource:
		return &c.BadSource
	case spoofed:
		return &c.Spoofed
	case tooMany:
		return &c.TooManyMACs
	case wrongVLAN:
		return &c.WrongVLAN
	case isolated:
		return &c.Isolated
	case local:
		return &c.Local
	case unreached:
		return &c.Unreached
	case storm:
		return &c.Storm
	case fullInbox:
		return &c.Full
	case guarded:
		return &c.Guarded
	}
	return &c.Uncut
}

// remembered is an address whose place was found a moment ago, which need not be looked for again.
type remembered struct {
	address address
	port    int
	until   int64
	changes uint32 // of the table
}

func (r *remembered) is(a address, now int64, t *fdb.Table) bool {
	return r.address == a && now < r.until && r.changes == t.Changes.Load()
}

// decide says where a frame goes.
func (p *Port) decide(f *frame, now int64) {
	if f.vid = p.ingress(f); f.vid == 0 {
		f.reason = wrongVLAN
		return
	}
	if f.reason = p.knowsSource(f.from, f.vid, now); f.reason != none {
		return
	}
	if f.to&fdb.GroupBit != 0 {
		p.toMany(f, now)
		return
	}
	a := fdb.AddressOf(f.to, f.vid)
	if p.destination.is(a, now, p.sw.table) {
		f.port = p.destination.port
	} else {
		changes := p.sw.table.Changes.Load()
		if f.port = p.sw.table.LookUp(a, now); f.port < 0 {
			p.toMany(f, now)
			return
		}
		p.destination = remembered{a, f.port, now + fdb.Fresh, changes}
	}
	f.reason = p.mayReach(f)
}

// mayReach returns why a frame does not get to the one Port that it is for.
func (p *Port) mayReach(f *frame) reason {
	if f.port == p.number {
		return local
	}
	if f.port >= len(p.ports) || p.ports[f.port] == nil {
		return unreached
	}
	if to := p.ports[f.port]; to.isolated && p.isolated {
		return isolated
	} else if !p.fits(f, to) {
		return wrongVLAN
	}
	return none
}

// fits reports whether a frame can go to a Port in its VLAN. A frame whose tag is taken off must not have another one behind it,
// which would lead into that VLAN.
func (p *Port) fits(f *frame, to *Port) bool {
	return to.carries(f.vid) && !(f.typ == etherTypeTag && f.vid == to.vlan)
}

// Addresses that no bridge forwards (IEEE 802.1Q table 8-1): 01:80:c2:00:00:00 to 0f.
const (
	reserved     = mac(0x0000_00c2_8001)
	reservedMask = mac(0xf0ff_ffff_ffff)
)

// toMany decides on a frame to a group, or to an address that is not known.
func (p *Port) toMany(f *frame, now int64) {
	f.port = many
	switch {
	case f.to&reservedMask == reserved:
		f.reason = local
	case !p.flood.take(now):
		f.reason = storm
	default:
		f.flooded = true
	}
}

// reaches reports whether a frame to many goes to a Port.
func (p *Port) reaches(f *frame, to *Port) bool {
	return to != nil && to != p && !(to.isolated && p.isolated) && p.fits(f, to)
}

// knowsSource notes where a frame has come from. It returns why a frame must not come from there.
func (p *Port) knowsSource(m mac, vid uint16, now int64) reason {
	a := fdb.AddressOf(m, vid)
	if p.source.is(a, now, p.sw.table) {
		return none
	}
	switch {
	case m == 0 || m&fdb.GroupBit != 0:
		return badSource
	case len(p.fixed) > 0 && !slices.Contains(p.fixed, m):
		return spoofed
	case !p.sw.mayHave(p, m):
		return spoofed
	}
	changes := p.sw.table.Changes.Load()
	if p.sw.table.See(a, p.number, p.share, now) == fdb.Full {
		if p.strict {
			return tooMany
		}
		p.counters.NotLearned++
		return none
	}
	p.source = remembered{a, p.number, now + fdb.Fresh, changes}
	return none
}
