package porttest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	limit    = time.Minute // of real time, for anything that a test waits for: a busy machine takes ten times as long as a quiet one
	calm     = 3           // milliseconds without any event after which the kernel has nothing more to tell
	maxSpins = 1000        // turns in a row that a Port may ask for without doing anything
	maxTrace = 60          // lines that a failure shows
	maxKept  = 64 << 20    // bytes of frames kept for Frames

	// longestStep is how far Until moves the clock at a time: that the machine has more to do than this test is no reason for a timer.
	longestStep = 50 * time.Millisecond
)

// Options describe a guest. The zero value is a modern Linux guest.
type Options struct {
	// Features are those that the guest acknowledged. 0 stands for all that the Port offers, VERSION_1 and MRG_RXBUF.
	Features uint64
	// RingSize is that of either ring, 256 if 0.
	RingSize int
	// BufSize is that of a receive buffer in bytes, the virtio-net header included; 0 for what a driver would post.
	BufSize int
	// Memfd makes guest memory of a memfd; else it is Go memory, which the race detector sees.
	Memfd bool
	// DirtyLog has the rings mark what they write, as for a guest that is migrated. After each turn, each page that has changed must be
	// marked. It costs a copy of the guest's memory a turn.
	DirtyLog bool
	// MaxFrame is the length of the longest frame that the guest can send, the virtio-net header included; 0 for the
	// longest of all.
	MaxFrame int
	// MTU is the guest's, in bytes; 0 for 1500.
	MTU int
	// GatewayMAC is where frames go to. If zero, the guest asks for the gateway by ARP before it sends anything.
	GatewayMAC [6]byte
}

// defaults fills in what was left out.
func (o *Options) defaults(offers uint64) {
	if o.Features == 0 {
		o.Features = offers | vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf
	}
	if o.RingSize == 0 {
		o.RingSize = 256
	}
	if o.MaxFrame == 0 {
		o.MaxFrame = txSlotSize
	}
	if o.MTU == 0 {
		o.MTU = 1500
	}
	switch {
	case o.BufSize != 0:
	case o.Features&vnet.FeatureMrgRxBuf != 0:
		o.BufSize = mergeBuf
	case o.Features&(vnet.FeatureGuestTSO4|vnet.FeatureGuestUSO4) != 0:
		o.BufSize = bigBuf
	default:
		o.BufSize = max(singleBuf, o.MTU+etherLen+vnet.HeaderLen)
	}
}

// Direction is the way of a segment.
type Direction bool

const (
	FromGuest Direction = false
	ToGuest   Direction = true
)

// Guest is the fake guest. Its exported fields may be changed at any time.
type Guest struct {
	IP       netip.Addr // 10.0.2.15
	IP6      netip.Addr // fd00:10:0:2::15
	Gateway  netip.Addr // 10.0.2.2
	Gateway6 netip.Addr // fd00:10:0:2::2
	MAC      [6]byte
	// Hosts are more hosts behind the same card, by their addresses: frames from these have their MAC addresses.
	Hosts map[netip.Addr][6]byte

	// Drop loses the segments for which it returns true; nil loses none. It is called once for each segment.
	Drop func(Direction, *Segment) bool
	// Withhold keeps the guest from posting receive buffers; see Post.
	Withhold bool
	// Pad fills up frames that the guest sends to 60 bytes, as some drivers do.
	Pad bool
	// Deaf keeps the guest from answering segments to closed ports by a reset.
	Deaf bool
	// Alter changes frames before they are sent; nil changes none.
	Alter func(frame []byte)
	// MayBreakRules turns off the checks of received frames.
	MayBreakRules bool

	t       testing.TB
	opt     Options
	port    netbackend.Port
	worker  *worker
	rings   *rings
	writer  netbackend.RXWriter
	now     int64
	next    int64 // when the Port wants a turn
	starved bool  // the Port wants a turn when buffers were posted
	posted  bool  // since the last turn
	left    int   // chains that the Port left in the transmit ring
	spins   int
	turns   int
	gateMAC [6]byte
	stopped bool

	frames    []*Frame
	kept      int // bytes in frames
	datagrams []*Datagram
	partials  map[partial][]byte // datagrams that have not arrived completely
	trace     []string
	conns     map[connKey]*TCP
	listeners map[uint16]*Listener
	lastPort  uint16
}

