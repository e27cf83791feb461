package l2switch

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// mac is an Ethernet address as the number that its bytes are, the first one least significant: as it is read from memory.
type mac uint64

const (
	macBits  = 48
	macMask  = mac(1)<<macBits - 1
	groupBit = mac(1) // of an address of a group
)

// macOf returns the address of b.
func macOf(b [6]byte) (m mac) {
	for i := range b {
		m |= mac(b[i]) << (8 * i)
	}
	return m
}

const (
	// ways is how many entries a bucket of the table has.
	ways = 8
	// tick is the unit of times in the table, in nanoseconds. An entry is refreshed when it is a refresh older.
	tick    = int64(1e8)
	refresh = 10
)

// address is a MAC address in a VLAN, as the key of an entry.
type address uint64

func addressOf(m mac, vid uint16) address { return address(m) | address(vid)<<macBits }

// entry is where an address was seen. The place is 0 while there is none, else it is the number of the Port and the time.
// Who changes an entry's address holds the table's lock, and takes the place away before, so a reader who finds the same
// address before and behind the place has the place of that address.
type entry struct {
	address atomic.Uint64
	place   atomic.Uint64
}

// place is the number of a Port, one more, and when the address was last seen there, in ticks.
func placeOf(port int, now int64) uint64 { return uint64(port+1) | uint64(now/tick)<<16 }

func portOf(place uint64) int    { return int(place&0xffff) - 1 }
func ticksOf(place uint64) int64 { return int64(place >> 16) }

// table has the addresses that were seen. It has a fixed number of entries.
type table struct {
	entries []entry
	ageing  int64 // ticks after which an address is forgotten that is not seen
	keys    [2]uint64
	changes atomic.Uint32 // is counted up when an address is moved or forgotten

	mu    sync.Mutex   // of those who change addresses
	swept atomic.Int64 // when the whole table was looked through last
	count [MaxPorts]atomic.Int32
}

// newTable makes a table of n entries, a power of two.
func newTable(n int, ageing int64) *table {
	return &table{
		entries: make([]entry, max(n, ways)), ageing: ageing / tick,
		keys: [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1},
	}
}

// bucket returns the entries among which a is. Nobody outside knows the keys, so nobody can choose addresses of one bucket.
func (t *table) bucket(a address) []entry {
	h := (uint64(a) ^ t.keys[1]) * t.keys[0]
	h ^= h >> 29
	h = (h + t.keys[1]) * (t.keys[0] ^ 0x9e3779b97f4a7c15)
	h ^= h >> 32
	first := int(h) & (len(t.entries) - 1) &^ (ways - 1)
	return t.entries[first : first+ways]
}

// find returns the entry and the place of an address, whether or not it is too old; 0 if there is none.
func (t *table) find(a address) (e *entry, place uint64) {
	b := t.bucket(a)
	for i := range b {
		if e = &b[i]; e.address.Load() != uint64(a) {
			continue
		}
		if place = e.place.Load(); place != 0 && e.address.Load() == uint64(a) {
			return e, place
		}
	}
	return nil, 0
}

// lookUp returns the Port where an address was seen, -1 if it is not known. Any thread may call it.
func (t *table) lookUp(a address, now int64) int {
	_, place := t.find(a)
	if place == 0 || t.old(place, now) {
		return -1
	}
	return portOf(place)
}

// old reports whether an address was seen too long ago.
func (t *table) old(place uint64, now int64) bool { return now/tick-ticksOf(place) > t.ageing }

// learning is what became of an address that was seen.
type learning uint8

const (
	known   learning = iota // nothing has changed
	learned                 // it is new there, or has moved
	full                    // it is not kept: its Port has as many as it may have
)

// see notes that an address was seen at a Port, which may have share addresses. If nothing has changed, that is without a lock.
func (t *table) see(a address, port int, share int32, now int64) learning {
	e, place := t.find(a)
	if place != 0 && portOf(place) == port {
		if now/tick-ticksOf(place) >= refresh {
			e.place.CompareAndSwap(place, placeOf(port, now)) // who fails has lost to one who knows better
		}
		return known
	}
	return t.learn(a, port, share, now)
}

func (t *table) learn(a address, port int, share int32, now int64) learning {
	if t.count[port].Load() >= share && !t.sweeps(now) {
		return full
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, place := t.find(a)
	if place != 0 && portOf(place) == port {
		return known
	}
	if t.count[port].Load() >= share {
		if t.sweep(now); t.count[port].Load() >= share {
			return full
		}
		e, place = t.find(a)
	}
	if place == 0 {
		if e = t.room(a, port, now); e == nil {
			return full
		}
	}
	t.take(e)
	e.address.Store(uint64(a))
	e.place.Store(placeOf(port, now))
	t.count[port].Add(1)
	return learned
}

// room returns the entry that an address may have: one that is free or too old, or else one of the Port that has the most,
// if that has more than this one.
func (t *table) room(a address, port int, now int64) (worst *entry) {
	b := t.bucket(a)
	most := t.count[port].Load() + 1
	for i := range b {
		place := b[i].place.Load()
		if place == 0 || t.old(place, now) {
			return &b[i]
		}
		if n := t.count[portOf(place)].Load(); n > most {
			worst, most = &b[i], n
		}
	}
	return worst
}

// take takes the place away from an entry.
func (t *table) take(e *entry) {
	if place := e.place.Swap(0); place != 0 {
		t.count[portOf(place)].Add(-1)
		t.changes.Add(1)
	}
}

// sweep forgets what is too old, once a second at most.
func (t *table) sweep(now int64) {
	if !t.sweeps(now) {
		return
	}
	t.swept.Store(now / tick)
	t.forgetIf(func(_ address, place uint64) bool { return t.old(place, now) })
}

// sweeps reports whether the time for it has come.
func (t *table) sweeps(now int64) bool { return now/tick-t.swept.Load() >= refresh }

// forget forgets all addresses of a Port.
func (t *table) forget(port int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetIf(func(_ address, place uint64) bool { return portOf(place) == port })
}

// forgetElsewhere forgets an address at all Ports but one, in whatever VLAN.
func (t *table) forgetElsewhere(m mac, port int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetIf(func(a address, place uint64) bool { return mac(a)&macMask == m && portOf(place) != port })
}

func (t *table) forgetIf(which func(address, uint64) bool) {
	for i := range t.entries {
		e := &t.entries[i]
		if place := e.place.Load(); place != 0 && which(address(e.address.Load()), place) {
			t.take(e)
		}
	}
}

// known returns how many addresses a Port has in the table, those that are too old among them.
func (t *table) known(port int) int { return int(t.count[port].Load()) }
