package control

import (
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

func (s *Server) status(*http.Request, []byte) (any, error) {
	now := s.Daemon.Published()
	answer := &api.Status{
		Version: s.Version, UptimeSeconds: int64(now.Uptime / time.Second),
		Process: api.Process{HeapBytes: now.Heap, Goroutines: now.Goroutines},
		Sandbox: []api.Wall{}, Guests: guestsOf(&now),
		Control: api.Control{Connections: s.conns.count()},
	}
	if drain := s.drainNow(); drain.Draining {
		answer.Drain = drain
	}
	for _, w := range now.Sandbox {
		answer.Sandbox = append(answer.Sandbox, api.Wall(w))
	}
	return answer, nil
}

func (s *Server) guests(*http.Request, []byte) (any, error) {
	now := s.Daemon.Published()
	return guestsOf(&now), nil
}

func (s *Server) guest(r *http.Request, _ []byte) (any, error) {
	now := s.Daemon.Published()
	for _, g := range guestsOf(&now) {
		if g.Name == r.PathValue("name") {
			return &g, nil
		}
	}
	return nil, noGuest(r.PathValue("name"), &now)
}

// noGuest is that there is no guest of a name.
func noGuest(name string, now *daemon.Status) error {
	var names []string
	for i := range now.Guests {
		names = append(names, now.Guests[i].Name)
	}
	return failed(http.StatusNotFound, "there is no guest %q; there are %q", cut(name), names)
}

// checkGuest returns why there is no guest of a name.
func (s *Server) checkGuest(name string) error {
	now := s.Daemon.Published()
	if slices.ContainsFunc(now.Guests, func(g daemon.GuestStatus) bool { return g.Name == name }) {
		return nil
	}
	return noGuest(name, &now)
}

// guestsOf are the guests of a status.
func guestsOf(s *daemon.Status) []api.Guest {
	all := []api.Guest{}
	for i := range s.Guests {
		g := &s.Guests[i]
		guest := api.Guest{
			Name: g.Name, Socket: g.Socket, FrontEnd: g.Stage.String(), Link: linkOf(g), Pairs: []api.Pair{}, Disabled: g.Disabled, LogLines: g.LostLines,
		}
		if g.Err != nil {
			guest.Error = g.Err.Error()
		}
		for j := range g.Pairs {
			guest.Pairs = append(guest.Pairs, pairOf(&g.Pairs[j]))
		}
		all = append(all, guest)
	}
	return all
}

func pairOf(p *daemon.PairStatus) api.Pair {
	t := &p.Thread
	pair := api.Pair{
		Turns: t.Turns, Polled: t.Polled, Sleeps: t.Sleeps, PollUS: t.PollMicroseconds,
		FromGuestFrames: t.FromGuestFrames, FromGuestBytes: t.FromGuestBytes, ToGuestFrames: t.ToGuestFrames, ToGuestBytes: t.ToGuestBytes,
	}
	if p.CPU >= 0 {
		pair.CPU = &p.CPU
	}
	return pair
}

func (s *Server) counters(*http.Request, []byte) (any, error) {
	now := s.Daemon.Published()
	all := []api.Counters{}
	for i := range now.Guests {
		for pair := range now.Guests[i].Pairs {
			p := &now.Guests[i].Pairs[pair]
			all = append(all, api.Counters{
				Guest: now.Guests[i].Name, Pair: pair, AgeMillis: p.Age.Milliseconds(), Counters: maps.Collect(p.Report.Everything()),
			})
		}
	}
	return all, nil
}
