package learned

import (
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

const (
	// MaxRules is how many names, and how many addresses, a book keeps of a network, each with its port.
	MaxRules = 1024
	// MaxAsked is how many names it keeps of a network that were asked for only.
	MaxAsked = 512
	// MaxNetworks is how many networks it keeps.
	MaxNetworks = 256
	// maxPending is how many connections of all networks may be about to tell their names.
	maxPending = 4096
)

// Book is what was learned. Any goroutine may use it.
type Book struct {
	mu       sync.Mutex
	networks map[string]*network // by the socket of the guest whose own it is; "" is the one that guests share
	pending  map[pending]*audit.Entry
	lost     uint64 // entries that never came
	foreign  uint64 // and those of networks that had no room
	changed  bool   // since Text
}

// New returns a book with nothing in it.
func New() *Book { return &Book{networks: map[string]*network{}, pending: map[pending]*audit.Entry{}} }

// network is what was learned of one network.
type network struct {
	rules   map[key]*use
	asked   map[string]*use // by name
	leftOut uint64          // uses without room
}

// key is what a rule is about.
type key struct {
	name    string     // "" for an address
	addr    netip.Addr // the zero Addr for a name
	proto   uint8
	port    uint16
	verify  spec.Verify
	private bool
	quic    bool
}

// use is how often, and when.
type use struct {
	count       uint64
	first, last time.Time
	note        string // of an address: the name that led there, or was told; "" for none
}

// pending is a connection that is about to tell its server.
type pending struct {
	own      string
	from, to netip.AddrPort
}

// Note takes an entry of a guest. own is the socket of the guest if its network is its own, "" if it shares one.
func (b *Book) Note(own string, e *audit.Entry) {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := pending{own, e.From, e.To}
	switch {
	case e.Given:
	case e.Kind == audit.Query:
		b.of(own, func(n *network) { n.ask(e) })
	case e.Kind == audit.Begun && tells(e) && len(b.pending) < maxPending:
		kept := *e
		b.pending[p] = &kept
	case e.Kind == audit.Begun:
		b.of(own, func(n *network) { n.connect(e) })
	case e.Kind == audit.Named:
		delete(b.pending, p)
		b.of(own, func(n *network) { n.connect(e) })
	case e.Kind == audit.Ended && b.pending[p] != nil: // without a byte
		begun := b.pending[p]
		delete(b.pending, p)
		b.of(own, func(n *network) { n.connect(begun) })
	}
}

// of calls do for a network, if there is room for it.
func (b *Book) of(name string, do func(n *network)) {
	n := b.networks[name]
	if n == nil {
		if len(b.networks) >= MaxNetworks {
			b.foreign++
			return
		}
		n = &network{rules: map[key]*use{}, asked: map[string]*use{}}
		b.networks[name] = n
	}
	b.changed = true
	do(n)
}

// End takes note that nothing comes any more: connections that have not told their names will not.
func (b *Book) End() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p, e := range b.pending {
		b.of(p.own, func(n *network) { n.connect(e) })
	}
	clear(b.pending)
}

// Lost takes note of entries that never came.
func (b *Book) Lost(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lost += n
	b.changed = b.changed || n > 0
}

// tells reports whether a connection is looked at for the name of its server.
func tells(e *audit.Entry) bool {
	n := spec.Named{}
	return e.Proto == unix.IPPROTO_TCP && n.VerifyAt(e.To.Port()) != spec.VerifyDNS
}

// ask takes note of a query.
func (n *network) ask(e *audit.Entry) {
	name := spec.CanonicalName(e.Name)
	if name == "" || strings.HasSuffix(name, ".in-addr.arpa") || strings.HasSuffix(name, ".ip6.arpa") {
		return
	}
	count(n, n.asked, name, MaxAsked, e.Time)
}

// connect takes note of a connection, an association or pings.
func (n *network) connect(e *audit.Entry) {
	k := keyOf(e)
	u := count(n, n.rules, k, MaxRules, e.Time)
	if u != nil && k.name == "" {
		u.note = spec.CanonicalName(e.Name)
	}
}

// count counts one use, and returns it; nil if it had no room.
func count[K comparable](n *network, in map[K]*use, k K, most int, now time.Time) *use {
	u := in[k]
	if u == nil {
		if len(in) >= most {
			n.leftOut++
			return nil
		}
		u = &use{first: now}
		in[k] = u
	}
	u.count, u.last = u.count+1, now
	return u
}

// keyOf returns what the rule for an entry is about.
func keyOf(e *audit.Entry) key {
	name, port := spec.CanonicalName(e.Name), e.To.Port()
	byAddress := key{addr: e.To.Addr(), proto: e.Proto, port: port}
	isResolver := port == 53 || port == 853 // which rules by name open one by one
	if name == "" || !e.Answered || e.Proto == unix.IPPROTO_ICMP || isResolver || nat.NamesLinkLocal(byAddress.rule()) {
		return byAddress
	}
	k := key{name: name, proto: e.Proto, port: port, private: e.Private}
	n := spec.Named{}
	switch v := n.VerifyAt(port); {
	case v == spec.VerifyDNS:
	case e.Proto == unix.IPPROTO_UDP && v == spec.VerifyTLS:
		k.quic = true
	case !e.Told:
		k.verify = spec.VerifyDNS
	}
	return k
}

// rule is the rule about k alone.
func (k *key) rule() spec.Rule {
	r := spec.Rule{Allow: true, Proto: k.proto}
	if k.name == "" {
		r.Prefix, r.First, r.Last = netip.PrefixFrom(k.addr, k.addr.BitLen()), k.port, k.port
		return r
	}
	r.Named = spec.Named{Name: k.name, Ports: []spec.Ports{{First: k.port, Last: k.port}}, Verify: k.verify, Private: k.private, QUIC: k.quic}
	return r
}

// sortedRules are the rules of a network by name, then those by address, each with its use.
func (n *network) sortedRules() (all []learnedRule) {
	for k, u := range n.rules {
		all = append(all, learnedRule{k.rule(), k, u})
	}
	slices.SortFunc(all, func(a, b learnedRule) int {
		if (a.name == "") != (b.name == "") {
			return map[bool]int{true: 1, false: -1}[a.name == ""]
		}
		return strings.Compare(a.order(), b.order())
	})
	return all
}

// learnedRule is a rule with what it is about, and its use.
type learnedRule struct {
	spec.Rule
	key
	use *use
}
