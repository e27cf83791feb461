package nat_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// quoteOf returns the beginning of the packet that s came in, as an ICMP error quotes it.
func (b *bench) quoteOf(s *porttest.Segment) []byte {
	head := binary.BigEndian.AppendUint16(nil, s.Src.Port())
	head = binary.BigEndian.AppendUint16(head, s.Dst.Port())
	head = binary.BigEndian.AppendUint32(head, s.Seq)
	rest := make([]byte, 20-len(head)+len(s.Options)+len(s.Payload))
	if s.Src.Addr().Is4() {
		return b.IPv4(unix.IPPROTO_TCP, s.Src.Addr(), s.Dst.Addr(), head, rest)[14 : 14+20+8]
	}
	return b.IPv6(unix.IPPROTO_TCP, s.Src.Addr(), s.Dst.Addr(), head, rest)[14 : 14+40+8]
}

// tooBig is the ICMP error that tells that of what quote begins only mtu bytes fit a link.
func tooBig(mtu uint32, quote []byte) porttest.ICMP {
	if quote[0]>>4 == 4 {
		return porttest.ICMP{Type: 3, Code: 4, Rest: mtu, Payload: quote}
	}
	return porttest.ICMP{Type: 2, Rest: mtu, Payload: quote}
}

// length is that of the longest packet that becomes of a segment.
func length(s *porttest.Segment) int {
	n := len(s.Payload)
	if s.GSOSize != 0 {
		n = int(s.GSOSize)
	}
	n += 20 + len(s.Options)
	if s.Src.Addr().Is4() {
		return n + 20
	}
	return n + 40
}

// narrowLink is a link behind the guest that carries packets of mtu bytes. Others are lost, and the guest says so. said is what
// it says to be the MTU.
type narrowLink struct {
	mtu, said int
	longest   int // packet that has passed
	lost      int
}

func (b *bench) narrow(mtu, said int) *narrowLink {
	l := &narrowLink{mtu: mtu, said: said}
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		if d == porttest.FromGuest {
			return false
		}
		if length(s) <= l.mtu {
			l.longest = max(l.longest, length(s))
			return false
		}
		l.lost++
		b.SendICMP(s.Src.Addr(), tooBig(uint32(l.said), b.quoteOf(s)))
		return true
	}
	return l
}

// download has the host send n bytes, and requires that they arrive without a timer.
func (b *bench) download(c *porttest.TCP, host net.Conn, n int) {
	b.t.Helper()
	start := b.Now()
	sent := make(chan error, 1)
	go func() { _, err := host.Write(noise(n)); sent <- err }()
	c.WaitFor(n)
	requireSame(b.t, noise(n), c.Read())
	require.NoError(b.t, <-sent)
	require.Less(b.t, time.Duration(b.Now()-start), 15*time.Second)
}

func TestT64ADownloadGetsThroughANarrowPath(t *testing.T) {
	const noOffload = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf
	for name, c := range map[string]struct {
		features uint64
		opt      porttest.TCPOptions
		mtu      int
		v6       bool
	}{
		"large frames":                    {mtu: 1400},
		"large frames, times and SACK":    {mtu: 1400, opt: porttest.TCPOptions{Times: true, SACK: true}},
		"single segments":                 {mtu: 1400, features: noOffload},
		"the least MTU of a host of IPv4": {mtu: 576},
		"IPv6":                            {mtu: 1300, v6: true},
		"IPv6, single segments":           {mtu: 1280, v6: true, features: noOffload},
	} {
		t.Run(name, func(t *testing.T) {
			s := setup{guest: porttest.Options{Features: c.features}}
			var b *bench
			if c.v6 {
				b = newBench6(t, s)
			} else {
				b = newBench(t, s)
			}
			conn, host := b.connect(c.opt)
			link := b.narrow(c.mtu, c.mtu)
			_, err := host.Write(noise(20_000))
			require.NoError(t, err)
			b.Settle()
			requireSame(t, noise(20_000), conn.Read()) // at once: the clock stands still
			b.download(conn, host, 300_000)
			require.Equal(t, uint64(1), b.port.Counters().PathsNarrowed, "one report is enough")
			require.Equal(t, c.mtu, link.longest, "the path is used to the full")
			lost := link.lost
			again, host := b.connect(c.opt)
			b.download(again, host, 100_000)
			require.Equal(t, lost, link.lost, "the next connection to the same address knows it")
		})
	}
}

