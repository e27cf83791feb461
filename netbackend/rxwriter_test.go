package netbackend_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// ring is a receive ring with a writer on it.
type ring struct {
	t      *testing.T
	mem    *vqtest.Memory
	driver *vqtest.Driver
	queue  *virtqueue.Queue
	writer netbackend.RXWriter
	at     map[uint16][]guestmem.GPA // where the buffers of a chain are
	lens   map[uint16][]int
}

func newRing(t *testing.T, size uint16, headerLen int, mergeable bool) *ring {
	r := &ring{t: t, mem: vqtest.NewMemory(4<<20, vqtest.Heap), at: map[uint16][]guestmem.GPA{}, lens: map[uint16][]int{}}
	r.driver = vqtest.NewDriver(r.mem, vqtest.Options{Size: size})
	cfg := r.driver.Layout()
	cfg.Dir = virtqueue.ToGuest
	var err error
	r.queue, err = virtqueue.New(r.mem.Table(), cfg)
	require.NoError(t, err)
	r.writer.Strict = true
	r.writer.Attach(r.queue, headerLen, mergeable)
	return r
}

// one leases memory for a frame, and returns it.
func (r *ring) one(least, most int) []guestmem.Iovec {
	l := r.writer.Reserve(netbackend.Request{Min: least, Max: most})
	if l.Len() == 0 {
		return nil
	}
	return l.Frame(0)
}

// post makes one chain of buffers of these lengths available.
func (r *ring) post(lens ...int) {
	var bufs []vqtest.Buf
	var at []guestmem.GPA
	for _, n := range lens {
		gpa := r.mem.Alloc(max(n, 1), 16)
		at = append(at, gpa)
		bufs = append(bufs, vqtest.Buf{GPA: gpa, Len: uint32(n), Write: true})
	}
	head, ok := r.driver.Add(bufs...)
	require.True(r.t, ok)
	r.at[head], r.lens[head] = at, lens
	r.driver.Publish()
}

// bad makes a chain available that cannot be walked.
func (r *ring) bad() {
	head, ok := r.driver.Add(vqtest.Buf{GPA: 1 << 60, Len: 100, Write: true})
	require.True(r.t, ok)
	r.driver.Publish()
	r.at[head] = nil
}

// used returns what the device wrote into the next used chain; !ok if there is none.
func (r *ring) used() (written []byte, ok bool) {
	r.queue.Flush()
	head, n, ok := r.driver.Used()
	if !ok {
		return nil, false
	}
	left := int(n)
	for i, gpa := range r.at[head] {
		part := min(left, r.lens[head][i])
		written = append(written, r.mem.Bytes(gpa, part)...)
		left -= part
	}
	require.Zero(r.t, left, "more was used than the chain holds")
	return written, true
}

func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

func TestAFrameFillsAsManyMergeableBuffersAsItNeeds(t *testing.T) {
	for name, c := range map[string]struct {
		frame int
		bufs  [][]int
		want  int // buffers used
	}{
		"one buffer":                          {frame: 100, bufs: [][]int{{2048}}, want: 1},
		"exactly one buffer":                  {frame: 2048 - 12, bufs: [][]int{{2048}, {2048}}, want: 1},
		"a byte more than one buffer":         {frame: 2048 - 11, bufs: [][]int{{2048}, {2048}}, want: 2},
		"three of four":                       {frame: 5000, bufs: [][]int{{2048}, {2048}, {2048}, {2048}}, want: 3},
		"header in its own descriptor":        {frame: 100, bufs: [][]int{{12, 2048}}, want: 1},
		"header over several descriptors":     {frame: 100, bufs: [][]int{{5, 3, 2, 2048}}, want: 1},
		"header ends in the last descriptor":  {frame: 100, bufs: [][]int{{5, 8}, {2048}}, want: 2},
		"the largest frame in small buffers":  {frame: 65550, bufs: repeat([]int{1536}, 50), want: 43},
		"a short frame is filled up to sixty": {frame: 42, bufs: [][]int{{2048}}, want: 1},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 128, vnet.HeaderLen, true)
			for _, lens := range c.bufs {
				r.post(lens...)
			}
			frame := pattern(c.frame)
			require.True(t, r.writer.Write(&vnet.Header{}, frame))
			var got []byte
			buffers := 0
			for {
				b, ok := r.used()
				if !ok {
					break
				}
				got = append(got, b...)
				buffers++
			}
			require.Equal(t, c.want, buffers)
			var h vnet.Header
			h.Decode(got[:vnet.HeaderLen])
			require.EqualValues(t, c.want, h.NumBuffers)
			require.Equal(t, max(c.frame, netbackend.MinFrame), len(got)-vnet.HeaderLen)
			require.Equal(t, frame, got[vnet.HeaderLen:][:c.frame])
			require.Equal(t, make([]byte, len(got)-vnet.HeaderLen-c.frame), got[vnet.HeaderLen+c.frame:], "the filling is zero")
		})
	}
}

