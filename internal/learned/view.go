package learned

import (
	"maps"
	"slices"
	"time"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// View is what was learned of one network so far.
type View struct {
	Rules []Rule  // by name, then by address
	Asked []Asked // names that no rule is about, in their order
	// Telling are connections that have begun, and have not told their server yet: no rule is about them so far.
	Telling int
	// LeftOut are connections and names for which there was no room, and Lost entries, of all networks, that were not seen.
	LeftOut, Lost uint64
}

// Rule is a rule that would have sufficed, and its use.
type Rule struct {
	Rule spec.Rule
	Use
}

// Asked is a name that was asked for, without a connection that followed.
type Asked struct {
	Name string
	Use
}

// Use is how often something was used, and when.
type Use struct {
	Count       uint64
	First, Last time.Time
	Note        string // of an address: the name that it was called by; "" for none
}

// View returns what was learned of a network: of the guest whose socket is own and whose network is its own, or of those that share one (""). It
// is a copy. Unlike Text it leaves the book as it is.
func (b *Book) View(own string) (v View) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v.Lost = b.lost
	for p := range b.pending {
		if p.own == own {
			v.Telling++
		}
	}
	n := b.networks[own]
	if n == nil {
		return v
	}
	v.LeftOut = n.leftOut
	used := map[string]bool{}
	for _, r := range n.sortedRules() {
		used[r.name] = true
		v.Rules = append(v.Rules, Rule{r.Rule, r.use.view()})
	}
	for _, name := range slices.Sorted(maps.Keys(n.asked)) {
		if !used[name] {
			v.Asked = append(v.Asked, Asked{name, n.asked[name].view()})
		}
	}
	return v
}

func (u *use) view() Use { return Use{u.count, u.first, u.last, u.note} }
