package porttest

import (
	"encoding/binary"
	"maps"
	"net/netip"
	"slices"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/seqnum"

	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	firstRTO   = int64(200 * time.Millisecond)
	maxRTO     = int64(60 * time.Second)
	defaultMSS = 536 // of a peer that does not tell (RFC 9293 section 3.7.1)
	maxGSO     = 60000
)

// TCPOptions describe the guest's end of a connection. The zero value is an ordinary one.
type TCPOptions struct {
	// MSS is announced in the SYN; 0 for what fits the MTU, -1 for no option at all.
	MSS int
	// WScale is the window scale that is offered, 0 for none.
	WScale uint8
	// Window is the receive window in bytes, 65535 if 0. It is kept open, unless the test changes TCP.Window.
	Window int
	// ISS is the initial sequence number; 0 for one that is made up.
	ISS uint32
	// LocalPort is the guest's port; 0 for a free one.
	LocalPort uint16
	// ManualAck leaves acknowledgements to the test.
	ManualAck bool
	// SACK offers selective acknowledgements, and sends them if the peer permits (RFC 2018).
	SACK bool
	// Times offers timestamps, and sends them if the peer does (RFC 7323). They are in milliseconds, and those of a
	// guest that has run for long: they wrap around after ten seconds.
	Times bool
	// NoGSO cuts large sends into segments even if the Port takes large ones.
	NoGSO bool
}

// State is how far a connection is.
type State uint8

const (
	SynSent     State = iota + 1
	SynReceived       // the guest accepts
	Open              // both SYNs were acknowledged; see the Fin fields for how it ends
	Refused           // a reset came in answer to the SYN
	WasReset          // a reset came later
	Aborted           // the guest itself gave up by Reset or Forget
)

func (s State) String() string {
	return [...]string{"none", "SYN-SENT", "SYN-RECEIVED", "open", "refused", "reset", "aborted"}[s]
}

type connKey struct {
	local  uint16
	remote netip.AddrPort
}

// TCP is the guest's end of a connection: enough of RFC 9293 to move data both ways over a path that loses segments.
// It acknowledges what arrived when the Port's turn is over, retransmits after three duplicate acknowledgements and by a
// timer of the guest's clock, and probes a closed window.
//
// Mistakes of the other end that no test wants are errors of the test: acknowledging what was never sent, or sending
// beyond the window.
type TCP struct {
	Local, Remote netip.AddrPort
	State         State
	// Window is what the guest takes beyond what it has received, in bytes. A change is told with the next segment,
	// such as SendAck.
	Window int
	// ManualAck leaves acknowledgements to the test.
	ManualAck bool
	// Silent keeps the guest from sending anything by itself: no acknowledgement, no retransmission.
	Silent bool

	ISS, IRS       uint32
	SndUna, SndNxt uint32 // oldest unacknowledged, and next to send
	SndMax         uint32 // highest ever sent
	SndWnd         int    // window of the peer in bytes
	RcvNxt         uint32
	PeerMSS        int
	PeerWScale     int // -1 if the peer did not scale windows
	PeerSACK       bool
	PeerTimes      bool
	// Echoed is the guest's own clock as the peer has last echoed it, and ToEcho what the guest echoes.
	Echoed, ToEcho uint32
	// FinSent, FinAcked and FinReceived tell how the connection ends.
	FinSent, FinAcked, FinReceived bool
	// Segments are all that came for this connection, without payload.
	Segments []Segment
	// Retransmits counts segments that were sent again, and DupAcks those that acknowledged nothing new.
	Retransmits, DupAcks int
	// Shrinks counts how often the right edge of the peer's window moved back.
	Shrinks int

	g        *Guest
	opt      TCPOptions
	out      []byte // to send, from sequence number outSeq
	outSeq   uint32
	closing  bool // a FIN follows the data
	in       []byte
	early    map[uint32][]byte // data that arrived before what precedes it
	maxEdge  uint32            // right edge of the guest's window, as told
	peerEdge uint32            // right edge of the peer's window
	ackDue   bool
	scaling  bool   // both ends offered to scale
	sacking  bool   // and permitted selective acknowledgements
	timing   bool   // and timestamps
	acked    uint32 // what the guest has acknowledged last
	dups     int
	timer    int64
	rto      int64
}

