package nat_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// guests are the kinds of guests that data must pass to and from.
func guests() map[string]porttest.Options {
	const v1, merge = vnet.FeatureVersion1, vnet.FeatureMrgRxBuf
	return map[string]porttest.Options{
		"all offloads":           {},
		"no offloads":            {Features: v1 | merge},
		"buffers are not merged": {Features: v1},
		"legacy":                 {Features: vnet.FeatureCSum},
		"checksums only":         {Features: v1 | merge | vnet.FeatureCSum | vnet.FeatureGuestCSum},
		"large single buffers":   {Features: v1 | vnet.FeatureGuestCSum | vnet.FeatureGuestTSO4},
		"small merged buffers":   {BufSize: 200},
		"small ring":             {RingSize: 8},
		"event index":            {Features: v1 | merge | vnet.FeatureEventIdx | vnet.FeatureIndirectDesc},
		"MTU of 9000":            {MTU: 9000},
		"MTU of 576":             {MTU: 576},
		"guest memory in a file": {Memfd: true},
	}
}

// T20, T34 and T35, small: package porttest checks every checksum, length and number of buffers.
func TestT34T35DataPassesToEveryKindOfGuest(t *testing.T) {
	for name, guest := range guests() {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{guest: guest})
			exchange(b, 400_000)
		})
	}
}

// exchange sends n bytes each way at once, and closes both ends.
func exchange(b *bench, n int, opt ...porttest.TCPOptions) {
	b.t.Helper()
	c, host := b.connect(opt...)
	up, down := noise(n), noise(n+1)
	go func() {
		_, _ = host.Write(down)
		_ = host.CloseWrite()
	}()
	c.Send(up)
	c.Close()
	r := b.readAll(host)
	require.NoError(b.t, r.err)
	requireSame(b.t, up, r.data)
	b.Until("the guest has everything", c.Ended)
	require.True(b.t, c.FinReceived, "state %v", c.State)
	requireSame(b.t, down, c.Received())
	b.Until("both ends know", func() bool { return c.FinAcked && b.Sockets() == 0 })
	require.Zero(b.t, c.Shrinks, "the window was taken back")
}

func TestT20SequenceNumbersWrapAround(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: func(c *nat.Config) {
			config(c)
			c.InitialSequence = func() uint32 { return 0xffff_ff00 }
		}})
		exchange(b, 1_000_000, porttest.TCPOptions{ISS: 0xffff_fff0})
	})
}

func TestT21ClosedGuestWindowHoldsTheHostBack(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect(porttest.TCPOptions{Window: 10_000, ManualAck: true})
		down := noise(300_000)
		go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
		b.Until("the window is full", func() bool { return len(c.Received()) == 10_000 })
		c.Window = 0
		c.SendAck()
		b.Run(30 * time.Second)
		require.Len(t, c.Received(), 10_000, "nothing goes into a closed window")
		require.Equal(t, porttest.Open, c.State)

		c.Window, c.ManualAck = 65535, false
		c.SendAck()
		b.Turn() // no timer is needed
		require.Greater(t, len(c.Received()), 10_000)
		b.Until("the rest comes", c.Ended)
		requireSame(t, down, c.Received())
	})
}

func TestT21LostWindowUpdateIsFoundByAProbe(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{Window: 5000, ManualAck: true})
	go func() { _, _ = host.Write(noise(20_000)) }()
	b.Until("the window is full", func() bool { return len(c.Received()) == 5000 })
	c.Window = 0
	c.SendAck()
	b.Settle()

	c.Window = 20_000 // the update is lost: the guest says it only when it is asked
	c.ManualAck = false
	start := b.Now()
	b.Skip("a probe comes", func() bool { return len(c.Received()) == 20_000 })
	require.LessOrEqual(t, time.Duration(b.Now()-start), time.Second)
}

