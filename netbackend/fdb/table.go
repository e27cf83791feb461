package fdb

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
)

// MAC is an Ethernet address as the number that its bytes are, the first one least significant: as it is read from memory.
type MAC uint64

const (
	macBits = 48
	// MACMask is of the bits of a MAC.
	MACMask = MAC(1)<<macBits - 1
	// GroupBit is set in the address of a group.
	GroupBit = MAC(1)
)

// MACOf returns the address of b.
func MACOf(b [6]byte) (m MAC) {
	for i := range b {
		m |= MAC(b[i]) << (8 * i)
	}
	return m
}

const (
	// ways is how many entries a bucket of the table has.
	ways = 8
	// tick is the unit of times in the table, in nanoseconds. An entry is refreshed when it is a refresh older.
	tick    = int64(1e8)
	refresh = 10
	// Fresh is how long in nanoseconds an address that was looked up need not be looked up again, as long as nothing has changed.
	Fresh = refresh * tick / 2
)

// MaxPorts is how many Ports there can be in a table.
const MaxPorts = 256

// Address is a MAC address in a VLAN, as the key of an entry.
type Address uint64

// AddressOf returns the key of an address in a VLAN.
func AddressOf(m MAC, vid uint16) Address { return Address(m) | Address(vid)<<macBits }

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

// Table has the addresses that were seen. It has a fixed number of entries.
type Table struct {
	entries []entry
	ageing  int64 // ticks after which an address is forgotten that is not seen
	keys    [2]uint64
	// Changes is counted up when an address is moved or forgotten.
	Changes atomic.Uint32

	mu    sync.Mutex   // of those who change addresses
	swept atomic.Int64 // when the whole table was looked through last
	count [MaxPorts]atomic.Int32
}

// New makes a table of n entries, a power of two.
func New(n int, ageing int64) *Table {
	return &Table{
		entries: make([]entry, max(n, ways)), ageing: ageing / tick,
		keys: [2]uint64{rand.Uint64() | 1, rand.Uint64() | 1},
	}
}

// bucket returns the entries among which a is. Nobody outside knows the keys, so nobody can choose addresses of one bucket.
func (t *Table) bucket(a Address) []entry {
	h := (uint64(a) ^ t.keys[1]) * t.keys[0]
	h ^= h >> 29
	h = (h + t.keys[1]) * (t.keys[0] ^ 0x9e3779b97f4a7c15)
	h ^= h >> 32
	first := int(h) & (len(t.entries) - 1) &^ (ways - 1)
	return t.entries[first : first+ways]
}

// find returns the entry and the place of an address, whether or not it is too old; 0 if there is none.
func (t *Table) find(a Address) (e *entry, place uint64) {
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

// LookUp returns the Port where an address was seen, -1 if it is not known. Any thread may call it.
func (t *Table) LookUp(a Address, now int64) int {
	_, place := t.find(a)
	if place == 0 || t.old(place, now) {
		return -1
	}
	return portOf(place)
}

// old reports whether an address was seen too long ago.
func (t *Table) old(place uint64, now int64) bool { return now/tick-ticksOf(place) > t.ageing }

// Learning is what became of an address that was seen.
type Learning uint8

const (
	Known   Learning = iota // nothing has changed
	Learned                 // it is new there, or has moved
	Full                    // it is not kept: its Port has as many as it may have
)

// See notes that an address was seen at a Port, which may have share addresses. If nothing has changed, that is without a lock.
func (t *Table) See(a Address, port int, share int32, now int64) Learning {
	e, place := t.find(a)
	if place != 0 && portOf(place) == port {
		if now/tick-ticksOf(place) >= refresh {
			e.place.CompareAndSwap(place, placeOf(port, now)) // who fails has lost to one who knows better
		}
		return Known
	}
	return t.learn(a, port, share, now)
}

func (t *Table) learn(a Address, port int, share int32, now int64) Learning {
	if t.count[port].Load() >= share && !t.sweeps(now) {
		return Full
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e, place := t.find(a)
	if place != 0 && portOf(place) == port {
		return Known
	}
	if t.count[port].Load() >= share {
		if t.sweep(now); t.count[port].Load() >= share {
			return Full
		}
		e, place = t.find(a)
	}
	if place == 0 {
		if e = t.room(a, port, now); e == nil {
			return Full
		}
	}
	t.take(e)
	e.address.Store(uint64(a))
	e.place.Store(placeOf(port, now))
	t.count[port].Add(1)
	return Learned
}

// room returns the entry that an address may have: one that is free or too old, or else one of the Port that has the most,
// if that has more than this one.
func (t *Table) room(a Address, port int, now int64) (worst *entry) {
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
func (t *Table) take(e *entry) {
	if place := e.place.Swap(0); place != 0 {
		t.count[portOf(place)].Add(-1)
		t.Changes.Add(1)
	}
}

// sweep forgets what is too old, once a second at most.
func (t *Table) sweep(now int64) {
	if !t.sweeps(now) {
		return
	}
	t.swept.Store(now / tick)
	t.forgetIf(func(_ Address, place uint64) bool { return t.old(place, now) })
}

// sweeps reports whether the time for it has come.
func (t *Table) sweeps(now int64) bool { return now/tick-t.swept.Load() >= refresh }

// Forget forgets all addresses of a Port.
func (t *Table) Forget(port int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetIf(func(_ Address, place uint64) bool { return portOf(place) == port })
}

// ForgetElsewhere forgets an address at all Ports but one, in whatever VLAN.
func (t *Table) ForgetElsewhere(m MAC, port int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetIf(func(a Address, place uint64) bool { return MAC(a)&MACMask == m && portOf(place) != port })
}

func (t *Table) forgetIf(which func(Address, uint64) bool) {
	for i := range t.entries {
		e := &t.entries[i]
		if place := e.place.Load(); place != 0 && which(Address(e.address.Load()), place) {
			t.take(e)
		}
	}
}

// Count returns how many addresses a Port has in the table, those that are too old among them.
func (t *Table) Count(port int) int { return int(t.count[port].Load()) }

// Entry is an address that is in a table.
type Entry struct {
	MAC  MAC
	VLAN uint16
	Port int
	Age  int64 // nanoseconds since it was seen
}

// Entries returns up to most addresses that are not too old. Any thread may call it; what is learned meanwhile may be left out.
func (t *Table) Entries(now int64, most int) (all []Entry) {
	for i := range t.entries {
		e := &t.entries[i]
		a, place := Address(e.address.Load()), e.place.Load()
		if place == 0 || t.old(place, now) || Address(e.address.Load()) != a {
			continue
		}
		if len(all) == most {
			return all
		}
		all = append(all, Entry{MAC(a) & MACMask, uint16(a >> macBits), portOf(place), max(0, now-ticksOf(place)*tick)})
	}
	return all
}

// Bytes are the bytes of the address.
func (m MAC) Bytes() (b [6]byte) {
	for i := range b {
		b[i] = byte(m >> (8 * i))
	}
	return b
}
