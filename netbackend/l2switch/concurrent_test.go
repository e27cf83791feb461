package l2switch

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// Guests on threads of their own send each other frames of all lengths, post buffers or do not, and stop their rings and go on.
// Frames come in order, whole, and each is received or counted. The race detector sees the memory of guests.
func TestGuestsOnTheirOwnThreadsLoseNothingUncounted(t *testing.T) {
	const guests, perGuest = 4, 3000
	cfg := Default()
	cfg.Flood = 0
	sw, err := New(cfg)
	require.NoError(t, err)
	rigs := make([]*rig, guests)
	for i := range rigs {
		rigs[i] = newRig(t, sw, vqtest.Heap)
	}
	var sending atomic.Int32
	sending.Store(guests)
	start := time.Now()
	var wg sync.WaitGroup
	for i, r := range rigs {
		wg.Go(func() {
			one := &chatter{rig: r, me: i, guests: guests, random: rand.New(rand.NewPCG(7, uint64(i))), last: map[int]uint32{}}
			for n := 0; n < perGuest || sending.Load() > 0 || one.pending(); {
				if n < perGuest {
					if n += one.speak(); n >= perGuest {
						sending.Add(-1)
					}
				}
				one.turn(int64(time.Since(start)) + 1)
				runtime.Gosched()
				if time.Since(start) > 10*time.Minute {
					t.Error("it never ends")
					return
				}
			}
		})
	}
	wg.Wait()
	var sent, flooded, received, lost uint64
	for _, r := range rigs {
		r.receive(nil)
		r.post(rigRing) // it may have ended while others had frames left for it
		require.NoError(t, r.turn(int64(time.Since(start))))
		c := r.port.Counters()
		sent += c.Sent
		flooded += c.Flooded
		received += c.Received
		lost += c.CopiesLost + c.Discarded
		r.whole()
	}
	require.NotZero(t, received)
	require.LessOrEqual(t, received+lost, sent+flooded*(guests-2))
	if flooded == 0 {
		require.Equal(t, sent, received+lost)
	}
}

// chatter is a guest that sends to the others at random, and checks what comes.
type chatter struct {
	*rig
	me, guests int
	random     *rand.Rand
	last       map[int]uint32 // numbers of frames, by sender
	next       uint32
	idle       int
	quiet      bool
}

func (c *chatter) pending() bool {
	if c.tx.Outstanding() > 0 || c.port.inbox.look() > 0 {
		c.idle = 0
		return true
	}
	c.idle++
	return c.idle < 100
}

// speak puts some frames into the ring, and returns how many.
func (c *chatter) speak() (n int) {
	for range c.random.IntN(100) {
		length := 60 + c.random.IntN(1900)
		if c.random.IntN(10) == 0 {
			length += 1900
		}
		b := c.put(length)
		if b == nil {
			return n
		}
		to := rigMAC(c.random.IntN(c.guests))
		if c.next == 0 {
			to = fdb.MACMask
		}
		addresses(b, to, rigMAC(c.me))
		c.next++
		binary.BigEndian.PutUint32(b[14:], c.next)
		binary.BigEndian.PutUint32(b[18:], uint32(length))
		for i := 22; i < length; i += 97 {
			b[i] = byte(c.next)
		}
		n++
	}
	return n
}

func (c *chatter) turn(now int64) {
	if !c.quiet {
		c.post(c.random.IntN(64))
	}
	switch c.random.IntN(400) {
	case 0:
		c.quiet = !c.quiet && c.random.IntN(2) == 0
	case 1:
		c.port.RingsChanged(netbackend.RingState{Connected: true, Transmit: true})
		runtime.Gosched()
		c.port.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true})
	case 2:
		c.quiet = false
	}
	if err := c.rig.turn(now); err != nil {
		c.t.Error(err)
	}
	c.sent()
	c.receive(c.check)
}

// check checks a frame that is in one buffer.
func (c *chatter) check(b []byte) {
	if b[0] != 2 && b[0] != 0xff { // the rest of a frame in two buffers
		return
	}
	from, n, length := int(b[11]), binary.BigEndian.Uint32(b[14:]), int(binary.BigEndian.Uint32(b[18:]))
	if n <= c.last[from] {
		c.t.Errorf("guest %d: frame %d of guest %d behind %d", c.me, n, from, c.last[from])
	}
	c.last[from] = n
	for i := 22; i < min(length, len(b)); i += 97 {
		if b[i] != byte(n) {
			c.t.Errorf("guest %d: frame %d of guest %d is another at byte %d of %d", c.me, n, from, i, length)
			break
		}
	}
}