// Listener takes connections to one of the guest's ports.
type Listener struct {
	// Mute ignores SYNs, as a full backlog does.
	Mute bool

	g     *Guest
	port  uint16
	opt   TCPOptions
	conns []*TCP
}

// Listen opens a port of the guest.
func (g *Guest) Listen(port uint16, opt ...TCPOptions) *Listener {
	l := &Listener{g: g, port: port}
	if len(opt) > 0 {
		l.opt = opt[0]
	}
	g.listeners[port] = l
	return l
}

// Close closes the port. Its connections live on.
func (l *Listener) Close() { delete(l.g.listeners, l.port) }

// Pending returns the connections that were not accepted, established or not.
func (l *Listener) Pending() []*TCP { return l.conns }

// Accept waits for a connection to be established.
func (l *Listener) Accept() *TCP {
	l.g.t.Helper()
	l.g.Until("a connection arrives", func() bool { return len(l.conns) > 0 && l.conns[0].State == Open })
	c := l.conns[0]
	l.conns = l.conns[1:]
	return c
}

// Dial begins a connection to dst: the SYN is sent with the next turn.
func (g *Guest) Dial(dst netip.AddrPort, opt ...TCPOptions) *TCP {
	g.t.Helper()
	g.Resolve()
	var o TCPOptions
	if len(opt) > 0 {
		o = opt[0]
	}
	if o.LocalPort == 0 {
		g.lastPort++
		o.LocalPort = g.lastPort
	}
	c := g.newTCP(netip.AddrPortFrom(g.Source(dst.Addr()), o.LocalPort), dst, o)
	c.State = SynSent
	c.sendSYN()
	return c
}

// Connect is Dial, and waits until the connection is established.
func (g *Guest) Connect(dst netip.AddrPort, opt ...TCPOptions) *TCP {
	g.t.Helper()
	c := g.Dial(dst, opt...)
	g.Until("the connection is established", func() bool { return c.State != SynSent })
	if c.State != Open {
		g.fatal("the connection is " + c.State.String())
	}
	return c
}

func (g *Guest) newTCP(local, remote netip.AddrPort, o TCPOptions) *TCP {
	if o.ISS == 0 {
		o.ISS = 0x1000_0000 + uint32(len(g.conns)+1)*0x10_0000 + uint32(g.lastPort)
	}
	if o.Window == 0 {
		o.Window = 65535
	}
	if o.MSS == 0 {
		o.MSS = g.opt.MTU - ipLen(remote.Addr()) - tcpLen
	}
	c := &TCP{
		Local: local, Remote: remote, Window: o.Window, ManualAck: o.ManualAck,
		ISS: o.ISS, SndUna: o.ISS, SndNxt: o.ISS, SndMax: o.ISS, outSeq: o.ISS + 1,
		PeerMSS: defaultMSS, PeerWScale: -1,
		g: g, opt: o, early: map[uint32][]byte{}, rto: firstRTO,
	}
	g.conns[c.key()] = c
	return c
}

func (c *TCP) key() connKey { return connKey{c.Local.Port(), c.Remote} }

// Segment returns a segment of c as it would be sent now, for a test to change and send.
func (c *TCP) Segment(flags header.TCPFlags, payload []byte) Segment {
	s := Segment{
		Src: c.Local, Dst: c.Remote, Seq: c.SndNxt, Flags: flags, Window: c.window(flags), Payload: payload,
	}
	if flags.Contains(ACK) {
		s.Ack = c.RcvNxt
	}
	return s
}

