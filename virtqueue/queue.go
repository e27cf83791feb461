package virtqueue

import (
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

const (
	// MaxBatch is the largest number of chains that Fetch hands out at a time.
	MaxBatch = 256
	// MaxIovecs is the largest number of pieces of one chain: what the kernel takes in one call (UIO_MAXIOV).
	MaxIovecs = 1024

	// arenaLen is how many pieces the chains that are fetched at a time can have together: room for the longest chain
	// at any time, and for a batch of chains of 16 pieces each.
	arenaLen = 16 * MaxBatch

	// maxLooks is how many descriptors and pieces of memory are looked at for one Fetch, but for the last chain. It is what
	// a batch of chains of 16 pieces each needs: descriptors that bring no piece, as empty ones, cost as much.
	maxLooks = arenaLen
)

// Queue is the device side of a split virtqueue. See the package documentation for its use.
//
// Five indexes, all modulo 2^16, order the entries of the available ring:
//
//	told ≤ published ≤ used ≤ fetched ≤ avail
//
// Entries before published are the driver's again, those up to used have their used element staged, those up to fetched
// are pending, and those up to avail were not looked at yet. Before told, the driver was interrupted if it wanted to be.
type Queue struct {
	dev ring.Device
	tr  guestmem.Translator
	mem *guestmem.Table
	cfg Config

	avail     uint16 // the driver's index as last seen; used, if the driver is behind that
	fetched   uint16
	used      uint16
	published uint16
	told      uint16

	usedFlags uint16 // flags of the used ring, as they are stored with the next index
	signal    bool   // the next Flush notifies, whatever the driver's event index says
	resumed   bool
	err       error

	marker  guestmem.Marker // of buffers that are written
	ringLog *guestmem.Log   // nil while writes to the used ring are not logged

	withdrawals uint64
	looked      uint64 // descriptors, and what cost as much

	// Pending chains are chains[first:end]. Their pieces lie in arena[pieces:top] in the same order. Both slide to the
	// front when the room behind them does not suffice.
	first, end  int
	pieces, top int
	chains      [2 * MaxBatch]Chain
	heads       [2 * MaxBatch]uint16
	arena       []guestmem.Iovec   // its capacity has room for a run beside the longest chain
	run         [runLen]ring.Words // copies of descriptors; means nothing between calls

	stats Stats
}

// Stats counts what was given back to the driver. They are plain numbers for the thread that owns the queue.
type Stats struct {
	Chains    uint64 // chains used
	BadChains uint64 // those of them that were malformed
	Bytes     uint64 // read from chains (FromGuest), or written to them (ToGuest)
	Flushes   uint64 // times the used index was published
	Signals   uint64 // those of them for which the driver wanted an interrupt
}

// New returns a queue on the ring that cfg describes in mem. Mem is borrowed: it must not be released before the queue
// was given another table, or was dropped.
//
// If the used index in the ring differs from cfg.State, it wins unless cfg.StateIsExact: chains are used in order, so it is
// where an earlier back end really was, while the front end may not know. See [Queue.Resumed].
func New(mem *guestmem.Table, cfg Config) (*Queue, error) {
	if err := cfg.check(); err != nil {
		return nil, err
	}
	dev, err := cfg.device(mem)
	if err != nil {
		return nil, err
	}
	q := &Queue{dev: dev, mem: mem, tr: mem.Translator(), cfg: cfg, arena: make([]guestmem.Iovec, arenaLen, arenaLen+runLen)}
	q.setMarkers()
	if err := guestmem.Guard(q.start); err != nil {
		return nil, err
	}
	return q, nil
}

// start reads where the ring is.
func (q *Queue) start() {
	at := q.cfg.State.Used
	used := q.dev.UsedIdx()
	// A used index that cannot be, with what is available, is not believed.
	if used != at && !q.cfg.StateIsExact && q.dev.AvailIdx()-used <= q.cfg.Size {
		at = used
		q.resumed = true
	}
	if !q.cfg.EventIdx { // with it, flags are always 0 (virtio 1.2 section 2.7.10)
		q.usedFlags = q.dev.UsedFlags()
	}
	q.avail, q.fetched, q.used, q.published, q.told = at, at, at, at, at
	// An earlier back end may have gone between publishing and notifying.
	q.signal = true
}

// Resumed reports whether the queue began at the used index of the ring instead of Config.State.
func (q *Queue) Resumed() bool { return q.resumed }

// Config returns the configuration of the queue. Its State is the one that the queue was made with.
func (q *Queue) Config() Config { return q.cfg }

// Size returns how many descriptors the queue has.
func (q *Queue) Size() uint16 { return q.cfg.Size }

// Err returns why the queue is broken, or nil. A broken queue fetches nothing and wants no kicks; chains that were
// fetched before can be used.
func (q *Queue) Err() error { return q.err }

// Stats returns the counters of the queue.
func (q *Queue) Stats() Stats { return q.stats }

// State returns where the queue stands: at the first entry that was not used. Another queue can go on from there if it is
// called after Flush.
func (q *Queue) State() State { return SplitState(q.used) }

// Available returns how many entries the driver had made available, and were not used, when the queue looked last.
func (q *Queue) Available() int { return int(q.avail - q.used) }

// Pending returns all chains that were fetched and not used yet, oldest first. It is valid as long as Fetch's result.
func (q *Queue) Pending() []Chain { return q.chains[q.first:q.end] }

// Fetch returns up to max chains (at most MaxBatch), oldest first: those pending, and new ones. It returns fewer when
// the driver has not made more available, or when the chains have very many pieces or descriptors (4096 in all); but
// it fetches one, if none is pending.
//
// Chains that the driver has taken back since they were fetched are forgotten: see [Queue.Withdrawals].
//
// The result is valid until the next call of Fetch, Recheck, Use, UseN, Rewind or SetMemory, and must not be changed.
func (q *Queue) Fetch(max int) []Chain {
	if q.err != nil {
		return nil
	}
	if q.refresh(); q.err != nil {
		return nil
	}
	max = min(max, MaxBatch)
	if want := max - (q.end - q.first); want > 0 {
		q.gather(want)
	}
	return q.chains[q.first:min(q.end, q.first+max)]
}

// Recheck forgets pending chains if the driver has taken back entries since the last Fetch. Call it before the use of
// chains that were fetched some time ago.
func (q *Queue) Recheck() {
	if q.err == nil && q.first != q.end {
		q.refresh()
	}
}

// Withdrawals returns how many times Fetch and Recheck have found that the driver took entries back: its index was lower
// than before. Each time, all pending chains were forgotten, and those entries that are still available are fetched again.
//
// A driver that does so is being unloaded, and frees its buffers in any order. So the entries that seem to be available
// still are better left alone until its index has stood still for some time.
func (q *Queue) Withdrawals() uint64 { return q.withdrawals }

// HasAvail reports whether there are entries that were not fetched.
func (q *Queue) HasAvail() bool {
	return q.err == nil && q.isNews(q.dev.AvailIdx())
}

// Pause is for loops around HasAvail: it waits for some ten nanoseconds in a way that costs others least.
func Pause() { ring.Pause() }

// Use gives the oldest pending chain back to the driver, with written bytes written to it (0 for a chain that was
// read). The driver sees it after Flush. A chain must be pending.
func (q *Queue) Use(written uint32) {
	if q.first == q.end {
		panic("virtqueue: no chain is pending")
	}
	c := &q.chains[q.first]
	if q.marker.On() {
		q.marker.Wrote(c.Iov, uint64(written))
	}
	q.dev.SetUsed(q.used, q.heads[q.first], written)
	q.used++
	q.first++
	q.pieces += len(c.Iov)
	q.stats.Chains++
	if len(c.Iov) == 0 {
		q.stats.BadChains++
	}
	if q.cfg.Dir == FromGuest {
		written = c.Len
	}
	q.stats.Bytes += uint64(written)
}

// UseRun is Use for the oldest pending chains, as many as written has elements.
func (q *Queue) UseRun(written []uint32) {
	n := len(written)
	if n > q.end-q.first {
		panic("virtqueue: so many chains are not pending")
	}
	if q.marker.On() {
		q.markRun(written)
	}
	q.dev.SetUsedRun(q.used, q.heads[q.first:q.first+n], written)
	var bytes uint64
	for _, w := range written {
		bytes += uint64(w)
	}
	if used := q.retire(n); q.cfg.Dir == FromGuest {
		bytes = used
	}
	q.stats.Bytes += bytes
}

// retire takes the n oldest pending chains off the list and counts them. It returns the sum of their lengths.
func (q *Queue) retire(n int) (bytes uint64) {
	chains := q.chains[q.first : q.first+n]
	for i := range chains {
		c := &chains[i]
		q.pieces += len(c.Iov)
		if len(c.Iov) == 0 {
			q.stats.BadChains++
		}
		bytes += uint64(c.Len)
	}
	q.used += uint16(n)
	q.first += n
	q.stats.Chains += uint64(n)
	return bytes
}

// UseN gives the n oldest pending chains back, with nothing written to them. So many must be pending.
func (q *Queue) UseN(n int) {
	if n > q.end-q.first {
		panic("virtqueue: so many chains are not pending")
	}
	q.dev.SetUsedRunRead(q.used, q.heads[q.first:q.first+n])
	if bytes := q.retire(n); q.cfg.Dir == FromGuest {
		q.stats.Bytes += bytes
	}
}

// Publish shows the driver what was used since the last Publish or Flush, by one store. Whether it wants an interrupt for
// that is left for the next Flush to find out: a driver that comes by on its own until then needs none.
func (q *Queue) Publish() {
	if q.used == q.published {
		return
	}
	before := q.published
	q.published = q.used
	q.dev.PublishUsed(q.usedFlags, q.used)
	if q.ringLog != nil {
		q.markPublished(before, q.used)
	}
	q.stats.Flushes++
}

// Flush publishes what was used, and reports whether the driver wants an interrupt for anything that was published since
// the last Flush.
func (q *Queue) Flush() (notify bool) {
	q.Publish()
	if q.told == q.published {
		return false
	}
	before := q.told
	q.told = q.published
	if !q.interruptWanted(before) {
		return false
	}
	q.stats.Signals++
	return true
}

// interruptWanted asks the driver's side of the ring after the used index moved from before to q.published (virtio 1.2
// section 2.7.7.2).
func (q *Queue) interruptWanted(before uint16) bool {
	if !q.cfg.EventIdx {
		return q.dev.AvailFlags()&ring.AvailNoInterrupt == 0
	}
	event := q.dev.UsedEvent()
	wanted := q.signal || ring.NeedEvent(event, q.published, before)
	q.signal = false
	return wanted
}

// DriverPolls tells that the driver said by flag that it wants no interrupts at all: it looks at the ring itself, as DPDK
// does. With EVENT_IDX it cannot be told.
func (q *Queue) DriverPolls() bool {
	return q.err == nil && !q.cfg.EventIdx && q.dev.AvailFlags()&ring.AvailNoInterrupt != 0
}

// DisableKicks tells the driver that no kicks are needed. It is advice: kicks may still come. With EVENT_IDX nothing has
// to be written, since the index of the last EnableKicks was passed.
func (q *Queue) DisableKicks() {
	if q.err != nil || q.cfg.EventIdx {
		return
	}
	q.setFlags(ring.UsedNoNotify)
}

// EnableKicks asks the driver for a kick when it makes the next entry available, and reports whether there are entries
// already that were not fetched: for those no kick may come.
func (q *Queue) EnableKicks() (more bool) {
	if q.err != nil {
		return false
	}
	if q.cfg.EventIdx {
		q.setAvailEvent(q.fetched)
	} else {
		q.setFlags(0)
	}
	return q.isNews(q.dev.AvailIdx())
}

// AwaitMore is EnableKicks for a device that cannot use what is available: it asks for a kick when the driver makes more
// available than it has now, and returns the driver's index, and whether that has changed in the meantime.
func (q *Queue) AwaitMore() (avail uint16, changed bool) {
	if q.err != nil {
		return 0, false
	}
	avail = q.dev.AvailIdx()
	if q.cfg.EventIdx {
		q.setAvailEvent(avail)
	} else {
		q.setFlags(0)
	}
	return avail, q.dev.AvailIdx() != avail
}

// Work grows with everything that is done with the queue: chains that are fetched, used, or taken back. Who finds it
// unchanged has done nothing.
func (q *Queue) Work() uint64 { return q.looked + q.stats.Chains + q.withdrawals }

// setFlags stores the flags of the used ring if they change. Staged elements stay unpublished. The store is a full
// barrier before the next load of the driver's index; where nothing changed, none is needed.
func (q *Queue) setFlags(flags uint16) {
	if q.usedFlags == flags {
		return
	}
	q.usedFlags = flags
	q.dev.PublishUsed(flags, q.published)
	if q.ringLog != nil {
		q.markIndex()
	}
}

// Rewind forgets the pending chains: the next Fetch reads them from the ring again. No kick comes for them, so a device
// that rewinds looks at the ring before it sleeps.
func (q *Queue) Rewind() {
	q.fetched = q.used
	q.first, q.end = 0, 0
	q.pieces, q.top = 0, 0
}

// SetMemory gives the queue another memory table and forgets the pending chains, since their translations belonged to
// the old one. After it returned, the old table is not used any more, whether or not there was an error: a ring that is
// not in mem breaks the queue (see Err).
func (q *Queue) SetMemory(mem *guestmem.Table) error {
	q.Rewind()
	dev, err := q.cfg.device(mem)
	if err != nil {
		q.used, q.fetched, q.told = q.published, q.published, q.published
		q.dev, q.mem, q.tr, q.err = ring.Device{}, nil, guestmem.Translator{}, err
		q.setMarkers()
		return err
	}
	q.dev, q.mem, q.tr = dev, mem, mem.Translator()
	q.setMarkers()
	return nil
}
