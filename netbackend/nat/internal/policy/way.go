package policy

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// ways are how what is allowed leaves the host.
type ways struct {
	usual   *spec.Way         // of what no rule says otherwise of, nil if the kernel chooses
	of      map[int]*spec.Way // by rule, of those that say something themselves
	proxies bool              // some lead to a proxy
}

func newWays(usual spec.Way, rules []spec.Rule) (w ways) {
	if usual != (spec.Way{}) {
		w.usual = &usual
		w.proxies = usual.Via.IsUsed()
	}
	for i := range rules {
		if rules[i].Way == (spec.Way{}) {
			continue
		}
		if w.of == nil {
			w.of = map[int]*spec.Way{}
		}
		way := rules[i].Way.Or(usual)
		w.of[i] = &way
		w.proxies = w.proxies || way.Via.IsUsed()
	}
	return w
}

// choose finds the way of what is allowed. What goes to the host itself does not leave it, and is not asked about.
func (p *Policy) choose(d *Decision, proto uint8) {
	if d.Verdict != Allowed && d.Verdict != Held {
		return
	}
	way := p.rules.ways.of[d.Rule]
	if way == nil {
		way = p.rules.ways.usual
	}
	if way == nil {
		return
	}
	d.Way = way
	if proto != unix.IPPROTO_TCP && way.IsForTCP() {
		d.Verdict = NoWay
	}
}

// UsualWay returns how what no rule speaks of leaves the host, nil if the kernel chooses. It is not to be changed.
func (p *Policy) UsualWay() *spec.Way { return p.rules.UsualWay() }

// UsualWay is that of a Policy with r.
func (r *Rules) UsualWay() *spec.Way { return r.ways.usual }

// WantsNames reports whether it matters by which names the guest knows addresses: there are rules by name, or proxies, which are told names, or names are learned.
func (r *Rules) WantsNames() bool { return r.names != nil || r.ways.proxies || r.learn }

// NameAt returns the name that a proxy is told for a destination that is allowed, "" if none is known: the one that a rule opens it by, or
// the last one that was answered with its address.
func (p *Policy) NameAt(d *Decision) string {
	if d.Name != "" || d.Way == nil || !d.Way.Via.IsUsed() {
		return d.Name
	}
	var names witness.Names
	if p.table.Names(p.time(), &d.To.Addr, &names) == 0 {
		return ""
	}
	return names[0]
}
