package main

import (
	"net/netip"
	"time"

	"github.com/vringnet/vring/internal/daemon"
)

// The status as JSON. Its names are those of the text, where it has names.

type statusGuest struct {
	Name     string       `json:"name"`
	Error    string       `json:"error,omitempty"`
	Pairs    []statusPair `json:"pairs"`
	Disabled uint64       `json:"frames_on_disabled_rings"`
	LogLines uint64       `json:"log_lines_left_out"`
}

type statusPair struct {
	Flows    []statusFlow      `json:"flows"`
	InUse    []statusUsage     `json:"in_use"`
	Counters map[string]uint64 `json:"counters"` // those that are not zero
	Thread   statusThread      `json:"thread"`
}

type statusFlow struct {
	Proto      string         `json:"proto"`
	Inbound    bool           `json:"inbound"`
	Guest      netip.AddrPort `json:"guest"`
	Host       netip.AddrPort `json:"host"` // "" for none
	Path       string         `json:"path,omitempty"`
	Target     netip.AddrPort `json:"target"`
	State      string         `json:"state"`
	FromGuest  uint64         `json:"from_guest_bytes"`
	ToGuest    uint64         `json:"to_guest_bytes"`
	AgeSeconds int64          `json:"age_seconds"`
}

type statusUsage struct {
	Name string `json:"name"`
	Used int    `json:"used"`
	Most int    `json:"most"`
}

type statusThread struct {
	CPU    *int   `json:"cpu"` // null for any
	Turns  uint64 `json:"turns"`
	Polled uint64 `json:"polled"`
	Sleeps uint64 `json:"sleeps"`
	PollUS uint64 `json:"poll_us"`
}

type statusProcess struct {
	Version       string `json:"version"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	HeapBytes     uint64 `json:"heap_bytes"`
	Goroutines    uint64 `json:"goroutines"`
}

// statusValues is the status as names and values of a log line.
func statusValues(s *daemon.Status) []any {
	guests := make([]statusGuest, 0, len(s.Guests))
	for i := range s.Guests {
		guests = append(guests, guestJSON(&s.Guests[i]))
	}
	return []any{"guests", guests, "sandbox", s.Sandbox, "process", statusProcess{
		Version: programVersion(), UptimeSeconds: int64(s.Uptime / time.Second), HeapBytes: s.Heap, Goroutines: s.Goroutines,
	}}
}

func guestJSON(g *daemon.GuestStatus) statusGuest {
	out := statusGuest{Name: g.Name, Pairs: make([]statusPair, 0, len(g.Pairs)), Disabled: g.Disabled, LogLines: g.LostLines}
	if g.Err != nil {
		out.Error = g.Err.Error()
	}
	for i := range g.Pairs {
		out.Pairs = append(out.Pairs, pairJSON(&g.Pairs[i]))
	}
	return out
}

func pairJSON(p *daemon.PairStatus) statusPair {
	out := statusPair{
		Flows: []statusFlow{}, InUse: []statusUsage{}, Counters: map[string]uint64{},
		Thread: statusThread{
			Turns: p.Thread.Turns, Polled: p.Thread.Polled, Sleeps: p.Thread.Sleeps, PollUS: p.Thread.PollMicroseconds,
		},
	}
	if p.CPU >= 0 {
		out.Thread.CPU = &p.CPU
	}
	for i := range p.Report.Flows {
		f := &p.Report.Flows[i]
		out.Flows = append(out.Flows, statusFlow{
			f.ProtoName(), f.Inbound, f.Guest, f.Host, f.Path, f.Target, f.State, f.FromGuest, f.ToGuest, int64(f.Age / time.Second),
		})
	}
	for _, u := range p.Report.Usage {
		out.InUse = append(out.InUse, statusUsage(u))
	}
	for name, n := range p.Report.All() {
		if n != 0 {
			out.Counters[name] = n
		}
	}
	return out
}