func repeat(lens []int, n int) (all [][]int) {
	for range n {
		all = append(all, lens)
	}
	return all
}

func TestAFrameFitsOneChainWithoutMergeableBuffers(t *testing.T) {
	for name, headerLen := range map[string]int{"modern header": vnet.HeaderLen, "legacy header": vnet.LegacyHeaderLen} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 64, headerLen, false)
			r.post(1000) // too small for the frame: the guest gets it back empty
			r.post(headerLen, 1514)
			frame := pattern(1514)
			require.True(t, r.writer.Write(&vnet.Header{}, frame))
			small, ok := r.used()
			require.True(t, ok)
			require.Empty(t, small)
			got, ok := r.used()
			require.True(t, ok)
			require.Equal(t, frame, got[headerLen:])
			if headerLen == vnet.HeaderLen {
				require.EqualValues(t, []byte{1, 0}, got[10:12], "num_buffers is one (virtio 1.2 section 5.1.6.4.1)")
			}
		})
	}
}

func TestWhatWasReservedStaysForTheNextFrame(t *testing.T) {
	r := newRing(t, 64, vnet.HeaderLen, true)
	for range 4 {
		r.post(1024)
	}
	lease := r.writer.Reserve(netbackend.Request{Min: 1, Max: 65536})
	require.Equal(t, 4*1024-vnet.HeaderLen, total(lease.Frame(0)), "less than asked for, as the ring has no more")
	guestmem.CopyTo(lease.Frame(0), 0, pattern(100))
	lease.Commit(&vnet.Header{}, 100)
	require.Equal(t, 3*1024-vnet.HeaderLen, total(r.one(1, 65536)))
	require.False(t, r.writer.Starved())
	require.EqualValues(t, 1, r.writer.Frames)
	require.EqualValues(t, 100, r.writer.Bytes)
}

func total(iov []guestmem.Iovec) int {
	n := 0
	for _, v := range iov {
		n += int(v.Len)
	}
	return n
}

func TestAStarvingRXWriterSaysSoOnce(t *testing.T) {
	r := newRing(t, 64, vnet.HeaderLen, true)
	require.False(t, r.writer.Available())
	require.Empty(t, r.one(1, 100))
	require.True(t, r.writer.Starved())
	require.False(t, r.writer.Starved())
	r.post(50)
	require.True(t, r.writer.Available())
	require.False(t, r.writer.Write(&vnet.Header{}, pattern(200)), "the ring has too little for a whole frame")
	require.True(t, r.writer.Starved())
	r.post(250)
	require.True(t, r.writer.Write(&vnet.Header{}, pattern(200)), "with more it fits")

	var stopped netbackend.RXWriter
	require.False(t, stopped.Write(&vnet.Header{}, pattern(60)), "a stopped ring has no room")
	require.False(t, stopped.Available())
}

func TestAMalformedChainIsReturnedEmptyAndTheNextOnesCarryTheFrame(t *testing.T) {
	r := newRing(t, 64, vnet.HeaderLen, true)
	r.post(100)
	r.bad()
	r.post(vnet.HeaderLen) // no room behind a header
	r.post(2048)
	require.True(t, r.writer.Write(&vnet.Header{}, pattern(1000)))
	for range 3 {
		b, ok := r.used()
		require.True(t, ok)
		require.Empty(t, b)
	}
	b, ok := r.used()
	require.True(t, ok)
	require.Equal(t, pattern(1000), b[vnet.HeaderLen:])
}

