package main

import (
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	segments  = 4    // in a turn
	segment   = 1460 // bytes: an MTU of 1500 without headers
	datagrams = 2    // in a turn
	datagram  = 1000
	largeSent = 40 * segment
	// largeGot fills 32 receive buffers, for so many descriptors are read at a time: each turn reads once.
	largeGot = 44 * segment
	acks     = 8 // in a turn, each for two segments
)

// natRows are the ways of data through "vring nat".
func natRows() []row {
	return []row{
		{"tcp segments out", segments + 1, segmentsOut}, // one more is the engine's acknowledgement
		{"tcp segments in", segments, segmentsIn},
		{"tcp acknowledgements out", acks, acksOut},
		{"tcp large out", 2, largeOut},
		{"tcp large in", 1, largeIn},
		{"udp out", datagrams, datagramsOut},
		{"udp in", datagrams, datagramsIn},
	}
}

// gauge is a Port of which single turns are measured.
type gauge struct {
	*nat.Port
	measure func(turn func()) // of the next turn, nil if it is not measured
	frames  int               // in the turn that was measured last
}

func (g *gauge) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	if g.measure == nil {
		return g.Port.Turn(now, tx, events, rx)
	}
	before := rx.Frames
	g.measure(func() { done, next = g.Port.Turn(now, tx, events, rx) })
	g.measure = nil
	g.frames = done + int(rx.Frames-before)
	return done, next
}

// scene is a guest with its engine, and a service of the host.
type scene struct {
	*porttest.Guest
	t       testing.TB
	gauge   *gauge
	gateway netip.Addr
	buf     []byte
}

// newScene starts an engine that lets the guest call the host at port. without are features that the guest has not.
func newScene(t testing.TB, proto int, port uint16, without uint64) *scene {
	cfg := nat.DefaultConfig()
	cfg.AllowHost = []spec.HostService{{Proto: uint8(proto), Port: port}}
	engine, err := nat.New(cfg)
	if err != nil {
		t.Fatalf("make an engine: %v", err)
	}
	s := &scene{t: t, gauge: &gauge{Port: engine}, gateway: cfg.Gateway, buf: make([]byte, 1<<17)}
	features := engine.Offers()&^without | vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf
	s.Guest = porttest.New(t, s.gauge, porttest.Options{Features: features})
	return s
}

// take lets the engine have one turn, which must carry so many frames, and is measured.
func (s *scene) take(frames int, measure func(turn func())) {
	s.Frames() // else they are kept
	s.gauge.measure = measure
	s.Turn()
	if s.gauge.frames != frames {
		s.t.Fatalf("the turn has carried %d frames instead of %d", s.gauge.frames, frames)
	}
}

// connection is a scene with a connection that the guest has begun.
type connection struct {
	*scene
	guest *porttest.TCP
	host  int // file descriptor
}

// connect makes a connection. without are features that the guest has not.
func connect(t testing.TB, opt porttest.TCPOptions, without uint64) *connection {
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	defer listener.Close()
	port := netip.MustParseAddrPort(listener.Addr().String()).Port()
	s := newScene(t, unix.IPPROTO_TCP, port, without)
	c := s.Dial(netip.AddrPortFrom(s.gateway, port), opt)
	s.Until("the connection is open", func() bool { return c.State == porttest.Open })
	host, err := listener.(*net.TCPListener).Accept()
	if err != nil {
		t.Fatalf("accept: %v", err)
	}
	file, err := host.(*net.TCPConn).File()
	if err != nil {
		t.Fatalf("the host's socket: %v", err)
	}
	t.Cleanup(func() { file.Close(); host.Close() })
	s.Settle()
	return &connection{s, c, int(file.Fd())}
}

// hostReads reads n bytes at the host's end.
func (c *connection) hostReads(n int) {
	for n > 0 {
		got, err := unix.Read(c.host, c.buf[:min(n, len(c.buf))])
		if err != nil || got == 0 {
			c.t.Fatalf("read at the host: %d bytes, %v", got, err)
		}
		n -= got
	}
}

// hostWrites writes n bytes at the host's end.
func (c *connection) hostWrites(n int) {
	if put, err := unix.Write(c.host, c.buf[:n]); err != nil || put != n {
		c.t.Fatalf("write at the host: %d bytes, %v", put, err)
	}
}

// segmentsOut is a guest without segmentation offload that sends.
func segmentsOut(t testing.TB) stage { return sending(t, segments*segment, segments+1, true) }

// largeOut is a guest that sends one large segment, which the engine acknowledges.
func largeOut(t testing.TB) stage { return sending(t, largeSent, 2, false) }

