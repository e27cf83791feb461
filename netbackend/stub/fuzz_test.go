package stub_test

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	// fuzzRing is more than a run of frames.
	fuzzRing = 128
	// slot is the memory of a descriptor, and long that of the buffer that holds more than the longest frame.
	slot = 256
	long = 80_000
	// entryLen is how many bytes of the input describe an entry of a ring: its kind, its length, and two more.
	entryLen = 4
	// kinds are those that bend knows.
	kinds     = 10
	longKind  = 7
	splitKind = 9
)

// FuzzShortWays runs each Port twice, on two guests that are alike: as it is, and without its short ways. Whatever the guest
// has put into its rings and headers, both guests must get back the same chains with the same lengths, have the same bytes
// in their memory, and be counted alike. So the short ways refuse what the long way refuses.
//
// The input is a byte for the Port, one for features, one for the size of a batch, and then 4 bytes for each entry of the
// transmit and the receive ring in turn. Buffers of different descriptors never overlap: in which order a device writes
// those is up to the device.
func FuzzShortWays(f *testing.F) {
	for kind := range byte(kinds) {
		for _, data := range inputs(1, 0x7f, kind) {
			f.Add(data)
		}
	}
	f.Fuzz(compareWays)
}

// What lies on the borders of what the short ways take, everywhere in a run.
func TestShortWaysRefuseWhatTheLongWayRefuses(t *testing.T) {
	for port := range byte(3) {
		for _, features := range []byte{0x7f, 0x3, 0x1, 0} {
			for kind := range byte(kinds) {
				for _, data := range inputs(port, features, kind) {
					compareWays(t, data)
				}
			}
		}
	}
}

// inputs are entries of a kind with all sorts of headers, among good ones.
func inputs(port, features, kind byte) (all [][]byte) {
	start := []byte{port, features, 90}
	data := start
	for _, length := range []byte{90, 0, 13, 14} {
		for _, value := range []byte{0, 1, 11, 13, 21, 39, 91, 255} {
			for header := range byte(8) {
				odd := [entryLen]byte{kind, length, value, header}
				receive := [entryLen]byte{0, 150}
				if header%2 == 0 && length != 90 || kind == longKind {
					receive = [entryLen]byte{kind, 150, 39}
				}
				data = append(append(data, odd[:]...), receive[:]...)
				next := [entryLen]byte{0, 90}
				if kind == splitKind { // the rest of its header is in the next one's buffer
					next[2], next[3] = value, 1
				}
				data = append(append(data, next[:]...), 0, 150, 0, 0)
				if len(data) > fuzzRing*entryLen*2-4*entryLen {
					all, data = append(all, data), start[:len(start):len(start)]
				}
			}
		}
	}
	return append(all, data)
}

func compareWays(t *testing.T, data []byte) {
	if len(data) < 3 {
		return
	}
	kind, features, batch := data[0]%6, fuzzFeatures(data[1]), 1+int(data[2]%fuzzRing)
	fast, slow := newTwin(t, kind, features, data[3:]), newTwin(t, kind, features, data[3:])
	fast.run(batch, func(tx []virtqueue.Chain) int {
		done, _ := fast.port.Turn(0, tx, nil, fast.writer)
		return done
	})
	slow.run(batch, func(tx []virtqueue.Chain) int { return slow.port.TurnSlowly(tx, slow.writer) })
	require.Equal(t, slow.port.Counters(), fast.port.Counters())
	require.Equal(t, slow.used(), fast.used())
	require.Equal(t, slow.writer.Bytes, fast.writer.Bytes)
	require.Equal(t, slow.writer.Frames, fast.writer.Frames)
	require.Equal(t, slow.txq.Stats(), fast.txq.Stats())
	require.Equal(t, slow.rxq.Stats(), fast.rxq.Stats())
	require.True(t, bytes.Equal(slow.bytes(), fast.bytes()), "guest memory differs")
}

// fuzzFeatures is what a guest acknowledges.
func fuzzFeatures(bits byte) (features uint64) {
	for i, f := range []uint64{
		vnet.FeatureVersion1, vnet.FeatureMrgRxBuf, vnet.FeatureCSum, vnet.FeatureGuestCSum,
		vnet.FeatureHostTSO4, vnet.FeatureGuestTSO4, vnet.FeatureHostUSO,
	} {
		if bits>>i&1 != 0 {
			features |= f
		}
	}
	return features
}

// twin is a Port with a guest of its own.
type twin struct {
	t    *testing.T
	port interface {
		netbackend.Port
		TurnSlowly(tx []virtqueue.Chain, rx *netbackend.RXWriter) (done int)
		Counters() stub.Counters
	}
	writer   *netbackend.RXWriter
	mem      *vqtest.Memory
	tx, rx   *vqtest.Driver
	txq, rxq *virtqueue.Queue
	size     int // bytes of mem
}

func newTwin(t *testing.T, kind byte, features uint64, entries []byte) *twin {
	const size = 2*(fuzzRing*slot+long) + 16<<10
	w := &twin{t: t, writer: new(netbackend.RXWriter), mem: vqtest.NewMemory(size, vqtest.Heap), size: size}
	w.tx, w.txq = w.ring(virtqueue.FromGuest)
	w.rx, w.rxq = w.ring(virtqueue.ToGuest)
	w.place(entries)
	headerLen := vnet.HeaderLength(features)
	w.writer.Strict = true
	w.writer.Attach(w.rxq, headerLen, features&vnet.FeatureMrgRxBuf != 0)
	switch kind {
	case 0:
		w.port = stub.NewNull()
	case 1:
		w.port = stub.NewEcho()
	case 2:
		w.port = newSource(t, stub.SourceConfig{Size: 100, Stream: 7})
	case 3:
		w.port = stub.NewReflector()
	case 4:
		w.port = stub.NewSink(nil)
	case 5:
		w.port = newSource(t, stub.SourceConfig{Sizes: []int{60, 100, 61}, Stream: 7})
	}
	require.NoError(t, w.port.Start(features, nil))
	return w
}

