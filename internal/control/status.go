package control

import (
	"maps"
	"net/http"
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
	if s.Keeper != nil {
		path, err := s.Keeper.File()
		answer.State = &api.State{Path: path}
		if err != nil {
			answer.State.Error = err.Error()
		}
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
	g, err := s.publishedGuest(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	answer := guestOf(g)
	return &answer, nil
}

// publishedGuest returns what is known of a guest.
func (s *Server) publishedGuest(name string) (*daemon.GuestStatus, error) {
	now := s.Daemon.Published()
	var names []string
	for i := range now.Guests {
		if now.Guests[i].Name == name {
			return &now.Guests[i], nil
		}
		names = append(names, now.Guests[i].Name)
	}
	return nil, failed(http.StatusNotFound, "there is no guest %q; there are %q", cut(name), names)
}

// checkGuest returns why there is no guest of a name.
func (s *Server) checkGuest(name string) error {
	_, err := s.publishedGuest(name)
	return err
}

// guestsOf are the guests of a status.
func guestsOf(s *daemon.Status) []api.Guest {
	all := []api.Guest{}
	for i := range s.Guests {
		all = append(all, guestOf(&s.Guests[i]))
	}
	return all
}

func guestOf(g *daemon.GuestStatus) api.Guest {
	guest := api.Guest{
		Name: g.Name, Socket: g.Socket, FrontEnd: g.Stage.String(), FrontEndKind: g.FrontEnd.String(), Link: linkOf(g), Pairs: []api.Pair{}, Disabled: g.Disabled, LogLines: g.LostLines,
	}
	if g.Err != nil {
		guest.Error = g.Err.Error()
	}
	for i := range g.Pairs {
		guest.Pairs = append(guest.Pairs, pairOf(&g.Pairs[i]))
	}
	return guest
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
