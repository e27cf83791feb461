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
	answer := &api.Explanation{Allowed: x.Allowed, Why: x.Why, By: x.By, OpenBy: x.OpenBy, Owner: x.Owner, Host: nameOfEnd(x.Host), Way: x.Way.String(), Proof: x.Proof, Name: nameExplained(x.Name)}
	if x.Source.IsValid() {
		answer.Source = x.Source.String()
	}
	return answer, nil
}

// nameExplained is what becomes of a name, as it is sent; nil for none.
func nameExplained(n *nat.NameExplained) *api.NameExplained {
	if n == nil {
		return nil
	}
	sent := &api.NameExplained{MayAsk: n.MayAsk, Why: n.Why, By: n.By, Addresses: []api.AddressExplained{}, More: n.More}
	for _, a := range n.Addresses {
		sent.Addresses = append(sent.Addresses, api.AddressExplained{Address: a.Addr.String(), Allowed: a.Allowed, Why: a.Why, By: a.By})
	}
	return sent
}

// nameOfEnd returns an address, "" for none.
func nameOfEnd(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