func (w *twin) ring(dir virtqueue.Direction) (*vqtest.Driver, *virtqueue.Queue) {
	d := vqtest.NewDriver(w.mem, vqtest.Options{Size: fuzzRing, Indirect: true})
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(w.mem.Table(), cfg)
	require.NoError(w.t, err)
	return d, q
}

// place makes entries of both rings available, as the input says.
func (w *twin) place(entries []byte) {
	slots := [2]guestmem.GPA{w.mem.Alloc(fuzzRing*slot, 64), w.mem.Alloc(fuzzRing*slot, 64)}
	longs := [2]guestmem.GPA{w.mem.Alloc(long, 64), w.mem.Alloc(long, 64)}
	for n := uint16(0); n < 2*fuzzRing && len(entries) >= entryLen; n++ {
		side, i := n%2, n/2
		d := [2]*vqtest.Driver{w.tx, w.rx}[side]
		desc := vqtest.Desc{Addr: uint64(slots[side]) + slot*uint64(i), Len: vnet.HeaderLen + uint32(entries[1])%200, Flags: side * vqtest.Write}
		head := w.bend(&desc, i, longs[side], [entryLen]byte(entries))
		if side == 0 {
			w.fill(&desc, [entryLen]byte(entries))
		}
		d.RawDesc(i, desc)
		d.AddHead(head)
		entries = entries[entryLen:]
	}
	w.tx.Publish()
	w.rx.Publish()
}

// bend makes something else of a good descriptor i. It returns the head to make available.
func (w *twin) bend(desc *vqtest.Desc, i uint16, long guestmem.GPA, e [entryLen]byte) (head uint16) {
	switch e[0] % kinds {
	case 1:
		return fuzzRing + uint16(e[2])
	case 2:
		desc.Len = uint32(e[2] % 32)
	case 3:
		desc.Addr = uint64(e[2]) << 56
	case 4:
		desc.Flags ^= vqtest.Write
	case 5:
		desc.Flags, desc.Next = desc.Flags|vqtest.Next, i+1 // which has an entry of its own, too
	case 6:
		desc.Flags, desc.Next = desc.Flags|vqtest.Next, uint16(e[2])
	case longKind: // longer than the longest frame, or as long, or a little shorter
		desc.Addr, desc.Len = uint64(long), 65535+vnet.HeaderLen+14+8-20+uint32(e[2])%40
	case 8:
		return uint16(e[2]) % fuzzRing
	case splitKind: // the first piece ends in the header, or soon after
		desc.Flags, desc.Next, desc.Len = desc.Flags|vqtest.Next, i+1, uint32(e[2]%32)
	}
	return i
}

// fill writes header and frame.
func (w *twin) fill(desc *vqtest.Desc, e [entryLen]byte) {
	if !w.mem.Holds(guestmem.GPA(desc.Addr), max(uint64(desc.Len), 2*vnet.HeaderLen)) {
		return
	}
	b := w.mem.Bytes(guestmem.GPA(desc.Addr), max(int(desc.Len), 2*vnet.HeaderLen))
	for i := range b {
		b[i] = byte(i) + e[1]
	}
	h := vnet.Header{NumBuffers: uint16(e[3])}
	switch e[3] % 8 {
	case 1:
		h.Flags = e[2]
	case 2:
		h.GSOType = e[2]
	case 3:
		h.Flags, h.CsumStart, h.CsumOffset = vnet.FlagNeedsCSum, uint16(e[2]), 16
	case 4:
		h = vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: e[2] % 8, GSOSize: 100, HdrLen: 54}
	case 5:
		h.HdrLen = uint16(e[2])
	case 6:
		h.CsumStart, h.CsumOffset, h.GSOSize = uint16(e[2]), uint16(e[2]), uint16(e[2])
	case 7:
		binary.LittleEndian.PutUint64(b, uint64(e[2])*0x9e37_79b9_7f4a_7c15)
		return
	}
	h.Encode(b[:vnet.HeaderLen])
}

// run has turns until they change nothing.
func (w *twin) run(batch int, turn func([]virtqueue.Chain) int) {
	for before := [2]uint16{1}; before != [2]uint16{w.txq.State().Avail, w.rxq.State().Avail}; {
		before = [2]uint16{w.txq.State().Avail, w.rxq.State().Avail}
		require.NoError(w.t, guestmem.Guard(func() {
			w.txq.UseN(turn(w.txq.Fetch(batch)))
			w.txq.Flush()
			w.rxq.Flush()
		}))
	}
}

// used returns all that came back, as heads and lengths.
func (w *twin) used() (all [2][][2]uint32) {
	for i, d := range []*vqtest.Driver{w.tx, w.rx} {
		for {
			head, written, ok := d.Used()
			if !ok {
				break
			}
			all[i] = append(all[i], [2]uint32{uint32(head), written})
		}
	}
	return all
}

// bytes is all memory of the guest.
func (w *twin) bytes() []byte { return w.mem.Bytes(vqtest.BaseGPA, w.size) }
