package main

import (
	"fmt"
	"io"
	"iter"
	"net/netip"
	"os"
	"reflect"
	"runtime"
	"runtime/metrics"
	"strings"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// report is what can be told of a guest's network at one moment.
type report struct {
	flows    []nat.FlowInfo
	usage    []nat.Usage
	counters any // a struct whose fields are uint64 or counterGroup
}

// printOnSignal prints the status of all guests for each value of signals, until stop is called.
func printOnSignal(signals <-chan os.Signal, w io.Writer, all []*served) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-signals:
				for _, s := range all {
					printStatus(w, s)
				}
				printProcess(w)
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

// printStatus takes a guest's report on its thread and prints it from here: a full pipe must not stall the ring.
func printStatus(w io.Writer, s *served) {
	text := ""
	for pair := range s.ports {
		var r report
		var thread worker.Stats
		err := s.device.Do(pair, func(now int64) { r, thread = s.report(pair, now), s.device.Stats(pair) })
		if err != nil {
			fmt.Fprintf(w, "guest %s: no status: %v\n", s.name, err)
			return
		}
		text += formatReport(s.nameOf(pair), r) + formatThread(thread, s.device.CPU(pair))
	}
	if n := s.device.Dropped(); n != 0 {
		text += fmt.Sprintf("  %d frames came on rings that were not enabled\n", n)
	}
	if n := s.device.Lost(); n != 0 {
		text += fmt.Sprintf("  %d lines of the log were left out, too many came at once\n", n)
	}
	_, _ = io.WriteString(w, text)
}

// nameOf is what a queue pair is called.
func (s *served) nameOf(pair int) string {
	if len(s.ports) == 1 {
		return s.name
	}
	return fmt.Sprintf("%s, queue pair %d", s.name, pair)
}

// printProcess tells what the process has in use that cannot be counted from outside. A collection comes first, for what
// nobody needs any more is of no interest; neither stops the threads that serve guests.
func printProcess(w io.Writer) {
	runtime.GC()
	samples := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}, {Name: "/sched/goroutines:goroutines"}}
	metrics.Read(samples)
	fmt.Fprintf(w, "process: %d bytes of heap, %d goroutines\n", samples[0].Value.Uint64(), samples[1].Value.Uint64())
}

// formatReport is the status as a person reads it.
func formatReport(name string, r report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "guest %s: %d flows\n", name, len(r.flows))
	formatFlows(&b, r.flows)
	formatUsage(&b, r.usage)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for name, n := range counted(r.counters) {
		fmt.Fprintf(t, "  %s\t%d\t\n", name, n)
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
func nonZero(counters any) []any {
	var args []any
	for name, n := range counted(counters) {
		if n != 0 {
			args = append(args, name, n)
		}
	}
	return args
}

// counterGroup is a field of several counters, which have names of their own.
type counterGroup interface {
	All() iter.Seq2[string, uint64]
}

// oneCounter is the group of a field that is a counter itself.
type oneCounter struct {
	name string
	n    uint64
}

// All implements counterGroup.
func (c oneCounter) All() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) { yield(c.name, c.n) }
}

// counted returns names and values of a struct of counters, in the struct's order.
func counted(counters any) func(yield func(string, uint64) bool) {
	v := reflect.ValueOf(counters)
	return func(yield func(string, uint64) bool) {
		for i := range v.NumField() {
			group, ok := v.Field(i).Interface().(counterGroup)
			if !ok {
				group = oneCounter{snakeCase(v.Type().Field(i).Name), v.Field(i).Uint()}
			}
			for name, n := range group.All() {
				if !yield(name, n) {
					return
				}
			}
		}
	}
}

// snakeCase turns a name such as TCPOutOfOrder into tcp_out_of_order.
func snakeCase(name string) string {
	var b strings.Builder
	letters := []rune(name)
	for i, r := range letters {
		follows := i > 0 && unicode.IsLower(letters[i-1])
		leads := i > 0 && unicode.IsUpper(letters[i-1]) && i+1 < len(letters) && unicode.IsLower(letters[i+1])
		if unicode.IsUpper(r) && (follows || leads) {
			b.WriteByte('_')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}
