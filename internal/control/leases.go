package control

import (
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/services/dns"
)

func (s *Server) leases(r *http.Request, _ []byte) (any, error) {
	leases, err := s.Daemon.Leases(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	all := []api.Lease{}
	for i := range leases {
		all = append(all, leaseOf(&leases[i]))
	}
	return all, nil
}

func leaseOf(l *nat.Lease) api.Lease {
	lease := api.Lease{
		Address: l.Addr.String(), MAC: net.HardwareAddr(l.MAC[:]).String(), Name: strings.ToValidUTF8(l.Name, "?"), Fixed: l.Fixed,
	}
	if l.Left > 0 {
		left := int64(l.Left / time.Second)
		lease.LeftSeconds = &left
	}
	return lease
}

func (s *Server) hostNames(r *http.Request, _ []byte) (any, error) {
	names, err := s.Daemon.HostNames(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	all := []api.HostName{}
	for _, n := range names {
		all = append(all, api.HostName{Name: strings.ToValidUTF8(n.Name, "?"), Address: n.Addr.String()})
	}
	return all, nil
}

func (s *Server) nameCache(r *http.Request, _ []byte) (any, error) {
	names, err := s.Daemon.CachedNames(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	stats, err := s.Daemon.NameCacheStats(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	answer := &api.NameCache{On: names != nil, Names: []api.CachedName{}, Stats: api.NameCacheStats{
		Entries: stats.Entries, Bytes: stats.Bytes, Hits: stats.Hits, Misses: stats.Misses, Expired: stats.Expired, Stale: stats.Stale,
	}}
	for _, n := range names {
		answer.Names = append(answer.Names, api.CachedName{
			Name: strings.ToValidUTF8(n.Name, "?"), Type: n.Type, Code: n.Code, LeftSeconds: int64(n.Left / time.Second),
		})
	}
	return answer, nil
}

func (s *Server) forgetNames(r *http.Request, _ []byte) (any, error) {
	n, err := s.Daemon.ForgetNames(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	s.Log.Info("answers of resolvers forgotten on demand", "guest", r.PathValue("name"), "answers", n)
	return &api.ForgottenNames{Forgotten: n}, nil
}

func (s *Server) resolvers(r *http.Request, _ []byte) (any, error) {
	now, err := s.Daemon.Resolvers(r.PathValue("name"))
	if err != nil {
		return nil, flowFailure(err)
	}
	answer := &api.Resolvers{File: now.File, PatienceMillis: now.Patience.Milliseconds(), Resolvers: []api.Resolver{}}
	for _, v := range now.Resolvers {
		resolver := api.Resolver{
			Address: v.Server.String(), Domain: v.Domain, First: v.First, UDP: failureOf(v.UDP), TCP: failureOf(v.TCP), TLS: failureOf(v.TLS),
		}
		if v.Answered {
			ago := v.Ago.Milliseconds()
			resolver.AnsweredMS = &ago
		}
		answer.Resolvers = append(answer.Resolvers, resolver)
	}
	return answer, nil
}

// failureOf tells of a failure, nil for none.
func failureOf(h dns.HealthState) *api.ResolverFailure {
	if !h.Failed {
		return nil
	}
	return &api.ResolverFailure{AgoMillis: h.Ago.Milliseconds(), AgainMillis: h.Again.Milliseconds()}
}