// A guest that posts thousands of tiny buffers must not keep the worker looking at them for ever.
func TestARingFullOfTinyBuffersMakesProgress(t *testing.T) {
	r := newRing(t, 1024, vnet.HeaderLen, true)
	for range 1024 {
		r.post(2)
	}
	wrote := r.writer.Write(&vnet.Header{}, pattern(3000))
	r.queue.Flush()
	used := 0
	for {
		if _, _, ok := r.driver.Used(); !ok {
			break
		}
		used++
	}
	require.False(t, wrote)
	require.Positive(t, used, "buffers that cannot hold a frame go back to the guest")
}

func TestWritingAllocatesNothing(t *testing.T) {
	r := newRing(t, 256, vnet.HeaderLen, true)
	for range 256 {
		r.post(2048)
	}
	frame := pattern(1514)
	var h vnet.Header
	require.Zero(t, testing.AllocsPerRun(100, func() {
		require.True(t, r.writer.Write(&h, frame))
		r.queue.Flush()
	}))
}

func TestBufferedCountsWhatTheNextFrameCanHave(t *testing.T) {
	const header = vnet.HeaderLen
	r := newRing(t, 64, header, true)
	require.Zero(t, r.writer.Buffered(100))
	require.Zero(t, r.writer.Capacity())
	for range 3 {
		r.post(50, 50)
	}
	require.Equal(t, 300-header, r.writer.Buffered(1000))
	require.Equal(t, 64/2*100-header, r.writer.Capacity(), "two descriptors a chain")

	lease := r.writer.Reserve(netbackend.Request{Min: 1, Max: 100})
	require.Equal(t, 1, lease.Len())
	lease.Commit(&vnet.Header{}, 100) // fills two chains, the second in part
	require.Equal(t, 100-header, r.writer.Buffered(1000))
	r.post(7)
	require.Equal(t, 107-header, r.writer.Buffered(1000))
	require.Empty(t, r.one(108, 108))
	require.NotEmpty(t, r.one(107-header, 107-header), "as much as was promised")
}

func TestBufferedWithoutMergingIsTheOldestChain(t *testing.T) {
	r := newRing(t, 64, vnet.LegacyHeaderLen, false)
	r.post(100)
	r.post(1000)
	require.Equal(t, 90, r.writer.Buffered(500))
	require.Equal(t, 90, r.writer.Capacity())
	require.NotEmpty(t, r.one(500, 500), "the small chain is given back")
	require.Equal(t, 990, r.writer.Buffered(500))
}

func TestBufferedSurvivesMalformedChains(t *testing.T) {
	r := newRing(t, 64, vnet.HeaderLen, true)
	r.post(100)
	r.bad()
	r.post(200)
	require.Equal(t, 300-vnet.HeaderLen, r.writer.Buffered(1000))
	require.Len(t, r.one(150, 150), 1, "the chains before a malformed one are given back")
	require.Equal(t, 200-vnet.HeaderLen, r.writer.Buffered(1000))
}

func TestEachFrameHasAChainOfItsOwn(t *testing.T) {
	r := newRing(t, 16, vnet.HeaderLen, true)
	for _, lens := range [][]int{{200}, {20, 180}, {100}, {200}} {
		r.post(lens...)
	}
	lease := r.writer.Reserve(netbackend.Request{Min: 150, Max: 170, Frames: 8, Shape: netbackend.OneBuffer})
	require.Equal(t, 2, lease.Len(), "the third is too small")
	for i, n := range []int{60, 170} {
		require.Equal(t, n, guestmem.CopyTo(lease.Frame(i), 0, pattern(n)))
		lease.Commit(&vnet.Header{}, n)
	}
	for _, n := range []int{60, 170} {
		got, ok := r.used()
		require.True(t, ok)
		require.Equal(t, pattern(n), got[vnet.HeaderLen:])
		require.Equal(t, byte(1), got[10], "one buffer")
	}
	require.Zero(t, r.writer.Reserve(netbackend.Request{Min: 150, Max: 170, Frames: 8, Shape: netbackend.OneBuffer}).Len())
	require.False(t, r.writer.Starved())
	lease = r.writer.Reserve(netbackend.Request{Min: 10, Max: 1000, Frames: 1, Shape: netbackend.OneBuffer})
	require.Equal(t, 1, lease.Len())
	require.EqualValues(t, 88, lease.Frame(0)[0].Len, "the chain has no more")
}