// New starts a guest on port and closes both at the end of the test.
func New(t testing.TB, port netbackend.Port, opt Options) *Guest {
	opt.defaults(port.Offers())
	g := &Guest{
		IP: netip.AddrFrom4([4]byte{10, 0, 2, 15}), Gateway: netip.AddrFrom4([4]byte{10, 0, 2, 2}),
		IP6: netip.MustParseAddr("fd00:10:0:2::15"), Gateway6: netip.MustParseAddr("fd00:10:0:2::2"),
		MAC: [6]byte{0x52, 0x54, 0, 0x12, 0x34, 0x56},
		t:   t, opt: opt, port: port, worker: newWorker(t), now: int64(1000 * time.Second),
		gateMAC: opt.GatewayMAC, partials: map[partial][]byte{}, conns: map[connKey]*TCP{}, listeners: map[uint16]*Listener{}, lastPort: 40000,
	}
	g.rings = newRings(t, &g.opt)
	g.writer.Strict = true
	g.writer.Attach(g.rings.rxq, g.rings.headers, g.rings.merges)
	if err := port.Start(opt.Features, g.worker); err != nil {
		t.Fatalf("porttest: start the Port: %v", err)
	}
	port.RingsChanged(netbackend.RingState{
		Connected: true, Transmit: true, Receive: true, MTU: opt.MTU, Restarted: true,
	})
	t.Cleanup(g.close)
	g.posted = g.rings.post(opt.RingSize) > 0
	return g
}

// Stop closes the Port, as a process does that serves no guest any more. The guest does nothing after that.
func (g *Guest) Stop() {
	g.t.Helper()
	g.close()
}

func (g *Guest) close() {
	if g.stopped {
		return
	}
	g.stopped = true
	if err := g.port.Close(); err != nil {
		g.t.Errorf("porttest: close the Port: %v", err)
	}
	g.worker.close()
}

// Disconnect takes the rings away from the Port, as if the front end were gone. The guest does nothing after that.
func (g *Guest) Disconnect() {
	g.writer.Attach(nil, g.rings.headers, g.rings.merges)
	g.port.RingsChanged(netbackend.RingState{})
}

// StopRings takes the rings away from the Port as a front end does that stays, and tells the Port s: the guest is paused, or
// its driver is gone. Reconnect gives them back.
func (g *Guest) StopRings(s netbackend.RingState) {
	g.writer.Attach(nil, g.rings.headers, g.rings.merges)
	g.port.RingsChanged(s)
}

// Reconnect gives the rings back to the Port after Disconnect, as a front end does that has come back with the same guest,
// or with one that was restarted.
func (g *Guest) Reconnect(restarted bool) {
	g.writer.Attach(g.rings.rxq, g.rings.headers, g.rings.merges)
	g.port.RingsChanged(netbackend.RingState{
		Connected: true, Transmit: true, Receive: true, MTU: g.opt.MTU, Restarted: restarted,
	})
	g.posted = true
}

// Now returns the guest's clock in nanoseconds.
func (g *Guest) Now() int64 { return g.now }

// Advance moves the clock, and does nothing else.
func (g *Guest) Advance(d time.Duration) { g.now += int64(d) }

// Turns returns how many turns the Port had.
func (g *Guest) Turns() int { return g.turns }

// Notices returns what the Port raised so far.
func (g *Guest) Notices() []netbackend.Notice { return g.worker.notices }

