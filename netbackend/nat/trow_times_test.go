package nat_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

var timed = porttest.TCPOptions{Times: true}

// The fake guest checks that each segment has timestamps, and that what it echoes is a time that the guest has told.
func TestTimestampsGoBothWays(t *testing.T) {
	for kind, guest := range map[string]porttest.Options{"large frames": {}, "one segment a frame": single} {
		t.Run(kind, func(t *testing.T) {
			b := newBench(t, setup{guest: guest})
			c, host := b.connect(timed)
			for range 3 { // the guest's clock wraps around
				down := noise(50_000)
				write(t, host, down)
				c.WaitFor(len(down))
				requireSame(t, down, c.Read())
				before := c.Stamp()
				c.Send(noise(20_000))
				b.Until("it is acknowledged", func() bool { return c.Unsent() == 0 })
				require.Equal(t, before, c.Echoed)
				b.Advance(7 * time.Second)
			}
			require.Zero(t, b.port.Counters().TCPOutdated)
			longest := 0
			for _, s := range c.Segments {
				longest = max(longest, int(s.GSOSize))
			}
			if kind == "large frames" {
				require.Equal(t, 1460-12, longest, "an MSS does not count options")
			}
		})
	}
}

func TestTimestampsAreForThoseWhoWantThem(t *testing.T) {
	b := newBench(t, setup{})
	c, _ := b.connect()
	require.False(t, c.PeerTimes)
	c, _ = b.connect(porttest.TCPOptions{Times: true, SACK: true, WScale: 2})
	require.Equal(t, []byte{
		2, 4, 1460 >> 8, 1460 & 255, // MSS
		1, 1, 4, 2, // SACK permitted
		1, 3, 3, c.Segments[0].Options[11], // window scale
		1, 1, 8, 10, // timestamps
	}, c.Segments[0].Options[:16])
}

func TestTimestampsThatNobodyHasOfferedAreNotInUse(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	l.Mute = true
	dial()
	var syn *porttest.Segment
	b.Until("the guest is called", func() bool {
		for _, f := range b.Frames() {
			syn = f.TCP
		}
		return syn != nil
	})
	require.Len(t, syn.Options, 12, "none are offered")
	b.Deaf = true
	b.SendSegment(porttest.Segment{
		Src: syn.Dst, Dst: syn.Src, Seq: 100, Ack: syn.Seq + 1, Flags: porttest.SYN | porttest.ACK, Window: 65535,
		Options: []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0},
	})
	var ack *porttest.Segment
	b.Until("it is acknowledged", func() bool {
		for _, f := range b.Frames() {
			ack = f.TCP
		}
		return ack != nil
	})
	require.EqualValues(t, 101, ack.Ack)
	require.Empty(t, ack.Options)
}

// One acknowledgement for several segments echoes the first: the guest is to see the whole delay.
func TestTheFirstOfSeveralSegmentsIsEchoed(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(timed)
	b.Advance(10 * time.Millisecond)
	first := c.Segment(porttest.ACK, []byte("first"))
	at := c.Stamp() - 3
	first.Options = c.Times(at)
	c.SendNext(first)
	second := c.Segment(porttest.ACK, []byte("second"))
	second.Options = c.Times(at + 1)
	c.SendNext(second)
	requireSame(t, []byte("firstsecond"), b.readSome(host, 11))
	require.Equal(t, at, c.Echoed)
}

// So it is with an acknowledgement that has waited for an answer, which is where it matters most.
func TestADelayedAcknowledgementEchoesWhatBeganTheDelay(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(timed)
	for range 5 {
		c.Send([]byte("question"))
		b.Settle()
		write(t, host, []byte("answer"))
		c.WaitFor(6)
		c.Read()
	}
	b.Settle()
	b.Advance(5 * time.Millisecond)
	at, segments := c.Stamp(), len(c.Segments)
	c.Send([]byte("first"))
	b.Settle()
	require.Len(t, c.Segments, segments, "it is not acknowledged yet")
	b.Advance(3 * time.Millisecond)
	c.Send([]byte("second"))
	b.Settle()
	require.Greater(t, len(c.Segments), segments)
	require.Equal(t, at, c.Echoed)
}

