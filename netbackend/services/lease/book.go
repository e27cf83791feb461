package lease

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// PoolTime is how long an address of the pool is a host's. Renewing it begins the time anew.
	PoolTime = 2 * time.Hour
	// offerTime is how long an address is kept for a host that was only offered it.
	offerTime = time.Minute
	// declineTime is how long an address is not given again to the host that found it in use.
	declineTime = 10 * time.Minute
	// answerTime is how long the host of the promised address has to answer before it is taken for gone, and askTime how
	// long an answer counts.
	answerTime = time.Second
	askTime    = 30 * time.Second
	// maxDeclined bounds how many addresses are remembered that hosts found in use.
	maxDeclined = 16
	// maxNames bounds how many names of hosts are remembered, and maxName each, in bytes.
	maxNames, maxName = 256, 255
	// maxAsked bounds for how many hosts the promised address is asked for at once.
	maxAsked = 64
)

// Config describes the addresses that a Book gives.
type Config struct {
	Primary netip.Addr // what the guest is promised
	// The pool are the Count addresses from First on.
	First netip.Addr
	Count int
	Never []netip.Addr             // of the engine and of other guests; they are given to nobody
	Fixed map[[6]byte]netip.Addr   // addresses of certain hosts, by MAC address
	User  func(netip.Addr) [6]byte // the MAC address that uses an address on the link, zero if that is not known
	Heard func(mac [6]byte) int64  // when a host was heard last, by the clock of Take; 0 for never

	// Link has the other Books of the same link; nil for none. They share the pool.
	Link *Link

	single bool // whoever asks gets Primary
}

// Client is a host that asks. Its MAC address is what tells it from others: the identifiers that hosts choose change from the
// boot program to the system, and are alike in copies of one image. They matter only between hosts that share a MAC address.
type Client struct {
	MAC [6]byte
	ID  uint64 // of Book.ID
}

// Outcome is what came of a question for an address.
type Outcome uint8

const (
	Given Outcome = iota // the address is the client's
	Ask                  // nothing is decided; the link is to be asked for the promised address, and the client asks again
	Wait                 // the link was asked; the client asks again
	None                 // no address is free
)

// Book holds who has which address. Any number of goroutines may use it.
type Book struct {
	cfg  Config
	seed maphash.Seed

	mu       *sync.Mutex // that of the Link, if there is one
	entries  []entry     // one for each address that is given, at most
	declined []refusal
	asked    []question
	names    map[[6]byte]string // that hosts call themselves by, by MAC address; maxNames at most
}

// entry is an address that is given.
type entry struct {
	client Client
	addr   netip.Addr
	until  int64 // when it may be given to others; the promised address is kept
}

// question is that the link was asked for the host of the promised address, because another one wants it.
type question struct {
	mac [6]byte // of the other one
	at  int64
}

// refusal is an address that a client found in use.
type refusal struct {
	client Client
	addr   netip.Addr
	until  int64
}

// New returns an empty Book.
func New(cfg Config) *Book {
	b := &Book{cfg: cfg, seed: maphash.MakeSeed()}
	if cfg.Link == nil {
		b.mu = new(sync.Mutex)
		return b
	}
	b.mu = &cfg.Link.mu
	cfg.Link.add(b)
	return b
}

// Single returns a Book that gives one address to whoever asks.
func Single(a netip.Addr) *Book {
	return New(Config{Primary: a, single: true})
}

// ID returns a short name for a client identifier.
func (b *Book) ID(identifier []byte) uint64 { return maphash.Bytes(b.seed, identifier) }

// Offer is Take for a client that was not promised anything yet: the address is kept for a minute.
func (b *Book) Offer(now int64, c Client, want netip.Addr) (netip.Addr, Outcome) {
	return b.assign(now, c, want, offerTime)
}

// Take returns the address of c at now, in nanoseconds of a monotonic clock, and what it is good for. want is the address
// that c asks for, if any: it is of weight among addresses of the pool.
func (b *Book) Take(now int64, c Client, want netip.Addr) (netip.Addr, Outcome) {
	return b.assign(now, c, want, PoolTime)
}