// Probes go on for as long as the guest answers, at most a minute apart.
func TestT21ProbesGoOnForHours(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{Window: 5000, ManualAck: true})
	go func() { _, _ = host.Write(noise(20_000)) }()
	b.Until("the window is full", func() bool { return len(c.Received()) == 5000 })
	c.Window, c.ManualAck = 0, false
	c.SendAck()
	b.Settle()
	before := len(c.Segments)
	b.Run(3 * time.Hour)
	probes := len(c.Segments) - before
	require.Equal(t, porttest.Open, c.State)
	require.GreaterOrEqual(t, probes, 3*60)
	require.LessOrEqual(t, probes, 3*60+30)
}

func TestT21ShrunkWindowIsRespected(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect(porttest.TCPOptions{Window: 20_000, ManualAck: true})
		down := noise(60_000)
		go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
		b.Until("the window is full", func() bool { return len(c.Received()) == 20_000 })

		// The guest takes back what it had promised, as Linux does when it runs short of memory.
		s := c.Segment(porttest.ACK, nil)
		s.Ack, s.Window = c.IRS+1+5000, 0
		c.SendSegment(s)
		b.Run(5 * time.Second)
		c.ManualAck = false
		c.SendAck()
		b.Until("the rest comes", c.Ended)
		requireSame(t, down, c.Received())
	})
}

func TestT22HostThatDoesNotReadClosesTheGuestsWindow(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	up := noise(24 << 20) // more than the kernel buffers
	c.Send(up)
	b.Until("the window closes", func() bool { return c.SndWnd == 0 })
	b.Settle()
	for _, s := range c.Segments[1:] {
		require.False(t, s.Window > 0 && int(s.Window)<<max(0, c.PeerWScale) < 536, "a silly window of %d", s.Window)
	}
	turns := b.Turns()
	b.Run(150 * time.Millisecond)
	require.Less(t, b.Turns()-turns, 5, "a stalled connection costs nothing")

	c.Close()
	r := b.readAll(host)
	require.NoError(t, r.err)
	requireSame(t, up, r.data)
	require.Zero(t, c.Shrinks, "the right edge moved back")
}

func TestT23ExactlyWhatTheHostTookIsAcknowledged(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		up := noise(12 << 20) // more than the kernel buffers
		c.Send(up)
		got := make([]byte, 0, len(up))
		for len(got) < len(up) { // a reader that stops and goes
			got = append(got, b.readSome(host, min(len(up)-len(got), 700_001))...)
			b.Settle()
		}
		requireSame(t, up, got)
		require.Zero(t, c.Shrinks)
	})
}

func TestT24SegmentsBeforeTheirTimeAreAskedForAgain(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Silent = true
	n := len(c.Segments)
	late := c.Segment(porttest.ACK, []byte("world"))
	late.Seq += 6
	c.SendSegment(late)
	b.Settle()
	require.Len(t, c.Segments, n+1)
	require.Equal(t, c.SndNxt, lastSegment(c).Ack)
	c.SndMax += 11 // what follows may be acknowledged

	// Repeated bytes are trimmed, whichever way the segments overlap.
	whole := []byte("hello world")
	for _, r := range [][2]int{{0, 3}, {0, 6}, {2, 5}, {4, 11}} {
		s := c.Segment(porttest.ACK, whole[r[0]:r[1]])
		s.Seq = c.ISS + 1 + uint32(r[0])
		c.SendSegment(s)
		b.Settle()
	}
	require.Equal(t, string(whole), string(b.readSome(host, len(whole))))
}

func TestT25DataResumesWhenReceiveBuffersComeBack(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: porttest.Options{RingSize: 16}})
		c, host := b.connect()
		b.Withhold = true
		down := noise(500_000)
		go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
		b.Until("the ring is empty", func() bool { return len(c.Received()) > 16_000 })
		b.Settle()
		got := len(c.Received())
		turns := b.Turns()
		b.Settle()
		require.Equal(t, turns, b.Turns(), "an unfilled ring costs nothing")

		b.Withhold = false
		b.Post(16)
		b.Settle()
		require.Greater(t, len(c.Received()), got, "by the refill alone")
		b.Until("all has come", c.Ended)
		requireSame(t, down, c.Received())
	})
}