// Sockets returns how many file descriptors the Port has registered, but for those by which it hears of the host's routes.
func (g *Guest) Sockets() int { return g.worker.sockets() }

// DropNews takes away what the kernel has told the Port of the host's addresses and routes.
func (g *Guest) DropNews() { g.worker.dropNews() }

// Post makes up to n receive buffers available, even with Withhold set.
func (g *Guest) Post(n int) {
	if g.rings.post(n) > 0 {
		g.posted = true
	}
}

// Turn gives the Port one turn, whether or not there is a cause, and lets the guest take what came of it. The clock
// stands still.
func (g *Guest) Turn() {
	g.rings.send()
	g.worker.poll(0)
	events := g.worker.events
	g.worker.events = nil
	tx := g.rings.txq.Fetch(virtqueue.MaxBatch)
	g.posted = false
	g.turns++
	g.rings.watchPages()
	done, next := g.port.Turn(g.now, tx, events, &g.writer)
	if done < 0 || done > len(tx) {
		g.t.Fatalf("porttest: the Port has done %d chains of %d", done, len(tx))
	}
	g.rings.txq.UseN(done)
	g.rings.txq.Flush()
	g.rings.rxq.Flush()
	g.rings.checkPages(g.t)
	g.next, g.left = next, len(tx)-done
	g.starved = g.writer.Starved()
	received := g.collect()
	g.checkSpin(done > 0 || len(events) > 0 || received > 0)
	g.react()
}

// checkSpin fails the test if the Port keeps asking for turns in which nothing happens.
func (g *Guest) checkSpin(useful bool) {
	if useful || g.next == 0 || g.next > g.now {
		g.spins = 0
		return
	}
	if g.spins++; g.spins > maxSpins {
		g.fatal("the Port asks for turn after turn and does nothing")
	}
}

// collect takes what the device has given back, and returns how many frames the guest received.
func (g *Guest) collect() int {
	g.rings.sent()
	n := 0
	for f := g.rings.receive(g.t); f != nil; f = g.rings.receive(g.t) {
		n++
		f.Time = g.now
		g.arrived(f)
	}
	if !g.Withhold && g.rings.post(g.opt.RingSize) > 0 {
		g.posted = true
	}
	return n
}

// arrived checks a frame, keeps it, and gives it to whom it is for.
func (g *Guest) arrived(f *Frame) {
	err := f.parse(rules{features: g.opt.Features, mtu: g.opt.MTU})
	g.note("<", f)
	if err == nil {
		err = g.checkHost(f)
	}
	if err != nil && !g.MayBreakRules {
		g.t.Errorf("porttest: the guest received a bad frame: %v\n%v\n% x", err, f, f.Bytes[:min(len(f.Bytes), 100)])
	}
	g.keep(f)
	if g.gateMAC == ([6]byte{}) && len(f.Bytes) >= etherLen {
		copy(g.gateMAC[:], header.Ethernet(f.Bytes).SourceAddress()) // who speaks to the guest is its gateway
	}
	switch {
	case f.ARP != nil:
		g.arp(f)
	case f.TCP != nil:
		g.segment(f.TCP)
	case f.UDP != nil:
		g.datagrams = append(g.datagrams, f.UDP.split()...)
	case f.Fragment:
		g.fragment(f)
	case f.ICMP != nil && f.Src.Is6():
		g.neighbour(f)
	}
}

// neighbour answers questions for the guest's IPv6 address (RFC 4861 section 4.4).
func (g *Guest) neighbour(f *Frame) {
	const solicitation, advertisement = 135, 136
	const solicited, override = 1 << 30, 1 << 29
	if f.ICMP.Type != solicitation || len(f.ICMP.Payload) < 16 {
		return
	}
	target := netip.AddrFrom16([16]byte(f.ICMP.Payload))
	mac, known := g.hostOf(target)
	if !known {
		return
	}
	link := append([]byte{2, 1}, mac[:]...) // where the target is
	m := ICMP{Type: advertisement, Rest: solicited | override, Payload: append(target.AsSlice(), link...)}
	g.SendFrame(g.packet(icmpProto(f.Src), target, f.Src, m.icmp(target, f.Src)))
}