// window returns the window field of a segment with flags. That of a SYN is not scaled (RFC 7323 section 2.2).
func (c *TCP) window(flags header.TCPFlags) uint16 {
	w := c.Window
	if !flags.Contains(SYN) {
		if c.scaling {
			w >>= c.opt.WScale
		}
	}
	return uint16(min(w, 65535))
}

// SendSegment sends s, and takes note of the window that it tells. It does not change the sequence numbers of c.
func (c *TCP) SendSegment(s Segment, layout ...Layout) {
	if s.Has(ACK) && s.Ack == c.RcvNxt {
		w := uint32(s.Window)
		if c.scaling && !s.Has(SYN) {
			w <<= c.opt.WScale
		}
		if edge := s.Ack + w; int32(edge-c.maxEdge) > 0 {
			c.maxEdge = edge
		}
	}
	if c.timing && !s.Has(RST) && findTimes(s.Options) == nil {
		s.Options = append(c.Times(c.Stamp()), s.Options...)
	}
	c.SendUnstamped(s, layout...)
}

// SendUnstamped is SendSegment for a segment without timestamps, though they are in use.
func (c *TCP) SendUnstamped(s Segment, layout ...Layout) {
	if s.Has(ACK) {
		c.acked = s.Ack
	}
	c.g.SendSegment(s, layout...)
}

// Stamp is the guest's clock.
func (c *TCP) Stamp() uint32 { return uint32(c.g.now/1e6) - 1_010_000 }

// Times is the option of a segment that is sent at the time stamp of the guest's clock.
func (c *TCP) Times(stamp uint32) []byte {
	b := []byte{header.TCPOptionNOP, header.TCPOptionNOP, header.TCPOptionTS, header.TCPOptionTSLength}
	b = binary.BigEndian.AppendUint32(b, stamp)
	return binary.BigEndian.AppendUint32(b, c.ToEcho)
}

// findTimes returns the timestamps option, nil if there is none.
func findTimes(options []byte) *header.TCPOptions {
	o := header.ParseTCPOptions(options)
	if !o.TS {
		return nil
	}
	return &o
}

// stamped takes the timestamps of a segment (RFC 7323 section 4.3).
func (c *TCP) stamped(s *Segment) {
	o := findTimes(s.Options)
	if (o != nil) != c.timing && !s.Has(RST) {
		c.g.t.Errorf("porttest: %v has timestamps: %v, but they are in use: %v", s, o != nil, c.timing)
	}
	if o == nil {
		return
	}
	if int32(o.TSEcr-c.Stamp()) > 0 || int32(o.TSEcr-c.Echoed) < 0 {
		c.g.t.Errorf("porttest: %v echoes %d at %d, after %d", s, o.TSEcr, c.Stamp(), c.Echoed)
	}
	c.Echoed = o.TSEcr
	if int32(s.Seq-c.acked) <= 0 {
		c.ToEcho = o.TSVal
	}
}

// SendNext sends s, which is Segment's and in sequence, and counts it as sent: what follows comes behind it. It is not
// repeated if it is lost. Nothing given to Send must be left to send.
func (c *TCP) SendNext(s Segment, layout ...Layout) {
	c.SendSegment(s, layout...)
	c.SndNxt = s.Seq + s.Len()
	c.SndMax, c.outSeq = c.SndNxt, c.SndNxt
	if s.Has(FIN) {
		c.FinSent = true
		c.outSeq--
	}
}

// SendAck tells the peer what has arrived, and the window.
func (c *TCP) SendAck() {
	c.ackDue = false
	s := c.Segment(ACK, nil)
	s.Seq = c.SndMax
	s.Options = c.sackOption()
	c.SendSegment(s)
}

