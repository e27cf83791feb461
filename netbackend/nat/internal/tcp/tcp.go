package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Engine passes connections on. Their state is its own.
type Engine struct {
	shard  *shard.Shard
	cfg    Config
	link   *link.Layer
	icmp   *icmperr.Sender
	policy *policy.Policy
	ledger *ledger.Keeper
	hooks  Hooks
	guest  *Guest

	out           outgoing
	nextKeepalive keepaliveTimes
	unansweredAt  map[ipaddr.Addr]bool // of the guest, that the user was told of; see tellUnanswered
	toldWays      limits.Told[string]  // what is wrong with ways, that the user was told of
	discardBuf    []byte               // what is read into it is of no interest
	scratch       [proxyproto.MaxWritten]byte
}

// Config is what TCP takes from the configuration of its guest.
type Config struct {
	PeekOffset  bool        // the kernel knows SO_PEEK_OFF for TCP
	WindowScale uint8       // shift of the windows that the guest gets
	DHCPv6      ipaddr.Addr // what the guest gets by DHCPv6
	Services    measure.Finder
}

// Uses are the parts that pass connections on with it.
type Uses struct {
	Shard  *shard.Shard
	Link   *link.Layer
	ICMP   *icmperr.Sender
	Policy *policy.Policy
	Ledger *ledger.Keeper
	Hooks  Hooks
}

// SetUp makes that of a queue pair.
func (e *Engine) SetUp(cfg Config, u Uses, g *Guest) {
	*e = Engine{
		cfg: cfg, guest: g, shard: u.Shard, link: u.Link, icmp: u.ICMP, policy: u.Policy, ledger: u.Ledger, hooks: u.Hooks,
		discardBuf: make([]byte, 64<<10), out: outgoing{iov: make([]guestmem.Iovec, 0, shard.MaxIovecs)},
	}
}

// Guest is what TCP has of a guest. All of its queue pairs use it.
type Guest struct {
	conns flowtable.Slab[state] // each queue pair has what belongs to its own flows
	calls calls

	handshakes handshakes

	Services measure.Connections
	Pattern  *measure.Pattern // what chargen sends, nil without services
}

// NewGuest returns that of a guest with a table of flows.
func NewGuest(t *shard.Table) *Guest {
	return &Guest{conns: flowtable.NewSlab[state](t.Table)}
}

// state is the state of a TCP connection between the guest's segments and the host's socket.
//
// Towards the guest, names are those of RFC 9293 section 3.3.1. The bytes from sndUna on are still in the receive
// queue of the host's socket, which is the retransmission buffer: they leave it when the guest has acknowledged them.
type state struct {
	irs            seqnum.Value // the guest's initial sequence number
	rcvNxt         seqnum.Value // all before it was taken by the host's socket, and is acknowledged
	rcvWndEdge     seqnum.Value // first sequence number beyond the window that the guest knows; it never moves back
	wndCredit      uint32       // size of the window when it was last measured
	wndUsed        uint32       // bytes taken since
	iss            seqnum.Value
	sndUna         seqnum.Value
	sndNxt         seqnum.Value
	sndMax         seqnum.Value // one beyond all that was ever sent
	recover        seqnum.Value // fast recovery ends when this is acknowledged (RFC 6582)
	sndWnd         uint32       // in bytes
	maxWnd         uint32       // largest seen
	wl1            seqnum.Value // sequence and acknowledgement number of the last window update
	wl2            seqnum.Value
	pendingDrop    uint32       // acknowledged by the guest, and not yet removed from the socket's queue
	peek           uint32       // the kernel's peek offset in that queue
	rttSeq         seqnum.Value // acknowledging this ends the round trip that is being measured
	retransmitHigh seqnum.Value // end of what was repeated last
	recent         uint32       // timestamp that the guest is echoed (TS.Recent of RFC 7323)
	sacked         seqnum.Range // the first bytes beyond sndUna that the guest says it has, none if empty

	flags        flags
	srtt, rttvar int32        // microseconds (RFC 6298)
	hostMark     seqnum.Value // of the host's urgent byte, see urgency
	rto          int64        // nanoseconds
	rttStart     int64
	heard        int64 // when the guest last sent data

	mss           uint16 // of segments to the guest
	advMSS        uint16 // of segments from it, as it was told
	sndScale      uint8  // shift of the windows that the guest sends
	rcvScale      uint8  // and of those that it gets
	dupAcks       uint8  // acknowledgements in a row that told nothing new
	pendDupAcks   uint8  // and how many of those are owed to the guest
	retries       uint8  // retransmissions since something was acknowledged
	quickAckScore int8   // how many answers in a row came soon, see acknowledge
	idleTicks     uint8  // how often watch has looked since the guest's last segment

	urgency   urgency
	guestMark seqnum.Value // of the guest's urgent byte

	cause   stats.CloseReason // why the host's side is dead
	fullMSS uint16            // what mss is where the path is as wide as the guest's link; see fitPath
	proxy   ProxyState

	service measure.Service // that the engine itself is, measure.None where there is a socket
	buffer  uint8           // of echo
}

