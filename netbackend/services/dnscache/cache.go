package dnscache

import (
	"bytes"
	"container/list"
	"encoding/binary"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Cache keeps answers of resolvers for one guest, who gets them again as they came, with their times to live counted down. An answer is for
// a query with the same bytes but for its ID: so the case of the name, flags, and what EDNS says are never those of another query. What is not
// certain to be the same again is not kept: answers that are cut short, errors, signed messages, cookies and other options of EDNS. It
// is safe for use by several threads. The zero Cache is empty.
type Cache struct {
	mu      sync.Mutex
	entries map[string]*list.Element // of *cached, by the query without its ID
	recent  list.List                // those used last are in front
	size    int                      // bytes of all
	version uint64                   // of the resolvers that have answered
	stats   Stats
}

// Stats are what has become of queries, since the Cache was made, and how much it keeps.
type Stats struct {
	Entries, Bytes int    // now; of answers that are over, too
	Hits           uint64 // queries that an answer was kept for
	Misses         uint64 // that none was kept for
	Expired        uint64 // of those, that one was kept for which is over
	Stale          uint64 // queries that were answered by one that is over, since no resolver had a better one
}

const (
	headerLen = 12 // of a message (RFC 1035 section 4.1.1)
	// MaxCached and maxCacheSize bound how many answers a Cache keeps, and how many bytes they have with their queries. Those used longest ago
	// have to go.
	MaxCached    = 1000
	maxCacheSize = 512 << 10
	// maxCachedMessage is the longest query or answer that is kept.
	maxCachedMessage = 4096
	// maxLife bounds how long an answer is kept, in seconds (RFC 8767 section 4 names a week as the most, and a day as usual).
	maxLife = 24 * 60 * 60
	// maxStale is for how many seconds more an answer is kept, for the case that no resolver answers, and staleLife is what the guest is then told of
	// its life (RFC 8767 section 4).
	maxStale, staleLife = 24 * 60 * 60, 30
)

// cached is an answer that is kept.
type cached struct {
	key        string
	answer     []byte
	ttls       []int // where in it times to live are
	since      int64
	life       uint32 // seconds
	staleUntil int64  // until when it is given though it is over
}

// Name is what a Cache has of one question.
type Name struct {
	Name string // as the guest has written it, with a dot at the end
	Type string // such as AAAA
	Code string // such as NOERROR or NXDOMAIN
	Left time.Duration
}

// Get returns the answer to a query, nil if there is none. It is the caller's own. version is that of the resolvers, as dns.Relay.Version tells it; answers of another one
// are forgotten. now is in nanoseconds of a clock that does not go back.
func (c *Cache) Get(now int64, version uint64, query []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow(version)
	if len(query) < headerLen {
		return nil
	}
	e, found := c.entries[string(query[2:])]
	if !found {
		c.stats.Misses++
		return nil
	}
	is := e.Value.(*cached)
	age := is.age(now)
	if age < is.life {
		c.stats.Hits++
		c.recent.MoveToFront(e)
		return is.again(query, func(ttl uint32) uint32 { return ttl - min(age, ttl) })
	}
	if now < is.staleUntil {
		return c.stale(e, query)
	}
	c.stats.Misses++
	c.stats.Expired++
	if !is.servesStale(age) {
		c.remove(e)
	}
	return nil
}

// GetStale returns an answer to a query that is over, in the place of one that no resolver has given, nil if there is none. It is the caller's own.
// For half a minute the same query gets it again by Get: so long resolvers are not asked (RFC 8767 section 5).
func (c *Cache) GetStale(now int64, version uint64, query []byte) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow(version)
	if len(query) < headerLen {
		return nil
	}
	e, found := c.entries[string(query[2:])]
	if !found {
		return nil
	}
	is := e.Value.(*cached)
	if age := is.age(now); age < is.life || !is.servesStale(age) {
		return nil
	}
	is.staleUntil = now + staleLife*int64(time.Second)
	return c.stale(e, query)
}

// HasStale reports whether GetStale would return an answer.
func (c *Cache) HasStale(now int64, query []byte) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(query) < headerLen {
		return false
	}
	e, found := c.entries[string(query[2:])]
	if !found {
		return false
	}
	is := e.Value.(*cached)
	age := is.age(now)
	return age >= is.life && is.servesStale(age)
}