// fragment takes a fragment, and the datagram or ICMP message that it completes. The message is kept as a frame that was never
// sent in one.
func (g *Guest) fragment(f *Frame) {
	whole, err := g.reassemble(f)
	if err != nil && !g.MayBreakRules {
		g.t.Errorf("porttest: the guest received a bad fragment: %v\n%v", err, f)
	}
	switch {
	case whole == nil:
	case whole.UDP != nil:
		g.datagrams = append(g.datagrams, whole.UDP)
	default:
		g.keep(whole)
	}
}

func (g *Guest) keep(f *Frame) {
	g.frames = append(g.frames, f)
	g.kept += len(f.Bytes)
	for g.kept > maxKept {
		g.kept -= len(g.frames[0].Bytes)
		g.frames = g.frames[1:]
	}
}

// arp answers questions for the guest's address, and learns the gateway's.
func (g *Guest) arp(f *Frame) {
	sender := netip.AddrFrom4([4]byte(f.ARP.ProtocolAddressSender()))
	if f.ARP.Op() == header.ARPReply && sender == g.Gateway {
		g.gateMAC = [6]byte(f.ARP.HardwareAddressSender())
	}
	target := netip.AddrFrom4([4]byte(f.ARP.ProtocolAddressTarget()))
	mac, known := g.hostOf(target)
	if f.ARP.Op() != header.ARPRequest || !known {
		return
	}
	reply := header.ARP(arpRequest(mac, target, sender))
	reply.SetOp(header.ARPReply)
	copy(reply.HardwareAddressTarget(), f.ARP.HardwareAddressSender())
	g.SendFrame(ethernet([6]byte(f.ARP.HardwareAddressSender()), mac, 0x0806, reply))
}

// Frames returns the frames received since the last call, the newest 64 MiB of them.
func (g *Guest) Frames() []*Frame {
	f := g.frames
	g.frames, g.kept = nil, 0
	return f
}

// Datagrams returns the UDP datagrams received since the last call.
func (g *Guest) Datagrams() []*Datagram {
	d := g.datagrams
	g.datagrams = nil
	return d
}

// step does what there is a cause for now, and tells whether there was one. The Port gets a turn only if a worker would
// give it one.
func (g *Guest) step() bool {
	g.react()
	g.rings.send()
	g.worker.poll(0)
	if g.due() {
		g.Turn()
		return true
	}
	return false
}

// due tells whether the Port is to have a turn.
func (g *Guest) due() bool {
	kicked := g.rings.txq.HasAvail()
	refilled := g.posted && (g.starved || g.left > 0)
	timer := g.next != 0 && g.next <= g.now
	return kicked || refilled || timer || len(g.worker.events) > 0
}

// react gives the guest's own connections their time.
func (g *Guest) react() {
	for _, c := range g.conns {
		c.tick()
	}
}

// Until runs guest and Port until cond holds. The clock goes with real time, but stands still while this process is held up: no timer
// runs out for that. The test fails if it takes too long.
func (g *Guest) Until(what string, cond func() bool) {
	g.t.Helper()
	start, last := time.Now(), time.Now()
	for !cond() {
		busy := g.step()
		if !busy {
			g.worker.poll(1)
		}
		now := time.Now()
		g.now += int64(min(now.Sub(last), longestStep))
		last = now
		if now.Sub(start) > limit {
			g.fatal("timed out waiting until " + what)
		}
	}
}

