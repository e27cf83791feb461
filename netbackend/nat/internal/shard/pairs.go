package shard

import (
	"math/bits"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/pathmtu"
)

// MaxPairs is how many queue pairs a guest may have.
const MaxPairs = 32

// Pairs is what shards of a guest know of each other and have in common, with the table of flows. What parts of the engine share
// with those of other queue pairs is theirs, see guest.
type Pairs struct {
	shards     []*Shard
	Flows      *Table
	Hosts      *hosts.Table
	identity   IDHash
	running    atomic.Uint32 // a bit for each pair whose receive ring runs
	open       atomic.Int32  // ports that are not closed yet
	OfForwards atomic.Int32  // sockets of forwards; the guest's flows have the others
	budgets    limits.Budgets
	NewFlows   NewFlows
	Memory     KernelMemory
	Handshakes Handshakes
	Paths      pathmtu.Table
}

// SetUp makes what the queue pairs share, before the first one is made. initial chooses initial sequence numbers, for tests; it is nil for
// unpredictable ones.
func (s *Pairs) SetUp(maxFlows int, l *KernelLimits, initial func() uint32) (err error) {
	s.budgets.Fill()
	s.NewFlows.fill(l)
	s.Memory.budget = l.Memory
	s.Handshakes.setUp()
	s.Flows, s.Hosts = NewTable(maxFlows), hosts.New()
	s.identity, err = newIDHash(initial)
	return err
}

// Lowest returns the lowest pair whose receive ring runs, nil if none does.
func (s *Pairs) Lowest() *Shard {
	if r := s.running.Load(); r != 0 {
		return s.shards[bits.TrailingZeros32(r)]
	}
	return nil
}

// OthersRun tells whether the receive ring of another pair of the guest runs.
func (s *Shard) OthersRun() bool { return s.Pairs.running.Load()&^(1<<s.Pair) != 0 }

// AnnounceRunning tells the others whether this pair runs, after that has changed.
func (s *Shard) AnnounceRunning() {
	if s.Alone() {
		return
	}
	bit := uint32(1) << s.Pair
	before := s.Pairs.running.Load()
	if s.Receiving {
		s.Pairs.running.Or(bit)
	} else {
		s.Pairs.running.And(^bit)
	}
	if s.Pairs.running.Load() == before {
		return
	}
	for _, q := range s.Pairs.shards {
		q.mailbox.put(func(m *mail) { m.ShardsChanged = true })
	}
}

// Alone tells whether the guest has one queue pair only.
func (s *Shard) Alone() bool { return s.Cfg.Queues == 1 }

// Leads tells whether this pair does what the guest is to be told once, and without being asked.
func (s *Shard) Leads() bool { return s.Listening && s.Connected && s.Receiving }
