package stub_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// frame returns a frame of n bytes of a made-up protocol.
func frame(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	b[12], b[13] = 0x88, 0xb5
	return b
}

// partial is the header of a frame whose checksum is to be finished, and large that of one to be cut up.
var (
	partial = vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16}
	large   = vnet.Header{
		Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 1460, HdrLen: 54,
	}
)

func TestNullCountsAndAnswersNothing(t *testing.T) {
	null := stub.NewNull()
	g := porttest.New(t, null, porttest.Options{})
	g.SendFrame(frame(60))
	g.SendRaw(large, frame(20_000))
	g.SendFrame(frame(100), porttest.OneByte(50))
	g.Settle()
	require.Empty(t, g.Frames())
	require.Equal(t, stub.Counters{Frames: 3, Bytes: 60 + 20_000 + 100}, null.Counters())
}

func TestBadHeadersAreCountedAndUsedUp(t *testing.T) {
	lies := map[string]struct {
		header vnet.Header
		length int
	}{
		"no Ethernet header":     {vnet.Header{}, 13},
		"nothing":                {vnet.Header{}, 0},
		"checksum outside":       {vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 99, CsumOffset: 0}, 100},
		"unknown GSO type":       {vnet.Header{GSOType: 77}, 100},
		"GSO without a checksum": {vnet.Header{GSOType: vnet.GSOTCPv4, GSOSize: 1}, 100},
	}
	for name, c := range lies {
		for kind, port := range map[string]interface {
			netbackend.Port
			Counters() stub.Counters
		}{"null": stub.NewNull(), "echo": stub.NewEcho()} {
			t.Run(name+", "+kind, func(t *testing.T) {
				g := porttest.New(t, port, porttest.Options{})
				g.SendRaw(c.header, frame(100)[:c.length])
				g.SendFrame(frame(60))
				g.Settle()
				got := port.Counters()
				require.Equal(t, []uint64{1, 60, 1}, []uint64{got.Frames, got.Bytes, got.Bad})
			})
		}
	}
}

func TestEchoReturnsFramesWithTheirOffloads(t *testing.T) {
	echo := stub.NewEcho()
	g := porttest.New(t, echo, porttest.Options{RingSize: 64, DirtyLog: true})
	g.MayBreakRules = true // the frames are none that a checksum could be right for
	for _, h := range []vnet.Header{{}, partial, large} {
		g.SendRaw(h, frame(9000))
		g.Settle()
		got := g.Frames()
		require.Len(t, got, 1)
		require.Equal(t, frame(9000), got[0].Bytes)
		h.NumBuffers = got[0].Header.NumBuffers
		require.Equal(t, h, got[0].Header)
	}
	require.Equal(t, uint64(3), echo.Counters().Frames)
}

func TestEchoDropsWhatTheGuestDoesNotTake(t *testing.T) {
	const send = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureCSum | vnet.FeatureHostTSO4
	echo := stub.NewEcho()
	g := porttest.New(t, echo, porttest.Options{Features: send})
	g.SendRaw(partial, frame(100))
	g.SendRaw(large, frame(9000))
	g.SendFrame(frame(70_000))
	g.SendFrame(frame(100))
	g.Settle()
	require.Len(t, g.Frames(), 1)
	require.Equal(t, stub.Counters{Frames: 1, Bytes: 100, SentFrames: 1, SentBytes: 100, Undeliverable: 3}, echo.Counters())
}

func TestEchoLeavesFramesInTheRingUntilThereAreBuffers(t *testing.T) {
	g := porttest.New(t, stub.NewEcho(), porttest.Options{RingSize: 4, Features: vnet.FeatureVersion1})
	g.Withhold = true
	for i := range 12 {
		g.SendFrame(frame(100 + i))
	}
	g.Settle()
	require.Len(t, g.Frames(), 4)
	turns := g.Turns()
	g.Settle()
	require.Equal(t, turns, g.Turns(), "a stalled ring costs nothing")

	g.Post(3)
	g.Settle()
	got := g.Frames()
	require.Len(t, got, 3)
	require.Len(t, got[0].Bytes, 104, "in order, none lost")
}

