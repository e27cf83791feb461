package netem_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// lab is a guest behind a link.
type lab struct {
	*porttest.Guest
	*netem.Port
	counters netem.Counters
	shared   netem.Shared
	gone     int
}

// linked is a link of a text.
func linked(t testing.TB, text string) *netem.Prepared {
	l, err := netem.Parse(text)
	require.NoError(t, err)
	l.Seed = 3
	return netem.Prepare(l, 0)
}

func newPort(t testing.TB, behind netbackend.Port, text string) *lab {
	l := new(lab)
	var err error
	l.Port, err = netem.New(netem.Config{Behind: behind, Shared: &l.shared, Counters: &l.counters, Gone: func() { l.gone++ }})
	require.NoError(t, err)
	l.Set(linked(t, text))
	return l
}

func newLab(t testing.TB, behind netbackend.Port, text string, opt porttest.Options) *lab {
	l := newPort(t, behind, text)
	l.Guest = porttest.New(t, l.Port, opt)
	return l
}

// frame returns a frame of n bytes of a made-up protocol, with a number.
func frame(i, n int) []byte {
	b := make([]byte, n)
	for k := range b {
		b[k] = byte(k * 7)
	}
	b[12], b[13] = 0x88, 0xb5
	binary.BigEndian.PutUint32(b[14:], uint32(i))
	return b
}

func TestAnEchoComesAfterBothDelays(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "out:delay=30ms,in:delay=11ms", porttest.Options{})
	for i := range 20 {
		begin := l.Now()
		l.SendFrame(frame(i, 100+i))
		l.Skip("echo", func() bool { return len(l.Guest.Frames()) > 0 })
		require.InDelta(t, int64(41*time.Millisecond), l.Now()-begin, 50e3)
	}
}

func TestALinkPassesFramesInOrderAndWhole(t *testing.T) {
	for _, features := range []uint64{0, vnet.FeatureVersion1, vnet.FeatureMrgRxBuf, vnet.FeatureAnyLayout} {
		l := newLab(t, stub.NewEcho(), "delay=5ms,rate=1gbit", porttest.Options{Features: features, RingSize: 64})
		var want, got [][]byte
		for i := range 80 {
			b := frame(i, 60+i*17)
			want = append(want, b)
			l.SendFrame(b)
			if i%40 == 39 {
				l.Run(20 * time.Millisecond)
				for _, f := range l.Guest.Frames() {
					got = append(got, f.Bytes)
				}
			}
		}
		l.Run(20 * time.Millisecond)
		for _, f := range l.Guest.Frames() {
			got = append(got, f.Bytes)
		}
		require.Equal(t, want, got)
		l.Stop()
	}
}

// tcp is a large frame of TCP that its sender has left to be cut and summed.
func tcp(payload, mss int) (vnet.Header, []byte) {
	const headers = 14 + 20 + 20
	b := make([]byte, headers+payload)
	b[12], b[14], b[22], b[23] = 8, 0x45, 64, 6
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)-14))
	copy(b[26:], []byte{10, 0, 2, 15, 10, 0, 2, 2})
	binary.BigEndian.PutUint16(b[24:], ^vnet.Sum(b[14:34], 0))
	b[34+12], b[34+13] = 5<<4, 0x18
	for i := range payload {
		b[headers+i] = byte(i)
	}
	binary.BigEndian.PutUint16(b[34+16:], vnet.PseudoHeaderSum(6, b[26:30], b[30:34], uint32(20+payload)))
	return vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv4, HdrLen: headers, GSOSize: uint16(mss), CsumStart: 34, CsumOffset: 16}, b
}

// A frame of many segments takes as long as its segments do, and each of these is a frame with a right checksum.
func TestLargeFramesAreCutAndSummed(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "out:rate=8mbit", porttest.Options{})
	h, b := tcp(10_000, 1000)
	begin := l.Now()
	l.SendRaw(h, b)
	l.Skip("the last segment", func() bool { return l.Now()-begin >= int64(10*(1054*time.Microsecond)) })
	l.Settle()
	got := l.Guest.Frames() // whose checksums the guest has checked
	require.Len(t, got, 10)
	for i, f := range got {
		require.Equal(t, vnet.Header{NumBuffers: 1}, f.Header)
		require.Equal(t, b[54+i*1000:54+(i+1)*1000], f.Bytes[54:])
	}

	h, b = tcp(900, 900)
	h.GSOType, h.GSOSize = vnet.GSONone, 0
	l.SendRaw(h, b)
	l.Run(5 * time.Millisecond)
	got = l.Guest.Frames()
	require.Len(t, got, 1)
	require.Equal(t, vnet.Header{NumBuffers: 1}, got[0].Header)
	require.EqualValues(t, 0xffff, vnet.Sum(got[0].Bytes[34:], vnet.PseudoHeaderSum(6, b[26:30], b[30:34], 920)), "its checksum is filled in")
}