// sackOption tells which data arrived early, as far as there is room for it, the first ones first.
func (c *TCP) sackOption() []byte {
	if !c.sacking || len(c.early) == 0 {
		return nil
	}
	var blocks []header.SACKBlock
	for _, seq := range slices.SortedFunc(maps.Keys(c.early), func(a, b uint32) int { return int(int32(a - b)) }) {
		start, end := seqnum.Value(seq), seqnum.Value(seq+uint32(len(c.early[seq])))
		if last := len(blocks) - 1; last >= 0 && start.LessThanEq(blocks[last].End) {
			blocks[last].End = end
			continue
		}
		blocks = append(blocks, header.SACKBlock{Start: start, End: end})
	}
	const nop = header.TCPOptionNOP
	option := append([]byte{nop, nop}, make([]byte, 2+header.TCPMaxSACKBlocks*8)...)
	return option[:2+header.EncodeSACKBlocks(blocks, option[2:])]
}

// SendKeepalive asks the peer whether it is still there (RFC 9293 section 3.8.4).
func (c *TCP) SendKeepalive() {
	s := c.Segment(ACK, nil)
	s.Seq = c.SndUna - 1
	c.SendSegment(s)
}

// Send sends b, as fast as the peer's window allows.
func (c *TCP) Send(b []byte) {
	c.out = append(c.out, b...)
	c.pump()
}

// Unsent returns how many bytes given to Send were not acknowledged yet.
func (c *TCP) Unsent() int { return len(c.out) }

// Close sends a FIN behind the data. The connection still receives.
func (c *TCP) Close() {
	c.closing = true
	c.pump()
}

// Reset aborts the connection with a reset.
func (c *TCP) Reset() {
	s := c.Segment(RST|ACK, nil)
	s.Seq = c.SndMax
	c.SendSegment(s)
	c.Forget()
}

// Forget drops the connection without a word, as a guest does that is restarted.
func (c *TCP) Forget() {
	c.State, c.timer = Aborted, 0
	delete(c.g.conns, c.key())
}

// Received returns all data that arrived in order, and not yet read.
func (c *TCP) Received() []byte { return c.in }

// Read takes what was received.
func (c *TCP) Read() []byte {
	b := c.in
	c.in = nil
	return b
}

// WaitFor waits until n bytes were received and not read.
func (c *TCP) WaitFor(n int) {
	c.g.t.Helper()
	c.g.Until("the data arrives", func() bool { return len(c.in) >= n || c.Ended() })
	if len(c.in) < n {
		c.g.fatal("the connection is " + c.State.String() + ", not all data came")
	}
}

// Ended tells whether the peer will send nothing more.
func (c *TCP) Ended() bool { return c.FinReceived || c.State > Open }

// sendSYN sends the SYN, or the SYN-ACK, with options.
func (c *TCP) sendSYN() {
	flags := SYN
	if c.State == SynReceived {
		flags |= ACK
	}
	s := c.Segment(flags, nil)
	s.Seq = c.ISS
	if c.opt.MSS > 0 {
		s.Options = append(s.Options, 2, 4, byte(c.opt.MSS>>8), byte(c.opt.MSS))
	}
	if c.opt.WScale > 0 && (c.State == SynSent || c.PeerWScale >= 0) {
		s.Options = append(s.Options, 1, 3, 3, c.opt.WScale)
	}
	if c.opt.SACK {
		s.Options = append(s.Options, 1, 1, 4, 2)
	}
	if c.opt.Times && (c.State == SynSent || c.PeerTimes) {
		s.Options = append(s.Options, c.Times(c.Stamp())...)
	}
	c.SndNxt = c.ISS + 1
	c.SndMax = c.SndNxt
	c.SendSegment(s)
	c.arm()
}

// pump sends what the window allows.
func (c *TCP) pump() {
	if c.State != Open || c.Silent {
		return
	}
	for {
		n := c.sendable()
		fin := c.closing && int(c.SndNxt-c.outSeq)+n == len(c.out)
		if n == 0 && (!fin || int32(c.SndNxt-c.finSeq()) > 0) {
			break
		}
		c.sendData(n, fin)
	}
	if c.SndUna != c.SndMax || len(c.out) > 0 {
		c.arm()
	}
}

// finSeq is the sequence number of the FIN.
func (c *TCP) finSeq() uint32 { return c.outSeq + uint32(len(c.out)) }

