package control

import (
	"net/http"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

func (s *Server) resolverSettings(r *http.Request, _ []byte) (any, error) {
	n, err := s.askedNAT(r)
	if err != nil {
		return nil, err
	}
	now := &api.ResolverSettings{Resolvers: []string{}, Domains: []string{}}
	for _, v := range n.Resolvers {
		now.Resolvers = append(now.Resolvers, v.String())
	}
	for _, v := range n.Split {
		now.Domains = append(now.Domains, v.String())
	}
	return now, nil
}

func (s *Server) replaceResolvers(r *http.Request, body []byte) (any, error) {
	want, err := read[api.ResolverSettings](body)
	if err != nil {
		return nil, err
	}
	if want.Resolvers == nil || want.Domains == nil {
		return nil, unread("resolvers and domains must be there, and may be empty")
	}
	resolvers, err1 := parseAll(want.Resolvers, daemon.ParseResolver)
	domains, err2 := parseAll(want.Domains, daemon.ParseRoute)
	if err := multierror.Append(nil, err1, err2).ErrorOrNil(); err != nil {
		return nil, refused(&daemon.Applied{}, err)
	}
	own, err := s.policyOf(r)
	if err != nil {
		return nil, err
	}
	return s.change(func(c *daemon.Config) error {
		n, err := natOf(c, own)
		if err == nil {
			n.Resolvers, n.Split = resolvers, domains
		}
		return err
	})
}

// parseAll reads each of texts. The error tells all that is wrong.
func parseAll[T any](texts []string, parse func(string) (T, error)) (all []T, err error) {
	if err := checkCount(len(texts)); err != nil {
		return nil, err
	}
	var errs *multierror.Error
	for _, text := range texts {
		v, err := parse(text)
		all, errs = append(all, v), multierror.Append(errs, err)
	}
	return all, errs.ErrorOrNil()
}
