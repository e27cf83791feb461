package flowtable

import (
	"hash/maphash"
	"math/bits"
	"sync"
	"sync/atomic"
)

// None is the index of no flow. Indices start at 1, so that a zero value is none as well.
const None = 0

// GenerationMask has the bits that a generation can have.
const GenerationMask = 1<<24 - 1

// Nobody is who owns an index that is free. Owners are numbers from 1 to 65535.
const Nobody = 0

// transit is a bit beside the owner that an index is on its way to.
const transit = 1 << 16

// entry is what the table has of an index. next belongs to the table, and key does not change from Insert to Release. The rest is
// the owner's.
type entry struct {
	key  Key
	live bool          // its key leads to it
	next atomic.Uint32 // chain of the bucket; after its end, list of free indices
	gen  uint32        // raised each time the index is used anew
}

// chunk is a number of entries, and to whom each belongs.
type chunk struct {
	entries [chunkSize]entry
	owners  [chunkSize]atomic.Uint32
}

// Table finds flows by key and by index.
type Table struct {
	seed    maphash.Seed // keyed hash: a guest cannot aim at one bucket
	buckets []atomic.Uint32
	chunks  []atomic.Pointer[chunk]
	max     int // the most that may live

	live atomic.Int32 // flows that are found by their key

	mu    sync.Mutex // guards what follows, and all changes of buckets and chains
	free  uint32     // list of unused indices, through next
	grown int        // chunks that exist
	count int        // indices in use
}

// Spare is how many indices may be in use for flows that are over, until Release.
const Spare = 1024

// New returns an empty table in which max flows may live. Its buckets are as many as it will ever need, for those who look into it
// take no lock: four to eight bytes for each flow that there may be.
func New(max int) *Table {
	return &Table{
		seed: maphash.MakeSeed(), max: max,
		buckets: make([]atomic.Uint32, 1<<bits.Len(uint(max))),
		chunks:  make([]atomic.Pointer[chunk], (max+Spare)/chunkSize+2),
	}
}

// Live returns how many flows live, Max how many may. Anybody may call them.
func (t *Table) Live() int { return int(t.live.Load()) }
func (t *Table) Max() int  { return t.max }

// Full reports whether no other flow may live. Anybody may call it.
func (t *Table) Full() bool { return t.Live() >= t.max }

// Hash returns a number for b that nobody can foresee who does not know the table's seed. Anybody may call it.
func (t *Table) Hash(b []byte) uint64 { return maphash.Bytes(t.seed, b) }

func (t *Table) bucket(k *Key) *atomic.Uint32 {
	b := k.Bytes()
	return &t.buckets[t.Hash(b[:])&uint64(len(t.buckets)-1)]
}

// at returns the entry of index i, which must exist, and owner its owner.
func (t *Table) at(i uint32) *entry { return &t.chunks[i/chunkSize].Load().entries[i%chunkSize] }

func (t *Table) owner(i uint32) *atomic.Uint32 {
	return &t.chunks[i/chunkSize].Load().owners[i%chunkSize]
}

// Lookup returns the index of a key, None if there is none. Anybody may call it; the life of an index says for how long the result
// means this key. Its flow may be over, or change owners, just now.
func (t *Table) Lookup(k *Key) uint32 {
	i := t.bucket(k).Load()
	for i != None {
		e := t.at(i)
		if e.key.is(k) {
			break
		}
		i = e.next.Load()
	}
	return i
}

// OwnerOf returns to whom an index belongs, or for whom it is on its way. Anybody may call it.
func (t *Table) OwnerOf(i uint32) uint32 { return t.owner(i).Load() &^ transit }

// IsOf reports whether an index belongs to owner. Anybody may call it.
func (t *Table) IsOf(i, owner uint32) bool { return t.owner(i).Load() == owner }

// Send takes an index from its owner, for to, who has it when he calls Own. For its owner.
func (t *Table) Send(i, to uint32) { t.owner(i).Store(to | transit) }