func TestT64AForwardedClientsUploadGetsThroughANarrowPath(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	c := l.Accept()
	link := b.narrow(1400, 0)
	b.download(c, client, 300_000)
	require.Equal(t, 1006, link.longest, "a router of old tells no MTU: a usual one is tried")
	require.NoError(t, client.CloseWrite())
	b.Until("the end arrives too", func() bool { return c.FinReceived })
}

func TestT64AWindowThatIsClosedOpensOnANarrowPath(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{Window: 1400})
	link := b.narrow(1300, 1300)
	go func() { _, _ = host.Write(noise(100_000)) }()
	c.WaitFor(1400)
	c.Window = 0
	c.SendAck()
	b.Run(10 * time.Second)
	before := len(c.Received())
	c.Window = 65535
	c.SendAck()
	c.WaitFor(100_000)
	require.Less(t, before, 3000)
	require.Equal(t, 1300, link.longest)
}

func TestT64ReportsFindTheirConnectionOnAnyQueue(t *testing.T) {
	b, h := newQueues(t, 3)
	link := b.narrow(1400, 1400)
	echoes(t, b, 8, 100_000, func() {})
	require.Equal(t, 1400, link.longest)
	narrowed := uint64(0)
	for _, n := range h.counters() {
		narrowed += n.PathsNarrowed
	}
	require.NotZero(t, narrowed)
}

func TestT65WhoBehindTheGuestCallsSomethingTooBigIsNotBelievedEverything(t *testing.T) {
	for name, c := range map[string]struct {
		v6   bool
		mtu  uint32
		lie  func(b *bench, s *porttest.Segment) // changes what is quoted
		cut  int                                 // bytes of the quote that are left out
		from netip.Addr                          // whom the message is sent to, if not who has sent the packet
	}{
		"a sequence number before the window": {mtu: 600, lie: func(_ *bench, s *porttest.Segment) { s.Seq -= 100_000 }},
		"the last byte that was acknowledged": {mtu: 600, lie: func(_ *bench, s *porttest.Segment) { s.Seq-- }},
		"a sequence number that was not sent": {mtu: 600, lie: func(_ *bench, s *porttest.Segment) { s.Seq += 100_000 }},
		"another port of the guest":           {mtu: 600, lie: func(_ *bench, s *porttest.Segment) { s.Dst = withPort(s.Dst, 9) }},
		"another port of the peer":            {mtu: 600, lie: func(_ *bench, s *porttest.Segment) { s.Src = withPort(s.Src, 9) }},
		"another guest":                       {mtu: 600, lie: func(_ *bench, s *porttest.Segment) { s.Dst = at("10.0.2.16:1000") }},
		"who has not sent it":                 {mtu: 600, from: netip.MustParseAddr("192.0.2.1")},
		"half a quote":                        {mtu: 600, cut: 4},
		"no quote":                            {mtu: 600, cut: 28},
		"an MTU as large as the packet":       {mtu: 1500},
		"an MTU larger than that":             {mtu: 65535},
		"IPv6 with less than it promises":     {v6: true, mtu: 1279},
		"IPv6 with nothing":                   {v6: true, mtu: 1},
		"IPv6 with the largest number":        {v6: true, mtu: 1<<32 - 1},
		"IPv6 with a byte that was not sent":  {v6: true, mtu: 1280, lie: func(_ *bench, s *porttest.Segment) { s.Seq += 100_000 }},
		"IPv6 with half a quote":              {v6: true, mtu: 1280, cut: 4},
		"IPv6 with a quote that is cut off":   {v6: true, mtu: 1280, cut: 20},
	} {
		t.Run(name, func(t *testing.T) {
			var b *bench
			if c.v6 {
				b = newBench6(t, setup{})
			} else {
				b = newBench(t, setup{})
			}
			conn, host := b.connect(porttest.TCPOptions{ManualAck: true})
			_, err := host.Write(noise(10_000))
			require.NoError(t, err)
			conn.WaitFor(10_000)
			s := porttest.Segment{Src: conn.Remote, Dst: conn.Local, Seq: conn.SndUna, Payload: noise(1000)}
			s.Seq = conn.RcvNxt - 10_000
			if c.lie != nil {
				c.lie(b, &s)
			}
			quote := b.quoteOf(&s)
			to := s.Src.Addr()
			if c.from.IsValid() {
				to = c.from
			}
			m := tooBig(c.mtu, quote)
			m.Payload = quote[:len(quote)-c.cut]
			b.SendICMP(to, m)
			b.Settle()
			require.Equal(t, uint64(1), b.port.Counters().StrayReports)
			require.Zero(t, b.port.Counters().PathsNarrowed)
			require.Zero(t, b.port.Counters().Retransmits)
			conn.SendAck()
			conn.ManualAck = false
			_, err = host.Write(noise(100_000))
			require.NoError(t, err)
			conn.WaitFor(110_000)
			require.Equal(t, 1500, longestOf(conn))
		})
	}
}