func TestT25ThreeDuplicatesBringALostSegmentAtOnce(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: porttest.Options{Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf}})
		c, host := b.connect()
		lost := 0
		b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
			if d == porttest.ToGuest && len(s.Payload) > 0 && lost == 0 {
				lost++
				return true
			}
			return false
		}
		down := noise(30_000)
		_, err := host.Write(down)
		require.NoError(t, err)
		start := b.Now()
		b.Settle() // no time passes
		requireSame(t, down, c.Received())
		require.Equal(t, start, b.Now())
		require.Equal(t, uint64(1), b.port.Counters().Retransmits, "only what was lost is repeated")
	})
}

func TestT25TimeoutRepeatsTheLastSegment(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		_, err := host.Write([]byte("first"))
		require.NoError(t, err)
		c.WaitFor(5)
		lost := 0
		b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
			if d == porttest.ToGuest && len(s.Payload) > 0 && lost < 3 {
				lost++
				return true
			}
			return false
		}
		_, err = host.Write([]byte("second"))
		require.NoError(t, err)
		start := b.Now()
		b.Skip("it is repeated", func() bool { return len(c.Received()) == 11 })
		require.Equal(t, "firstsecond", string(c.Received()))
		require.Less(t, time.Duration(b.Now()-start), 3*time.Second)
	})
}

func TestT25BadPathLosesNothing(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		for name, guest := range map[string]porttest.Options{
			"large segments": {}, "small segments": {Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf},
		} {
			t.Run(name, func(t *testing.T) {
				b := newBench(t, setup{config: config, guest: guest})
				b.Resolve()
				n := 0
				b.Drop = func(porttest.Direction, *porttest.Segment) bool {
					n++
					return n%17 == 5 || n%23 == 7
				}
				c := b.Dial(b.server)
				up, down := noise(400_000), noise(300_000)
				b.Skip("it is open", func() bool { return c.State == porttest.Open })
				host, err := b.listen.AcceptTCP()
				require.NoError(t, err)
				defer host.Close()
				result := make(chan []byte, 1)
				go func() {
					_, _ = host.Write(down)
					_ = host.CloseWrite()
				}()
				go func() {
					data := make([]byte, len(up))
					for n := 0; n < len(data); {
						k, err := host.Read(data[n:])
						if err != nil {
							break
						}
						n += k
					}
					result <- data
				}()
				c.Send(up)
				var got []byte
				b.Skip("everything has passed", func() bool {
					select {
					case got = <-result:
					default:
					}
					return got != nil && c.Ended()
				})
				requireSame(t, up, got)
				requireSame(t, down, c.Received())
			})
		}
	})
}

func TestT26AcknowledgementsThatCannotBe(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	for name, ack := range map[string]uint32{"of unsent data": c.RcvNxt + 1000, "half the space ahead": c.RcvNxt + 1<<31 - 1} {
		n := len(c.Segments)
		s := c.Segment(porttest.ACK|porttest.PSH, []byte("bad"))
		s.Ack = ack
		c.SendSegment(s)
		b.Settle()
		require.Len(t, c.Segments, n+1, name)
		require.Equal(t, c.SndNxt, lastSegment(c).Ack, "%s: its data is not taken", name)
	}
	old := c.Segment(porttest.ACK, nil)
	old.Ack = c.IRS - 5000
	c.SendSegment(old)
	c.Send([]byte("good"))
	require.Equal(t, "good", string(b.readSome(host, 4)))
}