// sendable returns how much of the data to send fits into the next segment and the window.
func (c *TCP) sendable() int {
	sent := int(c.SndNxt - c.outSeq)
	room := int(int32(c.SndUna + uint32(c.SndWnd) - c.SndNxt))
	most := c.mss()
	if c.gso() && most < maxGSO {
		most = maxGSO / most * most
	}
	return max(0, min(len(c.out)-sent, room, most))
}

func (c *TCP) mss() int { return max(1, min(c.PeerMSS, c.g.opt.MTU-ipLen(c.Remote.Addr())-tcpLen)) }

func (c *TCP) gso() bool {
	tso := vnet.FeatureHostTSO4
	if c.Remote.Addr().Is6() {
		tso = vnet.FeatureHostTSO6
	}
	return !c.opt.NoGSO && c.g.opt.Features&tso != 0
}

// sendData sends n bytes from SndNxt on.
func (c *TCP) sendData(n int, fin bool) {
	sent := int(c.SndNxt - c.outSeq)
	if sent < 0 || sent+n > len(c.out) { // the FIN alone is left
		sent, n = len(c.out), 0
	}
	flags := ACK
	if sent+n == len(c.out) {
		flags |= PSH
	}
	if fin {
		flags |= FIN
		c.FinSent = true
	}
	s := c.Segment(flags, append([]byte(nil), c.out[sent:sent+n]...))
	if n > c.mss() {
		s.GSOSize = uint16(c.mss())
	}
	if int32(c.SndNxt-c.SndMax) < 0 {
		c.Retransmits++
	}
	c.SndNxt += s.Len()
	if int32(c.SndNxt-c.SndMax) > 0 {
		c.SndMax = c.SndNxt
	}
	c.ackDue = false
	c.SendSegment(s)
}

// arm starts the timer, unless it runs.
func (c *TCP) arm() {
	if c.timer == 0 {
		c.timer = c.g.now + c.rto
	}
}

// tick sends the acknowledgement that is due, and does what the timer asks for.
func (c *TCP) tick() {
	if c.Silent {
		c.timer = 0
		return
	}
	if c.ackDue && !c.ManualAck {
		c.SendAck()
	}
	if c.timer == 0 || c.g.now < c.timer {
		return
	}
	c.timer = 0
	if c.rto = 2 * c.rto; c.rto > maxRTO {
		c.rto = maxRTO
	}
	switch {
	case c.State == SynSent || c.State == SynReceived:
		c.Retransmits++
		c.sendSYN()
	case c.State != Open:
	case c.SndWnd == 0 && len(c.out) > 0:
		c.SndNxt = c.SndUna
		c.sendData(1, false)
		c.arm()
	default:
		c.SndNxt = c.SndUna
		c.pump()
	}
}

// segment gives a segment to the connection or listener that it is for.
func (g *Guest) segment(s *Segment) {
	if g.Drop != nil && g.Drop(ToGuest, s) {
		g.note("x", s)
		return
	}
	if _, known := g.hostOf(s.Dst.Addr()); !known {
		return
	}
	if c := g.conns[connKey{s.Dst.Port(), s.Src}]; c != nil {
		c.receive(s)
		return
	}
	if l := g.listeners[s.Dst.Port()]; l != nil && s.Has(SYN) && !s.Has(ACK) {
		l.syn(s)
		return
	}
	if !g.Deaf && !s.Has(RST) {
		g.SendSegment(refusal(s))
	}
}

// refusal is the reset in answer to a segment for nobody (RFC 9293 section 3.10.7.1).
func refusal(s *Segment) Segment {
	r := Segment{Src: s.Dst, Dst: s.Src, Flags: RST}
	if s.Has(ACK) {
		r.Seq = s.Ack
		return r
	}
	r.Flags |= ACK
	r.Ack = s.Seq + s.Len()
	return r
}