// Own makes owner the owner of an index that was sent to it, or comes back since it could not be sent.
func (t *Table) Own(i, owner uint32) { t.owner(i).Store(owner) }

// IsCurrent reports whether there is a live flow of owner with that index and generation. The index may be any number. For owner.
func (t *Table) IsCurrent(i, gen, owner uint32) bool {
	if i == None || int(i/chunkSize) >= len(t.chunks) || t.chunks[i/chunkSize].Load() == nil || !t.IsOf(i, owner) {
		return false
	}
	e := t.at(i)
	return e.live && e.gen == gen
}

// Generation returns that of an index. For its owner.
func (t *Table) Generation(i uint32) uint32 { return t.at(i).gen }

// Renew gives an index another generation. For its owner.
func (t *Table) Renew(i uint32) {
	e := t.at(i)
	e.gen = (e.gen + 1) & GenerationMask
}

// Insert takes an index for k that belongs to owner. Before anybody else can find it, it calls prepare. It returns None if there is
// no room, or, with exists, if another owner has inserted k in the meantime.
func (t *Table) Insert(k *Key, owner uint32, prepare func(i uint32)) (i uint32, exists bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.Lookup(k) != None {
		return None, true
	}
	if t.Full() || t.count >= t.max+Spare {
		return None, false
	}
	if t.free == None {
		t.grow()
	}
	i = t.free
	e := t.at(i)
	t.free = e.next.Load()
	e.key, e.live = *k, true
	t.Renew(i)
	prepare(i)
	t.owner(i).Store(owner)
	b := t.bucket(k)
	e.next.Store(b.Load())
	b.Store(i)
	t.count++
	t.live.Add(1)
	return i, false
}

// Unlink takes the key of an index out of the table. For its owner.
func (t *Table) Unlink(i uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.at(i)
	at := t.bucket(&e.key)
	for at.Load() != i {
		at = &t.at(at.Load()).next
	}
	at.Store(e.next.Load()) // who stands at e just now goes on from there
	e.live = false
	t.live.Add(-1)
}

// Release frees an index that was unlinked, and that no lookup can have found any more. It may be used again from now on, with
// another generation. For its owner.
func (t *Table) Release(i uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.owner(i).Store(Nobody)
	t.at(i).next.Store(t.free)
	t.free = i
	t.count--
}

func (t *Table) grow() {
	base := uint32(t.grown * chunkSize)
	c := new(chunk)
	for j := chunkSize - 1; j >= 0; j-- {
		if i := base + uint32(j); i != None {
			c.entries[j].next.Store(t.free)
			t.free = i
		}
	}
	t.chunks[t.grown].Store(c)
	t.grown++
}

// Each calls fn for every live flow of owner, on whose thread. fn may unlink the flow that it is called for.
func (t *Table) Each(owner uint32, fn func(i uint32)) {
	for n := range t.chunks {
		if !t.EachOf(n, owner, fn) {
			return
		}
	}
}

// EachOf does what Each does for the n-th portion of the table, and reports whether there is one.
func (t *Table) EachOf(n int, owner uint32, fn func(i uint32)) bool {
	if n >= len(t.chunks) {
		return false
	}
	c := t.chunks[n].Load()
	if c == nil {
		return false
	}
	for j := range c.entries {
		if c.owners[j].Load() == owner && c.entries[j].live {
			fn(uint32(n*chunkSize + j))
		}
	}
	return true
}

// EachFrom calls fn for the live flows of owner, on whose thread, from an index on, until fn returns false. It returns the index to go on
// with, None if there are no more. fn may unlink the flow that it is called for.
func (t *Table) EachFrom(index, owner uint32, fn func(i uint32) bool) (next uint32) {
	for ; int(index/chunkSize) < len(t.chunks); index++ {
		c := t.chunks[index/chunkSize].Load()
		if c == nil {
			return None
		}
		if j := index % chunkSize; c.owners[j].Load() == owner && c.entries[j].live && !fn(index) {
			return index + 1
		}
	}
	return None
}
