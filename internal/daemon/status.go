package daemon

import (
	"iter"
	"runtime"
	"runtime/metrics"
	"sync"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// Status is what is known of the process and its guests at one moment.
type Status struct {
	Uptime     time.Duration
	Guests     []GuestStatus
	Sandbox    sandbox.State
	Heap       uint64 // bytes in use
	Goroutines uint64
}

// GuestStatus is what is known of a guest.
type GuestStatus struct {
	Name      string
	Pairs     []PairStatus
	Err       error  // why there are no further ones
	Disabled  uint64 // frames on rings that the front end had disabled
	LostLines uint64 // notices that were left out
}

// PairStatus is what is known of a queue pair.
type PairStatus struct {
	Report Report
	Thread worker.Stats
	CPU    int // that its thread is pinned to, negative for none
}

// Report is what a queue pair's network tells of itself.
type Report struct {
	Flows    []nat.FlowInfo
	Usage    []nat.Usage
	Counters any // a struct as package counting reads it
	// Returned are receive buffers of the guest that could carry nothing: its worker's, and not the network's.
	Returned netbackend.ReturnedBuffers
}

// All are the names and values of all counters. Buffers that are as they should be have no line.
func (r *Report) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for name, n := range counting.All(r.Counters) {
			if !yield(name, n) {
				return
			}
		}
		for name, n := range counting.All(r.Returned) {
			if n != 0 && !yield(name, n) {
				return
			}
		}
	}
}

// Status takes the reports of all guests, each on its threads. What nobody needs any more of the heap is collected first, for it
// is of no interest; neither stops the threads that serve guests.
func (d *Daemon) Status() Status {
	s := Status{Uptime: time.Since(d.since), Guests: make([]GuestStatus, len(d.guests)), Sandbox: d.walls}
	var wg sync.WaitGroup
	for i, g := range d.guests { // at the same time: one whose thread is stuck is waited for
		wg.Go(func() { s.Guests[i] = g.status() })
	}
	wg.Wait()
	runtime.GC()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	s.Heap, s.Goroutines = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return s
}

// status takes a guest's reports on its threads. Printing them is for others: a full pipe must not stall a ring.
func (s *served) status() GuestStatus {
	g := GuestStatus{Name: s.name, Disabled: s.device.Dropped(), LostLines: s.device.Lost()}
	for pair := range s.ports {
		p := PairStatus{CPU: s.device.CPU(pair)}
		g.Err = s.device.Do(pair, func(now int64) { p.Report, p.Thread = s.reportOf(pair, now), s.device.Stats(pair) })
		if g.Err != nil {
			return g
		}
		g.Pairs = append(g.Pairs, p)
	}
	return g
}

// reportOf is the report of a queue pair with what its thread has counted. It may be called where the port's methods may.
func (s *served) reportOf(pair int, now int64) Report {
	r := s.report(pair, now)
	r.Returned = s.device.Stats(pair).Returned
	return r
}
