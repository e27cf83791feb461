package control

import (
	"net/http"
	"strconv"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

func (s *Server) link(r *http.Request, _ []byte) (any, error) {
	g, err := s.publishedGuest(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	return &api.Link{State: linkOf(g)}, nil
}

// linkOf is the state of a guest's link.
func linkOf(g *daemon.GuestStatus) string {
	if g.LinkDown {
		return api.LinkDown
	}
	return api.LinkUp
}

func (s *Server) setLink(r *http.Request, body []byte) (any, error) {
	want, err := read[api.Link](body)
	if err != nil {
		return nil, err
	}
	if want.NotKept != "" {
		return nil, unread("not_kept is only in answers")
	}
	if want.State != api.LinkUp && want.State != api.LinkDown {
		return nil, failed(http.StatusUnprocessableEntity, "state %q: want up or down", cut(want.State))
	}
	name := r.PathValue("name")
	if err := s.checkGuest(name); err != nil {
		return nil, err
	}
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	if err := s.Daemon.SetLink(name, want.State == api.LinkUp); err != nil {
		return nil, failed(http.StatusServiceUnavailable, "guest %s: %v; its thread does so before it handles a frame again", name, err)
	}
	s.Log.Info("link set on demand", "guest", name, "state", want.State)
	s.Events.add(api.Event{Kind: api.EventLink, Link: want.State}, &name)
	return &api.Link{State: want.State, NotKept: s.notKept()}, nil
}

func (s *Server) emulation(r *http.Request, _ []byte) (any, error) {
	name := r.PathValue("name")
	if err := s.checkGuest(name); err != nil {
		return nil, err
	}
	l, err := s.Daemon.EmulatedLink(name)
	if err != nil {
		return nil, failed(http.StatusNotFound, "guest %q was removed meanwhile", cut(name))
	}
	answer := &api.Emulation{Link: l.Configured.String()}
	if l.Seed != 0 {
		answer.Seed = strconv.FormatUint(l.Seed, 10)
	}
	return answer, nil
}

func (s *Server) setEmulation(r *http.Request, body []byte) (any, error) {
	want, err := read[api.Emulation](body)
	if err != nil {
		return nil, err
	}
	if want.Seed != "" {
		return nil, unread("seed is only in answers; write it as a key of the link, as in delay=40ms,seed=42")
	}
	l, err := daemon.ParseLink(want.Link)
	if err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	name := r.PathValue("name")
	if err := s.checkGuest(name); err != nil {
		return nil, err
	}
	return s.change(func(c *daemon.Config) error { return s.Daemon.SetEmulatedLink(c, name, l) })
}
