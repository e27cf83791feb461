package virtqueue

import (
	"math"

	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// gather fetches up to want of the entries that were seen to be available.
func (q *Queue) gather(want int) {
	if q.first == q.end { // begin at the front, where the cache is warm
		q.first, q.end, q.pieces, q.top = 0, 0, 0, 0
	}
	want = min(want, int(q.avail-q.fetched))
	if q.end+want > len(q.chains) {
		q.slide()
	}
	for want > 0 {
		if len(q.arena)-q.top < MaxIovecs && !q.makeRoom() {
			return
		}
		want -= q.fetchRun(min(want, runLen))
	}
}

// refresh loads the driver's index.
//
// The driver may be ahead of what it saw as used by the size of the queue at most. More leaves no sane way to go on. An
// index that went back is that of a driver which takes its buffers back, as Linux does when a driver is unloaded.
func (q *Queue) refresh() {
	avail := q.dev.AvailIdx()
	switch {
	case avail-q.avail <= q.cfg.Size-(q.avail-q.published):
		q.avail = avail
	case avail-q.fetched < q.avail-q.fetched, q.isBehind(avail):
		q.withdraw(avail)
	default:
		q.err = ErrIndex
	}
}

// isBehind reports whether the driver's index avail is behind what was fetched. A driver can take back as many entries as
// the queue holds: those that are pending, and those that were used and that it has not looked at yet.
func (q *Queue) isBehind(avail uint16) bool { return q.fetched-avail <= q.cfg.Size }

// withdraw forgets what was fetched, after the driver's index went back to avail. Entries before avail are still available.
// They are read again, since the driver may have changed them. An index behind what was used means that there are none.
func (q *Queue) withdraw(avail uint16) {
	if avail-q.used >= q.avail-q.used {
		avail = q.used
	}
	if avail == q.avail && q.first == q.end {
		return // seen before
	}
	q.Rewind()
	q.avail = avail
	q.withdrawals++
}

// isNews reports whether there is something to fetch when the driver's index is avail. An index that breaks the queue is
// something as well: the next Fetch finds out.
func (q *Queue) isNews(avail uint16) bool {
	ahead := avail - q.fetched
	return ahead != 0 && (ahead <= q.cfg.Size-(q.fetched-q.published) || !q.isBehind(avail))
}

// slide moves the pending chains to the front of their array.
func (q *Queue) slide() {
	copy(q.heads[:], q.heads[q.first:q.end])
	q.end = copy(q.chains[:], q.chains[q.first:q.end])
	q.first = 0
}

// makeRoom moves the pieces of the pending chains to the front of the arena, and reports whether the longest chain fits
// behind them now.
func (q *Queue) makeRoom() bool {
	if len(q.arena)-(q.top-q.pieces) < MaxIovecs {
		return false
	}
	q.top = copy(q.arena, q.arena[q.pieces:q.top])
	q.pieces = 0
	at := 0
	for i := q.first; i < q.end; i++ {
		c := &q.chains[i]
		n := len(c.Iov)
		c.Iov = q.arena[at : at+n : at+n]
		at += n
	}
	return true
}

// runLen is how many entries are read before the first of them is looked at.
const runLen = 32

// fetchRun takes up to n more entries of the available ring, at most runLen, and returns how many it took: fewer when there
// is no room for the longest chain any more. Most chains are one good buffer in the region of the one before: those are
// dealt with here, all others by fetchChain, which reads them anew.
func (q *Queue) fetchRun(n int) int {
	descs := q.run[:n]
	heads := q.heads[q.end : q.end+n]
	chains := q.chains[q.end : q.end+n]
	q.dev.LoadRun(q.fetched, heads, descs)
	region, size, want := q.tr.Region(), q.cfg.Size, writeFlag(q.cfg.Dir)
	top := q.top
	for i := range descs {
		d, c := &descs[i], &chains[i]
		base, ok := region.Hit(guestmem.GPA(d.Addr), uint64(d.Len()))
		if ok && heads[i] < size && d.Len() != 0 && d.Flags()&(ring.FlagNext|ring.FlagIndirect|ring.FlagWrite) == want {
			q.arena[top] = guestmem.Iovec{Base: base, Len: uint64(d.Len())}
			c.Iov, c.Len = q.arena[top:top+1:top+1], d.Len()
			top++
			continue
		}
		q.top = top
		q.fetchChain(c, heads[i])
		if top = q.top; len(q.arena)-top < MaxIovecs {
			n = i + 1
			break
		}
		region = q.tr.Region()
	}
	q.top = top
	q.end += n
	q.fetched += uint16(n)
	return n
}

// fetchChain makes c of the chain that begins at head. A malformed chain has no pieces.
func (q *Queue) fetchChain(c *Chain, head uint16) {
	iov, n, ok := q.walk(head)
	if !ok {
		c.Iov, c.Len = nil, 0
		return
	}
	c.Iov, c.Len = iov[:len(iov):len(iov)], n
	q.top += len(iov)
}

// walk follows the chain that begins at head, and translates its buffers into the arena. It reports false if the chain
// is malformed in any way. One without bytes has no pieces either.
func (q *Queue) walk(head uint16) (iov []guestmem.Iovec, n uint32, ok bool) {
	table := descTable{view: q.dev.Desc, len: uint32(q.cfg.Size)}
	// A chain cannot have more buffers than the queue has descriptors, in an indirect table neither (virtio 1.2 sections
	// 2.7.5.2 and 2.7.5.3.1). Counting them finds loops too.
	left := q.cfg.Size
	direction := writeFlag(q.cfg.Dir)
	iov = q.arena[q.top : q.top : q.top+MaxIovecs]
	var total uint64
	for i := uint32(head); ; left-- {
		if left == 0 {
			return nil, 0, false
		}
		d, ok := q.load(&table, i)
		if ok && d.Flags&ring.FlagIndirect != 0 {
			// Buffers may precede the table (section 2.7.5.3.2); nothing follows it.
			if table, ok = q.indirect(&table, d); ok {
				d, ok = q.load(&table, 0)
			}
			ok = ok && d.Flags&ring.FlagIndirect == 0
		}
		if !ok || d.Flags&ring.FlagWrite != direction {
			return nil, 0, false
		}
		if d.Len != 0 {
			if iov, ok = q.translate(iov, guestmem.GPA(d.Addr), uint64(d.Len)); !ok {
				return nil, 0, false
			}
			total += uint64(d.Len)
		}
		if d.Flags&ring.FlagNext == 0 {
			break
		}
		i = uint32(d.Next)
	}
	return iov, uint32(total), total <= math.MaxUint32
}

// writeFlag is what FlagWrite must be in all descriptors of a queue.
func writeFlag(dir Direction) uint16 {
	if dir == ToGuest {
		return ring.FlagWrite
	}
	return 0
}

// translate appends the host memory of a buffer to iov.
func (q *Queue) translate(iov []guestmem.Iovec, addr guestmem.GPA, n uint64) ([]guestmem.Iovec, bool) {
	if base, ok := q.tr.Hit(addr, n); ok && len(iov) < cap(iov) {
		return append(iov, guestmem.Iovec{Base: base, Len: n}), true
	}
	return q.tr.AppendGPA(iov, addr, n)
}

// descTable is where the descriptors of a chain come from: the table of the queue, or an indirect one.
type descTable struct {
	view     ring.Table
	len      uint32 // descriptors
	indirect bool
	split    bool         // it is not in one piece of host memory: view is unusable
	gpa      guestmem.GPA // where it is then
}

// load copies descriptor i of t.
func (q *Queue) load(t *descTable, i uint32) (ring.Desc, bool) {
	if i >= t.len {
		return ring.Desc{}, false
	}
	if t.split {
		return q.loadSplit(t.gpa + guestmem.GPA(i)*ring.DescSize)
	}
	return t.view.Load(i), true
}

// loadSplit copies a descriptor of a table that lies across regions, and may do so itself.
func (q *Queue) loadSplit(addr guestmem.GPA) (ring.Desc, bool) {
	var room [2]guestmem.Iovec
	iov, ok := q.tr.AppendGPA(room[:0], addr, ring.DescSize)
	if !ok {
		return ring.Desc{}, false
	}
	var b [ring.DescSize]byte
	guestmem.CopyFrom(b[:], iov, 0)
	return ring.DecodeDesc(&b), true
}

// indirect checks descriptor d of table from, which names an indirect table, and returns that table (virtio 1.2 section
// 2.7.5.3). FlagWrite in d means nothing.
func (q *Queue) indirect(from *descTable, d ring.Desc) (descTable, bool) {
	switch {
	case !q.cfg.Indirect, from.indirect, d.Flags&ring.FlagNext != 0:
		return descTable{}, false
	case d.Len == 0, d.Len%ring.DescSize != 0, d.Addr > math.MaxUint64-uint64(d.Len):
		return descTable{}, false
	}
	t := descTable{len: d.Len / ring.DescSize, indirect: true, gpa: guestmem.GPA(d.Addr)}
	view, ok := indirectTable(q.mem, t.gpa, uint64(d.Len))
	t.view, t.split = view, !ok
	return t, true
}
