package porttest

import (
	"testing"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	txSlots    = 64                               // frames in flight
	txSlotSize = 72 << 10                         // of the longest frame and its header
	spare      = 16 << 10                         // for rings and indirect tables, for each slot of a ring
	singleBuf  = vnet.HeaderLen + etherLen + 1500 // what a driver posts if no offload wants more
	bigBuf     = vnet.HeaderLen + etherLen + 65536
	mergeBuf   = 2048
)

// Layout is how a frame and the virtio-net header before it are spread over descriptors.
type Layout struct {
	// Lens are the lengths of the descriptors in bytes; what is left over goes to one more. Empty puts all into one.
	Lens []int
	// Indirect puts the descriptors into an indirect table.
	Indirect bool
}

// OneByte returns a Layout of n descriptors of one byte before the one with the rest.
func OneByte(n int) Layout {
	l := Layout{Lens: make([]int, n)}
	for i := range l.Lens {
		l.Lens[i] = 1
	}
	return l
}

// slots is a store of equal buffers of guest memory.
type slots struct {
	size int
	free []guestmem.GPA
	used map[uint16]guestmem.GPA // by the head of the chain that holds it
}

func newSlots(m *vqtest.Memory, n, size int) slots {
	s := slots{size: size, used: map[uint16]guestmem.GPA{}}
	for range n {
		s.free = append(s.free, m.Alloc(size, 64))
	}
	return s
}

// pop takes a free buffer, and push brings back the one of a chain.
func (s *slots) pop() guestmem.GPA {
	gpa := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	return gpa
}

func (s *slots) push(head uint16) guestmem.GPA {
	gpa := s.used[head]
	delete(s.used, head)
	s.free = append(s.free, gpa)
	return gpa
}

// rings is the driver's and the device's end of a queue pair.
type rings struct {
	mem      *vqtest.Memory
	headers  int // length of the virtio-net header
	merges   bool
	tx, rx   *vqtest.Driver
	txq, rxq *virtqueue.Queue
	out, in  slots
	waiting  []outgoing // frames that find no room in the ring
	frames   uint64     // put into the transmit ring so far

	log   *guestmem.Log // nil for none
	watch *vqtest.PageWatch
}

// outgoing is a frame to transmit, header included.
type outgoing struct {
	bytes  []byte
	layout Layout
}

func newRings(t testing.TB, o *Options) *rings {
	backing := vqtest.Heap
	if o.Memfd {
		backing = vqtest.Memfd
	}
	size := o.RingSize*spare + txSlots*(o.MaxFrame+64) + o.RingSize*(o.BufSize+64)
	r := &rings{mem: vqtest.NewMemory((size+4095)&^4095, backing)}
	t.Cleanup(r.mem.Close)
	r.headers = vnet.HeaderLength(o.Features)
	r.merges = o.Features&vnet.FeatureMrgRxBuf != 0
	opt := vqtest.Options{
		Size:     uint16(o.RingSize),
		EventIdx: o.Features&vnet.FeatureEventIdx != 0,
		Indirect: o.Features&vnet.FeatureIndirectDesc != 0,
	}
	r.tx, r.rx = vqtest.NewDriver(r.mem, opt), vqtest.NewDriver(r.mem, opt)
	r.txq = newQueue(t, r.mem, r.tx, virtqueue.FromGuest)
	r.rxq = newQueue(t, r.mem, r.rx, virtqueue.ToGuest)
	r.out = newSlots(r.mem, txSlots, o.MaxFrame)
	r.in = newSlots(r.mem, o.RingSize, o.BufSize)
	if o.DirtyLog {
		r.watch = vqtest.WatchPages(r.mem)
	}
	return r
}

// watchPages begins to watch what is written in a turn, with a log of which the front end has just taken all bits.
func (r *rings) watchPages() {
	if r.watch == nil {
		return
	}
	r.log = guestmem.NewHeapLog(r.mem.LogPages())
	for _, q := range []*virtqueue.Queue{r.txq, r.rxq} {
		q.SetLogging(virtqueue.Logging{Log: r.log, Buffers: true, Ring: true, UsedAt: r.mem.GPA(q.Config().Used)})
	}
	r.watch.Forget()
}

