package dns

import "time"

// State is what is known of the resolvers.
type State struct {
	File      string // that they are read from, "" for none
	Patience  time.Duration
	Resolvers []ResolverState // in their order; those of the file are known when a guest has asked
}

// ResolverState is what is known of a resolver.
type ResolverState struct {
	Server   Server
	Domain   string        // that it is asked for, "" for names that are in no domain with resolvers of its own
	First    bool          // it is asked first by the next query by UDP, unless the file says that they take turns
	Answered bool          // it has answered a query
	Ago      time.Duration // since it has answered last
	UDP, TCP HealthState
	TLS      HealthState
}

// HealthState is whether a resolver works by one transport.
type HealthState struct {
	Failed bool          // it has, and has not answered since
	Ago    time.Duration // since it has failed last
	Again  time.Duration // until it is tried again, 0 if it is by the next query
}

// State returns what is known of the resolvers at now. Nothing is looked at for it.
func (r *Relay) State(now int64) State {
	patience := r.Patience()
	r.mu.Lock()
	defer r.mu.Unlock()
	s := State{Patience: patience}
	if len(r.cfg.Servers) == 0 {
		s.File = r.cfg.File
	}
	best := 0
	for i := range r.list {
		v := &r.list[i]
		if v.before(&r.list[best], now, UDP) {
			best = i
		}
		state := ResolverState{
			Server: v.addr, Answered: v.spoke, UDP: v.health[UDP].state(now), TCP: v.health[TCP].state(now), TLS: v.health[TLS].state(now),
		}
		if v.spoke {
			state.Ago = time.Duration(now - v.heard)
		}
		s.Resolvers = append(s.Resolvers, state)
	}
	if len(s.Resolvers) > 0 {
		s.Resolvers[best].First = true
	}
	return s
}

func (h *health) state(now int64) HealthState {
	if !h.aside {
		return HealthState{}
	}
	return HealthState{Failed: true, Ago: time.Duration(now - h.failed), Again: time.Duration(max(h.until-now, 0))}
}
