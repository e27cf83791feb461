package nat_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// The first byte of a script.
const (
	featureChoice     = 3
	withoutPeekOffset = 4
	withClients       = 8
)

// waitForHost in the first byte of a record gives the service time to answer.
const waitForHost = 4

const (
	fuzzFlows   = 16
	fuzzFrame   = 4096 // of the longest frame
	fuzzRecords = 200  // that are taken of one script
	fuzzHead    = 3 + vnet.LegacyHeaderLen
)

// FuzzFrames gives an engine the frames of a guest that may send anything. What it sends back is checked by porttest,
// which also fails for turns without a cause, and for sockets that are left open.
//
// A script is one byte that chooses features and whether clients come through forwards, and a record for each frame: a byte for the layout and for how long the
// guest waits then, two for the frame's length, the virtio-net header, the frame. Nothing but the fuzzer's own port of
// the loopback can be reached: it is the resolver, two addresses lead to it, the guest's network is the whole Internet, and all else of IPv6 is closed.
func FuzzFrames(f *testing.F) {
	service := newFuzzService(f)
	for _, script := range frameSeeds(f, service) {
		f.Add(script)
	}
	f.Fuzz(func(t *testing.T, script []byte) {
		if len(script) == 0 {
			return
		}
		port, g := newFuzzed(t, service, script[0])
		playAll(t, port, g, script[1:])
	})
}

// playAll sends the frames of a script, and lets twenty minutes pass.
func playAll(t *testing.T, port *nat.Port, g *porttest.Guest, script []byte) {
	n := uint64(0)
	for ; len(script) >= fuzzHead && n < fuzzRecords; n++ {
		script = play(g, script)
		require.LessOrEqual(t, g.Sockets(), fuzzFlows)
	}
	for range 20 {
		g.Advance(time.Minute)
		g.Work()
	}
	c := port.Counters()
	require.GreaterOrEqual(t, c.FramesIn, n, "every frame was taken; the guest itself answers ARP")
	require.LessOrEqual(t, c.Malformed+c.BadHeader+c.Unsupported+c.OtherProtocols+c.Multicast+c.Broadcast+c.BadAddress, c.FramesIn)
}

// play sends the first frame of script and returns the rest.
func play(g *porttest.Guest, script []byte) []byte {
	var h vnet.Header
	h.Decode(script[3:fuzzHead])
	how, n := script[0], int(binary.BigEndian.Uint16(script[1:]))
	script = script[fuzzHead:]
	n = min(n, len(script), fuzzFrame-vnet.HeaderLen)
	layouts := []porttest.Layout{{}, {Lens: []int{12}}, {Lens: []int{12, 14, 20, 8}}, {Lens: []int{1, 0, 30, 3}}}
	g.SendRaw(h, script[:n], layouts[how&3])
	g.Work()
	if how&waitForHost != 0 {
		time.Sleep(200 * time.Microsecond)
		g.Work()
	}
	if exponent := how >> 4; exponent > 0 {
		g.Advance(time.Millisecond << exponent)
		g.Work()
	}
	return script[n:]
}

// Where the guest reaches the service by TCP.
var (
	fuzzTarget  = netip.MustParseAddrPort("10.0.2.100:7")
	fuzzTarget6 = netip.MustParseAddrPort("[fd00:10:0:2::100]:7")
)

// fuzzConfig is a network from which there is no way but to the service.
func fuzzConfig(service netip.AddrPort) nat.Config {
	cfg := nat.DefaultConfig()
	cfg.Prefix = netip.MustParsePrefix("0.0.0.0/0")
	cfg.Rules = []spec.Rule{{Prefix: netip.MustParsePrefix("::/0")}}
	cfg.Resolvers = dns.Plain(service)
	for _, from := range []netip.AddrPort{fuzzTarget, fuzzTarget6} {
		cfg.Redirects = append(cfg.Redirects, spec.Redirect{Proto: unix.IPPROTO_TCP, From: from, To: service})
	}
	cfg.MaxFlows = fuzzFlows
	cfg.InitialSequence = func() uint32 { return 1000 }
	return cfg
}