// Skip runs guest and Port until cond holds. Whenever nothing is left to do, the clock jumps to the next timer of the
// Port or of the guest: hours pass in no time. The test fails if it takes too long.
func (g *Guest) Skip(what string, cond func() bool) {
	g.t.Helper()
	start := time.Now()
	for !cond() {
		g.Settle()
		if cond() {
			return
		}
		if time.Since(start) > limit {
			g.fatal("nothing more happens until " + what)
		}
		next := g.nextTimer()
		if next == 0 {
			g.worker.poll(1) // what is awaited may be the work of a thread of the test, which takes real time
			continue
		}
		g.now = max(g.now, next)
		g.step()
	}
}

// Run lets d pass on the clock, from timer to timer.
func (g *Guest) Run(d time.Duration) {
	g.t.Helper()
	end := g.now + int64(d)
	start := time.Now()
	for g.Settle(); g.now < end; g.Settle() {
		next := g.nextTimer()
		if next == 0 || next > end {
			next = end
		}
		g.now = max(g.now, next)
		if time.Since(start) > limit {
			g.fatal("too many timers")
		}
	}
}

// Work runs guest and Port, on a clock that stands still, as long as there is a cause now. Unlike Settle, it does not
// wait for the kernel.
func (g *Guest) Work() {
	g.t.Helper()
	start := time.Now()
	for g.step() {
		if time.Since(start) > limit {
			g.fatal("the work never ends")
		}
	}
}

// Settle runs guest and Port, on a clock that stands still, until nothing is left to do but to wait.
func (g *Guest) Settle() {
	g.t.Helper()
	start := time.Now()
	for {
		if !g.step() {
			if g.worker.poll(calm); len(g.worker.events) == 0 {
				return
			}
		}
		if time.Since(start) > limit {
			g.fatal("it never settles")
		}
	}
}

// nextTimer returns the earliest timer of the Port and the guest's connections, 0 if there is none.
func (g *Guest) nextTimer() int64 {
	next := g.next
	for _, c := range g.conns {
		if t := c.timer; t != 0 && (next == 0 || t < next) {
			next = t
		}
	}
	return next
}

// SendFrame sends a whole Ethernet frame behind an empty virtio-net header.
func (g *Guest) SendFrame(frame []byte, layout ...Layout) { g.SendRaw(vnet.Header{}, frame, layout...) }

// SendRaw sends a frame behind the virtio-net header h, whatever they say. It goes into the ring with the next turn.
func (g *Guest) SendRaw(h vnet.Header, frame []byte, layout ...Layout) {
	if g.Pad && len(frame) < netbackend.MinFrame {
		frame = append(frame, make([]byte, netbackend.MinFrame-len(frame))...)
	}
	if g.Alter != nil {
		g.Alter(frame)
	}
	b := make([]byte, g.rings.headers, g.rings.headers+len(frame))
	h.Encode(b)
	o := outgoing{bytes: append(b, frame...)}
	if len(layout) > 0 {
		o.layout = layout[0]
	}
	g.rings.waiting = append(g.rings.waiting, o)
}

// Resolve asks for the gateway's hardware address, unless it is known.
func (g *Guest) Resolve() {
	g.t.Helper()
	if g.gateMAC != ([6]byte{}) {
		return
	}
	everyone := [6]byte{255, 255, 255, 255, 255, 255}
	g.SendFrame(ethernet(everyone, g.MAC, 0x0806, arpRequest(g.MAC, g.IP, g.Gateway)))
	g.Until("the gateway answers ARP", func() bool { return g.gateMAC != [6]byte{} })
}

// IPv4 returns a frame for the gateway with an IPv4 packet of the given protocol.
func (g *Guest) IPv4(proto uint8, src, dst netip.Addr, payload ...[]byte) []byte {
	g.Resolve()
	n := 0
	for _, p := range payload {
		n += len(p)
	}
	return ethernet(g.gateMAC, g.macOf(src), 0x0800, append([][]byte{ipv4(proto, src, dst, n)}, payload...)...)
}