// withPort returns a with another port.
func withPort(a netip.AddrPort, port uint16) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr(), port)
}

// longestOf is the length of the longest packet of a connection that the guest has received. Segments are kept without
// their payload.
func longestOf(c *porttest.TCP) (n int) {
	for _, s := range c.Segments {
		n = max(n, length(&s))
	}
	return n
}

func TestT65AFloodOfReportsIsBounded(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{ManualAck: true})
	_, err := host.Write(noise(10_000))
	require.NoError(t, err)
	c.WaitFor(10_000)
	quote := b.quoteOf(&porttest.Segment{Src: c.Remote, Dst: c.Local, Seq: c.RcvNxt - 10_000, Payload: noise(1400)})
	for mtu := uint32(1400); mtu > 1000; mtu-- {
		b.SendICMP(c.Remote.Addr(), tooBig(mtu, quote))
		b.Work()
	}
	n := b.port.Counters()
	require.Equal(t, uint64(256), n.PathsNarrowed)
	require.Equal(t, uint64(400-256), n.PathsOverBudget)
	c.ManualAck = false
	c.SendAck()
	c.Read()
	b.download(c, host, 100_000)
}

func TestT66ACallThatDoesNotReachTheGuestsServiceEndsAtOnce(t *testing.T) {
	for name, m := range map[string]porttest.ICMP{
		"port unreachable": {Type: 3, Code: 3},
		"host unreachable": {Type: 3, Code: 1},
		"network":          {Type: 3, Code: 0},
		"prohibited":       {Type: 3, Code: 13},
		"time exceeded":    {Type: 11, Code: 0},
		"protocol unknown": {Type: 3, Code: 2},
	} {
		t.Run(name, func(t *testing.T) {
			b, dial := newForward(t, setup{})
			b.Listen(80)
			client := dial()
			b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
				m.Payload = b.quoteOf(s)
				b.SendICMP(s.Src.Addr(), m)
				return true
			}
			start := b.Now()
			b.Settle()
			require.Equal(t, start, b.Now(), "no timer is needed")
			require.ErrorContains(t, b.readAll(client).err, "connection reset")
			n := b.port.Counters()
			require.Equal(t, uint64(1), n.ReportsHeeded)
			require.Equal(t, map[string]int{"ended_unreachable_in_guest": 1}, b.endings())
		})
	}
}