func newFuzzed(t *testing.T, service netip.AddrPort, choice byte) (*nat.Port, *porttest.Guest) {
	cfg := fuzzConfig(service)
	cfg.PeekOffset = cfg.PeekOffset && choice&withoutPeekOffset == 0
	if choice&withClients != 0 {
		cfg.Forwards = fuzzForwards(1)
	}
	port, g := newFuzzedBy(t, cfg, choice)
	for _, forward := range cfg.Forwards {
		comeThrough(t, forward)
	}
	return port, g
}

// newFuzzedBy is an engine with a guest of the features that choice says.
func newFuzzedBy(t *testing.T, cfg nat.Config, choice byte) (*nat.Port, *porttest.Guest) {
	port, err := nat.New(cfg)
	require.NoError(t, err)
	opt := porttest.Options{RingSize: 32, BufSize: 2048, MaxFrame: fuzzFrame, GatewayMAC: cfg.GatewayMAC}
	switch choice & featureChoice {
	case 1:
		opt.Features = vnet.FeatureVersion1
	case 2:
		opt.Features = port.Offers()
		opt.BufSize = 66000
	}
	g := porttest.New(t, port, opt)
	g.Deaf = true // its resets would answer what the script leaves unanswered
	return port, g
}

// fuzzForwards lead to port 80 of the guest, from an address that no other process of the fuzzer's has. block is 1 or
// 65, for two that this one has.
func fuzzForwards(block int) []spec.Forward {
	pid := os.Getpid()
	addr := netip.AddrFrom4([4]byte{127, byte(block + pid>>16&63), byte(pid >> 8), byte(pid)})
	host := netip.AddrPortFrom(addr, 8000)
	guest := netip.MustParseAddrPort("10.0.2.15:80")
	return []spec.Forward{
		{Proto: tcp, Host: host, Guest: guest, Count: 1},
		{Proto: udp, Host: host, Guest: guest, Count: 1},
	}
}

// comeThrough sends data through a forward, always from the same port, so that the guest knows whom to answer. The connection is
// closed at the end of the test.
func comeThrough(t testing.TB, forward spec.Forward) net.Conn {
	const clientPort = 9000
	from := netip.AddrPortFrom(forward.Host.Addr(), clientPort)
	network, d := "tcp4", net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(from)}
	if forward.Proto == udp {
		network, d.LocalAddr = "udp4", net.UDPAddrFromAddrPort(from)
	}
	c, err := d.Dial(network, forward.Host.String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	if c, ok := c.(*net.TCPConn); ok {
		require.NoError(t, c.SetLinger(0)) // the port can be used again at once
	}
	_, err = c.Write(noise(2000))
	require.NoError(t, err)
	return c
}

// newFuzzService opens a port of the loopback, by TCP and by UDP. It sends back what it gets, and greets those that
// connect, with one urgent byte.
func newFuzzService(f *testing.F) netip.AddrPort {
	for range 100 {
		port := echoDatagrams(f)
		addr := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
		l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(addr))
		if err != nil {
			continue
		}
		f.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.AcceptTCP()
				if err != nil {
					return
				}
				go greet(c)
			}
		}()
		return addr
	}
	f.Fatal("no port is free by TCP and by UDP")
	return netip.AddrPort{}
}

func greet(c *net.TCPConn) {
	_ = c.SetLinger(0) // no port waits for late segments
	_ = c.SetDeadline(time.Now().Add(time.Second))
	greeting := noise(5000)
	_, _ = c.Write(greeting[:2999])
	if raw, err := c.SyscallConn(); err == nil {
		_ = raw.Write(func(fd uintptr) bool {
			return unix.Sendto(int(fd), greeting[2999:3000], unix.MSG_OOB|unix.MSG_NOSIGNAL, nil) != unix.EAGAIN
		})
	}
	_, _ = c.Write(greeting[3000:])
	buf := make([]byte, 4096)
	n, err := c.Read(buf)
	for ; err == nil; n, err = c.Read(buf) {
		_, _ = c.Write(buf[:n])
	}
	if err == io.EOF {
		_ = c.SetLinger(-1) // after the guest's FIN comes ours
	}
	_ = c.Close()
}

