package dns

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/miekg/dns"
)

// Route is that a domain has resolvers of its own (split DNS): they are asked for its name and all below it, and for nothing else.
type Route struct {
	Domain  string // in lower case, without a dot at the end
	Servers []Server
}

const (
	// RouteForm is what ParseRoute reads.
	RouteForm = "DOMAIN=RESOLVER[,RESOLVER]..."
	// MaxRoutes is how many Routes there may be.
	MaxRoutes = 256
)

// ParseRoute reads RouteForm.
func ParseRoute(text string) (Route, error) {
	domain, servers, found := strings.Cut(text, "=")
	if !found {
		return Route{}, fmt.Errorf("%q names no resolver; want %s, as in corp.example=10.8.0.1", text, RouteForm)
	}
	r := Route{Domain: strings.ToLower(strings.Trim(domain, "."))}
	for one := range strings.SplitSeq(servers, ",") {
		s, err := ParseServer(one)
		if err != nil {
			return Route{}, fmt.Errorf("%q: %w; want %s, and a RESOLVER as %s", text, err, RouteForm, ServerForm)
		}
		r.Servers = append(r.Servers, s)
	}
	if err := r.check(); err != nil {
		return Route{}, fmt.Errorf("%q: %w; want %s, as in corp.example=10.8.0.1", text, err, RouteForm)
	}
	return r, nil
}

func (r *Route) check() error {
	switch {
	case !isDomain(r.Domain):
		return fmt.Errorf("%q is not the name of a domain", r.Domain)
	case len(r.Servers) == 0 || len(r.Servers) > maxResolvers:
		return fmt.Errorf("a domain has 1 to %d resolvers, and not %d", maxResolvers, len(r.Servers))
	}
	return CheckServers(r.Servers)
}

// String returns r as ParseRoute reads it.
func (r Route) String() string {
	var texts []string
	for _, s := range r.Servers {
		texts = append(texts, s.String())
	}
	return r.Domain + "=" + strings.Join(texts, ",")
}

// CheckRoutes returns what is wrong with routes.
func CheckRoutes(routes []Route) error {
	if len(routes) > MaxRoutes {
		return fmt.Errorf("%d domains have resolvers of their own: there may be %d", len(routes), MaxRoutes)
	}
	seen := map[string]bool{}
	var errs []error
	for i := range routes {
		r := &routes[i]
		if err := r.check(); err != nil {
			errs = append(errs, fmt.Errorf("--dns-for %s: %w", r, err))
		}
		if seen[r.Domain] {
			errs = append(errs, fmt.Errorf("--dns-for %s: %s has resolvers already; name all of them at once, as in %s", r, r.Domain, RouteForm))
		}
		seen[r.Domain] = true
	}
	return errors.Join(errs...)
}

// Split knows which resolvers are asked for which names: those of the longest domain that a name is in, and for names in none those of the
// rest. Each domain has a Relay, which knows how its own resolvers do, also of one that several domains have. It may be used by several
// workers at once.
type Split struct {
	rest  *Relay
	table atomic.Pointer[splitTable]
}

// splitTable is what changes of a Split, as a whole.
type splitTable struct {
	domains map[string]*Relay
	names   []string // of domains, in the order of the routes
	before  uint64   // what versions of tables of before come to
}

// NewSplit returns a Split of which rest is asked for names in none of the routes' domains.
func NewSplit(rest *Relay, routes []Route) *Split {
	s := &Split{rest: rest}
	s.table.Store(&splitTable{})
	s.UseRoutes(routes)
	return s
}

// Rest is who is asked for names in no domain.
func (s *Split) Rest() *Relay { return s.rest }

// UseRoutes puts other routes in the place of those that there are. What is known of resolvers of a domain that stays is kept. One thread
// may call it at a time.
func (s *Split) UseRoutes(routes []Route) {
	old := s.table.Load()
	next := &splitTable{domains: map[string]*Relay{}}
	same := len(routes) == len(old.names)
	for i, r := range routes {
		relay := old.domains[r.Domain]
		if relay == nil {
			relay = New(Config{Servers: r.Servers, Usable: s.rest.cfg.Usable})
		} else if !slices.Equal(relay.servers(), r.Servers) {
			same = false
			relay.Use(r.Servers, "")
		}
		same = same && old.names[i] == r.Domain
		next.domains[r.Domain], next.names = relay, append(next.names, r.Domain)
	}
	if same {
		return
	}
	next.before = old.before + old.versions() + 1
	s.table.Store(next)
}

func (t *splitTable) versions() (n uint64) {
	for _, r := range t.domains {
		n += r.currentVersion()
	}
	return n
}

// For returns who is asked about a query, which is a message with one question, and the domain that decided it, "" for the rest.
func (s *Split) For(query []byte) (*Relay, string) {
	t := s.table.Load()
	if len(t.names) == 0 {
		return s.rest, ""
	}
	name, _, err := dns.UnpackDomainName(query, min(headerLen, len(query)))
	if err != nil {
		return s.rest, ""
	}
	name = strings.TrimSuffix(strings.ToLower(name), ".")
	for rest := name; rest != ""; _, rest = cutLabel(rest) {
		if r := t.domains[rest]; r != nil {
			return r, rest
		}
	}
	return s.rest, ""
}

// cutLabel cuts the first label off a name in the form of zone files, in which a dot inside a label has a backslash in front.
func cutLabel(name string) (label, rest string) {
	for i := 0; i < len(name); i++ {
		switch name[i] {
		case '\\':
			i++
		case '.':
			return name[:i], name[i+1:]
		}
	}
	return name, ""
}

// Version is another one whenever there are other resolvers for any name. now is as for Relay.Next.
func (s *Split) Version(now int64) uint64 {
	t := s.table.Load()
	return s.rest.Version(now) + t.before + t.versions()
}

// Forgive is Relay.Forgive of all.
func (s *Split) Forgive() {
	s.rest.Forgive()
	for _, r := range s.table.Load().domains {
		r.Forgive()
	}
}

// State returns what is known of all resolvers at now, as Relay.State does: first those of the rest, then those of domains.
func (s *Split) State(now int64) State {
	state := s.rest.State(now)
	t := s.table.Load()
	for _, name := range t.names {
		own := t.domains[name].State(now).Resolvers
		for i := range own {
			own[i].Domain = name
		}
		state.Resolvers = append(state.Resolvers, own...)
	}
	return state
}

// Search is Relay.Search of the rest.
func (s *Split) Search(now int64) []string { return s.rest.Search(now) }