// flags is what is known of a connection, and what is due to its guest.
type flags uint32

const (
	pendAck        flags = 1 << iota // the guest is to be sent an acknowledgement
	ackDelayed                       // it is, unless an answer carries it in time; the timer is that of the delay
	unanswered                       // the guest has sent data, and nothing was sent to it since
	pendSYN                          // the guest is to be sent our SYN or SYN-ACK (again)
	pendRetransmit                   // the oldest unacknowledged segment is to be sent again
	pendProbe                        // the guest's closed window is to be probed
	hostEOF                          // all of the host's stream was read
	finSent                          // our FIN was sent, sndMax counts it
	finAcked                         // and acknowledged
	guestFIN                         // the guest's FIN was passed on
	stalled                          // the advertised window is closed until the host socket can be written
	refused                          // bytes that were within the window did not fit the socket
	recovering                       // fast recovery until recover is acknowledged
	hostReset                        // the host's side is dead
	guestScales                      // window scaling is in use
	guestSACKs                       // the guest may send selective acknowledgements
	guestTimes                       // segments carry timestamps
	timedOut                         // the oldest segment was repeated by the timer; the next acknowledgement tells what is missing
	timing                           // a round trip is being measured
	persisting                       // the timer is the persist timer
	bulk                             // the host has filled the largest frame lately
	inspected                        // somebody looks at what the guest sends, see Inspect
	byProxy                          // the host's socket leads to a proxy, which has not connected it yet
)

// States of connections.
const (
	stateConnecting = shard.ProtocolStates + iota // the guest's SYN waits for the host's connect
	stateSynRcvd                                  // we answered the guest's SYN
	stateAwaitProxy                               // a forward took it, and its PROXY header is awaited; the guest knows nothing of it
	stateSynSent                                  // we sent a SYN to the guest
	stateOpen                                     // data may pass
	stateReset                                    // only the reset to the guest is left
)

// conn is a connection: its flow, and the state of TCP, which only Engine has. It is valid as long as the flow.
type conn struct {
	*shard.Flow
	tcp *state
}

// conn returns the connection of a flow of TCP.
func (e *Engine) conn(f *shard.Flow) conn { return conn{f, e.guest.conns.At(f.Index)} }

// begin makes the connection of a flow that was just created.
func (e *Engine) begin(f *shard.Flow) conn { return conn{f, e.guest.conns.Make(f.Index)} }

// Segment is a TCP segment of the guest, copied.
type Segment struct {
	netpkt.Segment
	offset       int   // of the payload in the chain, in bytes
	HopLimit     uint8 // time to live of the packet
	trafficClass uint8 // and its traffic class
}

const (
	initialRTO = int64(1e9)   // RFC 6298 section 2
	minRTO     = int64(200e6) // a guest may delay acknowledgements as long, and may not be running
	maxRTO     = int64(60e9)
	// maxRetries is when a guest that does not acknowledge is given up: after about ten minutes.
	maxRetries = 15
	// maxSynRetries is the same for a guest that does not answer a SYN: after about a minute.
	maxSynRetries = 6

	maxWindow = 65535

	microsecond = 1000 // nanoseconds
)

