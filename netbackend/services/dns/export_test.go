package dns

// Knows reports whether to is one of the resolvers.
func (r *Relay) Knows(now int64, to Server) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(now)
	return r.find(to) != nil
}
