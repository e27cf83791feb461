package control

import (
	"net/http"
	"net/netip"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/nat"
)

func (s *Server) explain(r *http.Request, _ []byte) (any, error) {
	to, err := nat.ParseTarget(r.URL.Query().Get("to"))
	if err != nil {
		return nil, failed(http.StatusBadRequest, "to: %v", err)
	}
	x, err := s.Daemon.Explain(r.PathValue("name"), to)
	if err != nil {
		return nil, flowFailure(err)
	}
	answer := &api.Explanation{Allowed: x.Allowed, Why: x.Why, By: x.By, OpenBy: x.OpenBy, Owner: x.Owner, Host: nameOfEnd(x.Host)}
	if x.Source.IsValid() {
		answer.Source = x.Source.String()
	}
	return answer, nil
}

// nameOfEnd returns an address, "" for none.
func nameOfEnd(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