// frames reads n frames of merged buffers from the used ring.
func (r *ring) frames(n int) (frames [][]byte) {
	r.t.Helper()
	for range n {
		var frame []byte
		for left := 1; left > 0; left-- {
			b, ok := r.used()
			require.True(r.t, ok)
			if frame == nil {
				var h vnet.Header
				h.Decode(b[:vnet.HeaderLen])
				left = int(h.NumBuffers)
				b = b[vnet.HeaderLen:]
				frame = []byte{}
			}
			frame = append(frame, b...)
		}
		frames = append(frames, frame)
	}
	_, ok := r.used()
	require.False(r.t, ok, "one buffer more")
	return frames
}

// fourFrames asks for frames of 1000 bytes.
var fourFrames = netbackend.Request{Min: 1000, Max: 1000, Frames: 4}

func TestSeveralFramesAreReservedAtOnce(t *testing.T) {
	const headerLen = vnet.HeaderLen
	for name, c := range map[string]struct {
		bufs [][]int
		want int // frames of 1000 bytes
	}{
		"one buffer each":                  {bufs: repeat([]int{headerLen + 1000}, 3), want: 3},
		"several buffers each":             {bufs: repeat([]int{400}, 9), want: 3},
		"the last buffer is not there yet": {bufs: repeat([]int{400}, 8), want: 2},
		"header in its own descriptor":     {bufs: repeat([]int{headerLen, 2000}, 2), want: 2},
		"buffers longer than a frame":      {bufs: [][]int{{4000}, {1500}, {600}, {600}}, want: 3},
		"more than are wanted":             {bufs: repeat([]int{2000}, 6), want: 4},
		"no room for the header":           {bufs: [][]int{{2000}, {headerLen}, {2000}}, want: 1},
		"none":                             {},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 32, headerLen, true)
			for _, lens := range c.bufs {
				r.post(lens...)
			}
			lease := r.writer.Reserve(fourFrames)
			n := lease.Len()
			require.Equal(t, c.want, n)
			require.False(t, r.writer.Starved())
			for i := range n {
				require.Equal(t, 1000, guestmem.CopyTo(lease.Frame(i), 0, pattern(1000 + i)[i:]))
			}
			var want [][]byte
			for i := range n {
				size := 1000
				if i == n-1 {
					size = 100 // the last one may be shorter
				}
				lease.Commit(&vnet.Header{}, size)
				want = append(want, pattern(size + i)[i:])
			}
			require.Equal(t, want, r.frames(n))
		})
	}
}

func TestFramesThatAreReservedAtOnceMayBeLeft(t *testing.T) {
	r := newRing(t, 32, vnet.HeaderLen, true)
	for range 12 {
		r.post(400)
	}
	lease := r.writer.Reserve(fourFrames)
	require.Equal(t, 4, lease.Len())
	guestmem.CopyTo(lease.Frame(0), 0, pattern(1000))
	lease.Commit(&vnet.Header{}, 1000)
	require.Equal(t, [][]byte{pattern(1000)}, r.frames(1))
	require.Equal(t, 3, r.writer.Reserve(fourFrames).Len())
	require.True(t, r.writer.Write(&vnet.Header{}, pattern(500)))
	require.Equal(t, [][]byte{pattern(500)}, r.frames(1))
}