// recorder writes down what a guest sends.
type recorder struct {
	*nat.Port
	script []byte
}

func (r *recorder) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	for i := range tx {
		b := make([]byte, tx[i].Len)
		guestmem.CopyFrom(b, tx[i].Iov, 0)
		r.script = append(r.script, 0x80|waitForHost|byte(i&3)) // and 256 ms on the guest's clock
		r.script = binary.BigEndian.AppendUint16(r.script, uint16(len(b)-vnet.HeaderLen))
		r.script = append(r.script, b[:vnet.LegacyHeaderLen]...)
		r.script = append(r.script, b[vnet.HeaderLen:]...)
	}
	return r.Port.Turn(now, tx, events, rx)
}

// frameSeeds are scripts of what guests do.
func frameSeeds(f *testing.F, service netip.AddrPort) (scripts [][]byte) {
	resolver, resolver6 := netip.MustParseAddrPort("10.0.2.3:53"), netip.MustParseAddrPort("[fd00:10:0:2::3]:53")
	query := porttest.Datagram{
		Src: netip.MustParseAddrPort("10.0.2.15:5000"), Dst: resolver,
		Payload: []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1},
	}
	long := query
	long.Payload = noise(3000)
	query6, long6 := query, long
	query6.Src, query6.Dst = netip.MustParseAddrPort("[fd00:10:0:2::15]:5000"), resolver6
	long6.Src, long6.Dst = query6.Src, query6.Dst
	for _, scene := range []func(*porttest.Guest){
		func(g *porttest.Guest) { g.Resolve() },
		func(g *porttest.Guest) { g.SendDatagram(query) },
		func(g *porttest.Guest) {
			g.SendDatagram(porttest.Datagram{Src: query.Src, Dst: netip.MustParseAddrPort("192.0.2.1:9"), Payload: noise(9)})
		},
		func(g *porttest.Guest) { g.SendICMP(g.Gateway, porttest.ICMP{Type: 8, Payload: noise(56)}) },
		func(g *porttest.Guest) {
			for _, fragment := range long.Cut(1, 1480) {
				g.SendFragment(fragment)
			}
		},
		discoverAndRequest,
		func(g *porttest.Guest) {
			converse(g, fuzzTarget, func(c *porttest.TCP) { c.Close(); g.Until("its end", c.Ended) })
		},
		func(g *porttest.Guest) { converse(g, fuzzTarget, (*porttest.TCP).Reset) },
		func(g *porttest.Guest) { converse(g, fuzzTarget, misbehave) },
		func(g *porttest.Guest) { converse(g, fuzzTarget, hurry) },
		func(g *porttest.Guest) { converse(g, fuzzTarget6, hurry) },
		func(g *porttest.Guest) {
			askAll(g, resolver, func(c *porttest.TCP) { c.Close(); g.Until("its end", c.Ended) })
		},
		func(g *porttest.Guest) { askAll(g, resolver, misbehave) },
		func(g *porttest.Guest) { askAll(g, resolver6, hurry) },
		func(g *porttest.Guest) { g.SendDatagram(query6) },
		func(g *porttest.Guest) {
			for _, fragment := range long6.Cut(1, 1448) {
				g.SendFragment(fragment)
			}
		},
		func(g *porttest.Guest) {
			g.SendICMP(netip.MustParseAddr("ff02::2"), porttest.ICMP{Type: 133})
			g.SendICMP(g.Gateway6, porttest.ICMP{Type: 135, Payload: g.Gateway6.AsSlice()})
			g.SendICMP(g.Gateway6, porttest.ICMP{Type: 128, Payload: noise(56)})
		},
		func(g *porttest.Guest) {
			converse(g, fuzzTarget6, func(c *porttest.TCP) { c.Close(); g.Until("its end", c.Ended) })
		},
	} {
		scripts = append(scripts, record(f, fuzzConfig(service), 0, scene))
	}
	cfg := fuzzConfig(service)
	cfg.Forwards = fuzzForwards(65)
	return append(scripts, record(f, cfg, withClients, func(g *porttest.Guest) {
		g.Resolve()
		l := g.Listen(80)
		for _, forward := range cfg.Forwards {
			comeThrough(f, forward)
		}
		g.Until("the client's data has come", func() bool {
			c := l.Pending()
			return len(c) == 1 && len(c[0].Received()) == 2000
		})
	}))
}

