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
	for limit := q.looked + maxLooks; want > 0 && q.looked < limit; {
		if len(q.arena)-q.top < MaxIovecs && !q.makeRoom() {
			return
		}
		want -= q.fetchRun(min(want, runLen), limit)
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

// fetchRun takes up to n more entries of the available ring, at most runLen, and returns how many it took. It takes fewer when
// there is no room for the longest chain any more, or when so much was looked at that limit is reached. Most chains are one
// good buffer in the region of the one before: those are dealt with here, all others by fetchChain, which reads them anew.
func (q *Queue) fetchRun(n int, limit uint64) int {
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
		if top = q.top; len(q.arena)-top < MaxIovecs || q.looked >= limit {
			n = i + 1
			break
		}
		region = q.tr.Region()
	}
	q.top = top
	q.looked += uint64(n)
	q.end += n
	q.fetched += uint16(n)
	return n
}

// fetchChain makes c of the chain that begins at head. A malformed chain has no pieces.
func (q *Queue) fetchChain(c *Chain, head uint16) {
	iov, n, fault := q.walk(head)
	if fault != noFault {
		c.Iov, c.Len, c.Fault = nil, 0, fault
		return
	}
	c.Iov, c.Len = iov[:len(iov):len(iov)], n
	q.top += len(iov)
}

// noFault is what is wrong with a chain that is not malformed.
const noFault Fault = Faults

// walk follows the chain that begins at head, and translates its buffers into the arena.
func (q *Queue) walk(head uint16) (iov []guestmem.Iovec, n uint32, fault Fault) {
	table := descTable{view: q.dev.Desc, len: uint32(q.cfg.Size)}
	// A chain cannot have more buffers than the queue has descriptors, in an indirect table neither (virtio 1.2 sections
	// 2.7.5.2 and 2.7.5.3.1), nor more of them than pieces, empty ones included. Counting them finds loops too.
	left := min(int(q.cfg.Size), MaxIovecs)
	direction := writeFlag(q.cfg.Dir)
	iov = q.arena[q.top : q.top : q.top+MaxIovecs]
	var total uint64
	for i := uint32(head); ; left-- {
		if left == 0 {
			return nil, 0, FaultLinks
		}
		d, fault := q.load(&table, i)
		if fault == noFault && d.Flags&ring.FlagIndirect != 0 {
			d, fault = q.enter(&table, d)
		}
		switch {
		case fault != noFault:
			return nil, 0, fault
		case d.Flags&ring.FlagWrite != direction:
			return nil, 0, FaultDirection
		case d.Len != 0:
			if iov, fault = q.translate(iov, guestmem.GPA(d.Addr), uint64(d.Len)); fault != noFault {
				return nil, 0, fault
			}
			total += uint64(d.Len)
		}
		if d.Flags&ring.FlagNext == 0 {
			break
		}
		i = uint32(d.Next)
	}
	switch {
	case total == 0:
		return nil, 0, FaultEmpty
	case total > math.MaxUint32:
		return nil, 0, FaultLinks
	}
	return iov, uint32(total), noFault
}

// enter makes table the indirect table that d names, and returns its first descriptor. Buffers may precede the table
// (virtio 1.2 section 2.7.5.3.2); nothing follows it.
func (q *Queue) enter(table *descTable, d ring.Desc) (ring.Desc, Fault) {
	inner, fault := q.indirect(table, d)
	if fault != noFault {
		return d, fault
	}
	*table = inner
	d, fault = q.load(table, 0)
	if fault == noFault && d.Flags&ring.FlagIndirect != 0 {
		fault = FaultLinks
	}
	return d, fault
}

// writeFlag is what FlagWrite must be in all descriptors of a queue.
func writeFlag(dir Direction) uint16 {
	if dir == ToGuest {
		return ring.FlagWrite
	}
	return 0
}

// translate appends the host memory of a buffer to iov.
func (q *Queue) translate(iov []guestmem.Iovec, addr guestmem.GPA, n uint64) ([]guestmem.Iovec, Fault) {
	if base, ok := q.tr.Hit(addr, n); ok && len(iov) < cap(iov) {
		return append(iov, guestmem.Iovec{Base: base, Len: n}), noFault
	}
	more, ok := q.tr.AppendGPA(iov, addr, n)
	switch {
	case ok:
	case len(iov) == cap(iov):
		return nil, FaultLinks
	default:
		q.looked += uint64(min(q.tr.Regions(), cap(iov)-len(iov))) // that it may have been followed through
		return nil, FaultMemory
	}
	q.looked += uint64(len(more) - len(iov))
	return more, noFault
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
func (q *Queue) load(t *descTable, i uint32) (ring.Desc, Fault) {
	if i >= t.len {
		return ring.Desc{}, FaultLinks
	}
	if t.split {
		return q.loadSplit(t.gpa + guestmem.GPA(i)*ring.DescSize)
	}
	q.looked++
	return t.view.Load(i), noFault
}

// splitLooks is how many descriptors could be looked at in the time that one takes which loadSplit copies.
const splitLooks = 8

// loadSplit copies a descriptor of a table that lies across regions, and may do so itself.
func (q *Queue) loadSplit(addr guestmem.GPA) (ring.Desc, Fault) {
	q.looked += splitLooks
	var room [2]guestmem.Iovec
	iov, ok := q.tr.AppendGPA(room[:0], addr, ring.DescSize)
	if !ok {
		return ring.Desc{}, FaultMemory
	}
	var b [ring.DescSize]byte
	guestmem.CopyFrom(b[:], iov, 0)
	return ring.DecodeDesc(&b), noFault
}

// indirect checks descriptor d of table from, which names an indirect table, and returns that table (virtio 1.2 section
// 2.7.5.3). FlagWrite in d means nothing.
func (q *Queue) indirect(from *descTable, d ring.Desc) (descTable, Fault) {
	switch {
	case !q.cfg.Indirect, from.indirect, d.Flags&ring.FlagNext != 0:
		return descTable{}, FaultLinks
	case d.Len == 0, d.Len%ring.DescSize != 0, d.Addr > math.MaxUint64-uint64(d.Len):
		return descTable{}, FaultLinks
	}
	t := descTable{len: d.Len / ring.DescSize, indirect: true, gpa: guestmem.GPA(d.Addr)}
	view, ok := indirectTable(q.mem, t.gpa, uint64(d.Len))
	t.view, t.split = view, !ok
	return t, noFault
}