// A guest whose memory goes away while a frame is copied ends itself, and takes nothing from its receiver.
func TestAFaultOfASenderLeavesTheInboxWhole(t *testing.T) {
	sw, err := New(Default())
	require.NoError(t, err)
	a, b := newRig(t, sw, vqtest.Memfd), newRig(t, sw, vqtest.Heap)
	defer a.mem.Close()
	b.post(64)
	addresses(b.put(60), fdb.MACMask, rigMAC(1))
	require.NoError(t, b.turn(1))
	require.NoError(t, a.turn(1))
	require.EqualValues(t, 0, a.port.Counters().Received, "it has posted nothing")

	for range 10 {
		addresses(a.put(1000), rigMAC(1), rigMAC(0))
	}
	// The last frame lies where there will be no memory.
	head := a.tx.Take(1)[0]
	end := a.mem.Alloc(2*os.Getpagesize(), os.Getpagesize())
	at := end + 100
	copy(a.mem.Bytes(at, 12+14), append(make([]byte, 12), append([]byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0}, 0x88, 0xb5)...))
	a.tx.RawDesc(head, vqtest.Desc{Addr: uint64(at), Len: uint32(os.Getpagesize() + 1000)})
	a.tx.AddHead(head)
	a.mem.Truncate(int64(end-vqtest.BaseGPA) + int64(os.Getpagesize()))
	require.Error(t, a.turn(2), "memory is gone")

	require.NoError(t, b.turn(3))
	b.whole()
	require.NoError(t, a.port.Close())
	require.NoError(t, b.port.Close())
}

// Guests come and go while others send to them.
func TestPortsCloseWhileOthersSendToThem(t *testing.T) {
	sw, err := New(Default())
	require.NoError(t, err)
	a := newRig(t, sw, vqtest.Heap)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 60 {
			b := newRig(t, sw, vqtest.Heap)
			b.post(64)
			for i := range 5 {
				addresses(b.put(60), fdb.MACMask, rigMAC(1))
				if err := b.turn(int64(i) * 1e6); err != nil {
					t.Error(err)
				}
				b.sent()
				b.receive(nil)
			}
			if err := b.port.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	for now := int64(1); ; now += 1e5 {
		for range 10 {
			if b := a.put(100); b != nil {
				addresses(b, []mac{rigMAC(1), fdb.MACMask}[now/1e5%2], rigMAC(0))
			}
		}
		a.post(64)
		require.NoError(t, a.turn(now))
		a.sent()
		a.receive(nil)
		select {
		case <-done:
			require.NoError(t, a.port.Close())
			return
		default:
		}
	}
}

// exchange lets a send 16 frames, and all deal with them.
func exchange(now *int64, to mac, h *vnet.Header, a *rig, others ...*rig) {
	*now += 1e7
	for range 16 {
		b := a.putWith(h, 1400)
		addresses(b, to, rigMAC(0))
		b[12], b[13], b[14], b[46] = 8, 0, 0x45, 0x50 // IPv4 and TCP, both without options
	}
	for _, r := range others {
		r.post(128)
	}
	a.round(*now)
	for _, r := range others {
		r.round(*now)
		r.receive(nil)
	}
	a.sent()
}

func TestSendingAndReceivingDoNotAllocate(t *testing.T) {
	sw, err := New(Default())
	require.NoError(t, err)
	a, b, c := newRig(t, sw, vqtest.Heap), newRig(t, sw, vqtest.Heap), newRig(t, sw, vqtest.Heap)
	require.NoError(t, c.port.Start(rigMTU, porttest.DeafWorker{})) // one for which frames are put right
	now := int64(1)
	others := make([]*rig, 2, 3)
	others[0], others[1] = b, c
	addresses(b.put(60), fdb.MACMask, rigMAC(1))
	b.round(now)
	addresses(c.put(60), fdb.MACMask, rigMAC(2))
	c.round(now)
	var none, partial, large vnet.Header
	partial = vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16}
	large = vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 500}
	for _, c := range []struct {
		name string
		to   mac
		h    vnet.Header
	}{
		{"to one", rigMAC(1), none}, {"to all", fdb.MACMask, none}, {"with a checksum", rigMAC(1), partial},
		{"with a checksum to fill in", rigMAC(2), partial}, {"to be cut", rigMAC(2), large}, {"to be cut for some", fdb.MACMask, large},
	} {
		for range 100 { // the driver's own bookkeeping grows at first
			exchange(&now, c.to, &c.h, a, others...)
		}
		require.Zero(t, testing.AllocsPerRun(100, func() { exchange(&now, c.to, &c.h, a, others...) }), c.name)
	}
	require.NotZero(t, a.port.Counters().Cut)
	require.NotZero(t, a.port.Counters().Summed)
	require.Zero(t, a.port.Counters().Uncut)
	require.NotZero(t, b.port.Counters().Received)
	require.NotZero(t, c.port.Counters().Received)
}