// Segment handles a TCP segment of the guest.
func (e *Engine) Segment(t *shard.Turn, k *shard.Packet) (retry bool) {
	s := Segment{HopLimit: k.Hops, trafficClass: k.TOS}
	if !s.Parse(k.L4, k.L4Len) {
		t.Drop(&t.Counters.Malformed)
		return false
	}
	s.offset = k.L4Offset + s.Offset
	key, ok := t.KeyOf(k, netpkt.TCP)
	if !ok {
		t.Hooks.Misaddressed(t, *k, netpkt.TCP)
		return false
	}
	if k.Hops <= 1 && e.icmp.Outlived(t, k, &key, k.L4Len) {
		return false
	}
	found, at := t.Find(&key)
	switch at {
	case shard.Elsewhere:
		return true
	case shard.Nowhere:
		return e.onUnknown(t, &key, &s)
	}
	f := e.conn(found)
	switch f.State {
	case stateConnecting:
		return e.onConnecting(t, f, &s)
	case stateSynSent:
		e.onSYNSent(t, f, &s)
	case stateReset:
		// Nobody is there any more; the reset that is due says so.
	default:
		return e.onSegment(t, f, &s, k)
	}
	return false
}

// onUnknown handles a segment that belongs to no connection.
func (e *Engine) onUnknown(t *shard.Turn, key *flowtable.Key, s *Segment) (retry bool) {
	answered := e.hooks.OnProbeReply(t, *key, s.Flags, s.Ack)
	if s.Flags&netpkt.RST != 0 {
		return false
	}
	if s.Flags&(netpkt.SYN|netpkt.ACK) == netpkt.SYN {
		return e.Connect(t, key, s)
	}
	if !answered {
		t.Drop(&t.Counters.Ends[stats.EndForgotten])
	}
	e.Refuse(t, key, s)
	return false
}

// Refuse answers a segment that belongs to no connection by a reset (RFC 9293 section 3.10.7.1).
func (e *Engine) Refuse(t *shard.Turn, key *flowtable.Key, s *Segment) {
	seq, ack, flags := s.Ack, seqnum.Value{}, uint8(netpkt.RST)
	if s.Flags&netpkt.ACK == 0 {
		seq, ack, flags = seqnum.Value{}, s.Seq.Plus(s.Len()), netpkt.RST|netpkt.ACK
	}
	t.Counters.ResetsSent++
	SendControlSegment(t, key, flags, seq, ack)
}

// onConnecting handles a segment of a guest that waits for the host's connect.
func (e *Engine) onConnecting(t *shard.Turn, f conn, s *Segment) (retry bool) {
	switch {
	case s.Flags&netpkt.RST != 0:
		if s.Seq == f.tcp.rcvNxt || s.Seq == f.tcp.irs {
			e.Drop(f.Flow, stats.EndWithdrawn)
		}
	case s.Flags&netpkt.SYN != 0 && s.Seq != f.tcp.irs:
		key := f.Key
		e.Drop(f.Flow, stats.EndReplaced)
		return e.Connect(t, &key, s)
	}
	return false
}

// onSYNSent handles the guest's answer to our SYN (RFC 9293 section 3.10.7.3).
func (e *Engine) onSYNSent(t *shard.Turn, f conn, s *Segment) {
	c := f.tcp
	if s.Flags&netpkt.ACK != 0 && s.Ack != c.iss.Plus(1) {
		if s.Flags&netpkt.RST == 0 {
			t.Drop(&t.Counters.Ends[stats.EndMisanswered])
			e.Refuse(t, &f.Key, s)
		}
		return
	}
	if s.Flags&netpkt.RST != 0 {
		if s.Flags&netpkt.ACK != 0 {
			e.hooks.OnGuestRefused(f.Key)
			e.Drop(f.Flow, stats.EndRefused)
		}
		return
	}
	if s.Flags&(netpkt.SYN|netpkt.ACK) != netpkt.SYN|netpkt.ACK {
		return
	}
	e.takeOptions(f, s)
	c.rcvNxt, c.rcvWndEdge = s.Seq.Plus(1), s.Seq.Plus(1)
	c.irs = s.Seq
	c.sndUna, c.sndNxt, c.sndMax = s.Ack, s.Ack, s.Ack
	e.established(f, s, s.Window) // the window of a SYN is not scaled
	t.Pairs.Handshakes.ToGuest.Observe(t.Now - f.CreatedAt)
	if f.Bits&shard.Awaited != 0 {
		e.callAccepted(f)
	}
	f.tcp.flags |= pendAck
	if s.Flags&netpkt.URG != 0 {
		e.noteMark(f, s)
	}
}

