package virtqueue_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// TestQueueAgainstModel lets a driver, good or hostile in its chains, and a device take random steps. The driver may take
// entries back. The model is lists of entries, the driver's index, and what each side was promised about notifications.
func TestQueueAgainstModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := newModel(rt)
		defer m.close()
		rt.Repeat(map[string]func(*rapid.T){
			"add":                m.add,
			"add indirect":       m.addIndirect,
			"corrupt":            m.corrupt,
			"add nonsense":       m.addNonsense,
			"publish":            m.publish,
			"take back":          m.takeBack,
			"poll":               m.poll,
			"interrupts on":      m.enableInterrupts,
			"interrupts off":     m.disableInterrupts,
			"fetch":              m.fetch,
			"use":                m.use,
			"flush":              m.flush,
			"kicks on":           m.enableKicks,
			"kicks off":          m.disableKicks,
			"rewind":             m.rewind,
			"recheck":            m.recheck,
			"new memory":         m.newMemory,
			"":                   m.check,
			"fetch (more often)": m.fetch,
		})
	})
}

// entry is a chain on its way.
type entry struct {
	head    uint16
	written uint32
}

type model struct {
	d    *vqtest.Driver
	q    *virtqueue.Queue
	dir  virtqueue.Direction
	opt  vqtest.Options
	mems []*guestmem.Table

	added, avail, pending, staged, used []entry // where the entries are, oldest first
	wantKick, wantCall                  bool    // that side sleeps: the next event must wake it
	noKick, noCall                      bool    // that side said by flag that it does not want any
	base                                uint16  // index of the first unused entry

	// What the driver has taken back and the device has not noticed yet: so many of the pending entries, the last ones.
	// Those that were used already, and that the driver makes available again, are not news to the device.
	taken, stale int
	seen         int // entries that the device has seen to be available, beyond base
}

func newModel(t *rapid.T) *model {
	m := &model{
		dir: rapid.SampledFrom([]virtqueue.Direction{virtqueue.FromGuest, virtqueue.ToGuest}).Draw(t, "direction"),
		opt: vqtest.Options{
			Size:     1 << rapid.Uint16Range(0, 5).Draw(t, "log2 size"),
			EventIdx: rapid.Bool().Draw(t, "event idx"),
			Indirect: rapid.Bool().Draw(t, "indirect"),
			OddAvail: rapid.Bool().Draw(t, "odd avail"),
			Base:     rapid.SampledFrom([]uint16{0, 65535, 65520, 32760}).Draw(t, "base"),
		},
	}
	backing := rapid.SampledFrom([]vqtest.Backing{vqtest.Heap, vqtest.Memfd}).Draw(t, "backing")
	m.d = vqtest.NewDriver(vqtest.NewSplitMemory(backing, 1<<16, 1<<16), m.opt)
	cfg := m.d.Layout()
	cfg.Dir = m.dir
	q, err := virtqueue.New(m.d.Memory().Table(), cfg)
	require.NoError(t, err)
	m.q, m.base = q, m.opt.Base
	return m
}

func (m *model) close() {
	m.d.Memory().Close()
	for _, t := range m.mems {
		_ = t.Release()
	}
}

// bufs draws good and less good buffers.
func (m *model) bufs(t *rapid.T) (bufs []vqtest.Buf) {
	for range rapid.IntRange(1, 4).Draw(t, "buffers") {
		b := vqtest.Buf{
			GPA:   vqtest.BaseGPA + guestmem.GPA(rapid.IntRange(0, 1<<17-1).Draw(t, "offset")),
			Len:   rapid.SampledFrom([]uint32{0, 1, 12, 1514, 4096, 1 << 16}).Draw(t, "length"),
			Write: m.dir == virtqueue.ToGuest,
		}
		if rapid.IntRange(0, 15).Draw(t, "wrong way") == 0 {
			b.Write = !b.Write
		}
		bufs = append(bufs, b)
	}
	return bufs
}

func (m *model) room() bool { return m.d.Outstanding() < int(m.opt.Size) }

func (m *model) add(t *rapid.T) {
	bufs := m.bufs(t)
	if !m.room() {
		t.Skip("ring is full")
	}
	if head, ok := m.d.Add(bufs...); ok {
		m.added = append(m.added, entry{head: head})
	}
}