// Stats returns what has become of queries.
func (c *Cache) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Entries, s.Bytes = c.recent.Len(), c.size
	return s
}

// stale requires mu.
func (c *Cache) stale(e *list.Element, query []byte) []byte {
	c.stats.Stale++
	c.recent.MoveToFront(e)
	return e.Value.(*cached).again(query, func(ttl uint32) uint32 { return min(ttl, staleLife) })
}

// servesStale reports whether an answer of that age may be given though it is over. That a name was not there says too little by then.
func (e *cached) servesStale(age uint32) bool {
	positive := e.answer[3]&0xf == dns.RcodeSuccess && binary.BigEndian.Uint16(e.answer[6:]) > 0
	return positive && age < e.life+maxStale
}

// again returns the answer to a query with the same bytes, with other times to live.
func (e *cached) again(query []byte, ttlOf func(uint32) uint32) []byte {
	answer := bytes.Clone(e.answer)
	copy(answer, query[:2])
	for _, at := range e.ttls {
		binary.BigEndian.PutUint32(answer[at:], ttlOf(binary.BigEndian.Uint32(answer[at:])))
	}
	return answer
}

// age is for how many seconds an answer was kept, as far as they have begun: no guest is told more than is left.
func (e *cached) age(now int64) uint32 {
	second := int64(time.Second)
	return uint32(min(max(now-e.since+second-1, 0)/second, maxLife+maxStale))
}

// Put keeps an answer to a query, if it may be given again. version is that of when the query was sent.
func (c *Cache) Put(now int64, version uint64, query, answer []byte) {
	ttls, life := readLives(query, answer)
	if life == 0 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.version != version {
		return
	}
	is := &cached{key: string(query[2:]), answer: bytes.Clone(answer), ttls: ttls, since: now, life: life}
	if e, found := c.entries[is.key]; found {
		c.remove(e)
	}
	if c.entries == nil {
		c.entries = map[string]*list.Element{}
	}
	c.entries[is.key] = c.recent.PushFront(is)
	for c.size += is.size(); c.size > maxCacheSize || c.recent.Len() > MaxCached; {
		c.remove(c.recent.Back())
	}
}

func (e *cached) size() int { return len(e.key) + len(e.answer) + 8*len(e.ttls) }

// Clear forgets all answers, and returns how many there were.
func (c *Cache) Clear() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.recent.Len()
	c.clear()
	return n
}

// List returns what there is, that used last first.
func (c *Cache) List(now int64) (all []Name) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for e := c.recent.Front(); e != nil; e = e.Next() {
		is := e.Value.(*cached)
		if age := is.age(now); age < is.life {
			all = append(all, is.describe(time.Duration(is.life-age)*time.Second))
		}
	}
	return all
}

func (e *cached) describe(left time.Duration) Name {
	n := Name{Code: dns.RcodeToString[int(e.answer[3]&0xf)], Left: left}
	if name, next, err := dns.UnpackDomainName(e.answer, headerLen); err == nil && next+2 <= len(e.answer) {
		n.Name, n.Type = name, dns.Type(binary.BigEndian.Uint16(e.answer[next:])).String()
	}
	return n
}

// The rest is for who has mu.

// follow forgets what others than the resolvers of a version have answered.
func (c *Cache) follow(version uint64) {
	if c.version != version {
		c.clear()
		c.version = version
	}
}

func (c *Cache) clear() {
	clear(c.entries)
	c.recent.Init()
	c.size = 0
}

func (c *Cache) remove(e *list.Element) {
	is := c.recent.Remove(e).(*cached)
	delete(c.entries, is.key)
	c.size -= is.size()
}