// syn begins a connection to the listener.
func (l *Listener) syn(s *Segment) {
	if l.Mute {
		return
	}
	c := l.g.newTCP(s.Dst, s.Src, l.opt)
	c.State = SynReceived
	c.Segments = append(c.Segments, bare(s))
	c.learn(s)
	c.sendSYN()
	l.conns = append(l.conns, c)
}

// bare is s without its payload.
func bare(s *Segment) Segment {
	b := *s
	b.Payload = nil
	return b
}

// learn takes what the peer's SYN tells.
func (c *TCP) learn(s *Segment) {
	c.IRS, c.RcvNxt = s.Seq, s.Seq+1
	c.maxEdge = c.RcvNxt
	if c.State == SynSent { // the SYN told a window already
		c.maxEdge += uint32(c.window(SYN))
	}
	o := header.ParseSynOptions(s.Options, s.Has(ACK))
	c.PeerMSS, c.PeerWScale = int(o.MSS), o.WS
	c.scaling = c.opt.WScale > 0 && o.WS >= 0
	c.PeerSACK = o.SACKPermitted
	c.sacking = c.opt.SACK && c.PeerSACK
	c.SndWnd = int(s.Window)
	c.PeerTimes = o.TS
	c.timing = c.opt.Times && o.TS
	if c.timing {
		c.ToEcho, c.Echoed = o.TSVal, c.Stamp()
		if s.Has(ACK) {
			c.Echoed = o.TSEcr
		}
		c.PeerMSS -= len(c.Times(0))
	}
}

// receive takes a segment of the peer (RFC 9293 section 3.10.7).
func (c *TCP) receive(s *Segment) {
	c.Segments = append(c.Segments, bare(s))
	if c.State == SynSent {
		c.synSent(s)
		return
	}
	if s.Has(RST) {
		c.reset(s)
		return
	}
	if s.Has(SYN) {
		if c.State == SynReceived && s.Seq == c.IRS && !s.Has(ACK) {
			c.sendSYN()
		} else {
			c.ackDue = true
		}
		return
	}
	if !s.Has(ACK) {
		c.g.t.Errorf("porttest: segment without ACK: %v", s)
		return
	}
	c.stamped(s)
	c.ack(s)
	c.data(s)
	c.pump()
}

// synSent waits for the SYN-ACK.
func (c *TCP) synSent(s *Segment) {
	if s.Has(ACK) && s.Ack != c.ISS+1 {
		if !s.Has(RST) {
			c.g.SendSegment(refusal(s))
		}
		return
	}
	switch {
	case s.Has(RST | ACK):
		c.end(Refused)
	case s.Has(RST): // Linux ignores it too
	case s.Has(SYN | ACK):
		c.learn(s)
		c.established(s)
		c.SendAck()
		c.pump()
	}
}

func (c *TCP) established(s *Segment) {
	c.State, c.timer, c.rto = Open, 0, firstRTO
	c.SndUna = s.Ack
	c.peerEdge = s.Ack + uint32(c.SndWnd)
}

// reset takes a reset as Linux does: at the expected sequence number it ends the connection, elsewhere in the window it
// asks whether it is meant (RFC 5961 section 3.2).
func (c *TCP) reset(s *Segment) {
	if s.Seq == c.RcvNxt {
		c.end(WasReset)
		return
	}
	if int32(s.Seq-c.RcvNxt) > 0 && int32(s.Seq-c.maxEdge) < 0 {
		c.SendAck()
	}
}

// end ends the connection. One that was not established yet is not shown to the listener's program.
func (c *TCP) end(s State) {
	if l := c.g.listeners[c.Local.Port()]; l != nil && c.State == SynReceived {
		l.conns = slices.DeleteFunc(l.conns, func(other *TCP) bool { return other == c })
	}
	c.State, c.timer, c.ackDue = s, 0, false
	delete(c.g.conns, c.key())
}

