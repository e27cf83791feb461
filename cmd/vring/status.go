package main

import (
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"runtime/metrics"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// report is what can be told of a guest's network at one moment.
type report struct {
	flows    []nat.FlowInfo
	usage    []nat.Usage
	counters any // a struct whose fields are uint64 or counting.Group
	// returned are receive buffers of the guest that could carry nothing: its worker's, and not the network's.
	returned netbackend.ReturnedBuffers
}

// all are the names and values of all counters. Buffers that are as they should be have no line.
func (r *report) all() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for name, n := range counting.All(r.counters) {
			if !yield(name, n) {
				return
			}
		}
		for name, n := range counting.All(r.returned) {
			if n != 0 && !yield(name, n) {
				return
			}
		}
	}
}

// printOnSignal prints the status of all guests, and of the sandbox, for each value of signals, until stop is called.
func printOnSignal(signals <-chan os.Signal, out console, all []*served, walls sandbox.State) (stop func()) {
	started := time.Now()
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-signals:
				s := readStatus(all, time.Since(started))
				s.walls = walls
				out.print(s.text(), slog.LevelInfo, "status", s.values()...)
			case <-quit:
				return
			}
		}
	}()
	return func() {
		close(quit)
		<-done
	}
}

// status is what is known of the process and its guests at one moment.
type status struct {
	uptime     time.Duration
	guests     []guestStatus
	walls      sandbox.State
	heap       uint64 // bytes
	goroutines uint64
}

// guestStatus is what is known of a guest.
type guestStatus struct {
	name      string
	pairs     []pairStatus
	err       error  // why there is nothing else
	disabled  uint64 // frames on rings that the front end had disabled
	lostLines uint64 // of the log
}

// pairStatus is what is known of a queue pair.
type pairStatus struct {
	name   string // of the guest, and of the pair if there are several
	report report
	thread worker.Stats
	cpu    int // negative for any
}

// readStatus takes the reports of all guests. What nobody needs any more is collected first, for it is of no interest;
// neither stops the threads that serve guests.
func readStatus(all []*served, uptime time.Duration) status {
	s := status{uptime: uptime}
	s.guests = make([]guestStatus, len(all))
	var wg sync.WaitGroup
	for i, g := range all { // at the same time: one whose thread is stuck is waited for
		wg.Go(func() { s.guests[i] = g.status() })
	}
	wg.Wait()
	runtime.GC()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	s.heap, s.goroutines = samples[0].Value.Uint64(), samples[1].Value.Uint64()
	return s
}

// status takes a guest's reports on its threads. Printing them is for others: a full pipe must not stall a ring.
func (s *served) status() guestStatus {
	g := guestStatus{name: s.name, disabled: s.device.Dropped(), lostLines: s.device.Lost()}
	for pair := range s.ports {
		p := pairStatus{name: s.nameOf(pair), cpu: s.device.CPU(pair)}
		g.err = s.device.Do(pair, func(now int64) { p.report, p.thread = s.reportOf(pair, now), s.device.Stats(pair) })
		if g.err != nil {
			return g
		}
		g.pairs = append(g.pairs, p)
	}
	return g
}

// reportOf is the report of a queue pair with what its thread has counted. It may be called where the port's methods may.
func (s *served) reportOf(pair int, now int64) report {
	r := s.report(pair, now)
	r.returned = s.device.Stats(pair).Returned
	return r
}

// nameOf is what a queue pair is called.
func (s *served) nameOf(pair int) string {
	if len(s.ports) == 1 {
		return s.name
	}
	return fmt.Sprintf("%s, queue pair %d", s.name, pair)
}

// text is the status as a person reads it. The line about the process is the last one.
func (s *status) text() string {
	var b strings.Builder
	for i := range s.guests {
		b.WriteString(s.guests[i].text())
	}
	fmt.Fprintf(&b, "sandbox: %s\n", s.walls)
	fmt.Fprintf(&b, "process: %d bytes of heap, %d goroutines, vring %s, up %s\n",
		s.heap, s.goroutines, programVersion(), s.uptime.Round(time.Second))
	return b.String()
}

func (g *guestStatus) text() string {
	if g.err != nil {
		return fmt.Sprintf("guest %s: no status: %v\n", g.name, g.err)
	}
	text := ""
	for _, p := range g.pairs {
		text += formatReport(p.name, p.report) + formatThread(p.thread, p.cpu)
	}
	if g.disabled != 0 {
		text += fmt.Sprintf("  %d frames were dropped: they came on rings that the front end had disabled\n", g.disabled)
	}
	if g.lostLines != 0 {
		text += fmt.Sprintf("  %d log lines were left out because too many came at once\n", g.lostLines)
	}
	return text
}

// formatReport is the status as a person reads it. Counters that are zero are left out; the others keep their groups.
func formatReport(name string, r report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "guest %s: %d flows\n", name, len(r.flows))
	formatFlows(&b, r.flows)
	formatUsage(&b, r.usage)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for name, n := range r.all() {
		if n != 0 {
			fmt.Fprintf(t, "  %s\t%d\t\n", name, n)
		}
	}
	_ = t.Flush()
	return b.String()
}

// formatThread tells what the thread of a queue pair does with its processor.
func formatThread(s worker.Stats, cpu int) string {
	where := "on any processor"
	if cpu >= 0 {
		where = fmt.Sprintf("on processor %d", cpu)
	}
	return fmt.Sprintf("  thread %s: %d turns, found work %d times by polling, slept %d times; polls for %d us now\n",
		where, s.Turns, s.Polled, s.Sleeps, s.PollMicroseconds)
}

func formatFlows(w io.Writer, flows []nat.FlowInfo) {
	if len(flows) == 0 {
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "  PROTO\tWAY\tGUEST\tHOST SOCKET\tTARGET\tSTATE\tFROM GUEST\tTO GUEST\tAGE")
	for _, f := range flows {
		way := "out"
		if f.Inbound {
			way = "in"
		}
		host := orDash(f.Host)
		if f.Path != "" {
			host = f.Path
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\n",
			f.ProtoName(), way, f.Guest, host, orDash(f.Target), f.State, f.FromGuest, f.ToGuest, f.Age.Round(time.Second))
	}
	_ = t.Flush()
}

// formatUsage prints in a line how much of what the guest may have it has.
func formatUsage(w io.Writer, usage []nat.Usage) {
	if len(usage) == 0 {
		return
	}
	var parts []string
	for _, u := range usage {
		parts = append(parts, fmt.Sprintf("%d of %d %s", u.Used, u.Most, u.Name))
	}
	fmt.Fprintf(w, "  in use: %s\n", strings.Join(parts, ", "))
}

func orDash(a netip.AddrPort) string {
	if !a.IsValid() {
		return "-"
	}
	return a.String()
}

// nonZero returns the counters that are not zero as arguments for a log line.
func nonZero(counters iter.Seq2[string, uint64]) []any {
	var args []any
	for name, n := range counters {
		if n != 0 {
			args = append(args, name, n)
		}
	}
	return args
}
