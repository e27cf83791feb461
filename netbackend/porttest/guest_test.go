package porttest

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

var gatewayMAC = [6]byte{2, 0, 0, 0, 0, 1}

// frame returns a frame of n bytes that nobody knows the meaning of.
func frame(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	binary.BigEndian.PutUint16(b[12:], 0x88b5) // IEEE 802 local experiments
	return b
}

func TestFramesPassInEveryLayout(t *testing.T) {
	layouts := map[string]Layout{
		"one descriptor":            {},
		"header apart":              {Lens: []int{12}},
		"headers split":             {Lens: []int{12, 14, 20, 3}},
		"bytes":                     OneByte(66),
		"empty descriptors between": {Lens: []int{0, 12, 0, 14, 0}},
		"indirect":                  {Lens: []int{12, 14}, Indirect: true},
	}
	guests := map[string]Options{
		"default":             {},
		"buffers not merged":  {Features: vnet.FeatureVersion1},
		"legacy":              {Features: vnet.FeatureGuestCSum},
		"event index":         {Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureEventIdx | vnet.FeatureIndirectDesc},
		"small merged":        {BufSize: 128},
		"memfd":               {Memfd: true},
		"large single buffer": {Features: vnet.FeatureVersion1 | vnet.FeatureGuestTSO4 | vnet.FeatureGuestCSum},
	}
	for guest, opt := range guests {
		t.Run(guest, func(t *testing.T) {
			for name, layout := range layouts {
				if layout.Indirect && opt.Features&vnet.FeatureIndirectDesc == 0 {
					continue
				}
				g := New(t, stub.NewEcho(), opt)
				for _, n := range []int{60, 61, 1514} {
					g.SendFrame(frame(n), layout)
					g.Turn()
					got := g.Frames()
					require.Len(t, got, 1, name)
					require.Equal(t, frame(n), got[0].Bytes, name)
				}
			}
		})
	}
}

func TestShortFramesArePaddedOnRequest(t *testing.T) {
	echo := stub.NewEcho()
	g := New(t, echo, Options{})
	g.SendFrame(frame(20))
	g.Pad = true
	g.SendFrame(frame(20))
	g.Turn()
	require.Equal(t, uint64(80), echo.Counters().Bytes)
	require.Len(t, g.Frames(), 2)
}

func TestWithheldBuffersHoldFramesBack(t *testing.T) {
	g := New(t, stub.NewEcho(), Options{RingSize: 4, Features: vnet.FeatureVersion1})
	g.Withhold = true
	for range 10 {
		g.SendFrame(frame(100))
	}
	g.Settle()
	require.Len(t, g.Frames(), 4)
	require.Equal(t, 4, g.left, "the ring is full of frames that found no buffer")

	turns := g.Turns()
	g.Settle()
	require.Equal(t, turns, g.Turns(), "nobody does anything meanwhile")

	g.Post(1)
	g.Settle()
	require.Len(t, g.Frames(), 1)

	g.Withhold = false
	g.Post(4)
	g.Settle()
	require.Len(t, g.Frames(), 5)
}

// script is a Port that does what a test says.
type script struct {
	wire
	turn func(now int64, events []netbackend.Event) (next int64)
	w    netbackend.Worker
}

func (s *script) Start(_ uint64, w netbackend.Worker) error {
	s.w = w
	return nil
}

func (s *script) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, _ *netbackend.RXWriter) (int, int64) {
	return len(tx), s.turn(now, events)
}

func TestTimersAreSkipped(t *testing.T) {
	var fired []time.Duration
	var start int64
	port := &script{turn: func(now int64, _ []netbackend.Event) int64 {
		if start == 0 {
			start = now
		}
		fired = append(fired, time.Duration(now-start))
		return now + int64(time.Hour)
	}}
	g := New(t, port, Options{})
	g.Turn()
	g.Skip("three hours pass", func() bool { return len(fired) == 4 })
	require.Equal(t, []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour}, fired)

	g.Run(90 * time.Minute)
	require.Len(t, fired, 5)
	require.Equal(t, 4*time.Hour+30*time.Minute, time.Duration(g.Now()-start))
}

// A machine that lets the test wait is no reason for a timer.
func TestTheClockStandsStillWhileTheTestIsHeldUp(t *testing.T) {
	g := New(t, stub.NewEcho(), Options{})
	start, looks := g.Now(), 0
	g.Until("the test has gone on", func() bool {
		looks++
		if looks == 1 {
			time.Sleep(4 * longestStep)
		}
		return looks == 2
	})
	require.Positive(t, g.Now()-start)
	require.LessOrEqual(t, time.Duration(g.Now()-start), longestStep)
}