func TestT66AnOpenConnectionSurvivesErrors(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect(porttest.TCPOptions{ManualAck: true})
	_, err := host.Write(noise(1000))
	require.NoError(t, err)
	c.WaitFor(1000)
	quote := b.quoteOf(&porttest.Segment{Src: c.Remote, Dst: c.Local, Seq: c.RcvNxt - 1000, Payload: noise(1000)})
	for code := range uint8(16) {
		if code == 4 {
			continue
		}
		b.SendICMP(c.Remote.Addr(), porttest.ICMP{Type: 3, Code: code, Payload: quote})
	}
	b.SendICMP(c.Remote.Addr(), porttest.ICMP{Type: 11, Payload: quote})
	b.SendICMP(c.Remote.Addr(), porttest.ICMP{Type: 12, Payload: quote})
	b.Settle()
	require.Equal(t, uint64(16), b.port.Counters().StrayReports)
	require.Equal(t, uint64(1), b.port.Counters().Unsupported, "a parameter problem is nothing that is known")
	c.ManualAck = false
	c.SendAck()
	c.Read()
	b.download(c, host, 50_000)
}

func TestT66AForgedErrorEndsNoCall(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	l.Mute = true
	client := dial()
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		s.Seq++
		b.SendICMP(s.Src.Addr(), porttest.ICMP{Type: 3, Code: 3, Payload: b.quoteOf(s)})
		s.Seq--
		return false
	}
	b.Settle()
	require.Equal(t, uint64(1), b.port.Counters().StrayReports)
	b.Drop, l.Mute = nil, false
	b.Skip("the guest answers", func() bool { return len(l.Pending()) == 1 })
	_, err := client.Write([]byte("hello"))
	require.NoError(t, err)
	l.Accept().WaitFor(5)
}

func TestT66ARejectedPortShutsItsGate(t *testing.T) {
	b, host := newGate(t)
	b.Listen(80)
	b.Skip("the gate is open", func() bool { return b.gates() > 0 })
	b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
		b.SendICMP(s.Src.Addr(), porttest.ICMP{Type: 3, Code: 3, Payload: b.quoteOf(s)})
		return true
	}
	b.Run(6 * time.Second)
	require.Equal(t, uint64(1), b.port.Counters().GatesShut)
	_, err := net.Dial("tcp4", host)
	require.ErrorContains(t, err, "connection refused")
}

func TestT67ANarrowPathIsTriedAgainAfterTenMinutes(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	link := b.narrow(1300, 1300)
	b.download(c, host, 100_000)
	require.Equal(t, 1300, link.longest)
	link.mtu = 1400
	b.Run(9 * time.Minute)
	b.download(c, host, 100_000)
	require.Equal(t, 1300, link.longest, "not yet")
	b.Run(2 * time.Minute)
	link.said = 1400
	b.download(c, host, 100_000)
	require.Equal(t, 1400, link.longest)
	link.mtu, link.said = 1500, 1500
	b.Run(11 * time.Minute)
	b.download(c, host, 100_000)
	require.Equal(t, 1500, link.longest)
}

func TestT68APathOfIPv4ThatIsNarrowerThanAnyHostMayCutSegments(t *testing.T) {
	for _, said := range []int{296, 0} {
		b := newBench(t, setup{})
		c, host := b.connect()
		frames := 0
		b.Drop = func(d porttest.Direction, s *porttest.Segment) bool {
			if d == porttest.FromGuest || length(s) <= 296 || length(s) <= 576 && said == 0 {
				return false
			}
			f := b.Frames()
			if last := f[len(f)-1]; last.Bytes[14+6]&0x40 == 0 {
				require.LessOrEqual(t, length(s), 576)
				frames++
				return false // routers cut it
			}
			b.SendICMP(s.Src.Addr(), tooBig(uint32(said), b.quoteOf(s)))
			return true
		}
		b.download(c, host, 100_000)
		if said != 0 {
			require.NotZero(t, frames)
		}
	}
}