// established opens a connection after its handshake. window is the guest's, in bytes.
func (e *Engine) established(f conn, s *Segment, window uint32) {
	f.State = stateOpen
	e.stand(f)
	f.tcp.flags &^= pendSYN
	f.Bits |= shard.Readable
	e.shard.LeaveClass(f.Flow)
	c := f.tcp
	c.retries, c.rto = 0, initialRTO
	c.wl1, c.wl2 = s.Seq, s.Ack
	c.sndWnd, c.maxWnd = window, window
	e.shard.Wheel.Set(f.Index, 0)
	e.shard.Schedule(f.Flow)
	e.startKeepalive(f)
}

// takeOptions takes the options of the guest's SYN or SYN-ACK into account.
func (e *Engine) takeOptions(f conn, s *Segment) {
	o := netpkt.ParseSYNOptions(s.Options)
	const leastMSS = 88 // Linux's own lower bound: less serves only those who want to make work
	mss := min(max(int(o.MSS), leastMSS), e.shard.MTU-int(f.IPLen)-netpkt.TCPLen)
	if o.Scales {
		f.tcp.flags |= guestScales
		f.tcp.sndScale, f.tcp.rcvScale = o.Scale, e.cfg.WindowScale
	}
	if o.SACKs {
		f.tcp.flags |= guestSACKs
	}
	if o.Times && f.Bits&shard.Inbound == 0 { // ours does not offer them
		f.tcp.flags |= guestTimes
		f.tcp.recent = o.Stamp
		mss -= netpkt.TimesLen // an MSS does not count options (RFC 6691)
	}
	e.setMSS(f, uint16(mss))
}

// onSegment handles a segment of a connection that the guest knows (RFC 9293 section 3.10.7.4).
func (e *Engine) onSegment(t *shard.Turn, f conn, s *Segment, k *shard.Packet) (retry bool) {
	c := f.tcp
	c.idleTicks = 0
	if s.Flags&(netpkt.RST|netpkt.SYN) != 0 {
		e.FlushOutgoing(t) // what came before counts first
		if f.State == shard.StateDead {
			return false
		}
	}
	switch {
	case s.Flags&netpkt.RST != 0:
		e.onReset(t, f, s)
		return false
	case s.Flags&netpkt.SYN != 0:
		return e.onRepeatedSYN(t, f, s)
	case s.Flags&netpkt.ACK == 0:
		return false
	case f.tcp.flags&guestTimes != 0 && !e.passesPAWS(t, f, s):
		t.Drop(&t.Counters.TCPOutdated)
		e.schedule(f, pendAck)
		return false
	case f.State == stateSynRcvd && s.Ack != c.iss.Plus(1):
		t.Drop(&t.Counters.Ends[stats.EndMisanswered])
		e.Refuse(t, &f.Key, s)
		return false
	case f.State == stateSynRcvd:
		c.sndUna = s.Ack
		e.established(f, s, s.Window<<c.sndScale)
	}
	if s.Seq.After(c.rcvWndEdge) {
		e.schedule(f, pendAck) // beyond the window (RFC 9293 section 3.10.7.4, first step)
		return false
	}
	if tos := s.trafficClass &^ ecnBits; tos != f.Sender.Manner.TrafficClass && s.N > 0 {
		if e.mark(t, f.Flow, tos); f.State == shard.StateDead {
			return false
		}
	}
	if e.onAck(t, f, s) {
		if s.Flags&netpkt.URG != 0 {
			e.noteMark(f, s)
		}
		e.onData(t, f, s, k.Chain)
	}
	return false
}

