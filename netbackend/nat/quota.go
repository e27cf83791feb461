package nat

import "sync"

// quota is how much of something that the host has only once, such as the places of its resolver, all guests of a process may
// hold together. It is made before the guests, and may be used by all threads.
type quota struct {
	all int // for all guests
	one int // for one guest at most

	mu   sync.Mutex
	held int
}

// stake is what one guest holds of a quota.
type stake struct {
	of   *quota
	held int // guarded by of.mu
}

// take takes one more, and reports whether there is one. A guest may hold as many as are free: then however many others hold
// all that they can, there are some for one that has none yet.
func (s *stake) take() bool {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	if s.held >= min(s.of.one, s.of.all-s.of.held) {
		return false
	}
	s.held++
	s.of.held++
	return true
}

// give gives one back.
func (s *stake) give() {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	s.held--
	s.of.held--
}

// usage returns how many are held, and may be at most.
func (s *stake) usage(name string) Usage {
	s.of.mu.Lock()
	defer s.of.mu.Unlock()
	return Usage{Name: name, Used: s.held, Most: s.of.one}
}

// resolverQuotas are the quotas of the host's resolvers.
type resolverQuotas struct{ queries, streams quota }

// newResolverQuotas returns quotas that leave room for the host itself: dnsmasq, which many hosts have, answers 150 queries and
// 20 connections at once, and refuses more.
func newResolverQuotas() *resolverQuotas {
	return &resolverQuotas{queries: quota{all: 120, one: 60}, streams: quota{all: 12, one: 4}}
}
