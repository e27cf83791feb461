package main

import (
	"net/netip"
	"time"
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

// values is the status as names and values of a log line.
func (s *status) values() []any {
	guests := make([]statusGuest, 0, len(s.guests))
	for i := range s.guests {
		guests = append(guests, s.guests[i].json())
	}
	return []any{"guests", guests, "sandbox", s.walls, "process", statusProcess{
		Version: programVersion(), UptimeSeconds: int64(s.uptime / time.Second), HeapBytes: s.heap, Goroutines: s.goroutines,
	}}
}

func (g *guestStatus) json() statusGuest {
	out := statusGuest{Name: g.name, Pairs: make([]statusPair, 0, len(g.pairs)), Disabled: g.disabled, LogLines: g.lostLines}
	if g.err != nil {
		out.Error = g.err.Error()
		return out
	}
	for i := range g.pairs {
		out.Pairs = append(out.Pairs, g.pairs[i].json())
	}
	return out
}

func (p *pairStatus) json() statusPair {
	out := statusPair{
		Flows: []statusFlow{}, InUse: []statusUsage{}, Counters: map[string]uint64{},
		Thread: statusThread{
			Turns: p.thread.Turns, Polled: p.thread.Polled, Sleeps: p.thread.Sleeps, PollUS: p.thread.PollMicroseconds,
		},
	}
	if p.cpu >= 0 {
		out.Thread.CPU = &p.cpu
	}
	for i := range p.report.flows {
		f := &p.report.flows[i]
		out.Flows = append(out.Flows, statusFlow{
			f.ProtoName(), f.Inbound, f.Guest, f.Host, f.Path, f.Target, f.State, f.FromGuest, f.ToGuest, int64(f.Age / time.Second),
		})
	}
	for _, u := range p.report.usage {
		out.InUse = append(out.InUse, statusUsage(u))
	}
	for name, n := range p.report.all() {
		if n != 0 {
			out.Counters[name] = n
		}
	}
	return out
}
