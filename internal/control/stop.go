package control

import (
	"bytes"
	"net/http"
	"time"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

// lastAnswer is an answer after which something is done that may end the connection.
type lastAnswer struct {
	answer any
	then   func()
}

func (s *Server) stop(_ *http.Request, body []byte) (any, error) {
	if len(bytes.TrimSpace(body)) > 0 {
		return nil, unread("it must be empty")
	}
	s.Log.Info("asked to end at the control socket")
	return &lastAnswer{&api.Stopping{Stopping: true}, s.Stop}, nil
}

// maxDrain bounds the time after which a process that drains ends all the same.
const maxDrain = 366 * 24 * time.Hour

func (s *Server) drain(*http.Request, []byte) (any, error) { return s.drainNow(), nil }

// drainNow is how the drain goes on.
func (s *Server) drainNow() *api.Drain {
	now, draining := s.Daemon.Draining()
	if !draining {
		return &api.Drain{}
	}
	answer := &api.Drain{Draining: true, Since: now.Since.UTC().Format(eventTime)}
	if !now.Until.IsZero() {
		answer.Until = now.Until.UTC().Format(eventTime)
	}
	if now.Flows >= 0 {
		answer.Flows = &now.Flows
	}
	return answer
}

func (s *Server) startDrain(_ *http.Request, body []byte) (any, error) {
	var want api.DrainRequest
	if len(bytes.TrimSpace(body)) > 0 {
		var err error
		if want, err = read[api.DrainRequest](body); err != nil {
			return nil, err
		}
	}
	if want.TimeoutMillis < 0 || want.TimeoutMillis > maxDrain.Milliseconds() {
		return nil, failed(http.StatusUnprocessableEntity, "timeout_ms %d: want 1 to %d, or 0 for no timeout", want.TimeoutMillis, maxDrain.Milliseconds())
	}
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	over := func() {
		s.Log.Info("drained: the process ends")
		s.Stop()
	}
	if _, err := s.Daemon.StartDrain(time.Duration(want.TimeoutMillis)*time.Millisecond, over); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	return s.drainNow(), nil
}

func (s *Server) cancelDrain(*http.Request, []byte) (any, error) {
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	if err := s.Daemon.CancelDrain(); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	return s.drainNow(), nil
}
