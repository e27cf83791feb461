package ledger

import "sync/atomic"

// row is what is counted for one rule. Any thread may count.
type row struct {
	text                              string
	begun, denied, fromGuest, toGuest atomic.Uint64
}

// Count is what was counted for a rule.
type Count struct {
	Rule               string // as an option, such as "--allow tcp:192.0.2.1:443"; "" is for what no rule decides
	Begun              uint64 // connections, associations and series of echo requests that it has let through
	Denied             uint64 // those that it has not
	FromGuest, ToGuest uint64 // bytes of payload of those that are over
}

func (r *row) read() Count {
	return Count{Rule: r.text, Begun: r.begun.Load(), Denied: r.denied.Load(), FromGuest: r.fromGuest.Load(), ToGuest: r.toGuest.Load()}
}

// Rules are the rules of a policy as a guest's ledger has them: a row for each, in their order. They do not change.
type Rules struct{ rows []*row }

// none is the row of what no rule decides, which is behind those of rules.
func (r *Rules) none() *row { return r.rows[len(r.rows)-1] }

// of returns the row of the rule with an index, or that of none.
func (r *Rules) of(rule int) *row {
	if rule < 0 || rule >= len(r.rows)-1 {
		return r.none()
	}
	return r.rows[rule]
}

// newRules makes the rows of rules with texts. Of those in before, the ones with the same text are taken; before may be nil.
func newRules(texts []string, before *Rules) *Rules {
	known := map[string]*row{}
	if before != nil {
		for _, r := range before.rows {
			known[r.text] = r
		}
	}
	made := make([]row, len(texts)+1)
	rows := make([]*row, 0, len(texts)+1)
	for i := range made {
		if i < len(texts) {
			made[i].text = texts[i]
		}
		r, is := known[made[i].text]
		if !is {
			r = &made[i]
			known[r.text] = r // a rule that is written twice is one
		}
		rows = append(rows, r)
	}
	return &Rules{rows}
}

// counts returns what was counted for each rule, and behind them for what no rule decides.
func (r *Rules) counts() []Count {
	all := make([]Count, len(r.rows))
	for i, row := range r.rows {
		all[i] = row.read()
	}
	return all
}