func (m *model) addIndirect(t *rapid.T) {
	bufs := m.bufs(t)
	if !m.room() || m.d.Memory().Room() < 1024 {
		t.Skip("ring is full")
	}
	if head, ok := m.d.AddIndirect(bufs...); ok {
		m.added = append(m.added, entry{head: head})
	}
}

// addNonsense makes a head available that may be anything: in use, free, or no descriptor at all.
func (m *model) addNonsense(t *rapid.T) {
	if !m.room() {
		t.Skip("ring is full")
	}
	head := rapid.Uint16Range(0, m.opt.Size+1).Draw(t, "head")
	m.d.AddHead(head)
	m.added = append(m.added, entry{head: head})
}

// corrupt writes to a descriptor, in use or not.
func (m *model) corrupt(t *rapid.T) {
	i := rapid.Uint16Range(0, m.opt.Size-1).Draw(t, "descriptor")
	v := m.d.Desc(i)
	switch rapid.IntRange(0, 4).Draw(t, "what") {
	case 0:
		v.Addr = rapid.Uint64().Draw(t, "addr")
	case 1:
		v.Len = rapid.Uint32().Draw(t, "len")
	case 2:
		v.Flags = rapid.Uint16Range(0, 7).Draw(t, "flags")
	case 3:
		v.Next = rapid.Uint16Range(0, m.opt.Size).Draw(t, "next")
	case 4: // an indirect table of what happens to be there, perhaps the queue's own
		v.Flags = vqtest.Indirect
		v.Addr = uint64(vqtest.BaseGPA) + rapid.Uint64Range(0, 64).Draw(t, "table")*8
		v.Len = 16 * rapid.Uint32Range(0, 40).Draw(t, "entries")
	}
	m.d.RawDesc(i, v)
}

func (m *model) publish(t *rapid.T) {
	if m.unnoticed() {
		t.Skip("an index that goes back and on again between two looks cannot be noticed")
	}
	kick := m.d.Publish()
	n := len(m.added)
	old := min(n, m.stale)
	m.stale -= old
	m.avail = append(m.avail, m.added[old:]...)
	m.added = nil
	if n == 0 {
		require.False(t, kick, "a kick for nothing")
		return
	}
	if m.wantKick && n > old {
		require.True(t, kick, "the device sleeps, and was not kicked")
	}
	if m.noKick {
		require.False(t, kick)
	}
	m.wantKick = m.wantKick && n == old
}

// takeBack lowers the driver's index, perhaps below what was used and the driver has not looked at yet.
func (m *model) takeBack(t *rapid.T) {
	if len(m.added) > 0 || m.stale > 0 {
		t.Skip("the driver does so with what it has published, and once")
	}
	n := rapid.IntRange(0, len(m.avail)+len(m.pending)-m.taken+len(m.staged)+len(m.used)).Draw(t, "entries")
	m.d.TakeBack(n)
	fresh := min(n, len(m.avail))
	m.avail = m.avail[:len(m.avail)-fresh]
	pending := min(n-fresh, len(m.pending)-m.taken)
	m.taken += pending
	m.stale = n - fresh - pending
}

// unnoticed reports whether the driver's index went back and the device has not looked since.
func (m *model) unnoticed() bool { return m.taken > 0 || m.seen > len(m.pending)+len(m.avail) }

// look is what the device does when it loads the driver's index, and reports whether that went back.
func (m *model) look() (back bool) {
	back = m.unnoticed()
	if back {
		m.pending = m.pending[:len(m.pending)-m.taken]
		m.taken = 0
		m.forget()
	}
	m.seen = len(m.pending) + len(m.avail)
	return back
}

func (m *model) poll(t *rapid.T) {
	head, written, ok := m.d.Used()
	require.Equal(t, len(m.used) > 0, ok)
	if ok {
		require.Equal(t, m.used[0], entry{head, written})
		m.used = m.used[1:]
	}
}

func (m *model) enableInterrupts(t *rapid.T) {
	more := m.d.EnableInterrupts()
	require.Equal(t, len(m.used) > 0, more)
	m.wantCall, m.noCall = !more, false
}

func (m *model) disableInterrupts(*rapid.T) {
	m.d.DisableInterrupts()
	m.wantCall, m.noCall = false, !m.opt.EventIdx
}