// readLives returns where in an answer times to live are, and for how many seconds it may be kept: 0 for not at all.
func readLives(query, answer []byte) (ttls []int, life uint32) {
	const cutShort = 0x02
	if len(query) < headerLen || len(answer) < headerLen || len(query) > maxCachedMessage || len(answer) > maxCachedMessage ||
		answer[2]&0x80 == 0 || answer[2]&cutShort != 0 || (answer[2]^query[2])&0x79 != 0 { // the same opcode and RD
		return nil, 0
	}
	question := endOfQuestion(query)
	if question == 0 || len(answer) < question || !bytes.Equal(query[headerLen:question], answer[headerLen:question]) ||
		binary.BigEndian.Uint16(answer[4:]) != 1 || !isPlain(query, question) {
		return nil, 0
	}
	r := recordReader{message: answer, at: question, life: maxLife}
	code := answer[3] & 0xf
	answers := int(binary.BigEndian.Uint16(answer[6:]))
	ok := r.read(answers) && r.read(int(binary.BigEndian.Uint16(answer[8:]))) && r.read(int(binary.BigEndian.Uint16(answer[10:])))
	switch {
	case !ok || r.at != len(answer):
		return nil, 0
	case code == dns.RcodeNameError, code == dns.RcodeSuccess && answers == 0:
		if !r.hasSOA {
			return nil, 0 // RFC 2308 section 5
		}
	case code != dns.RcodeSuccess:
		return nil, 0
	}
	return r.ttls, r.life
}

// endOfQuestion returns where the only question of a message ends, 0 if it has not just one.
func endOfQuestion(message []byte) int {
	if binary.BigEndian.Uint16(message[4:]) != 1 {
		return 0
	}
	at := skipName(message, headerLen)
	if at == 0 || at+4 > len(message) {
		return 0
	}
	return at + 4
}

// skipName returns where a name ends, 0 if it does not.
func skipName(b []byte, at int) int {
	const pointer = 0xc0
	for at < len(b) {
		switch n := int(b[at]); {
		case n == 0:
			return at + 1
		case n&pointer == pointer:
			return at + 2
		case n&pointer != 0:
			return 0
		default:
			at += 1 + n
		}
	}
	return 0
}

// isPlain reports whether a query has nothing behind its question but at most what EDNS says of itself, without options: a cookie, or the
// network of the client, is about one query.
func isPlain(query []byte, question int) bool {
	if binary.BigEndian.Uint32(query[6:]) != 0 {
		return false
	}
	switch binary.BigEndian.Uint16(query[10:]) {
	case 0:
		return len(query) == question
	case 1:
		const length = 1 + 2 + 2 + 4 + 2 // of the root's name, type, class, TTL, and length of options
		return len(query) == question+length && query[question] == 0 && binary.BigEndian.Uint16(query[question+1:]) == dns.TypeOPT &&
			binary.BigEndian.Uint16(query[question+9:]) == 0
	}
	return false
}

// recordReader reads the records of a message.
type recordReader struct {
	message []byte
	at      int
	ttls    []int
	life    uint32 // the least time to live
	hasSOA  bool
}

// read reads so many records, and reports whether they are such that can be kept.
func (r *recordReader) read(n int) bool {
	for range n {
		if !r.readOne() {
			return false
		}
	}
	return true
}

func (r *recordReader) readOne() bool {
	const fixed = 2 + 2 + 4 + 2 // type, class, TTL, length
	at := skipName(r.message, r.at)
	if at == 0 || at+fixed > len(r.message) {
		return false
	}
	kind, ttl := binary.BigEndian.Uint16(r.message[at:]), binary.BigEndian.Uint32(r.message[at+4:])
	length := int(binary.BigEndian.Uint16(r.message[at+8:]))
	data := at + fixed
	r.at = data + length
	if r.at > len(r.message) {
		return false
	}
	switch kind {
	case dns.TypeOPT: // its TTL is the upper part of the code, and flags
		return ttl>>24 == 0 && length == 0
	case dns.TypeTSIG, dns.TypeSIG, dns.TypeTKEY:
		return false
	case dns.TypeSOA:
		if length < 4 {
			return false
		}
		r.hasSOA = true
		r.bound(binary.BigEndian.Uint32(r.message[r.at-4:])) // of negative answers (RFC 2308 section 4); others have none
	}
	r.ttls = append(r.ttls, at+4)
	r.bound(ttl)
	return true
}

// bound lets an answer be kept for no longer than so many seconds. A time with the highest bit is none (RFC 2181 section 8).
func (r *recordReader) bound(seconds uint32) {
	if seconds>>31 != 0 {
		seconds = 0
	}
	r.life = min(r.life, seconds)
}