func TestEventsOfRealSocketsCauseTurns(t *testing.T) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	require.NoError(t, err)
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])

	var got []netbackend.Event
	port := &script{turn: func(_ int64, events []netbackend.Event) int64 {
		got = append(got, events...)
		return 0
	}}
	g := New(t, port, Options{})
	const token = 0x12_3456_789a_bcde
	require.NoError(t, port.w.Register(fds[0], token))
	require.Equal(t, 1, g.Sockets())
	g.Settle()
	require.Equal(t, []netbackend.Event{{Token: token, Events: unix.EPOLLOUT}}, got)

	g.Settle()
	require.Len(t, got, 1, "edge-triggered")
	require.NoError(t, port.w.Rearm(fds[0], token))
	g.Settle()
	require.Len(t, got, 2)

	_, err = unix.Write(fds[1], []byte("x"))
	require.NoError(t, err)
	g.Until("the byte is announced", func() bool { return len(got) == 3 })
	require.NotZero(t, got[2].Events&unix.EPOLLIN)
	port.w.Unregister(fds[0])
}

func TestDatagramsAndPings(t *testing.T) {
	p := newPair(t, Options{})
	p.a.SendDatagram(Datagram{
		Src: netip.AddrPortFrom(p.a.IP, 1000), Dst: netip.AddrPortFrom(p.b.IP, 2000), Payload: []byte("hello"),
	})
	p.a.SendICMP(p.b.IP, ICMP{Type: 8, Rest: 0x1234_0001, Payload: []byte("ping")})
	p.run(t, func() bool { return len(p.b.frames) == 2 })

	got := p.b.Datagrams()
	require.Len(t, got, 1)
	require.Equal(t, "hello", string(got[0].Payload))
	ping := p.b.Frames()[1].ICMP
	require.Equal(t, ICMP{Type: 8, Rest: 0x1234_0001, Payload: []byte("ping")}, *ping)
}

func TestGatewayIsAskedForByARP(t *testing.T) {
	p := newPair(t, Options{})
	p.b.IP = p.a.Gateway // b answers for it
	p.a.gateMAC = [6]byte{}
	p.b.MAC = [6]byte{2, 0, 0, 0, 0, 9}
	p.a.SendFrame(ethernet([6]byte{255, 255, 255, 255, 255, 255}, p.a.MAC, 0x0806, arpRequest(p.a.MAC, p.a.IP, p.a.Gateway)))
	p.run(t, func() bool { return p.a.gateMAC != [6]byte{} })
	require.Equal(t, p.b.MAC, p.a.gateMAC)
}

// data returns n bytes that tell loss and reordering.
func data(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

func TestConnectionsCarryData(t *testing.T) {
	cases := map[string]struct {
		guest    Options
		from, to TCPOptions
		loss     int // per cent
	}{
		"large segments":      {},
		"no offloads":         {guest: Options{Features: vnet.FeatureVersion1}},
		"MSS of 100":          {to: TCPOptions{MSS: 100}},
		"no options":          {from: TCPOptions{MSS: -1}, to: TCPOptions{MSS: -1}},
		"scaled windows":      {from: TCPOptions{WScale: 4, Window: 1 << 20}, to: TCPOptions{WScale: 14, Window: 1 << 20}},
		"small windows":       {from: TCPOptions{Window: 700}, to: TCPOptions{Window: 3000}},
		"numbers wrap around": {from: TCPOptions{ISS: 0xffff_ff00}, to: TCPOptions{ISS: 0xffff_fff0}},
		"a bad path":          {from: TCPOptions{NoGSO: true}, to: TCPOptions{NoGSO: true}, loss: 5},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			p := newPair(t, c.guest)
			r := rand.New(rand.NewPCG(1, 2))
			p.a.Drop = func(Direction, *Segment) bool { return r.IntN(100) < c.loss }
			client, server := p.connect(t, c.from, c.to)
			there, back := data(300_000), data(200_000)
			client.Send(there)
			server.Send(back)
			client.Close()
			p.run(t, func() bool { return server.FinReceived && len(client.in) == len(back) })
			server.Close()
			p.run(t, func() bool { return client.FinReceived && server.FinAcked && client.FinAcked })
			require.True(t, bytes.Equal(there, server.Received()))
			require.True(t, bytes.Equal(back, client.Received()))
			require.Equal(t, c.loss > 0, client.Retransmits > 0)
			require.Zero(t, client.Shrinks+server.Shrinks)
		})
	}
}

func TestClosedWindowStopsTheSender(t *testing.T) {
	p := newPair(t, Options{})
	client, server := p.connect(t, TCPOptions{}, TCPOptions{Window: 1000})
	server.ManualAck = true
	client.Send(data(5000))
	p.run(t, func() bool { return len(server.in) == 1000 })
	server.Window = 0
	server.SendAck()
	p.run(t, func() bool { return client.SndWnd == 0 })

	before := client.Retransmits
	p.run(t, func() bool { return client.Retransmits == before+3 }) // probes
	require.Len(t, server.in, 1000)

	server.Window, server.ManualAck = 65535, false
	server.SendAck()
	p.run(t, func() bool { return len(server.in) == 5000 })
	require.Equal(t, data(5000), server.Read())
}