func TestABitErrorComesAfterTheChecksum(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "out:corrupt=100%", porttest.Options{})
	l.MayBreakRules = true
	h, b := tcp(4000, 1000)
	l.SendRaw(h, b)
	l.Settle()
	got := l.Guest.Frames()
	require.Len(t, got, 4)
	for _, f := range got {
		right := vnet.Sum(f.Bytes[14:34], 0) == 0xffff &&
			vnet.Sum(f.Bytes[34:], vnet.PseudoHeaderSum(6, f.Bytes[26:30], f.Bytes[30:34], 1020)) == 0xffff
		require.False(t, right)
	}
	require.EqualValues(t, 4, l.counters.OutCorrupted)
}

func TestWhatCannotBeReadIsCounted(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "delay=1ms", porttest.Options{})
	l.SendRaw(vnet.Header{}, make([]byte, 13))
	l.SendRaw(vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 99}, frame(1, 100))
	l.SendRaw(vnet.Header{Flags: vnet.FlagNeedsCSum, GSOType: vnet.GSOTCPv4, GSOSize: 10, CsumStart: 34, CsumOffset: 16}, frame(1, 100))
	l.SendRaw(vnet.Header{}, frame(1, 70_000))
	l.SendFrame(frame(2, 100))
	l.Run(5 * time.Millisecond)
	require.Len(t, l.Guest.Frames(), 1)
	require.Equal(t, netem.Counters{OutBad: 4}, l.counters)
}

// A driver that begins anew gets nothing of what was under way to the one before; one that was paused gets all.
func TestWhatIsUnderWayEndsWithTheDriver(t *testing.T) {
	for name, c := range map[string]struct {
		state     netbackend.RingState
		restarted bool
		come      int
	}{
		"the front end is gone": {netbackend.RingState{}, true, 0},
		"it is back":            {netbackend.RingState{}, false, 0},
		"the driver is reset":   {netbackend.RingState{Connected: true, Reset: true}, true, 0},
		"another driver begins": {netbackend.RingState{Connected: true}, true, 0},
		"the guest is paused":   {netbackend.RingState{Connected: true}, false, 6},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, stub.NewEcho(), "delay=10ms", porttest.Options{})
			for i := range 3 {
				l.SendFrame(frame(i, 100))
			}
			l.Run(15 * time.Millisecond) // on the way to the guest
			for i := range 3 {
				l.SendFrame(frame(3+i, 100))
			}
			l.Run(time.Millisecond)
			l.StopRings(c.state)
			l.Run(30 * time.Millisecond)
			l.Reconnect(c.restarted)
			l.Run(30 * time.Millisecond)
			require.Len(t, l.Guest.Frames(), c.come)
			require.EqualValues(t, 6-c.come, l.counters.OutDiscarded+l.counters.InDiscarded)
		})
	}
}

func TestWithoutBuffersFramesWaitWithoutTurns(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "delay=1ms", porttest.Options{RingSize: 4, Features: vnet.FeatureVersion1})
	l.Withhold = true
	for i := range 20 {
		l.SendFrame(frame(i, 100))
		l.Settle()
	}
	l.Run(10 * time.Millisecond)
	turns := l.Turns()
	l.Run(time.Second)
	require.LessOrEqual(t, l.Turns()-turns, 1)
	l.Withhold = false
	l.Post(4)
	l.Run(10 * time.Millisecond)
	got := l.Guest.Frames()
	require.Len(t, got, 20)
	for i, f := range got {
		require.Equal(t, frame(i, 100), f.Bytes)
	}
}

func TestALinkThatEndsIsGoneWithItsLastFrame(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "delay=10ms", porttest.Options{})
	for i := range 5 {
		l.SendFrame(frame(i, 100))
	}
	l.Run(time.Millisecond)
	l.Leave()
	l.SendFrame(frame(5, 100))
	l.Settle()
	require.Zero(t, l.gone)
	require.Empty(t, l.Guest.Frames(), "what follows does not overtake")
	l.Run(9 * time.Millisecond)
	require.Equal(t, 1, l.gone)
	got := l.Guest.Frames()
	require.Len(t, got, 6)
	for i, f := range got {
		require.Equal(t, frame(i, 100), f.Bytes)
	}
}

