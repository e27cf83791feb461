package daemon

import (
	"errors"
	"iter"
	"runtime"
	"runtime/metrics"
	"slices"
	"sync"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
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
	Kind      Kind            // of what it is connected to
	OnSwitch  bool            // it is behind NAT and on a switch: each queue pair has the counters of both, in this order
	Socket    string          // at which its front end is met; "" for one that was inherited
	FrontEnd  FrontEnd        // how its front end passes frames
	Stage     vhostuser.Stage // how far its front end has come
	Pairs     []PairStatus
	Err       error         // why flows and usage of some are not known
	LinkDown  bool          // by SetLink
	Disabled  uint64        // frames on rings that the front end had disabled, or while the link was down
	LostLines uint64        // notices that were left out
	Limits    []nat.Usage   // how near it is to what it may have
	NAT       *NATStatus    // nil for another network
	Uplink    *UplinkStatus // nil for a guest
}

// NATStatus is what is known of a guest behind NAT, as a whole.
type NATStatus struct {
	States       []nat.StateCount      // how many flows have which state
	Kernel       int64                 // bytes that the host's kernel holds for its sockets
	KernelLimit  int64                 // bytes that it may hold
	Opened, Took counting.Distribution // handshakes of its connections, and of those to it
	Rules        []nat.RuleCount       // what was counted for each rule, and for what no rule decides
}

// Kind is a kind of networks that guests are connected to.
type Kind string

// The kinds.
const (
	KindNAT    Kind = "nat"
	KindTAP    Kind = "tap"
	KindSwitch Kind = "switch"
	KindUplink Kind = "uplink" // of a switch
	KindStub   Kind = "stub"
)

// kind is that of the guest's network.
func (g *guest) kind() Kind {
	switch {
	case g.uplink != nil:
		return KindUplink
	case g.network.NAT != nil:
		return KindNAT
	case g.network.TAP != nil:
		return KindTAP
	case g.network.Switch != nil:
		return KindSwitch
	}
	return KindStub
}

// PairStatus is what is known of a queue pair.
type PairStatus struct {
	Report Report
	Thread worker.Stats
	Turns  counting.Distribution // how long one turn in some took
	Age    time.Duration         // of the counters; 0 if nothing can have been counted since
	CPU    int                   // that its thread is pinned to, negative for none
	Err    error                 // why the counters are not known, which are zero then
}

// Report is what a queue pair's network tells of itself.
type Report struct {
	Flows    []nat.FlowInfo
	Usage    []nat.Usage
	Counters counting.Values
	// Returned are receive buffers of the guest that could carry nothing: its worker's, and not the network's.
	Returned netbackend.ReturnedBuffers
	// FrontEnd is what passed between the guest's rings and its front end, if this process has the rings.
	FrontEnd netbackend.FrontEndCounters
	// Link is what was counted of an emulated link.
	Link netem.Counters
}

// All are the names and values of all counters. Buffers, frames of front ends, and links that are as they should be have no line.
func (r *Report) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for name, n := range r.Counters.All() {
			if !yield(name, n) {
				return
			}
		}
		for _, some := range r.ofWorker() {
			for name, n := range some {
				if n != 0 && !yield(name, n) {
					return
				}
			}
		}
	}
}

// ofWorker are the counters that are its worker's.
func (r *Report) ofWorker() []iter.Seq2[string, uint64] {
	return []iter.Seq2[string, uint64]{counting.All(r.Returned), counting.All(r.FrontEnd), counting.All(r.Link)}
}

// Everything are the names and values of all counters, those of buffers and front ends among them whatever they are.
func (r *Report) Everything() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for _, some := range append([]iter.Seq2[string, uint64]{r.Counters.All()}, r.ofWorker()...) {
			for name, n := range some {
				if !yield(name, n) {
					return
				}
			}
		}
	}
}

// Status takes the reports of all guests. Counters are those that threads have published. Flows are asked for: their threads
// are woken, and publish their counters first. What nobody needs any more of the heap is collected before, for it is of no
// interest; neither stops the threads that serve guests.
func (d *Daemon) Status() Status {
	all := d.all()
	s := d.statusOf(all)
	var wg sync.WaitGroup
	for i, g := range all { // at the same time: one whose thread is stuck is waited for
		wg.Go(func() { s.Guests[i] = g.located(g.status()) })
	}
	wg.Wait()
	runtime.GC()
	s.measure()
	return s
}