func (m *model) fetch(t *rapid.T) {
	limit := rapid.IntRange(0, 40).Draw(t, "max")
	before := m.q.Withdrawals()
	back := m.look()
	n := max(0, min(limit-len(m.pending), len(m.avail)))
	want := m.walk(m.avail[:n])
	had := len(m.pending)

	got := m.q.Fetch(limit)
	require.NoError(t, m.q.Err())
	require.Equal(t, back, m.q.Withdrawals() != before)
	require.Len(t, got, min(limit, had+n))
	for i, bufs := range want {
		c := got[had+i]
		resolved, ok := m.d.Memory().Resolve(m.memory(), c.Iov)
		require.True(t, ok, "a piece is not guest memory")
		require.Equal(t, bufs, resolved)
		require.Equal(t, total(bufs), c.Len)
	}
	m.pending = append(m.pending, m.avail[:n]...)
	m.avail = m.avail[n:]
}

// walk decodes entries that the queue is about to decode.
func (m *model) walk(entries []entry) (out [][]vqtest.Buf) {
	for _, e := range entries {
		bufs, ok := m.d.Walk(m.dir, e.head)
		if !ok {
			bufs = nil
		}
		out = append(out, vqtest.Join(bufs))
	}
	return out
}

func total(bufs []vqtest.Buf) (n uint32) {
	for _, b := range bufs {
		n += b.Len
	}
	return n
}

func (m *model) use(t *rapid.T) {
	for range rapid.IntRange(0, len(m.pending)).Draw(t, "chains") {
		e := m.pending[0]
		e.written = rapid.Uint32().Draw(t, "written")
		m.q.Use(e.written)
		if len(m.pending) == m.taken { // the device cannot know
			m.taken--
			m.stale++
		}
		m.pending = m.pending[1:]
		m.staged = append(m.staged, e)
		m.base++
		m.seen--
	}
}

func (m *model) flush(t *rapid.T) {
	call := m.q.Flush()
	n := len(m.staged)
	m.used = append(m.used, m.staged...)
	m.staged = nil
	if n == 0 {
		require.False(t, call, "an interrupt for nothing")
		return
	}
	if m.wantCall {
		require.True(t, call, "the driver sleeps, and was not interrupted")
	}
	if m.noCall {
		require.False(t, call)
	}
	m.wantCall = false
}

func (m *model) enableKicks(t *rapid.T) {
	more := m.q.EnableKicks()
	require.Equal(t, len(m.avail) > 0, more)
	m.wantKick, m.noKick = !more, false
}

func (m *model) disableKicks(*rapid.T) {
	m.q.DisableKicks()
	m.wantKick, m.noKick = false, !m.opt.EventIdx
}

func (m *model) forget() {
	m.avail = append(append([]entry(nil), m.pending...), m.avail...)
	m.pending = nil
	// The device fetches from an earlier index now: who rewinds looks before it sleeps.
	m.wantKick = false
}

func (m *model) rewind(*rapid.T) {
	m.q.Rewind()
	m.rewound()
}

// rewound is forget for a device that has not looked at the driver's index.
func (m *model) rewound() {
	m.pending = m.pending[:len(m.pending)-m.taken]
	m.taken = 0
	m.forget()
}

func (m *model) recheck(t *rapid.T) {
	if len(m.pending) == 0 {
		m.q.Recheck()
		return
	}
	before := m.q.Withdrawals()
	back := m.look()
	m.q.Recheck()
	require.Equal(t, back, m.q.Withdrawals() != before)
}

func (m *model) memory() *guestmem.Table {
	if n := len(m.mems); n > 0 {
		return m.mems[n-1]
	}
	return m.d.Memory().Table()
}

func (m *model) newMemory(t *rapid.T) {
	var prev *guestmem.Table
	if rapid.Bool().Draw(t, "share") {
		prev = m.memory()
	}
	m.mems = append(m.mems, m.d.Memory().NewTable(prev))
	require.NoError(t, m.q.SetMemory(m.memory()))
	m.rewound()
}

func (m *model) check(t *rapid.T) {
	require.NoError(t, m.q.Err())
	require.Equal(t, m.base, m.q.State().Avail)
	require.Equal(t, len(m.avail) > 0, m.q.HasAvail())
	require.Len(t, m.q.Pending(), len(m.pending))
	require.Equal(t, m.base-uint16(len(m.staged)), m.d.UsedIdx())
}