// Permanent reports whether an address is one that its host keeps without asking again: not one of the pool.
func (b *Book) Permanent(a netip.Addr) bool { return a == b.cfg.Primary || b.isFixed(a) }

func (b *Book) assign(now int64, c Client, want netip.Addr, keep time.Duration) (netip.Addr, Outcome) {
	if a, ok := b.cfg.Fixed[c.MAC]; ok {
		return a, Given
	}
	if b.cfg.single {
		return b.cfg.Primary, Given
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.find(now, c); e != nil {
		e.until = max(e.until, now+int64(keep))
		return e.addr, Given
	}
	if b.inPool(want) && b.free(now, c, want) && (b.cfg.Link == nil || b.cfg.Link.hasRoomFor(now, b)) {
		return b.give(now, c, want, keep)
	}
	switch outcome := b.primary(now, c); outcome {
	case Given:
		return b.give(now, c, b.cfg.Primary, keep)
	case Ask, Wait:
		return netip.Addr{}, outcome
	}
	if b.cfg.Link != nil && !b.cfg.Link.hasRoomFor(now, b) {
		return netip.Addr{}, None
	}
	if a, ok := b.choose(now, c); ok {
		return b.give(now, c, a, keep)
	}
	return netip.Addr{}, None
}

// choose returns an address of the pool for c, always the same one if that is free. One whose time has run out is the last choice:
// by the clock of its host, which may have been paused, it may have some left.
func (b *Book) choose(now int64, c Client) (a netip.Addr, ok bool) {
	for i := range b.cfg.Count {
		next := b.pool((int(maphash.Bytes(b.seed, c.MAC[:])%uint64(b.cfg.Count)) + i) % b.cfg.Count)
		if !b.free(now, c, next) {
			continue
		}
		if !b.isGiven(next) {
			return next, true
		}
		if !ok {
			a, ok = next, true
		}
	}
	return a, ok
}

// isGiven reports whether a was given to a host, though its time may have run out.
func (b *Book) isGiven(a netip.Addr) bool {
	return slices.ContainsFunc(b.entries, func(e entry) bool { return e.addr == a })
}

// find returns the entry of c, or of its MAC address under another identifier, unless c declined that address.
func (b *Book) find(now int64, c Client) *entry {
	var found *entry
	for i := range b.entries {
		e := &b.entries[i]
		switch {
		case e.client == c:
			return e
		case e.client.MAC == c.MAC && found == nil && !b.isDeclined(now, c, e.addr):
			found = e
		}
	}
	return found
}

// primary decides whether c gets the promised address; None means that it is another host's.
func (b *Book) primary(now int64, c Client) Outcome {
	if b.isFixed(b.cfg.Primary) || b.isDeclined(now, c, b.cfg.Primary) {
		return None
	}
	rivals := b.rivals(c.MAC)
	if rivals == [2][6]byte{} {
		return Given
	}
	at, asked := b.askedFor(now, c.MAC)
	switch {
	case !asked:
		b.ask(now, c.MAC)
		return Ask
	case b.cfg.Heard(rivals[0]) >= at || b.cfg.Heard(rivals[1]) >= at:
		return None
	case now-at < int64(answerTime):
		return Wait
	}
	return Given
}

// askedFor returns when the link was asked because of a host, if that is not long ago.
func (b *Book) askedFor(now int64, mac [6]byte) (at int64, asked bool) {
	for _, q := range b.asked {
		if q.mac == mac && now-q.at <= int64(askTime) {
			return q.at, true
		}
	}
	return 0, false
}

// ask takes note that the link is asked because of a host.
func (b *Book) ask(now int64, mac [6]byte) {
	b.asked = slices.DeleteFunc(b.asked, func(q question) bool { return q.mac == mac })
	if len(b.asked) == maxAsked {
		b.asked = slices.Delete(b.asked, 0, 1)
	}
	b.asked = append(b.asked, question{mac, now})
}

// rivals returns the hosts other than one that have the promised address: the one that was given it, and the one that uses it on the
// link, zero for none. A host with two network cards may answer for the address of one on the other, so who uses it need not own it.
func (b *Book) rivals(mac [6]byte) (rivals [2][6]byte) {
	for _, e := range b.entries {
		if e.addr == b.cfg.Primary && e.client.MAC != mac {
			rivals[0] = e.client.MAC
		}
	}
	if user := b.cfg.User(b.cfg.Primary); user != mac {
		rivals[1] = user
	}
	return rivals
}

// give makes a the address of c, and of nobody else.
func (b *Book) give(now int64, c Client, a netip.Addr, keep time.Duration) (netip.Addr, Outcome) {
	b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return e.addr == a || e.client == c })
	b.entries = append(b.entries, entry{client: c, addr: a, until: now + int64(keep)})
	return a, Given
}

