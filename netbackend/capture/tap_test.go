package capture

import (
	"bytes"
	"fmt"
	"math/rand"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/capture/filter"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// chainOf puts bytes into a chain of pieces of guest memory, whose lengths are given; the rest is one more.
func chainOf(t testing.TB, b []byte, lens ...int) []virtqueue.Chain {
	mem := vqtest.NewMemory(1<<20, vqtest.Heap)
	t.Cleanup(mem.Close)
	d := vqtest.NewDriver(mem, vqtest.Options{Size: 64})
	cfg := d.Layout()
	cfg.Dir = virtqueue.FromGuest
	q, err := virtqueue.New(mem.Table(), cfg)
	require.NoError(t, err)
	var bufs []vqtest.Buf
	for _, n := range append(lens, len(b)) {
		n = min(n, len(b))
		if n == 0 {
			continue
		}
		at := mem.Alloc(n, 16)
		copy(mem.Bytes(at, n), b)
		bufs = append(bufs, vqtest.Buf{GPA: at, Len: uint32(n)})
		b = b[n:]
	}
	_, ok := d.Add(bufs...)
	require.True(t, ok)
	d.Publish()
	return q.Fetch(1)
}

// framed is a frame behind its virtio-net header.
func framed(h vnet.Header, frame []byte) []byte {
	b := make([]byte, vnet.HeaderLen, vnet.HeaderLen+len(frame))
	h.Encode(b)
	return append(b, frame...)
}

// pattern is a frame in which no two places are alike.
func pattern(n int, seed int64) []byte {
	b := make([]byte, n)
	_, _ = rand.New(rand.NewSource(seed)).Read(b)
	return b
}

// newTap returns a tap of little memory.
func newTap(t testing.TB, text string, snapLen int) *Tap {
	p, err := filter.Parse(text)
	require.NoError(t, err)
	tap, err := NewTap(Options{Filter: *p, SnapLen: snapLen, Memory: MinMemory})
	require.NoError(t, err)
	return tap
}

// next takes a frame out of a tap.
func next(t testing.TB, tap *Tap) (f Frame) {
	require.True(t, tap.Peek(&f))
	f.Data = bytes.Clone(f.Data)
	tap.Drop()
	return f
}

func TestFramesAreHandedOverAsTheyWere(t *testing.T) {
	header := vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv4, HdrLen: 54, GSOSize: 1000, CsumStart: 34, CsumOffset: 16}
	frame := pattern(3000, 1)
	for name, lens := range map[string][]int{
		"one piece": nil, "header apart": {12}, "header in pieces": {5, 7, 1, 1}, "pieces": {100, 1000, 1, 500},
	} {
		t.Run(name, func(t *testing.T) {
			tap, short := newTap(t, "", MaxSnapLen), newTap(t, "", 100)
			h := NewHook([]*Tap{tap, short})
			h.Begin(7, vnet.HeaderLen)
			h.FromGuest(chainOf(t, framed(header, frame), lens...))
			h.Begin(8, vnet.HeaderLen)
			v := header
			h.ToGuest(&v, chainOf(t, framed(vnet.Header{}, frame), lens...), len(frame)-10)
			require.False(t, tap.Peek(new(Frame)), "before the turn has ended")
			h.End()
			require.Equal(t, Frame{Time: 7, Header: header, Length: 3000, Data: frame}, next(t, tap))
			require.Equal(t, Frame{Time: 8, ToGuest: true, Header: header, Length: 2990, Data: frame[:2990]}, next(t, tap))
			require.Equal(t, Frame{Time: 7, Header: header, Length: 3000, Data: frame[:100]}, next(t, short))
			require.Equal(t, Frame{Time: 8, ToGuest: true, Header: header, Length: 2990, Data: frame[:100]}, next(t, short))
			require.False(t, tap.Peek(new(Frame)))
			require.EqualValues(t, 2, tap.Captured())
			require.Zero(t, tap.Missed())
		})
	}
}

// A frame that is given to the guest may lie in several chains.
func TestAFrameInSeveralChainsIsOne(t *testing.T) {
	frame := pattern(300, 1)
	whole := framed(vnet.Header{}, frame)
	chains := append(append(chainOf(t, whole[:50]), chainOf(t, whole[50:150], 30)...), chainOf(t, append(whole[150:], make([]byte, 99)...))...)
	for _, text := range []string{"", fmt.Sprint("ether[250] = ", frame[250]), "len = 300"} {
		tap := newTap(t, text, MaxSnapLen)
		h := NewHook([]*Tap{tap})
		h.Begin(1, vnet.HeaderLen)
		h.ToGuest(&vnet.Header{}, chains, len(frame))
		h.End()
		require.Equal(t, frame, next(t, tap).Data, text)
	}
}

