package vhostuser

import (
	"fmt"
	"log/slog"
)

// vain counts front ends in a row that left before their guest's driver was up, and tells once what the cause may be.
type vain struct {
	log    *slog.Logger
	pairs  int
	hint   string // see Config.QueuesHint
	silent int    // those that said nothing
	spoke  int
	told   bool
}

// vainEnds is how many ends in a row are told of.
const vainEnds = 5

func (v *vain) ended(r sessionResult) {
	switch {
	case r.up:
		v.silent, v.spoke, v.told = 0, 0, false
		return
	case r.reason != nil:
		return // which was told
	case r.spoke:
		v.spoke++
	default:
		v.silent++
	}
	if v.told || v.silent+v.spoke < vainEnds {
		return
	}
	v.told = true
	if v.spoke == 0 {
		v.log.Info("connections come and go without a word", "hint", "is something checking whether the socket is alive?")
		return
	}
	v.log.Warn("front ends leave again and again before the guest's driver is up", "hint", v.queuesHint())
}

// queuesHint is what a front end does wrong that wants more queue pairs than there are.
func (v *vain) queuesHint() string {
	text := fmt.Sprintf("most likely the front end asks for more queue pairs than there are (%d); its own messages tell", v.pairs)
	if v.hint != "" {
		text += "; " + v.hint
	}
	return text
}