// free reports whether a, of the pool, can be given to c: to a host that uses it already it can always.
func (b *Book) free(now int64, c Client, a netip.Addr) bool {
	if a == b.cfg.Primary || b.isFixed(a) || slices.Contains(b.cfg.Never, a) {
		return false
	}
	if b.cfg.Link != nil && b.cfg.Link.isElsewhere(now, b, a) {
		return false
	}
	if slices.ContainsFunc(b.declined, func(r refusal) bool { return r.addr == a && r.until > now }) {
		return false
	}
	if user := b.cfg.User(a); user != [6]byte{} {
		return user == c.MAC
	}
	return !slices.ContainsFunc(b.entries, func(e entry) bool { return e.addr == a && e.until > now && e.client != c })
}

func (b *Book) isFixed(a netip.Addr) bool {
	for _, fixed := range b.cfg.Fixed {
		if fixed == a {
			return true
		}
	}
	return false
}

func (b *Book) isDeclined(now int64, c Client, a netip.Addr) bool {
	return slices.ContainsFunc(b.declined, func(r refusal) bool { return r.addr == a && r.client == c && r.until > now })
}

// Decline takes note that c found another host at a, which was given to it. It reports whether that is so.
func (b *Book) Decline(now int64, c Client, a netip.Addr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.find(now, c)
	if e == nil || e.addr != a {
		return false
	}
	if e.client == c {
		b.drop(c, a)
	}
	if len(b.declined) == maxDeclined {
		b.declined = slices.Delete(b.declined, 0, 1)
	}
	b.declined = append(b.declined, refusal{client: c, addr: a, until: now + int64(declineTime)})
	return true
}

// Release takes note that c does not need a any more. The promised address is kept for its host.
func (b *Book) Release(c Client, a netip.Addr) {
	if a == b.cfg.Primary {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.drop(c, a)
}

func (b *Book) drop(c Client, a netip.Addr) {
	b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return e.client == c && e.addr == a })
}

// Free lets the next host that is not known have the promised address at once: the guest is gone, and another may come. The
// host that had it has it again if it asks first.
func (b *Book) Free() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.entries = slices.DeleteFunc(b.entries, func(e entry) bool { return e.addr == b.cfg.Primary })
	b.asked = nil
}

func (b *Book) inPool(a netip.Addr) bool {
	if !a.IsValid() || a.BitLen() != b.cfg.First.BitLen() {
		return false
	}
	return b.cfg.Count > 0 && !a.Less(b.cfg.First) && !b.pool(b.cfg.Count-1).Less(a)
}

// pool returns the i-th address of the pool, which does not cross a multiple of 65536 addresses.
func (b *Book) pool(i int) netip.Addr {
	bytes := b.cfg.First.AsSlice()
	low := bytes[len(bytes)-2:]
	n := int(low[0])<<8 + int(low[1]) + i
	low[0], low[1] = byte(n>>8), byte(n)
	a, _ := netip.AddrFromSlice(bytes)
	return a
}