// rings returns n equal frames of a transmit queue and the writer of a receive queue. again gives the receive queue its
// buffers back; none of it allocates.
func rings(t testing.TB, n int) (tx []virtqueue.Chain, rx *netbackend.RXWriter, again func()) {
	m := vqtest.NewMemory(8<<20, vqtest.Heap)
	t.Cleanup(m.Close)
	queue := func(dir virtqueue.Direction) (*vqtest.Driver, *virtqueue.Queue) {
		d := vqtest.NewDriver(m, vqtest.Options{Size: 256})
		cfg := d.Layout()
		cfg.Dir = dir
		q, err := virtqueue.New(m.Table(), cfg)
		require.NoError(t, err)
		return d, q
	}
	out, txq := queue(virtqueue.FromGuest)
	in, rxq := queue(virtqueue.ToGuest)
	for range n {
		gpa := m.Alloc(1526, 16)
		copy(m.Bytes(gpa+vnet.HeaderLen, 1514), frame(1514))
		_, ok := out.Add(vqtest.Buf{GPA: gpa, Len: 1526})
		require.True(t, ok)
	}
	out.Publish()
	buf := m.Alloc(2048, 16)
	refill := func() {
		for {
			if _, _, ok := in.Used(); !ok {
				break
			}
		}
		for in.Free() > 0 {
			in.Add(vqtest.Buf{GPA: buf, Len: 2048, Write: true})
		}
		in.Publish()
	}
	refill()
	rx = new(netbackend.RXWriter)
	rx.Attach(rxq, vnet.HeaderLen, true)
	return txq.Fetch(n), rx, func() { rxq.Flush(); refill() }
}

func TestTurnsDoNotAllocate(t *testing.T) {
	source, err := stub.NewSource(stub.SourceConfig{Size: 1514})
	require.NoError(t, err)
	for name, port := range map[string]netbackend.Port{
		"null": stub.NewNull(), "echo": stub.NewEcho(), "source": source, "reflect": stub.NewReflector(), "sink": stub.NewSink(nil),
		"source of a mix": newSource(t, stub.SourceConfig{Sizes: stub.IMIX()}),
	} {
		t.Run(name, func(t *testing.T) {
			tx, rx, again := rings(t, 64)
			require.NoError(t, port.Start(vnet.FeatureVersion1|vnet.FeatureMrgRxBuf, nil))
			require.Zero(t, testing.AllocsPerRun(100, func() {
				done, _ := port.Turn(0, tx, nil, rx)
				if done != len(tx) {
					t.Fatalf("%d of %d done", done, len(tx))
				}
				again()
			}))
		})
	}
}

func BenchmarkEcho(b *testing.B) {
	tx, rx, again := rings(b, 64)
	echo := stub.NewEcho()
	require.NoError(b, echo.Start(vnet.FeatureVersion1|vnet.FeatureMrgRxBuf, nil))
	b.SetBytes(64 * 1514)
	b.ReportAllocs()
	for b.Loop() {
		_ = guestmem.Guard(func() { echo.Turn(0, tx, nil, rx) })
		again()
	}
}

// sourced runs a source of frames of 100 bytes and returns its guest, who posts no buffers by itself.
func sourced(t *testing.T, rate uint64) (*stub.Source, *porttest.Guest) {
	source, err := stub.NewSource(stub.SourceConfig{Size: 100, Rate: rate})
	require.NoError(t, err)
	g := porttest.New(t, source, porttest.Options{RingSize: 256})
	g.Withhold = true
	g.Turn() // as a worker does when rings start
	g.Settle()
	return source, g
}

func TestSourceFillsTheRingAndGoesOnWhenThereIsRoom(t *testing.T) {
	source, g := sourced(t, 0)
	require.Len(t, g.Frames(), 256)
	turns := g.Turns()
	g.Settle()
	require.Equal(t, turns, g.Turns(), "a stalled ring costs nothing")

	g.Post(3)
	g.Settle()
	got := g.Frames()
	require.Len(t, got, 3)
	require.Len(t, got[0].Bytes, 100)
	require.EqualValues(t, 256, binary.BigEndian.Uint64(got[0].Bytes[14:]), "frames are numbered")
	require.Equal(t, stub.Counters{SentFrames: 259, SentBytes: 25_900}, source.Counters())
}