func TestASegmentFromThePastIsNotLookedAt(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(timed)
	b.Advance(time.Second)
	c.Send([]byte("now"))
	requireSame(t, []byte("now"), b.readSome(host, 3))
	b.Settle()
	acks := len(c.Segments)

	old := c.Segment(porttest.ACK, []byte("then"))
	old.Options = c.Times(c.Stamp() - 500)
	c.SendSegment(old)
	b.Settle()
	require.EqualValues(t, 1, b.port.Counters().TCPOutdated)
	require.Len(t, c.Segments, acks+1, "it is answered")
	require.Equal(t, c.SndNxt, lastSegment(c).Ack, "and not taken")

	unstamped := c.Segment(porttest.ACK, []byte("no time"))
	unstamped.Options = []byte{1, 1, 1, 1}
	c.SendUnstamped(unstamped)
	c.SndNxt += 7
	c.SndMax = c.SndNxt
	requireSame(t, []byte("no time"), b.readSome(host, 7))

	reset := c.Segment(porttest.RST|porttest.ACK, nil)
	reset.Options = c.Times(c.Stamp() - 500)
	c.SendSegment(reset)
	require.Error(t, b.readAll(host).err, "a reset has no age")
}

// After 24 days a timestamp may have wrapped around, and tells nothing.
func TestAfterALongSilenceEveryTimestampIsBelieved(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(timed)
	c.Send([]byte("now"))
	requireSame(t, []byte("now"), b.readSome(host, 3))
	b.Settle()
	b.Advance(25 * 24 * time.Hour)
	c.Echoed = c.Stamp()
	late := c.Segment(porttest.ACK, []byte("later"))
	late.Options = c.Times(c.Stamp())
	c.SendNext(late)
	requireSame(t, []byte("later"), b.readSome(host, 5))
	require.Zero(t, b.port.Counters().TCPOutdated)
}

// Which of two equal segments was acknowledged, only the echo tells. It is half a second here, so that the next repetition
// comes after 0.5 s + 4 x 0.25 s, unless the guest lies about it.
func TestAnEchoTellsTheRoundTripOfARepeatedSegment(t *testing.T) {
	for name, c := range map[string]struct {
		options porttest.TCPOptions
		echo    func(sent uint32) uint32
		next    time.Duration
	}{
		"right":           {timed, func(sent uint32) uint32 { return sent }, 1500 * time.Millisecond},
		"from the future": {timed, func(sent uint32) uint32 { return sent + 1000 }, time.Second},
		"an hour old":     {timed, func(sent uint32) uint32 { return sent - 3600e3 }, time.Second},
		"none":            {porttest.TCPOptions{}, nil, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			c.options.ManualAck = true
			b := newBench(t, setup{})
			g, host := b.connect(c.options)
			write(t, host, []byte("x"))
			g.WaitFor(1)
			b.Skip("it is repeated", func() bool { return b.port.Counters().Retransmits > 0 || len(g.Segments) > 2 })
			b.Settle()
			b.Advance(500 * time.Millisecond)
			ack := g.Segment(porttest.ACK, nil)
			if c.echo != nil {
				g.ToEcho = c.echo(g.ToEcho) // of the repetition
				ack.Options = g.Times(g.Stamp())
			}
			g.SendSegment(ack)
			b.Settle()
			write(t, host, []byte("y"))
			b.Settle()
			start, segments := b.Now(), len(g.Segments)
			b.Skip("it is repeated", func() bool { return len(g.Segments) > segments })
			require.InDelta(t, c.next, time.Duration(b.Now()-start), float64(50*time.Millisecond))
		})
	}
}
