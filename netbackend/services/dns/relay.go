package dns

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// Port is that of DNS over UDP and TCP (RFC 1035 section 4.2).
	Port = 53

	recheck = int64(time.Second) // how long a look at the file is good for
	// usualPatience is how long a resolver may be silent before the next one is asked as well. The guest's own time-outs are
	// longer: the C library's is 5 s, musl's 2.5 s. Shorter would ask two for many a name that takes its time.
	usualPatience = 1500 * time.Millisecond
	mostPatience  = 5 * time.Second // the C library's default: guests ask again then
	// maxResolvers bounds what is taken from the file. The C library stops at 3.
	maxResolvers = 16
)

// Config tells where resolvers come from.
type Config struct {
	// Servers are asked in this order. If there are any, File is not looked at.
	Servers []Server
	// File is a resolv.conf(5) file, looked at again each second in which it is asked for.
	File string
	// Read reads File; nil stands for ReadOrEmpty. An error leaves the resolvers that are known.
	Read func(file string) ([]byte, error)
	// Usable tells whether the engine can reach a resolver at that address; nil takes all.
	Usable func(netip.Addr) bool
}

// Relay knows the resolvers, and which of them are to be asked.
type Relay struct {
	mu      sync.Mutex
	cfg     Config // mu guards Servers and File
	list    []resolver
	checked int64  // when the file was last looked at
	known   bool   // whether it ever was
	text    []byte // the file as list was read from it
	conf    resolvConf
	empty   bool   // the last look found no resolver
	version uint64 // counts lists
	turn    int    // queries that were begun, for "rotate"
}

// New returns a Relay. It does not fail: without a resolver, there is none to ask until one is known.
func New(cfg Config) *Relay {
	r := &Relay{cfg: cfg}
	if cfg.Read == nil {
		r.cfg.Read = ReadOrEmpty
	}
	r.replace(cfg.Servers)
	return r
}

// Use changes Config.Servers and Config.File. What is known of a resolver that stays is kept. The list is the Relay's from then on.
func (r *Relay) Use(servers []Server, file string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if file == r.cfg.File && slices.Equal(servers, r.cfg.Servers) {
		return
	}
	r.cfg.Servers, r.cfg.File = servers, file
	r.known, r.empty, r.text, r.conf = false, false, nil, resolvConf{}
	r.replace(servers)
}

// Next returns the resolver that is to be asked next about a query, which those of asked have been asked already. ok is false if
// there is none. First come those that are not set aside, in their order, or with "rotate" in turns; then the others, the one
// that failed longest ago first. now is in nanoseconds of a monotonic clock.
func (r *Relay) Next(now int64, by Transport, asked []Server) (to Server, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(now)
	if len(asked) == 0 {
		r.turn++
	}
	best := -1
	for n := range r.list {
		i := n
		if r.conf.rotate {
			i = (r.turn - 1 + n) % len(r.list)
		}
		if !slices.Contains(asked, r.list[i].addr) && (best < 0 || r.list[i].before(&r.list[best], now, by)) {
			best = i
		}
	}
	if best < 0 {
		return Server{}, false
	}
	return r.list[best].addr, true
}

// Probe returns a resolver that was set aside for UDP and whose time is over: it is asked beside another one, so that nobody waits
// for it. ok is false if there is none. It is returned once; what comes of it is told by Answered or Failed.
func (r *Relay) Probe(now int64) (to Server, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		if h := &r.list[i].health[UDP]; h.aside && now >= h.until {
			h.putOff(now)
			return r.list[i].addr, true
		}
	}
	return Server{}, false
}

// Patience returns how long a resolver may be silent before the next one is asked: 1.5 s, or what "timeout" in the file says, up
// to 5 s.
func (r *Relay) Patience() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conf.timeout == 0 {
		return usualPatience
	}
	return min(r.conf.timeout, mostPatience)
}

// currentVersion is Version without a look at the file.
func (r *Relay) currentVersion() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.version
}

// servers returns Config.Servers, which nobody may change.
func (r *Relay) servers() []Server {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cfg.Servers
}

// Version is another one whenever there are other resolvers. now is as for Next.
func (r *Relay) Version(now int64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(now)
	return r.version
}

// Search returns the domains in which the host looks names up, in their order, and nil if there are none: those of "search"
// or "domain" in the file, without a dot at the end, at most 32. With Config.Servers there are none. The list is shared:
// nobody may change it. now is as for Next.
func (r *Relay) Search(now int64) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refresh(now)
	return r.conf.search
}

// Failed tells that the resolver to could not be reached at now: others are preferred for a while. It reports whether it was good
// until then.
func (r *Relay) Failed(now int64, by Transport, to Server) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.find(to)
	return v != nil && v.health[to.by(by)].fail(now)
}

// Silent tells that the resolver to has not answered a query that was sent at since, while another one did. If it has answered
// others, it is the name that takes its time; else this is Failed.
func (r *Relay) Silent(now int64, by Transport, to Server, since int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.find(to)
	return v != nil && (!v.spoke || v.heard < since) && v.health[to.by(by)].fail(now)
}

// Answered tells that the resolver to has answered at now, whatever it said. It reports whether it was set aside until then.
func (r *Relay) Answered(now int64, by Transport, to Server) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	v := r.find(to)
	if v == nil {
		return false
	}
	v.heard, v.spoke = now, true
	return v.health[to.by(by)].recover()
}

// Forgive lets all resolvers be asked in their turn again: what is known of them is of another time, and perhaps of another network.
func (r *Relay) Forgive() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.list {
		r.list[i].health = [transports]health{}
	}
}

func (r *Relay) find(a Server) *resolver {
	for i := range r.list {
		if r.list[i].addr == a {
			return &r.list[i]
		}
	}
	return nil
}

// refresh looks at the file again.
func (r *Relay) refresh(now int64) {
	if len(r.cfg.Servers) > 0 || r.cfg.File == "" || r.known && now-r.checked < recheck {
		return
	}
	r.checked, r.known = now, true
	text, err := r.cfg.Read(r.cfg.File)
	if err != nil || len(text) > 0 && bytes.Equal(text, r.text) {
		return
	}
	conf := parseResolvConf(text)
	// A file that is being written is empty for an instant: that there is no resolver any more is believed the second time.
	before := r.empty
	r.empty = len(conf.servers) == 0
	if r.empty && !before && len(r.list) > 0 {
		return
	}
	r.text, r.conf = text, conf
	servers := make([]Server, 0, len(conf.servers))
	for _, a := range conf.servers {
		servers = append(servers, Server{Addr: netip.AddrPortFrom(a, Port)})
	}
	r.replace(servers)
}

// replace puts other resolvers in the place of those that there are.
func (r *Relay) replace(list []Server) {
	old := r.list
	r.list = nil
	r.version++
	for _, a := range list {
		r.add(a)
	}
	for i := range old {
		if v := r.find(old[i].addr); v != nil {
			*v = old[i] // one that stays is known
		}
	}
}

// add appends a resolver unless it is known already or of no use.
func (r *Relay) add(s Server) {
	s.Addr = netip.AddrPortFrom(s.Addr.Addr().Unmap(), s.Addr.Port())
	ip := s.Addr.Addr()
	if !s.Addr.IsValid() || s.Addr.Port() == 0 || ip.IsUnspecified() || ip.IsMulticast() || len(r.list) == maxResolvers {
		return
	}
	if r.cfg.Usable != nil && !r.cfg.Usable(ip) {
		return
	}
	if r.find(s) == nil {
		r.list = append(r.list, resolver{addr: s})
	}
}