// onReset handles the guest's reset (RFC 5961 section 3.2).
func (e *Engine) onReset(t *shard.Turn, f conn, s *Segment) {
	c := f.tcp
	if s.Seq == c.rcvNxt {
		e.hooks.OnGuestClosed(t, f.Key)
		e.Drop(f.Flow, stats.EndByGuest)
		return
	}
	if s.Seq.After(c.rcvNxt) && s.Seq.Before(c.rcvWndEdge) {
		e.schedule(f, pendAck)
	}
}

// onRepeatedSYN handles a SYN on a connection that exists. The same SYN again means that our answer was lost. Another
// one means that the guest has begun anew and knows nothing of the old connection.
func (e *Engine) onRepeatedSYN(t *shard.Turn, f conn, s *Segment) (retry bool) {
	switch {
	case s.Flags&netpkt.ACK != 0:
		e.schedule(f, pendAck)
	case s.Seq != f.tcp.irs:
		key := f.Key
		e.Drop(f.Flow, stats.EndReplaced)
		return e.Connect(t, &key, s)
	case f.State == stateSynRcvd:
		e.schedule(f, pendSYN)
	default:
		e.schedule(f, pendAck)
	}
	return false
}

// schedule notes that something is to be sent to the guest.
func (e *Engine) schedule(f conn, b flags) {
	f.tcp.flags |= b
	e.shard.Schedule(f.Flow)
}

// onAck handles the acknowledgement and window of a segment, and tells whether the rest of it counts.
func (e *Engine) onAck(t *shard.Turn, f conn, s *Segment) bool {
	c := f.tcp
	holes := e.onSACK(f, s)
	switch {
	case s.Ack.After(c.sndMax):
		e.schedule(f, pendAck)
		return false
	case s.Ack.After(c.sndUna):
		e.onNewAck(t, f, s)
	case s.Ack == c.sndUna && s.N == 0 && s.Flags&netpkt.FIN == 0 && c.sndUna != c.sndMax &&
		(holes || s.Window<<c.sndScale == c.sndWnd):
		e.onDuplicateAck(f)
	}
	e.onWindow(f, s)
	return true
}

// onNewAck takes note that the guest has all before what s acknowledges.
func (e *Engine) onNewAck(t *shard.Turn, f conn, s *Segment) {
	c := f.tcp
	ack := s.Ack
	n := ack.Since(c.sndUna)
	e.measureRTT(t, f, s)
	if f.tcp.flags&finSent != 0 && ack == c.sndMax {
		f.tcp.flags |= finAcked
		e.startKeepalive(f)
		n--
	}
	c.pendingDrop += f.tcp.proxy.headerAcked(n)
	c.sndUna = ack
	if c.sndNxt.Before(ack) {
		c.sndNxt = ack
	}
	e.afterTimeout(f, ack)
	c.dupAcks, c.retries = 0, 0
	f.tcp.flags &^= persisting
	c.rto = c.baseRTO()
	if f.tcp.flags&recovering != 0 {
		f.tcp.flags &^= pendRetransmit
		if ack.AtLeast(c.recover) {
			f.tcp.flags &^= recovering
		} else {
			f.tcp.flags |= pendRetransmit // the next hole (RFC 6582 section 3.2)
		}
	}
	if c.sndUna == c.sndMax {
		t.Wheel.Set(f.Index, 0)
	} else {
		t.Wheel.Set(f.Index, t.Now+c.rto)
	}
	t.Schedule(f.Flow)
}

// measureRTT takes a round trip that s ends (RFC 6298 section 2). s acknowledges something.
func (e *Engine) measureRTT(t *shard.Turn, f conn, s *Segment) {
	c := f.tcp
	r, ok := t.Now-c.rttStart, f.tcp.flags&timing != 0 && s.Ack.AtLeast(c.rttSeq)
	if f.tcp.flags&timing == 0 && (c.retries > 0 || f.tcp.flags&(recovering|timedOut) != 0) {
		r, ok = e.rttFromTSecr(t, f, s)
	}
	if !ok {
		return
	}
	f.tcp.flags &^= timing
	us := int32(min(r, maxRTO) / microsecond)
	if c.srtt == 0 {
		c.srtt, c.rttvar = us, us/2
	} else {
		c.rttvar += (max(c.srtt-us, us-c.srtt) - c.rttvar) / 4
		c.srtt += (us - c.srtt) / 8
	}
}