func TestResetAndRefusal(t *testing.T) {
	p := newPair(t, Options{})
	client, server := p.connect(t, TCPOptions{}, TCPOptions{})
	server.Reset()
	p.run(t, func() bool { return client.State == WasReset })
	require.True(t, client.Ended())

	refused := p.a.Dial(netip.AddrPortFrom(p.b.IP, 81))
	p.run(t, func() bool { return refused.State == Refused })

	p.b.Deaf = true
	lost := p.a.Dial(netip.AddrPortFrom(p.b.IP, 81))
	p.run(t, func() bool { return lost.Retransmits == 3 })
	require.Equal(t, SynSent, lost.State)
}

func TestMuteListenerIgnoresSYNs(t *testing.T) {
	p := newPair(t, Options{})
	l := p.b.Listen(80)
	l.Mute = true
	c := p.a.Dial(netip.AddrPortFrom(p.b.IP, 80))
	p.run(t, func() bool { return c.Retransmits == 2 })
	l.Mute = false
	p.run(t, func() bool { return c.State == Open })
}

// The guest's own checks are what finds an engine's mistakes, so they must find these.
func TestBadFramesAreRecognized(t *testing.T) {
	all := vnet.FeatureVersion1 | vnet.FeatureGuestCSum | vnet.FeatureGuestTSO4
	partial := vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16}
	large := partial
	large.GSOType, large.GSOSize = vnet.GSOTCPv4, 1460
	seg := Segment{
		Src: netip.MustParseAddrPort("10.0.2.2:80"), Dst: netip.MustParseAddrPort("10.0.2.15:1024"),
		Flags: ACK, Payload: data(100),
	}
	packet := func(partial bool, n int) []byte {
		s := seg
		s.Payload = data(n)
		tcp := s.tcp(partial)
		return ethernet(gatewayMAC, gatewayMAC, 0x0800, ipv4(6, s.Src.Addr(), s.Dst.Addr(), len(tcp)+n), tcp, s.Payload)
	}
	spoil := func(at int) []byte {
		b := packet(false, 100)
		b[at] ^= 1
		return b
	}
	cases := []struct {
		name     string
		features uint64
		header   vnet.Header
		frame    []byte
		buffers  int
		want     string
	}{
		{"complete checksum", vnet.FeatureVersion1, vnet.Header{}, packet(false, 100), 1, ""},
		{"partial checksum", all, partial, packet(true, 100), 1, ""},
		{"large frame", all, large, packet(true, 9000), 1, ""},
		{"verified elsewhere", all, vnet.Header{Flags: vnet.FlagDataValid}, spoil(60), 1, ""},
		{"payload", all, vnet.Header{}, spoil(60), 1, "checksum of protocol 6"},
		{"TCP header", all, vnet.Header{}, spoil(40), 1, "checksum of protocol 6"},
		{"IP header", all, vnet.Header{}, spoil(22), 1, "header checksum"},
		{"partial instead of complete", all, vnet.Header{}, packet(true, 100), 1, "checksum of protocol 6"},
		{"complete instead of partial", all, partial, packet(false, 100), 1, "partial checksum"},
		{"partial, not negotiated", vnet.FeatureVersion1, partial, packet(true, 100), 1, "without GUEST_CSUM"},
		{"partial in the wrong place", all, vnet.Header{Flags: 1, CsumStart: 14, CsumOffset: 16}, packet(true, 100), 1, "NEEDS_CSUM at"},
		{"large, not negotiated", vnet.FeatureVersion1 | vnet.FeatureGuestCSum, large, packet(true, 9000), 1, "not acknowledged"},
		{"large, without checksum", all, vnet.Header{GSOType: 1, GSOSize: 9}, packet(true, 100), 1, "without NEEDS_CSUM"},
		{"longer than the MTU", all, partial, packet(true, 1500), 1, "longer than the MTU"},
		{"short", all, vnet.Header{}, frame(59), 1, "shorter than Ethernet"},
		{"buffers", all, vnet.Header{}, packet(false, 100), 2, "num_buffers"},
		{"padding that is not zero", all, vnet.Header{}, append(packet(false, 0), 1, 0, 0, 0, 0, 0), 1, "padding is not zero"},
		{"garbage behind", all, vnet.Header{}, append(packet(false, 100), 0), 1, "behind"},
		{"unknown flag", all, vnet.Header{Flags: 8}, packet(false, 100), 1, "unknown flags"},
		{"unknown GSO", all, vnet.Header{GSOType: 9}, packet(false, 100), 1, "unknown GSO"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.header.NumBuffers = 1
			f := Frame{Header: c.header, Bytes: c.frame, Buffers: c.buffers}
			err := f.parse(rules{features: c.features, mtu: 1500})
			if c.want == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, c.want)
		})
	}
}