func TestALinkThatIsSetAgainDoesNotEnd(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "delay=10ms", porttest.Options{})
	l.SendFrame(frame(0, 100))
	l.Run(time.Millisecond)
	l.Leave()
	l.Set(linked(t, "delay=20ms"))
	l.Run(time.Second)
	require.Zero(t, l.gone)
	require.Len(t, l.Guest.Frames(), 1)
}

// keeper is a Port with data for the guest that waits for room, as a network does whose connections end there.
type keeper struct {
	stub.Null
	left, sent int
	starved    int
}

func (k *keeper) EndsConnections() bool { return true }

func (k *keeper) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	for k.left > 0 {
		if !rx.Write(&vnet.Header{}, frame(k.sent, 1000)) {
			k.starved++
			break
		}
		k.left--
		k.sent++
	}
	return len(tx), 0
}

// A queue that is full makes it wait, and drops nothing. It is never longer than it may be, and the line never idle.
func TestAnEndpointWaitsForTheQueue(t *testing.T) {
	k := &keeper{left: 300}
	l := newLab(t, k, "in:rate=8mbit,in:queue=20", porttest.Options{})
	begin := l.Now()
	l.SendFrame(frame(0, 60))
	got := 0
	for got < 300 {
		l.Run(5 * time.Millisecond)
		for _, f := range l.Guest.Frames() {
			require.Equal(t, frame(got, 1000), f.Bytes)
			got++
		}
		require.Less(t, l.Now()-begin, int64(time.Minute))
	}
	require.InEpsilon(t, 3e8, l.Now()-begin, 0.05)
	require.Positive(t, k.starved)
	require.Equal(t, netem.Counters{}, l.counters)
	require.Less(t, l.Turns(), 4*300)
}

// Any other Port has what it gives dropped by the queue, as that of a router does.
func TestTheQueueDropsWhatItHasNoRoomFor(t *testing.T) {
	l := newLab(t, stub.NewEcho(), "in:rate=8mbit,in:queue=20", porttest.Options{})
	for i := range 50 {
		l.SendFrame(frame(i, 1000))
	}
	l.Run(time.Second)
	require.Len(t, l.Guest.Frames(), 20)
	require.Equal(t, netem.Counters{InQueueDrops: 30}, l.counters)
}

// A network at which the guest's connections end trusts what the guest sends. So what a receiver's checksum would find does not get there.
func TestAnEndpointGetsNothingThatAChecksumFindsDamaged(t *testing.T) {
	k := new(keeper)
	l := newLab(t, k, "out:corrupt=100%", porttest.Options{})
	for range 50 {
		h, b := tcp(1000, 1000)
		h.GSOType, h.GSOSize = vnet.GSONone, 0
		l.SendRaw(h, b)
		l.SendFrame(frame(1, 100)) // which has no checksum
		l.Settle()
	}
	require.EqualValues(t, 50, l.counters.OutDamaged)
	require.EqualValues(t, 100, l.counters.OutCorrupted)
	require.EqualValues(t, 0, k.Counters().Frames, "its Turn counts nothing")
}

func TestTurnsAllocateNothing(t *testing.T) {
	l := newPort(t, stub.NewEcho(), "delay=1ms,jitter=100us,loss=1%,duplicate=1%,reorder=1%,corrupt=1%,rate=10gbit")
	require.NoError(t, l.Start(l.Offers()|vnet.FeatureVersion1|vnet.FeatureMrgRxBuf, porttest.DeafWorker{}))
	l.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true})
	memory := make([]byte, 1<<20)
	const base = 1 << 20
	table := guestmem.NewHeap(guestmem.HeapRegion{GPA: base, UVA: base, Mem: memory})
	h, large := tcp(20_000, 1448)
	var chains []virtqueue.Chain
	for i := range 8 {
		at := i * 32 << 10
		b := frame(i, 1514)
		if i == 3 {
			h.Encode(memory[at : at+vnet.HeaderLen])
			b = large
		}
		copy(memory[at+vnet.HeaderLen:], b)
		iov, ok := table.AppendGPA(make([]guestmem.Iovec, 0, 1), guestmem.GPA(base+at), uint64(vnet.HeaderLen+len(b)))
		require.True(t, ok)
		chains = append(chains, virtqueue.Chain{Iov: iov, Len: uint32(vnet.HeaderLen + len(b))})
	}
	rx := new(netbackend.RXWriter) // takes nothing: what is due waits until the store is full, and is dropped then
	now := int64(1e12)
	require.Zero(t, testing.AllocsPerRun(3000, func() {
		now += 100_000
		l.Port.Turn(now, chains, nil, rx)
	}))
	require.Positive(t, l.counters.InStoreDrops)
	require.Positive(t, l.counters.OutLost)
}