// baseRTO is the retransmission timeout before any back-off.
func (c *state) baseRTO() int64 {
	if c.srtt == 0 {
		return initialRTO
	}
	return min(max(microsecond*(int64(c.srtt)+4*int64(c.rttvar)), minRTO), maxRTO)
}

// onDuplicateAck counts an acknowledgement that tells that the guest misses something (RFC 5681 section 3.2).
func (e *Engine) onDuplicateAck(f conn) {
	c := f.tcp
	const threshold = 3
	if c.dupAcks < threshold {
		c.dupAcks++
	}
	if c.sacked.Len() >= threshold*uint32(c.mss) {
		c.dupAcks = threshold // one segment that the guest has behind the hole stands for many (RFC 6675 section 4)
	}
	if c.dupAcks < threshold || f.tcp.flags&recovering != 0 {
		return
	}
	c.recover = c.sndMax
	e.schedule(f, recovering|pendRetransmit)
}

// onWindow takes the guest's window, unless the segment is older than one already seen.
func (e *Engine) onWindow(f conn, s *Segment) {
	c := f.tcp
	if s.Ack.Before(c.sndUna) || s.Seq.Before(c.wl1) || (s.Seq == c.wl1 && s.Ack.Before(c.wl2)) {
		return
	}
	c.wl1, c.wl2 = s.Seq, s.Ack
	w := s.Window << c.sndScale
	if w > c.sndWnd {
		e.shard.Schedule(f.Flow)
	}
	c.sndWnd = w
	c.maxWnd = max(c.maxWnd, w)
	if f.tcp.flags&persisting != 0 {
		e.probeAnswered(f)
	}
}

// probeAnswered takes note that a guest that was probed is alive. If its window is open, that was all.
func (e *Engine) probeAnswered(f conn) {
	c := f.tcp
	c.retries = 0
	if c.sndWnd == 0 || c.sndUna != c.sndMax {
		return
	}
	f.tcp.flags &^= persisting | pendProbe
	c.rto = c.baseRTO()
	e.shard.Wheel.Set(f.Index, 0)
}

// outgoing is a run of the guest's bytes that are to go out by one system call.
type outgoing struct {
	conn // with no flow if there is nothing
	end  seqnum.Value
	n    int
	fin  bool
	iov  []guestmem.Iovec
	// flags are those of sendmsg(2): with MSG_OOB the last byte is an urgent one.
	flags uintptr
}

// expected is the sequence number of the first byte of the guest that was neither taken nor queued.
func (e *Engine) expected(f conn) seqnum.Value {
	if e.out.Flow == f.Flow {
		return e.out.end
	}
	return f.tcp.rcvNxt
}

// takesFrom tells whether the host's socket has taken all before seq, and may take more.
func (f conn) takesFrom(seq seqnum.Value) bool {
	return f.State == stateOpen && f.tcp.rcvNxt == seq && f.tcp.flags&(guestFIN|hostReset) == 0
}

// onData takes the segment's bytes that the host's socket has not got yet, in order, and its FIN.
func (e *Engine) onData(t *shard.Turn, f conn, s *Segment, c *virtqueue.Chain) {
	if s.N == 0 && s.Flags&netpkt.FIN == 0 {
		e.answerProbe(f, s)
		return
	}
	if f.tcp.flags&(guestFIN|hostReset) != 0 {
		e.schedule(f, pendAck)
		return
	}
	conn := f.tcp
	next := e.expected(f)
	skip := next.Since(s.Seq) // already taken; repeated bytes are cut off
	if s.Seq.After(next) {
		t.Drop(&t.Counters.TCPOutOfOrder)
		conn.pendDupAcks = min(conn.pendDupAcks+1, 3)
		t.Schedule(f.Flow)
		return
	}
	fin := s.Flags&netpkt.FIN != 0
	if e.out.fin && e.out.Flow == f.Flow || skip > uint32(s.N) || (skip == uint32(s.N) && !fin) {
		e.schedule(f, pendAck)
		return
	}
	n := uint32(s.N) - skip
	if room := conn.rcvWndEdge.Since(next); n > room {
		n, fin = room, false
	}
	if n == 0 && !fin {
		e.schedule(f, pendAck)
		return
	}
	if conn.urgency&guestMarked != 0 {
		e.queueMarked(t, f, next, s.offset+int(skip), int(n), fin, c)
		return
	}
	e.queue(t, f, next, s.offset+int(skip), int(n), fin, c)
}