// widen sends until the window allows n bytes at once: the host's socket gives more of it to those who use it.
func (c *connection) widen(n int) {
	for range 1000 {
		if c.guest.SndWnd >= 2*n {
			return
		}
		chunk := min(n, c.guest.SndWnd)
		c.guest.Send(c.buf[:chunk])
		c.Work()
		c.hostReads(chunk)
		c.Settle()
	}
	c.t.Fatalf("the window of %d bytes stays below %d", c.guest.SndWnd, 2*n)
}

func sending(t testing.TB, size, frames int, noGSO bool) stage {
	c := connect(t, porttest.TCPOptions{NoGSO: noGSO, WScale: 7}, 0)
	data := make([]byte, size)
	c.widen(size)
	return func(measure func(func())) {
		c.guest.Segments = nil
		c.guest.Send(data)
		c.take(frames, measure)
		c.hostReads(size)
		c.Work()
	}
}

// segmentsIn is a guest that takes no frames of several segments.
func segmentsIn(t testing.TB) stage {
	return receiving(t, segments*segment, segments, vnet.FeatureGuestTSO4)
}

// largeIn is a guest that takes large frames.
func largeIn(t testing.TB) stage { return receiving(t, largeGot, 1, 0) }

func receiving(t testing.TB, size, frames int, without uint64) stage {
	c := connect(t, porttest.TCPOptions{WScale: 7, Window: 1 << 20}, without)
	return func(measure func(func())) {
		c.guest.Segments = nil
		c.hostWrites(size)
		c.take(frames, measure)
		c.Work()
		if got := len(c.guest.Read()); got != size {
			c.t.Fatalf("the guest has received %d bytes instead of %d", got, size)
		}
	}
}

// acksOut is a guest that acknowledges segments two by two.
func acksOut(t testing.TB) stage {
	c := connect(t, porttest.TCPOptions{WScale: 7, Window: 1 << 20, ManualAck: true}, vnet.FeatureGuestTSO4)
	return func(measure func(func())) {
		c.guest.Segments = nil
		begin := c.guest.RcvNxt
		c.hostWrites(2 * acks * segment)
		c.Turn()
		c.Work()
		if got := len(c.guest.Read()); got != 2*acks*segment {
			c.t.Fatalf("the guest has received %d bytes instead of %d", got, segments*segment)
		}
		for i := range acks {
			s := c.guest.Segment(porttest.ACK, nil)
			s.Ack = begin + uint32(2*segment*(i+1))
			c.guest.SendSegment(s)
		}
		c.take(acks, measure)
		c.Work()
	}
}

// talk is a scene with a socket of the host for datagrams, and the guest's end.
type talk struct {
	*scene
	datagram porttest.Datagram
	host     *net.UDPConn
	peer     netip.AddrPort // the guest, as the host sees it
}

// converse makes an association.
func converse(t testing.TB) *talk {
	host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatalf("listen: %v", err)
	}
	t.Cleanup(func() { host.Close() })
	port := netip.MustParseAddrPort(host.LocalAddr().String()).Port()
	c := &talk{scene: newScene(t, unix.IPPROTO_UDP, port, 0), host: host}
	c.datagram = porttest.Datagram{
		Src: netip.AddrPortFrom(c.IP, 5000), Dst: netip.AddrPortFrom(c.gateway, port), Payload: make([]byte, datagram),
	}
	c.SendDatagram(c.datagram)
	c.Turn()
	c.hostReads(1)
	return c
}

func (c *talk) hostReads(n int) {
	for range n {
		_, from, err := c.host.ReadFromUDPAddrPort(c.buf)
		if err != nil {
			c.t.Fatalf("receive at the host: %v", err)
		}
		c.peer = from
	}
}

// datagramsOut is a guest that sends datagrams.
func datagramsOut(t testing.TB) stage {
	c := converse(t)
	return func(measure func(func())) {
		for range datagrams {
			c.SendDatagram(c.datagram)
		}
		c.take(datagrams, measure)
		c.hostReads(datagrams)
		c.Work()
	}
}

// datagramsIn is a host that sends datagrams to the guest.
func datagramsIn(t testing.TB) stage {
	c := converse(t)
	return func(measure func(func())) {
		for range datagrams {
			if _, err := c.host.WriteToUDPAddrPort(c.buf[:datagram], c.peer); err != nil {
				c.t.Fatalf("send at the host: %v", err)
			}
		}
		c.take(datagrams, measure)
		c.Work()
		if got := len(c.Datagrams()); got != datagrams {
			c.t.Fatalf("the guest has received %d datagrams instead of %d", got, datagrams)
		}
	}
}