// Published is the status without flows and usage. It reads what threads have published, and wakes none of them.
func (d *Daemon) Published() Status {
	s := d.statusOf(d.all())
	s.measure()
	return s
}

// statusOf is what guests have published.
func (d *Daemon) statusOf(all []*served) Status {
	s := Status{Uptime: time.Since(d.since), Sandbox: d.walls}
	for _, g := range all {
		s.Guests = append(s.Guests, g.located(g.published()))
	}
	return s
}

// located adds to the guest's status how far its front end has come.
func (s *served) located(g GuestStatus) GuestStatus {
	g.Stage, g.FrontEnd = s.server.Stage(), s.frontEnd
	return g
}

// measure looks at the process.
func (s *Status) measure() {
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	s.Heap, s.Goroutines = samples[0].Value.Uint64(), samples[1].Value.Uint64()
}

// status takes the reports of a guest's queue pairs, all at the same time.
func (s *served) status() GuestStatus {
	snapshots, errs := make([]nat.Snapshot, len(s.counters)), make([]error, len(s.counters))
	var wg sync.WaitGroup
	for i := range s.counters {
		wg.Go(func() { snapshots[i], errs[i] = s.flows(i) })
	}
	wg.Wait()
	g := s.published()
	for i := range g.Pairs {
		g.Pairs[i].Report.Flows, g.Pairs[i].Report.Usage = snapshots[i].Flows, snapshots[i].Usage
	}
	g.Err = errors.Join(append(errs, g.Err)...)
	return g
}

// published is the status without what threads are asked for.
func (s *served) published() GuestStatus {
	g := GuestStatus{Name: s.name, Kind: s.kind(), OnSwitch: s.network.NAT != nil && s.network.Switch != nil, Socket: s.socket, LinkDown: s.linkDown.Load(), Disabled: s.device.Dropped(), LostLines: s.device.Lost()}
	g.Limits, g.NAT = s.limits(), s.natStatus()
	if s.uplink != nil {
		g.Uplink = s.uplink.status()
	}
	var errs []error
	for i := range s.counters {
		counters, err := s.device.Counters(i)
		errs = append(errs, err)
		g.Pairs = append(g.Pairs, PairStatus{
			Report: Report{Counters: counters.Port, Returned: counters.Thread.Returned, FrontEnd: counters.Thread.FrontEnd, Link: counters.Thread.Link},
			Thread: counters.Thread, Turns: s.device.TurnTimes(i), Age: counters.Age, CPU: s.device.CPU(i), Err: err,
		})
	}
	g.Err = errors.Join(errs...)
	return g
}

// limits returns how near the guest is to what it may have.
func (s *served) limits() (all []nat.Usage) {
	if s.natPort != nil {
		all = slices.Concat(s.natPort.Limits(), s.natPort.Budgets(s.device.Now()))
	}
	waiting, most := s.device.Notices()
	return append(all, nat.Usage{Name: "log lines", Used: waiting, Most: most})
}

// natStatus returns what is known of a guest behind NAT, nil for another one.
func (s *served) natStatus() *NATStatus {
	if s.natPort == nil {
		return nil
	}
	n := &NATStatus{States: s.natPort.States(), Rules: s.natPort.RuleCounts()}
	n.Kernel, n.KernelLimit = s.natPort.KernelMemory()
	n.Opened, n.Took = s.natPort.Handshakes()
	return n
}

// flows asks the thread of a queue pair for the flows of its network, if that has any.
func (s *served) flows(pair int) (nat.Snapshot, error) {
	if s.snapshot == nil {
		return nat.Snapshot{}, nil
	}
	taken := new(nat.Snapshot) // to which the thread may write after an error
	if err := s.device.Do(pair, func(t *worker.Thread) { *taken = s.snapshot(t) }); err != nil {
		return nat.Snapshot{}, err
	}
	return *taken, nil
}