// checkPages checks that each page that has changed in the turn is marked. A Port that writes to
// buffers in one turn and gives them to the guest in another cannot be checked so.
func (r *rings) checkPages(t testing.TB) {
	t.Helper()
	if r.watch == nil {
		return
	}
	if pages := r.watch.Unmarked(r.log); len(pages) > 0 {
		t.Fatalf("porttest: pages were written and not marked in the dirty log: %#x", pages)
	}
}

func newQueue(t testing.TB, m *vqtest.Memory, d *vqtest.Driver, dir virtqueue.Direction) *virtqueue.Queue {
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(m.Table(), cfg)
	if err != nil {
		t.Fatalf("porttest: %v", err)
	}
	return q
}

// send puts waiting frames into the transmit ring, as many as fit.
func (r *rings) send() {
	for len(r.waiting) > 0 && len(r.out.free) > 0 {
		if !r.add(r.waiting[0]) {
			break
		}
		r.waiting = r.waiting[1:]
		r.frames++
	}
	r.tx.Publish()
}

// add makes one frame available.
func (r *rings) add(o outgoing) bool {
	gpa := r.out.pop()
	copy(r.mem.Bytes(gpa, len(o.bytes)), o.bytes)
	bufs := split(gpa, len(o.bytes), o.layout.Lens)
	add := r.tx.Add
	if o.layout.Indirect {
		add = r.tx.AddIndirect
	}
	head, ok := add(bufs...)
	if !ok {
		r.out.free = append(r.out.free, gpa)
		return false
	}
	r.out.used[head] = gpa
	return true
}

// split cuts n bytes at gpa into descriptors.
func split(gpa guestmem.GPA, n int, lens []int) (bufs []vqtest.Buf) {
	for _, l := range lens {
		l = min(l, n)
		bufs = append(bufs, vqtest.Buf{GPA: gpa, Len: uint32(l)})
		gpa += guestmem.GPA(l)
		n -= l
	}
	if n > 0 || len(bufs) == 0 {
		bufs = append(bufs, vqtest.Buf{GPA: gpa, Len: uint32(n)})
	}
	return bufs
}

// sent frees the buffers of frames that the device is done with.
func (r *rings) sent() {
	for {
		head, _, ok := r.tx.Used()
		if !ok {
			return
		}
		r.out.push(head)
	}
}

// post makes up to n receive buffers available and returns how many.
func (r *rings) post(n int) int {
	n = min(n, len(r.in.free))
	for range n {
		gpa := r.in.pop()
		head, _ := r.rx.Add(vqtest.Buf{GPA: gpa, Len: uint32(r.in.size), Write: true})
		r.in.used[head] = gpa
	}
	r.rx.Publish()
	return n
}

// receive returns the next frame, nil if there is none. A frame that is not whole yet is a mistake of the device, since
// it publishes all buffers of a frame at once.
func (r *rings) receive(t testing.TB) *Frame {
	first, ok := r.take()
	if !ok {
		return nil
	}
	if len(first) < r.headers {
		if len(first) > 0 {
			t.Errorf("porttest: the device wrote %d bytes, less than a virtio-net header", len(first))
		}
		return r.receive(t) // a buffer that was returned empty
	}
	f := &Frame{Buffers: 1}
	f.Header.Decode(first[:r.headers])
	f.Bytes = first[r.headers:]
	if !r.merges {
		return f
	}
	for f.Buffers < int(f.Header.NumBuffers) {
		more, ok := r.take()
		if !ok {
			t.Errorf("porttest: num_buffers is %d, but only %d buffers were used", f.Header.NumBuffers, f.Buffers)
			return f
		}
		f.Bytes = append(f.Bytes, more...)
		f.Buffers++
	}
	return f
}

// take returns a copy of what the device wrote to the next buffer.
func (r *rings) take() ([]byte, bool) {
	head, n, ok := r.rx.Used()
	if !ok {
		return nil, false
	}
	gpa := r.in.push(head)
	return append([]byte(nil), r.mem.Bytes(gpa, int(n))...), true
}
