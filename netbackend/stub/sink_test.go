package stub_test

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/testframe"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// tested is what of the counters a tester counts.
func tested(c stub.Counters) testframe.Counts { return c.Counts }

// A guest that sends the frames of a source on to a sink, but for some, lets the sink find what became of them, and how long they took.
func TestASinkFindsWhatBecameOfTheFramesOfASource(t *testing.T) {
	for name, c := range map[string]stub.SourceConfig{"one length": {Size: 60, Rate: 1000}, "a mix": {Sizes: stub.IMIX(), Rate: 1000}} {
		t.Run(name, func(t *testing.T) {
			from := porttest.New(t, newSource(t, c), porttest.Options{})
			from.Turn()
			from.Run(100 * time.Millisecond)
			frames := from.Frames()
			require.Greater(t, len(frames), 90)
			sink := stub.NewSink(nil)
			to := porttest.New(t, sink, porttest.Options{})
			to.Advance(time.Duration(from.Now()-to.Now()) + 5*time.Millisecond)
			for i, f := range frames[:90] {
				var layout []porttest.Layout
				switch i {
				case 10, 11:
					continue // missing
				case 20:
					to.SendFrame(f.Bytes) // twice
				case 30:
					f.Bytes[testframe.NumberAt] ^= 1
				case 40:
					layout = []porttest.Layout{porttest.OneByte(12 + 40)} // in pieces
				case 50:
					to.SendFrame(frame(60)) // somebody else's, of our type, and so damaged
					b := frame(60)
					b[12] = 8
					to.SendFrame(b) // of another type
				}
				to.SendFrame(f.Bytes, layout...)
			}
			to.SendFrame(frames[10].Bytes) // late
			to.Settle()
			require.Equal(t, testframe.Counts{Tested: 89, Missing: 3, Late: 1, Duplicates: 1, Corrupt: 2}, tested(sink.Counters()))
			require.EqualValues(t, 92, sink.Counters().Frames)
			times, longest := sink.Latency(0.01, 0.5)
			require.GreaterOrEqual(t, times[0], 5*time.Millisecond)
			require.Greater(t, times[1], times[0])
			require.InDelta(t, 105, longest.Milliseconds(), 3)
		})
	}
}

// A source and a sink of other processes have turns on clocks of their own, and the host's clock in common.
func TestASourceAndASinkOnOtherClocksAgreeOnTheTime(t *testing.T) {
	host := func() int64 { return int64(time.Hour) }
	from := porttest.New(t, newSource(t, stub.SourceConfig{Size: 60, Rate: 1000, Clock: host}), porttest.Options{})
	sink := stub.NewSink(host)
	to := porttest.New(t, sink, porttest.Options{})
	to.Advance(-700 * time.Second)
	b := frame(60)
	b[12] = 8
	to.SendFrame(b) // it asks for the time
	to.Turn()
	from.Turn()
	from.Run(10 * time.Millisecond)
	to.Advance(30 * time.Millisecond)
	for _, f := range from.Frames() {
		to.SendFrame(f.Bytes)
	}
	to.Turn()
	times, longest := sink.Latency(0)
	require.InDelta(t, 20, times[0].Milliseconds(), 3)
	require.InDelta(t, 29, longest.Milliseconds(), 3)
}

// A source checks what comes back itself: its guest is to send back what it gets.
func TestASourceChecksWhatComesBack(t *testing.T) {
	for name, c := range map[string]stub.SourceConfig{"one length": {Size: 100}, "a mix": {Sizes: []int{60, 1514, 9000, 61}}} {
		t.Run(name, func(t *testing.T) {
			source := newSource(t, c)
			g := porttest.New(t, source, porttest.Options{})
			sent := 0
			for range 20 {
				g.Turn()
				for _, f := range g.Frames() {
					g.SendFrame(f.Bytes)
					sent++
				}
			}
			g.Withhold = true
			g.Turn()
			g.Turn()
			got := source.Counters()
			require.Greater(t, sent, 500)
			require.Equal(t, testframe.Counts{Tested: uint64(sent)}, tested(got))
			require.EqualValues(t, sent, got.Frames)
		})
	}
}

func TestTheLengthsOfAMixComeInTurn(t *testing.T) {
	for _, bufs := range []int{0, 512} { // in one buffer each, or in several
		source := newSource(t, stub.SourceConfig{Sizes: stub.IMIX()})
		g := porttest.New(t, source, porttest.Options{BufSize: bufs})
		var lengths []int
		for len(lengths) < 1200 {
			g.Turn()
			for _, f := range g.Frames() {
				lengths = append(lengths, len(f.Bytes))
			}
		}
		require.Equal(t, slices.Repeat(stub.IMIX(), 100), lengths[:1200])
	}
}

func TestAReflectorExchangesAddresses(t *testing.T) {
	for _, c := range []struct {
		features uint64
		layout   porttest.Layout
	}{
		{0, porttest.Layout{}}, {0, porttest.OneByte(30)}, {vnet.FeatureVersion1, porttest.Layout{}}, {1 << 27, porttest.OneByte(12)},
	} {
		g := porttest.New(t, stub.NewReflector(), porttest.Options{Features: c.features})
		for _, group := range []bool{false, true} {
			b := frame(100)
			b[0] = 0x52
			want := slices.Concat(b[6:12], b[:6], b[12:])
			if group {
				b[0] = 0x33
				want = slices.Concat(b[6:12], []byte{2, 0, 0, 0, 0, 1}, b[12:])
			}
			g.SendFrame(b, c.layout)
			g.Settle()
			got := g.Frames()
			require.Len(t, got, 1)
			require.Equal(t, want, got[0].Bytes)
		}
	}
}

// A guest may claim anything in a frame of the type of those of a source.
func TestAGuestThatMakesUpFramesOfASourceHarmsNobody(t *testing.T) {
	sink := stub.NewSink(nil)
	g := porttest.New(t, netbackend.Port(sink), porttest.Options{})
	b := frame(60)
	for i := range uint64(2000) {
		testframe.Put(b, i*i*0x123456789abcdef, i<<50, uint32(i%20))
		g.SendFrame(b)
		g.Turn()
	}
	got := tested(sink.Counters())
	require.EqualValues(t, 2000, got.Tested)
	require.LessOrEqual(t, got.Late+got.Duplicates, got.Tested)
	_, longest := sink.Latency()
	require.GreaterOrEqual(t, longest, time.Duration(0))
}
