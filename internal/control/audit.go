package control

import (
	"errors"
	"net/http"
	"time"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

func (s *Server) auditLog(*http.Request, []byte) (any, error) {
	now := s.Daemon.AuditLog()
	return &api.AuditLog{Path: now.Path, On: now.Path != "" && !now.Off, Bytes: now.Size, Fails: now.Fails}, nil
}

func (s *Server) setAuditLog(_ *http.Request, body []byte) (any, error) {
	want, err := read[api.AuditLogChange](body)
	if err != nil {
		return nil, err
	}
	if want.Path == "" && want.On == nil {
		return nil, failed(http.StatusUnprocessableEntity, "want a path, on, or both")
	}
	return s.change(func(c *daemon.Config) error {
		if want.Path != "" {
			c.AuditLog = want.Path
		}
		if want.On != nil {
			c.AuditOff = !*want.On
		}
		return nil
	})
}

func (s *Server) reopenAuditLog(r *http.Request, body []byte) (any, error) {
	if len(body) > 0 {
		return nil, unread("it must be empty: the file is known")
	}
	if err := s.admitChange(); err != nil {
		return nil, err
	}
	if err := s.Daemon.ReopenAudit(); err != nil {
		return nil, failed(http.StatusUnprocessableEntity, "%v", err)
	}
	s.Log.Info("the audit log was opened again on demand")
	return s.auditLog(r, nil)
}

func (s *Server) learned(r *http.Request, _ []byte) (any, error) {
	v, err := s.Daemon.Learned(r.PathValue("name"))
	if errors.Is(err, daemon.ErrNotLearning) {
		return nil, failed(http.StatusUnprocessableEntity, "%v", err)
	}
	if err != nil {
		return nil, flowFailure(err)
	}
	answer := &api.Learned{Rules: []api.LearnedRule{}, Asked: []api.AskedName{}, Telling: v.Telling, LeftOut: v.LeftOut, Lost: v.Lost}
	for i := range v.Rules {
		l := &v.Rules[i]
		answer.Rules = append(answer.Rules, api.LearnedRule{Rule: l.Rule.ForShell(), Count: l.Count, First: at(l.First), Last: at(l.Last), Note: l.Note})
	}
	for i := range v.Asked {
		a := &v.Asked[i]
		answer.Asked = append(answer.Asked, api.AskedName{Name: a.Name, Count: a.Count, First: at(a.First), Last: at(a.Last)})
	}
	return answer, nil
}

// at is a time as answers have it.
func at(t time.Time) string { return t.UTC().Format(time.RFC3339) }