// ack takes the acknowledgement and the window of s.
func (c *TCP) ack(s *Segment) {
	if int32(s.Ack-c.SndMax) > 0 {
		c.g.t.Errorf("porttest: %v acknowledges what was never sent; the last was %d", s, c.SndMax)
		return
	}
	if c.State == SynReceived && s.Ack == c.ISS+1 {
		c.established(s)
	}
	if int32(s.Ack-c.SndUna) < 0 {
		return // old
	}
	window := int(s.Window)
	if c.scaling {
		window <<= c.PeerWScale
	}
	advanced := s.Ack != c.SndUna
	c.duplicate(s, advanced, window)
	if advanced {
		c.advance(s.Ack)
	}
	if c.SndWnd == 0 && window > 0 && !c.Silent {
		c.SndNxt = c.SndUna // probes of the closed window may have been refused
	}
	c.SndWnd = window
	edge := s.Ack + uint32(window)
	if int32(edge-c.peerEdge) < 0 {
		c.Shrinks++
	} else {
		c.peerEdge = edge
	}
}

// duplicate counts acknowledgements of nothing new, and goes back after three.
func (c *TCP) duplicate(s *Segment, advanced bool, window int) {
	if advanced || s.Len() > 0 || window != c.SndWnd || c.SndUna == c.SndMax {
		c.dups = 0
		return
	}
	c.DupAcks++
	if c.dups++; c.dups == 3 && !c.Silent {
		c.SndNxt = c.SndUna
	}
}

// advance forgets what was acknowledged.
func (c *TCP) advance(ack uint32) {
	c.timer, c.rto = 0, firstRTO
	if c.FinSent && ack == c.finSeq()+1 {
		c.FinAcked = true
		ack--
		c.SndUna = ack + 1
	} else {
		c.SndUna = ack
	}
	c.out = c.out[min(int(ack-c.outSeq), len(c.out)):] // SendNext may have sent more
	c.outSeq = ack
	if int32(c.SndNxt-c.SndUna) < 0 {
		c.SndNxt = c.SndUna
	}
}

// data takes the payload and the FIN of s.
func (c *TCP) data(s *Segment) {
	if s.Len() == 0 {
		// A probe of a closed window, or a keepalive: it has an old sequence number and wants an answer.
		if int32(s.Seq-c.RcvNxt) < 0 {
			c.ackDue = true
		}
		return
	}
	c.ackDue = true
	end := s.Seq + uint32(len(s.Payload))
	if probe := len(s.Payload) == 1; int32(end-c.maxEdge) > 0 && !probe {
		c.g.t.Errorf("porttest: %v goes beyond the window, which ends at %d", s, c.maxEdge)
	}
	c.store(s.Seq, s.Payload)
	if int32(s.Seq-c.RcvNxt) > 0 && !c.ManualAck && !c.Silent {
		c.SendAck() // at once, for each segment behind a gap (RFC 5681 section 4.2)
	}
	if s.Has(FIN) && end == c.RcvNxt && !c.FinReceived {
		c.FinReceived = true
		c.RcvNxt++
	}
}

// store appends payload to what was received, or keeps it until its time comes. What lies beyond the window is left.
func (c *TCP) store(seq uint32, payload []byte) {
	if over := int(int32(seq + uint32(len(payload)) - c.maxEdge)); over > 0 {
		payload = payload[:max(0, len(payload)-over)]
	}
	if int32(seq-c.RcvNxt) > 0 {
		c.early[seq] = payload
		return
	}
	c.append(seq, payload)
	for again := true; again; {
		again = false
		for seq, b := range c.early {
			if int32(seq-c.RcvNxt) <= 0 {
				delete(c.early, seq)
				c.append(seq, b)
				again = true
			}
		}
	}
}

// append takes what of payload is new.
func (c *TCP) append(seq uint32, payload []byte) {
	old := int(int32(c.RcvNxt - seq))
	if old >= len(payload) {
		return
	}
	c.in = append(c.in, payload[old:]...)
	c.RcvNxt += uint32(len(payload) - old)
}