// answerProbe answers a keepalive or window probe: a segment without data from before what was acknowledged.
func (e *Engine) answerProbe(f conn, s *Segment) {
	if s.Seq == f.tcp.rcvNxt.Minus(1) {
		e.keepHostAlive(f.Flow)
	}
	if s.Seq.Before(f.tcp.rcvNxt) || s.Seq.After(f.tcp.rcvWndEdge) {
		e.schedule(f, pendAck)
	}
}

// queue appends n bytes of the guest's to what goes out next.
func (e *Engine) queue(t *shard.Turn, f conn, seq seqnum.Value, offset, n int, fin bool, c *virtqueue.Chain) {
	if e.out.Flow != f.Flow {
		e.FlushOutgoing(t)
		if f.State != stateOpen {
			return
		}
		e.out.conn, e.out.end = f, seq
	}
	iov, ok := shard.AppendRange(e.out.iov, c.Iov, offset, n)
	if !ok && e.out.n > 0 {
		e.FlushOutgoing(t)
		if f.takesFrom(seq) {
			e.queue(t, f, seq, offset, n, fin, c)
		}
		return
	}
	if !ok {
		e.out = outgoing{iov: e.out.iov[:0]}
		t.Drop(&t.Counters.Malformed) // more pieces than one call takes
		return
	}
	e.out.iov = iov
	e.out.n += n
	e.out.end = seq.Plus(uint32(n))
	e.out.fin = fin
}

// FlushOutgoing gives the host's socket what has been queued for it. Exactly what it takes is acknowledged.
func (e *Engine) FlushOutgoing(t *shard.Turn) {
	f := e.out.conn
	if f.Flow == nil {
		return
	}
	n, fin, iov, flags := e.out.n, e.out.fin, e.out.iov, e.out.flags
	e.out = outgoing{iov: iov[:0]}
	if f.State != stateOpen {
		return
	}
	if !e.passOn(t, f, iov, n, fin, flags) {
		e.schedule(f, pendAck)
		return
	}
	e.acknowledge(t, f, n, fin)
	if fin {
		f.tcp.rcvNxt = f.tcp.rcvNxt.Plus(1)
		if f.tcp.rcvWndEdge.AtMost(f.tcp.rcvNxt) {
			f.tcp.rcvWndEdge = f.tcp.rcvNxt
		}
		f.tcp.flags |= guestFIN
		e.stand(f)
		e.startKeepalive(f)
		e.hooks.OnGuestClosed(t, f.Key)
		e.endStream(f.Flow)
	}
}

// passOn gives the host's socket n bytes, as deliver does, or whoever looks at them first. fin tells that they are the last.
func (e *Engine) passOn(t *shard.Turn, f conn, iov []guestmem.Iovec, n int, fin bool, flags uintptr) bool {
	if f.tcp.flags&inspected != 0 {
		return e.inspect(t, f, iov, n, fin)
	}
	return n == 0 || e.deliver(t, f, iov, n, flags)
}

// deliver sends n bytes to the host's socket, with flags of sendmsg(2), and tells whether it took all.
func (e *Engine) deliver(t *shard.Turn, f conn, iov []guestmem.Iovec, n int, flags uintptr) bool {
	sent, errno := e.send(t, f, iov, n, flags)
	switch errno {
	case 0:
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EINTR:
		sent = 0
	case unix.EFAULT:
		t.Worker.Fault(errno)
		return false
	default:
		if errno == unix.EOPNOTSUPP && flags != 0 {
			return e.deliver(t, f, iov, n, 0) // a unix socket takes no urgent byte before Linux 5.15: it is one like the others
		}
		e.hostFailed(f, errno)
		return false
	}
	f.tcp.rcvNxt = f.tcp.rcvNxt.Plus(uint32(sent))
	f.tcp.wndUsed += uint32(sent)
	f.FromGuest += uint64(sent)
	if sent == n {
		return true
	}
	t.Counters.TCPRefused += uint64(n - sent)
	f.tcp.wndCredit = 0 // measure again
	f.Bits &^= shard.Writable
	f.tcp.flags |= refused | stalled
	return false
}