func TestWhatIsNoFrameIsLeftOut(t *testing.T) {
	tap := newTap(t, "", MaxSnapLen)
	h := NewHook([]*Tap{tap})
	h.Begin(1, vnet.HeaderLen)
	h.FromGuest([]virtqueue.Chain{{}})
	h.FromGuest(chainOf(t, make([]byte, vnet.HeaderLen+13)))
	h.FromGuest(chainOf(t, make([]byte, 3)))
	h.End()
	require.False(t, tap.Peek(new(Frame)))
	require.Nil(t, NewHook(nil))
}

func TestWhatTheFilterDoesNotSelectTakesNoRoom(t *testing.T) {
	tap := newTap(t, "arp", MaxSnapLen)
	h := NewHook([]*Tap{tap})
	other, arp := pattern(1000, 1), pattern(60, 2)
	other[12], other[13] = 8, 0
	arp[12], arp[13] = 8, 6
	others, arps := chainOf(t, framed(vnet.Header{}, other)), chainOf(t, framed(vnet.Header{}, arp))
	h.Begin(1, vnet.HeaderLen)
	for range 10000 { // more than there is memory for
		h.FromGuest(others)
	}
	h.FromGuest(arps)
	h.End()
	require.Equal(t, arp, next(t, tap).Data)
	require.False(t, tap.Peek(new(Frame)))
	require.Zero(t, tap.Missed())
}

// Memory is bounded: what finds no room is missed and counted, and what comes when there is some is captured.
func TestWhatFindsNoRoomIsMissedAndCounted(t *testing.T) {
	tap := newTap(t, "", MaxSnapLen)
	h := NewHook([]*Tap{tap})
	chains := chainOf(t, framed(vnet.Header{}, pattern(1000, 1)))
	for range 3 {
		h.Begin(1, vnet.HeaderLen)
		for range 1000 {
			h.FromGuest(chains)
		}
		h.End()
		require.False(t, tap.Missed() == 0)
		captured := tap.Captured()
		for n := uint64(0); tap.Peek(new(Frame)); n++ {
			require.Equal(t, 1000, next(t, tap).Length)
			require.Less(t, n, uint64(MinMemory/1000), "more than the memory holds")
		}
		require.Equal(t, captured, tap.Captured())
	}
	require.EqualValues(t, 3000, tap.Captured()+tap.Missed())
	require.Greater(t, tap.Captured(), uint64(3*200))
	require.Equal(t, MinMemory, len(tap.ring))
}

// The ring goes round with frames of all lengths, while a reader reads: what it gets is what was captured, in order.
func TestAReaderGetsWhatWasCapturedInOrder(t *testing.T) {
	tap := newTap(t, "", 2000)
	h := NewHook([]*Tap{tap})
	var chains [][]virtqueue.Chain
	var frames [][]byte
	for n := 14; n < 2500; n += 37 {
		frames = append(frames, pattern(n, int64(n)))
		chains = append(chains, chainOf(t, framed(vnet.Header{}, frames[len(frames)-1])))
	}
	const most = 20000
	var wg sync.WaitGroup
	done := make(chan struct{})
	wg.Go(func() {
		defer close(done)
		for i := range most {
			h.Begin(int64(i), vnet.HeaderLen)
			h.FromGuest(chains[i%len(chains)])
			if i%3 == 0 {
				h.End()
			}
		}
		h.End()
	})
	last, got := int64(-1), uint64(0)
	for over := false; ; {
		var f Frame
		if !tap.Peek(&f) {
			if over {
				break
			}
			select {
			case <-done:
				over = true // but there may be more yet
			default:
			}
			continue
		}
		require.Greater(t, f.Time, last)
		want := frames[int(f.Time)%len(frames)]
		require.Equal(t, len(want), f.Length)
		require.True(t, bytes.Equal(want[:min(len(want), 2000)], f.Data), "frame %d", f.Time)
		last = f.Time
		got++
		tap.Drop()
	}
	wg.Wait()
	require.Equal(t, tap.Captured(), got)
	require.EqualValues(t, most, tap.Captured()+tap.Missed())
}

func TestCapturingAllocatesNothing(t *testing.T) {
	h := NewHook([]*Tap{newTap(t, "", 128), newTap(t, "tcp port 80 or len > 100", MaxSnapLen)})
	chains := chainOf(t, framed(vnet.Header{}, pattern(1500, 1)), 12, 500)
	header := vnet.Header{GSOSize: 1}
	require.Zero(t, testing.AllocsPerRun(1000, func() { // room, and none
		h.Begin(1, vnet.HeaderLen)
		h.FromGuest(chains)
		h.ToGuest(&header, chains, 1500)
		h.End()
	}))
}

func TestATapHasBounds(t *testing.T) {
	for _, o := range []Options{
		{SnapLen: 13, Memory: MinMemory}, {SnapLen: MaxSnapLen + 1, Memory: MinMemory}, {SnapLen: -1, Memory: MinMemory},
		{SnapLen: 100, Memory: MinMemory / 2}, {SnapLen: 100, Memory: MinMemory + 8}, {SnapLen: 100},
	} {
		_, err := NewTap(o)
		require.Error(t, err, "%+v", o)
	}
}
