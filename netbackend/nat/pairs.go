package nat

import (
	"math/bits"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/pathmtu"
)

// maxPairs is how many queue pairs a guest may have.
const maxPairs = 32

// pairs is what shards of a guest know of each other and have in common, with the table of flows. What parts of the engine share
// with those of other queue pairs is theirs, see guest.
type pairs struct {
	shards     []*shard
	flows      *flowTable
	hosts      *hosts.Table
	identity   idHash
	running    atomic.Uint32 // a bit for each pair whose receive ring runs
	open       atomic.Int32  // ports that are not closed yet
	ofForwards atomic.Int32  // sockets of forwards; the guest's flows have the others
	budgets    limits.Budgets
	newFlows   newFlows
	memory     kernelMemory
	paths      pathmtu.Table
}

// setUp makes what the queue pairs share, before the first one is made. initial chooses initial sequence numbers, for tests; it is nil for
// unpredictable ones.
func (s *pairs) setUp(maxFlows int, l *KernelLimits, initial func() uint32) (err error) {
	s.budgets.Fill()
	s.newFlows.fill(l)
	s.memory.budget = l.Memory
	s.flows, s.hosts = newFlowTable(maxFlows), hosts.New()
	s.identity, err = newIDHash(initial)
	return err
}

// lowest returns the lowest pair whose receive ring runs, nil if none does.
func (s *pairs) lowest() *shard {
	if r := s.running.Load(); r != 0 {
		return s.shards[bits.TrailingZeros32(r)]
	}
	return nil
}

// othersRun tells whether the receive ring of another pair of the guest runs.
func (s *shard) othersRun() bool { return s.pairs.running.Load()&^(1<<s.id) != 0 }

// announceRunning tells the others whether this pair runs, after that has changed.
func (s *shard) announceRunning() {
	if s.alone() {
		return
	}
	bit := uint32(1) << s.id
	before := s.pairs.running.Load()
	if s.receiving {
		s.pairs.running.Or(bit)
	} else {
		s.pairs.running.And(^bit)
	}
	if s.pairs.running.Load() == before {
		return
	}
	for _, q := range s.pairs.shards {
		q.mailbox.put(func(m *mail) { m.shardsChanged = true })
	}
}

// alone tells whether the guest has one queue pair only.
func (s *shard) alone() bool { return s.cfg.Queues == 1 }

// leads tells whether this pair does what the guest is to be told once, and without being asked.
func (s *shard) leads() bool { return s.listening && s.connected && s.receiving }
