package main

import (
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
)

// onRequest calls do for each value of requests, until stop is called.
func onRequest(requests <-chan os.Signal, do func()) (stop func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-requests:
				do()
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

// printStatus prints the status of a daemon.
func printStatus(out console, d *daemon.Daemon) {
	s := d.Status()
	out.print(statusText(&s), slog.LevelInfo, "status", statusValues(&s)...)
}

// statusText is the status as a person reads it. The line about the process is the last one.
func statusText(s *daemon.Status) string {
	var b strings.Builder
	for i := range s.Guests {
		b.WriteString(guestText(&s.Guests[i]))
	}
	fmt.Fprintf(&b, "sandbox: %s\n", s.Sandbox)
	fmt.Fprintf(&b, "process: %d bytes of heap, %d goroutines, vring %s, up %s\n",
		s.Heap, s.Goroutines, programVersion(), s.Uptime.Round(time.Second))
	return b.String()
}

func guestText(g *daemon.GuestStatus) string {
	text := ""
	if g.Err != nil {
		text = fmt.Sprintf("guest %s: its flows are not known: %v\n", g.Name, g.Err)
	}
	for i := range g.Pairs {
		p := &g.Pairs[i]
		text += formatReport(pairName(g, i), &p.Report) + formatThread(p.Thread, p.CPU)
	}
	if g.Disabled != 0 {
		text += fmt.Sprintf("  %d frames were dropped: they came on rings that the front end had disabled\n", g.Disabled)
	}
	if g.LostLines != 0 {
		text += fmt.Sprintf("  %d log lines were left out because too many came at once\n", g.LostLines)
	}
	return text
}

// pairName is what a queue pair of a guest is called.
func pairName(g *daemon.GuestStatus, pair int) string {
	if len(g.Pairs) == 1 {
		return g.Name
	}
	return fmt.Sprintf("%s, queue pair %d", g.Name, pair)
}

// formatReport is the status as a person reads it. Counters that are zero are left out; the others keep their groups.
func formatReport(name string, r *daemon.Report) string {
	var b strings.Builder
	fmt.Fprintf(&b, "guest %s: %d flows\n", name, len(r.Flows))
	formatFlows(&b, r.Flows)
	formatUsage(&b, r.Usage)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', tabwriter.AlignRight)
	for name, n := range r.All() {
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