func TestT26DataBehindTheGuestsFINIsIgnored(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Send([]byte("all"))
	c.Close()
	b.Until("the FIN is acknowledged", func() bool { return c.FinAcked })
	c.SendSegment(c.Segment(porttest.ACK|porttest.PSH, []byte("more")))
	b.Settle()
	require.Equal(t, c.SndNxt, lastSegment(c).Ack)
	r := b.readAll(host)
	require.Equal(t, "all", string(r.data))
	require.NoError(t, r.err)
}

func TestT27SegmentOutsideTheWindowIsAnsweredAndNotTaken(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	b.Settle()
	for name, offset := range map[string]uint32{"beyond": uint32(c.SndWnd) + 1<<20, "long past": 0xffff_0000, "far away": 1 << 31} {
		n := len(c.Segments)
		s := c.Segment(porttest.ACK|porttest.PSH, []byte("bad"))
		s.Seq += offset
		c.SendSegment(s)
		b.Settle()
		require.Greater(t, len(c.Segments), n, name)
		require.Equal(t, c.SndNxt, lastSegment(c).Ack, name)
	}
	c.Send([]byte("good"))
	require.Equal(t, "good", string(b.readSome(host, 4)))
}

func TestT31UrgentDataStaysInLine(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	inLine(t, host)
	var want string
	for _, pointer := range []uint16{0, 1, 4, 5, 6, 65535} {
		s := c.Segment(porttest.ACK|porttest.URG|porttest.PSH, []byte("12345"))
		s.Urgent = pointer
		c.SendNext(s)
		want += "12345"
		b.Settle()
	}
	require.Equal(t, want, string(b.readSome(host, len(want))))
}

func TestT32PaddingOfShortFramesIsNoData(t *testing.T) {
	b := newBench(t, setup{})
	b.Pad = true
	c, host := b.connect(porttest.TCPOptions{MSS: -1})
	c.Send([]byte("a"))
	c.Send([]byte("bc"))
	c.Close()
	down := noise(200_000)
	go func() { _, _ = host.Write(down); _ = host.CloseWrite() }()
	r := b.readAll(host)
	require.NoError(t, r.err)
	require.Equal(t, "abc", string(r.data))
	b.Until("all has come", c.Ended)
	requireSame(t, down, c.Received())
}

func TestT33HeadersMayLieAnywhere(t *testing.T) {
	layouts := map[string]porttest.Layout{
		"virtio-net header apart": {Lens: []int{12}},
		"each header apart":       {Lens: []int{12, 14, 20, 20}},
		"across the headers":      {Lens: []int{7, 9, 15, 18, 10}},
		"one byte each":           porttest.OneByte(70),
		"empty ones between":      {Lens: []int{0, 12, 0, 0, 14, 0, 20}},
		"indirect":                {Lens: []int{12, 30}, Indirect: true},
	}
	for name, layout := range layouts {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{guest: porttest.Options{
				Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureIndirectDesc | vnet.FeatureCSum,
			}})
			c, host := b.connect()
			payload := noise(1000)
			c.SendNext(c.Segment(porttest.ACK|porttest.PSH, payload), layout)
			require.Equal(t, payload, b.readSome(host, 1000))
			require.Zero(t, b.port.Counters().Malformed)
		})
	}
}

func TestT25LostTailBeforeTheEndIsRepeated(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config})
		c, host := b.connect()
		lost := false
		b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
			drop := d == porttest.ToGuest && len(s.Payload) > 0 && !lost
			lost = lost || drop
			return drop
		}
		_, err := host.Write([]byte("the last bytes"))
		require.NoError(t, err)
		require.NoError(t, host.CloseWrite())
		b.Skip("the end comes", c.Ended)
		require.Equal(t, "the last bytes", string(c.Received()))
	})
}