func TestSourceKeepsItsRate(t *testing.T) {
	_, g := sourced(t, 1000)
	before := len(g.Frames())
	g.Run(100 * time.Millisecond)
	require.InDelta(t, 100, len(g.Frames())-before, 1)
}

func TestWhatASourceCannotSendInTimeIsMissed(t *testing.T) {
	source, g := sourced(t, 1000)
	g.Run(time.Second)
	require.Len(t, g.Frames(), 256)
	turns := g.Turns()
	g.Advance(time.Second)
	g.Settle()
	require.Equal(t, turns, g.Turns(), "a stalled ring costs nothing")
	g.Post(1)
	g.Settle()
	require.Len(t, g.Frames(), 1)
	require.InDelta(t, 2000-257, float64(source.Counters().Missed), 2)
}

func TestSourcesThatMakeNoSense(t *testing.T) {
	for _, c := range []stub.SourceConfig{
		{Size: 59}, {Size: 70_000}, {Size: 60, Rate: 2e9}, {Sizes: []int{60, 59}}, {Sizes: make([]int, 65)}, {},
	} {
		_, err := stub.NewSource(c)
		require.Error(t, err)
	}
}

func TestLengthsAreRead(t *testing.T) {
	for text, want := range map[string][]int{"64": {64}, "60,1514,60": {60, 1514, 60}, "imix": stub.IMIX()} {
		got, err := stub.ParseSizes(text)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, text := range []string{"", "60,", "imix,60", "60 70", "x"} {
		_, err := stub.ParseSizes(text)
		require.ErrorContains(t, err, "want imix, or lengths", text)
	}
	count := map[int]int{}
	for _, n := range stub.IMIX() {
		count[n]++
	}
	require.Equal(t, map[int]int{60: 7, 590: 4, 1514: 1}, count)
}

// newSource returns a source that can be.
func newSource(t testing.TB, c stub.SourceConfig) *stub.Source {
	s, err := stub.NewSource(c)
	require.NoError(t, err)
	return s
}

// A Port has turns before there is a ring, and after.
func TestNoStubMindsThatThereIsNoRing(t *testing.T) {
	source, err := stub.NewSource(stub.SourceConfig{Size: 60})
	require.NoError(t, err)
	for _, port := range []netbackend.Port{stub.NewNull(), stub.NewEcho(), source, stub.NewSink(nil), stub.NewReflector()} {
		require.NoError(t, port.Start(0, nil))
		done, next := port.Turn(1, nil, nil, new(netbackend.RXWriter))
		require.Zero(t, done)
		require.Zero(t, next)
	}
}

// Frames in one buffer go back in runs, others one by one; which is which makes no difference to the guest.
func TestEchoKeepsTheOrderOfFramesOfAllLayouts(t *testing.T) {
	layouts := []porttest.Layout{{}, {}, {}, {Lens: []int{vnet.HeaderLen}}, {}, porttest.OneByte(20), {Indirect: true}, {}}
	g := porttest.New(t, stub.NewEcho(), porttest.Options{Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureIndirectDesc})
	const batch = 50
	for first := 0; first < 1000; first += batch {
		var want [][]byte
		for i := range batch {
			b := frame(14 + (first+i)*37%3000)
			b[0] = byte(i)
			want = append(want, b)
			g.SendFrame(b, layouts[(first+i)%len(layouts)])
		}
		g.Settle()
		got := g.Frames()
		require.Len(t, got, batch)
		for i, b := range want {
			require.Equal(t, b, got[i].Bytes[:len(b)])
			require.Equal(t, make([]byte, max(0, netbackend.MinFrame-len(b))), got[i].Bytes[len(b):], "short ones are filled up")
		}
	}
}