// IPv6 returns a frame for the gateway with an IPv6 packet of the given protocol. Messages of neighbour discovery have the
// hop limit that they need.
func (g *Guest) IPv6(proto uint8, src, dst netip.Addr, payload ...[]byte) []byte {
	g.Resolve()
	whole := slices.Concat(payload...)
	head := ipv6(proto, src, dst, len(whole))
	if proto == icmpProto(dst) && len(whole) > 0 && whole[0] >= 133 && whole[0] <= 137 {
		header.IPv6(head).SetHopLimit(255)
	}
	return ethernet(g.gateMAC, g.macOf(src), 0x86dd, head, whole)
}

// packet returns a frame for the gateway with a packet of the version of IP that dst is of.
func (g *Guest) packet(proto uint8, src, dst netip.Addr, payload ...[]byte) []byte {
	if dst.Is4() {
		return g.IPv4(proto, src, dst, payload...)
	}
	return g.IPv6(proto, src, dst, payload...)
}

// Source is the guest's address for what it sends to dst.
func (g *Guest) Source(dst netip.Addr) netip.Addr {
	if dst.Is4() {
		return g.IP
	}
	return g.IP6
}

// SendSegment sends s as it is. If the checksum offload was acknowledged, it is used, and with GSOSize so is the
// segmentation offload.
func (g *Guest) SendSegment(s Segment, layout ...Layout) {
	if g.Drop != nil && g.Drop(FromGuest, &s) {
		g.note("x", &s)
		return
	}
	g.note(">", &s)
	var h vnet.Header
	partial := g.opt.Features&vnet.FeatureCSum != 0
	tcp := s.tcp(partial)
	headers := etherLen + ipLen(s.Dst.Addr())
	if partial {
		h = vnet.Header{
			Flags: vnet.FlagNeedsCSum, CsumStart: uint16(headers), CsumOffset: header.TCPChecksumOffset,
			HdrLen: uint16(headers + len(tcp)),
		}
	}
	if s.GSOSize != 0 {
		h.GSOType, h.GSOSize = vnet.GSOTCPv4, s.GSOSize
		if s.Dst.Addr().Is6() {
			h.GSOType = vnet.GSOTCPv6
		}
	}
	g.SendRaw(h, g.packet(uint8(header.TCPProtocolNumber), s.Src.Addr(), s.Dst.Addr(), tcp, s.Payload), layout...)
}

// SendDatagram sends d, with GSOSize by the segmentation offload.
func (g *Guest) SendDatagram(d Datagram, layout ...Layout) {
	var h vnet.Header
	if d.GSOSize != 0 {
		headers := etherLen + ipLen(d.Dst.Addr())
		h = vnet.Header{
			Flags: vnet.FlagNeedsCSum, CsumStart: uint16(headers), CsumOffset: 6,
			GSOType: vnet.GSOUDPL4, GSOSize: d.GSOSize, HdrLen: uint16(headers + udpLen),
		}
	}
	frame := g.packet(uint8(header.UDPProtocolNumber), d.Src.Addr(), d.Dst.Addr(), d.udp(), d.Payload)
	g.SendRaw(h, d.header(frame), layout...)
}

// SendICMP sends m to dst.
func (g *Guest) SendICMP(dst netip.Addr, m ICMP, layout ...Layout) {
	src := g.Source(dst)
	g.SendFrame(g.packet(icmpProto(dst), src, dst, m.icmp(src, dst)), layout...)
}

// note adds a line to the trace.
func (g *Guest) note(mark string, v fmt.Stringer) {
	if len(g.trace) == maxTrace {
		g.trace = g.trace[1:]
	}
	g.trace = append(g.trace, fmt.Sprintf("%10.6f %s %v", float64(g.now)/1e9, mark, v))
}

// fatal ends the test and shows the latest frames.
func (g *Guest) fatal(what string) {
	g.t.Helper()
	g.t.Fatalf("porttest: %s\n%d turns, next timer in %v; latest segments:\n%s",
		what, g.turns, time.Duration(g.next-g.now), strings.Join(g.trace, "\n"))
}
