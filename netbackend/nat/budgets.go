package nat

import (
	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend/drops"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// What follows is of the guest, whatever queue pair is asked, but for Drops. Anybody may call it at any time; no thread is woken, and none waits.

// Budgets returns how much a guest has used of what it may do in a second: each kind of slow work, and flows that nobody has answered. What is
// used fills up again. now is the time as for Turn.
func (p *Port) Budgets(now int64) (all []Usage) {
	for w := range limits.AllWork() {
		used, most := p.shard.BudgetUsed(w, now)
		all = append(all, Usage{w.String(), used, most})
	}
	used, most := p.shard.Pairs.NewFlows.Used(now)
	return append(all, Usage{"new flows", used, most})
}

// KernelMemory returns how many bytes the host's kernel holds for the guest, as the last look at each of its sockets has found, and how many it may
// hold.
func (p *Port) KernelMemory() (held, most int64) {
	m := &p.shard.Pairs.Memory
	return m.Bytes(), m.Limit()
}

// Handshakes returns how long connections took to open: those that the guest began, from its SYN to the answer of the host's peer, and
// those of the host, from their beginning to the guest's answer.
func (p *Port) Handshakes() (fromGuest, toGuest counting.Distribution) {
	h := &p.shard.Pairs.Handshakes
	return h.FromGuest.Read(), h.ToGuest.Read()
}

// Drops returns what this queue pair has dropped last, the oldest first, with times of its clock.
func (p *Port) Drops() []drops.Drop { return p.shard.Drops() }