// record returns the script of a scene.
func record(f *testing.F, cfg nat.Config, choice byte, scene func(*porttest.Guest)) []byte {
	port, err := nat.New(cfg)
	require.NoError(f, err)
	r := &recorder{Port: port}
	g := porttest.New(f, r, porttest.Options{})
	scene(g)
	g.Settle()
	return append([]byte{choice}, r.script...)
}

// discoverAndRequest gets the guest's address by DHCP.
func discoverAndRequest(g *porttest.Guest) {
	b := make([]byte, 236, 300)
	copy(b, []byte{1, 1, 6, 0, 'v', 'r', 'n', 'g'})
	copy(b[28:], g.MAC[:])
	b = append(b, 99, 130, 83, 99)
	for _, options := range [][]byte{
		{53, 1, 1, 55, 3, 1, 3, 6, 255},
		{53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2, 12, 4, 'n', 'a', 'm', 'e', 255},
	} {
		g.SendDatagram(porttest.Datagram{
			Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"),
			Payload: append(b[:240:240], options...),
		})
	}
}

// misbehave repeats acknowledgements and data, sends too early, and closes its window.
func misbehave(c *porttest.TCP) {
	ack := c.Segment(porttest.ACK, nil)
	for range 4 {
		c.SendSegment(ack)
	}
	early := c.Segment(porttest.ACK, noise(100))
	early.Seq += 1000
	c.SendSegment(early)
	old := c.Segment(porttest.ACK|porttest.PSH, noise(100))
	old.Seq -= 50
	c.SendNext(old)
	closed := c.Segment(porttest.ACK, noise(100))
	closed.Window = 0
	c.SendNext(closed)
	open := c.Segment(porttest.ACK, nil)
	open.Ack -= 100
	c.SendSegment(open)
	c.SendSegment(c.Segment(porttest.ACK, nil))
}

// hurry sends urgent bytes of all kinds: at the first, the last and no byte of a segment, ahead, without data, again, and with
// the end.
func hurry(c *porttest.TCP) {
	for _, s := range []struct {
		length  int
		pointer uint16
		flags   header.TCPFlags
	}{{100, 0, 0}, {100, 1, 0}, {100, 100, porttest.PSH}, {0, 50, 0}, {100, 65535, 0}, {1, 1, porttest.PSH}, {1, 1, 0}, {100, 101, porttest.FIN}} {
		urgent := c.Segment(porttest.ACK|porttest.URG|s.flags, noise(s.length))
		urgent.Urgent = s.pointer
		c.SendSegment(urgent)
		c.SendNext(urgent)
	}
}

// askAll asks a name server by TCP what it refuses, and ends by end.
func askAll(g *porttest.Guest, to netip.AddrPort, end func(*porttest.TCP)) {
	c := g.Connect(to, porttest.TCPOptions{ISS: 5000, LocalPort: 5000, WScale: 7})
	transfer := []byte{0, 19, 0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 252, 0, 1}
	for range 3 {
		c.Send(transfer)
	}
	c.WaitFor(3 * len(transfer))
	end(c)
	g.Settle()
}

// converse exchanges data with the service, and ends by end.
func converse(g *porttest.Guest, to netip.AddrPort, end func(*porttest.TCP)) {
	c := g.Connect(to, porttest.TCPOptions{ISS: 5000, LocalPort: 5000, WScale: 7})
	c.WaitFor(5000)
	c.Send(noise(3000))
	c.WaitFor(8000)
	end(c)
	g.Settle()
}