// The least that is worth advertising is not to be a segment of a guest whose MTU is nearly as large as the socket's buffer.
func TestT22AClosedWindowCostsNothingAtALargeMTU(t *testing.T) {
	if inNamespace(t) {
		return
	}
	for _, buffer := range []int{20_000, 87_040, 200_000, 400_000} {
		t.Run(fmt.Sprintf("%d bytes", buffer), func(t *testing.T) {
			sysctl(t, "net.ipv4.tcp_wmem", fmt.Sprintf("4096 %d %d", min(buffer, 16384), buffer))
			b := newBench(t, setup{guest: porttest.Options{MTU: 65520}, config: func(c *nat.Config) { c.MTU = 65520 }})
			c, host := b.connect()
			for n := 1; n <= 80; n++ {
				c.Send(noise(10_000))
				b.Settle()
				turns := b.Turns()
				b.Run(20 * time.Millisecond)
				require.Less(t, b.Turns()-turns, 8, "after %d bytes", n*10_000)
			}
			c.Close()
			r := b.readAll(host)
			require.NoError(t, r.err)
			require.Len(t, r.data, 800_000)
		})
	}
}

// A guest with a window for several of the largest frames.
var wide = porttest.TCPOptions{Window: 1 << 20, WScale: 5}

func TestOneLookAtTheHostsQueueFillsSeveralFrames(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: porttest.Options{RingSize: 512}})
		c, host := b.connect(wide)
		down := noise(8 << 20)
		go func() { _, _ = host.Write(down) }()
		b.Until("all is there", func() bool { return len(c.Received()) >= len(down) })
		requireSame(t, down, c.Received())
		looks, frames := b.port.Counters().Peeks, uint64(len(c.Segments))
		require.Less(t, 3*looks, 2*frames, "%d looks for %d frames", looks, frames)
	})
}

// What several frames hold is the stream, whatever the guest can take, and in whatever pieces the host writes it.
func TestFramesThatAreFilledAtOnceHoldTheStream(t *testing.T) {
	for name, guest := range guests() {
		for _, ring := range []int{32, 256, 1024} {
			t.Run(fmt.Sprintf("%s, ring of %d", name, ring), func(t *testing.T) {
				guest.RingSize = ring
				b := newBench(t, setup{guest: guest})
				c, host := b.connect(wide)
				n := ring<<11 + 1<<20 + 17 // more than the buffers of the ring hold
				down := noise(n)
				go func() {
					for i := 1; len(down) > 0; i++ {
						n := min(i*i*777, len(down))
						_, _ = host.Write(down[:n])
						down = down[n:]
					}
					_ = host.Close()
				}()
				b.Until("all is there", func() bool { return c.Ended() || len(c.Received()) >= n })
				requireSame(t, noise(n), c.Received())
			})
		}
	}
}

func TestFramesThatAreFilledAtOnceAreRepeated(t *testing.T) {
	eachKernel(t, func(t *testing.T, config func(*nat.Config)) {
		b := newBench(t, setup{config: config, guest: porttest.Options{RingSize: 1024}})
		c, host := b.connect(wide)
		down := noise(4 << 20)
		go func() { _, _ = host.Write(down) }()
		const some, more = 1 << 20, 344 << 10 // after some, the kernel has made the socket's buffer large enough for more
		b.Until("some is there", func() bool { return len(c.Received()) > some })
		c.ManualAck = true // as if all that comes now were lost
		b.Until("more comes", func() bool { return len(c.Received()) > some+more })
		b.Run(10 * time.Second)
		require.NotZero(t, b.port.Counters().Retransmits)
		c.ManualAck = false
		c.SendAck()
		b.Until("all is there", func() bool { return len(c.Received()) >= len(down) })
		requireSame(t, down, c.Received())
	})
}

// Package porttest compares each page of the guest's memory with the dirty log, after each turn.
func TestAllThatIsWrittenForAMigratedGuestIsMarked(t *testing.T) {
	for _, name := range []string{"all offloads", "no offloads", "buffers are not merged", "small merged buffers", "event index"} {
		t.Run(name, func(t *testing.T) {
			guest := guests()[name]
			guest.RingSize, guest.DirtyLog = 64, true
			exchange(newBench(t, setup{guest: guest}), 100_000)
		})
	}
}