func TestSeveralFramesNeedBuffersThatAreWellFormedOrLongEnough(t *testing.T) {
	apart := newRing(t, 32, vnet.HeaderLen, false)
	apart.post(4000)
	apart.post(1000, vnet.HeaderLen)
	apart.post(900)
	apart.post(4000)
	lease := apart.writer.Reserve(fourFrames)
	require.Equal(t, 2, lease.Len(), "the third is too small")
	for i := range 2 {
		guestmem.CopyTo(lease.Frame(i), 0, pattern(1000))
		lease.Commit(&vnet.Header{}, 1000)
	}
	require.Len(t, apart.frames(2), 2)
	require.Zero(t, apart.writer.Reserve(fourFrames).Len())

	r := newRing(t, 32, vnet.HeaderLen, true)
	r.post(2000)
	r.post(900)
	r.bad()
	r.post(2000)
	require.Equal(t, 1, r.writer.Reserve(fourFrames).Len(), "the malformed chain would be in the second")

	var stopped netbackend.RXWriter
	require.Zero(t, stopped.Reserve(fourFrames).Len())
}

// A run of frames looks to the guest as the same frames one by one.
func TestARunIsManyFrames(t *testing.T) {
	for _, headerLen := range []int{vnet.LegacyHeaderLen, vnet.HeaderLen} {
		rings := [2]*ring{newRing(t, 16, headerLen, true), newRing(t, 16, headerLen, true)}
		h := vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, HdrLen: 54}
		lens := []int{60, 100, 80}
		for _, r := range rings {
			r.post(200)
			r.post(headerLen+100, 50)
			r.post(300)
		}
		lease := rings[0].writer.Reserve(netbackend.Request{Max: 100, Frames: 10, Shape: netbackend.OnePiece})
		places := lease.Pieces()
		require.Len(t, places, 3)
		frames := make([]netbackend.FrameMeta, 3)
		for i, n := range lens {
			guestmem.CopyTo(places[i:i+1], 0, pattern(n))
			first, rest := h.Words()
			frames[i] = netbackend.FrameMeta{First: first, Rest: rest, Len: uint32(n)}
			require.True(t, rings[1].writer.Write(&h, pattern(n)))
		}
		lease.CommitRun(frames)
		for range lens {
			got, ok := rings[0].used()
			require.True(t, ok)
			want, ok := rings[1].used()
			require.True(t, ok)
			require.Equal(t, want, got)
		}
		require.Equal(t, rings[1].writer.Frames, rings[0].writer.Frames)
		require.Equal(t, rings[1].writer.Bytes, rings[0].writer.Bytes)
		require.Equal(t, rings[1].writer.Buffered(1), rings[0].writer.Buffered(1))
	}
}

func TestARunEndsAtABufferThatIsNotLikeTheOthers(t *testing.T) {
	for name, odd := range map[string]func(*ring){
		"malformed":    (*ring).bad,
		"too short":    func(r *ring) { r.post(vnet.HeaderLen + 99) },
		"header apart": func(r *ring) { r.post(vnet.HeaderLen, 200) },
	} {
		t.Run(name, func(t *testing.T) {
			r := newRing(t, 16, vnet.HeaderLen, true)
			r.post(200)
			odd(r)
			r.post(200)
			run := netbackend.Request{Max: 100, Frames: 3, Shape: netbackend.OnePiece}
			lease := r.writer.Reserve(run)
			require.Len(t, lease.Pieces(), 1)
			lease.CommitRun(make([]netbackend.FrameMeta, 0))
			lease = r.writer.Reserve(run)
			require.Len(t, lease.Pieces(), 1, "what was not committed stays")
			lease.CommitRun([]netbackend.FrameMeta{{Len: 100}})
			require.Empty(t, r.writer.Reserve(run).Pieces())
			require.NotEmpty(t, r.one(1, 100))
		})
	}
}

func TestNoRunWithoutARing(t *testing.T) {
	var w netbackend.RXWriter
	lease := w.Reserve(netbackend.Request{Max: 60, Frames: 1, Shape: netbackend.OnePiece})
	require.Empty(t, lease.Pieces())
	lease.CommitRun(nil)
	require.False(t, w.Starved(), "it asks for nothing")
}