// send gives the host's side the n bytes of iov, and returns how many it took.
func (e *Engine) send(t *shard.Turn, f conn, iov []guestmem.Iovec, n int, flags uintptr) (int, unix.Errno) {
	if f.Bits&shard.NoSocket != 0 {
		return e.take(t, f, iov, n), 0
	}
	return t.Msg.Send(f.FD, iov, flags)
}

// Expire is called when a connection's timer has run out.
func (e *Engine) Expire(t *shard.Turn, of *shard.Flow) {
	f := e.conn(of)
	c := f.tcp
	t.Schedule(f.Flow)
	switch f.State {
	case stateReset:
		t.Remove(f.Flow)
		return
	case stateAwaitProxy:
		e.Drop(f.Flow, stats.EndLateHeader)
		return
	case stateConnecting:
		if c.flags&byProxy != 0 {
			e.proxyLate(t, f)
		}
		return
	}
	if f.tcp.flags&ackDelayed != 0 {
		e.delayedAckExpired(f)
		return
	}
	limit, cause := uint8(maxRetries), stats.EndUnacked
	if f.State != stateOpen {
		limit, cause = maxSynRetries, stats.EndUnanswered
	}
	if f.Bits&shard.Awaited != 0 {
		limit = callRetries
	}
	if c.retries >= limit {
		t.Counters.Timeouts++
		e.ResetGuest(f.Flow, cause)
		return
	}
	c.retries++
	c.rto = min(2*c.rto, maxRTO)
	f.tcp.flags &^= timing | recovering
	switch {
	case f.State != stateOpen:
		e.tellUnanswered(f)
		f.tcp.flags |= pendSYN
		t.Wheel.Set(f.Index, t.Now+c.rto) // though the ring be full: who calls does not wait for ever
	case c.sndUna != c.sndMax:
		e.onRTO(t, f)
	default:
		f.tcp.flags |= pendProbe
	}
}

// tellUnanswered warns, once for each address, that a forward leads to an address that the guest does not answer at. A
// guest that boots needs its time, so it is not the first repetition that tells.
func (e *Engine) tellUnanswered(f conn) {
	const patience = 3 // repetitions; the third is sent after seven seconds
	a := f.Key.Guest
	if f.Bits&(shard.Inbound|shard.Direct) != shard.Inbound || f.tcp.retries != patience || e.unansweredAt[a] {
		return
	}
	if e.unansweredAt == nil {
		e.unansweredAt = map[ipaddr.Addr]bool{}
	}
	e.unansweredAt[a] = true // as many as forwards lead to
	message := "no answer from the guest at the address that a forward leads to"
	if a == e.cfg.DHCPv6 {
		message += "; it has this one only if it asks for it by DHCPv6"
	}
	e.shard.Warn(message, "address", a.Netip().String())
}

// SendControlSegment sends a segment without data, and without a connection to speak of.
func SendControlSegment(t *shard.Turn, key *flowtable.Key, flags uint8, seq, ack seqnum.Value) bool {
	b := t.Template[:netpkt.EtherLen+key.Guest.HeaderLen()+netpkt.TCPLen]
	writeHeader(b[len(b)-netpkt.TCPLen:], key, flags, seq, ack, 0)
	return finishSegment(t, b, key)
}

// writeHeader writes the TCP header of a segment to the guest, without options or checksum.
func writeHeader(tcp []byte, key *flowtable.Key, flags uint8, seq, ack seqnum.Value, window uint16) {
	netpkt.PutTCP(tcp, key.RemotePort, key.GuestPort, flags, seq, ack, window)
}
