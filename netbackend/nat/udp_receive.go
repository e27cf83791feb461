package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// firstLook is how many datagrams are asked for at first. Most often there is one; only who gets so many may have more.
	firstLook = 4
	// leastRoom is the least room in a receive buffer that is good for a datagram by itself.
	leastRoom = etherLen + 1500
	// spillLen is what a datagram can have beyond its receive buffer.
	spillLen = maxDatagram
)

// inbox is the scratch for receiving datagrams. Each goes straight into a receive buffer of the guest, and what does not
// fit there into a buffer of ours.
type inbox struct {
	lease netbackend.Lease        // a frame for each
	room  [hostsock.BatchSize]int // for payload, in the frame
	spill []byte                  // spillLen bytes for each; nobody touches them as long as nothing spills
	aside []byte                  // payload of datagrams behind one that did not fit
}

func (in *inbox) spilled(i int) []byte { return in.spill[i*spillLen : (i+1)*spillLen] }

// mailbox is a socket that datagrams are received from: that of one flow, or of a forward.
type mailbox struct {
	flow     *flow     // nil for a forward's
	listener *listener // nil for a flow's
}

func (m *mailbox) fd() int32 {
	if m.flow != nil {
		return m.flow.fd
	}
	return m.listener.FD
}

func (m *mailbox) receiver() *udpReceiver {
	if m.flow != nil {
		return &m.flow.udp.receiver
	}
	return &m.listener.receiver
}

// guest is the address of the guest that datagrams are for.
func (m *mailbox) guest() *ipaddr.Addr {
	if m.flow != nil {
		return &m.flow.key.guest
	}
	return &m.listener.to.Addr
}

// common is the socket if flows share it, nil if it is one flow's.
func (m *mailbox) common() *sharedSocket {
	if m.flow != nil {
		return nil
	}
	return m.listener.shared
}

// ready tells whether there may be more. emptied takes note that there is not.
func (m *mailbox) ready() bool {
	if m.flow != nil {
		return m.flow.state == stateUDP && m.flow.bits&readable != 0
	}
	return m.listener.ready
}

func (m *mailbox) emptied() {
	if m.flow != nil {
		m.flow.bits &^= readable
		return
	}
	m.listener.ready = false
}

// serviceUDP passes the guest what its association has received, and what became of its own datagrams.
func (p *Port) serviceUDP(f *flow) outcome {
	if f.bits&shared != 0 {
		return idle // the forward receives for it
	}
	if f.bits&failed != 0 {
		f.bits &^= failed
		if p.readErrorsOf(&mailbox{flow: f}) == errorBurst {
			f.bits |= failed // there may be more
			return more
		}
	}
	return p.receive(mailbox{flow: f})
}

// receive takes what has come in, up to udpBurst datagrams.
func (p *Port) receive(m mailbox) outcome {
	want := firstLook
	for budget := udpBurst; m.ready(); {
		if budget <= 0 {
			return more
		}
		room := p.reserveDatagrams(&m, min(want, budget))
		if room == 0 {
			return starves
		}
		n, errno := p.batch.Receive(m.fd(), room)
		p.counters.UDPReceives++
		if errno != 0 {
			budget--
			p.receiveFailed(&m, errno)
			continue
		}
		p.deliverAll(&m, n)
		if n < room {
			m.emptied() // what comes now comes with an event of its own, and so does an error
		}
		budget -= n
		want = hostsock.BatchSize
	}
	return idle
}

// reserveDatagrams makes room for up to want datagrams and returns for how many, 0 if the guest has none. What is left of
// a long datagram goes first.
func (p *Port) reserveDatagrams(m *mailbox, want int) (n int) {
	if !p.sendFragments() || p.rxFull {
		return 0
	}
	s := m.receiver()
	frame := etherLen + p.mtu
	if !s.long && !s.gro {
		p.inbox.lease = p.rx.Reserve(netbackend.Request{
			Min: min(frame, leastRoom), Max: frame, Frames: want, Shape: netbackend.OneBuffer,
		})
		n = p.inbox.lease.Len()
	}
	if n == 0 {
		most := frame
		if s.gro {
			most = etherLen + 65535
		}
		p.inbox.lease = p.rx.Reserve(netbackend.Request{Min: frame, Max: most})
		if n = p.inbox.lease.Len(); n == 0 {
			p.rxFull = true
			return 0
		}
	}
	return p.prepare(m, n)
}

// prepare makes messages of the first n reserved frames, and returns how many it could.
func (p *Port) prepare(m *mailbox, n int) int {
	pieces := p.pieces[:0]
	headers := udpHeaders(m.guest())
	for i := range n {
		start, in := len(pieces), &p.inbox
		frame := in.lease.Frame(i)
		in.room[i] = capacity(frame) - headers
		longer, ok := appendRange(pieces, frame, headers, in.room[i])
		if !ok || len(longer) == cap(longer) {
			return i
		}
		pieces = longer
		if beyond := maxDatagram - in.room[i]; beyond > 0 {
			pieces = append(pieces, guestmem.PieceOf(in.spilled(i)[:beyond]))
		}
		p.batch.Set(i, pieces[start:])
		if m.flow == nil {
			p.batch.WantName(i)
		}
		if m.receiver().gro || m.flow == nil && m.listener.shared.asksWays {
			p.batch.WantControl(i)
		}
	}
	return n
}

func (p *Port) receiveFailed(m *mailbox, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		m.emptied()
	case unix.EFAULT:
		m.emptied()
		p.worker.Fault(errno)
	case unix.EINTR:
	default:
		p.readErrorsOf(m)
	}
}

// readErrorsOf tells the guest what became of datagrams that have left by m's socket, and returns how many errors there were.
func (p *Port) readErrorsOf(m *mailbox) (n int) {
	common := m.common()
	if common != nil {
		common.mu.Lock()
		defer common.mu.Unlock()
	}
	n, _ = p.readErrors(m.fd(), m.flow, common)
	return n
}

// deliverAll gives the guest the first n messages, each in the frame that it was received into.
func (p *Port) deliverAll(m *mailbox, n int) {
	longest := p.longest(m.guest())
	for i := range n {
		size, segment := p.batch.Length(i), p.batch.Segment(i)
		f := p.recipient(m, i)
		fits := size <= p.inbox.room[i] && size <= longest
		if segment != 0 && segment < size {
			fits = p.takesUSO(m.guest()) && segment <= longest && size <= p.inbox.room[i]
		}
		if f == nil || !fits {
			p.deliverAside(m, f, i, n)
			return
		}
		p.received(f, size)
		p.commitDatagrams(&f.key, i, size, segment)
	}
}

// recipient returns the flow that message i is for, nil if it is for nobody.
func (p *Port) recipient(m *mailbox, i int) *flow {
	if m.flow != nil {
		return m.flow
	}
	c := p.callerOf(m.listener.shared, i)
	return p.forwarded(m.listener.shared, &c)
}

// received takes note of n bytes for the guest. What comes by a shared socket for a flow of another queue pair leaves no trace
// there: silence is the guest's (RFC 4787 section 4.3, outbound refresh).
func (p *Port) received(f *flow, n int) {
	if p.flows.owner(f.index).Load() != p.me {
		return
	}
	f.toGuest += uint64(n)
	if f.bits&isNew != 0 {
		p.wasAnswered(f)
	}
	if f.crowd == crowdStrangers {
		return
	}
	p.prolong(f)
	p.used(f)
}

// deliverAside gives the guest messages i to n-1, which cannot stay where they are: the first, which is for f, does not fit
// its buffer, or is for nobody. So all of them leave the guest's buffers, which then take what becomes of them.
func (p *Port) deliverAside(m *mailbox, f *flow, i, n int) {
	in := &p.inbox
	in.aside = in.aside[:0]
	for j := i; j < n; j++ {
		in.aside = p.appendMessage(in.aside, j, udpHeaders(m.guest()))
	}
	rest := in.aside
	for first := i; i < n; i++ {
		size := p.batch.Length(i)
		payload := rest[:size]
		rest = rest[size:]
		if i > first {
			f = p.recipient(m, i)
		}
		if f == nil {
			continue
		}
		m.receiver().long = m.receiver().long || size > in.room[i]
		if p.long.n > 0 {
			p.counters.NoRoom++ // the guest has no room for the one before
			continue
		}
		p.received(f, size)
		p.cut(&f.key, payload, p.batch.Segment(i))
	}
}

// appendMessage appends the payload of message i, which stands behind headers, to b.
func (p *Port) appendMessage(b []byte, i, headers int) []byte {
	size := p.batch.Length(i)
	inFrame := min(size, p.inbox.room[i])
	start := len(b)
	if cap(b)-start < size {
		b = append(make([]byte, 0, 2*start+maxDatagram), b...)
	}
	b = b[:start+inFrame]
	guestmem.CopyFrom(b[start:], p.inbox.lease.Frame(i), headers)
	return append(b, p.inbox.spilled(i)[:size-inFrame]...)
}

// commitDatagrams writes the headers in front of n bytes in frame i of the lease, and gives the guest the frame. segment is the
// length of each of several datagrams, 0 for one.
func (p *Port) commitDatagrams(key *flowKey, i, n, segment int) {
	iov := p.inbox.lease.Frame(i)
	at := p.putIP(p.template[:], &key.remote, &key.guest, protoUDP, udpLen+n)
	headers := at + udpLen
	udp := p.template[at:headers]
	putUDP(udp, key.remotePort, key.guestPort, udpLen+n)
	sum := key.pseudoSum(udpLen + n)
	var h vnet.Header
	if p.guestCsum {
		h.Flags, h.CsumStart, h.CsumOffset = vnet.FlagNeedsCSum, uint16(at), 6
	} else {
		sum = udpChecksum(p.sumRange(iov, headers, n, vnet.Sum(udp, sum)))
	}
	if segment != 0 && segment < n {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOUDPL4, uint16(segment), uint16(headers)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	guestmem.CopyTo(iov, 0, p.template[:headers])
	p.inbox.lease.Commit(&h, headers+n)
}

// receiveForwarded passes the guest what has come in on a forward, and what became of the guest's answers.
func (p *Port) receiveForwarded(l *listener) {
	if l.FD < 0 {
		l.ready = false // a mapping that has ended
		return
	}
	p.toUser(&l.to.Addr)
	if l.failed {
		l.failed = p.readErrorsOf(&mailbox{listener: l}) == errorBurst // then there may be more
		p.again = p.again || l.failed
	}
	if !p.connected || p.hosts.mac(anyHost) == 0 {
		p.discard(l)
		return
	}
	switch p.receive(mailbox{listener: l}) {
	case more:
		p.again = true
	case starves:
		p.rx.Starve()
	}
}

// toUser lets what is made next go to the host that uses the address guest. If that is not known, the link is asked.
func (p *Port) toUser(guest *ipaddr.Addr) {
	if p.to = p.user.user(p.hosts, guest); p.to == anyHost {
		p.askOnce(*guest)
	}
}

// forwarded returns the flow for what a caller sends to a forward, which remembers the way back, or to a mapping; nil if there
// is none.
func (p *Port) forwarded(s *sharedSocket, c *hostsock.Caller) *flow {
	key := p.forwardKey(s, c.Peer)
	if f := p.flows.lookup(&key); f != nil && p.isOf(f, s, c) {
		return f
	}
	f, free := p.callerFlow(s, c)
	switch {
	case f != nil:
		return f
	case free == flowKey{}:
		p.counters.BadAddress++ // the guest speaks to that port by flows of its own
		return nil
	case s.via == viaMapping:
		return p.letIn(s, c, &free)
	}
	return p.beginCaller(s, c, &free)
}

// forwardKey names the flow of a peer of a UDP forward, or of a mapping.
func (p *Port) forwardKey(s *sharedSocket, peer ipaddr.Endpoint) flowKey {
	return flowKey{
		guest: s.guest.Addr, guestPort: s.guest.Port, proto: protoUDP,
		remote: p.nets.asSeen(&peer.Addr, &s.guest.Addr), remotePort: peer.Port,
	}
}

// discard drops what has come in for a guest that is not there, and asks for it.
func (p *Port) discard(l *listener) {
	for range udpBurst {
		if _, _, errno := p.msg.Receive(l.FD, nil, 0, false); errno == unix.EAGAIN {
			l.ready = false
			break
		}
		p.counters.NoGuest++
	}
	p.again = p.again || l.ready
	p.askOnce(l.to.Addr)
}

// reserveDatagram reserves room for one packet as long as the guest's MTU allows. What is left of a long datagram goes
// first.
func (p *Port) reserveDatagram() netbackend.Lease {
	if !p.sendFragments() || p.rxFull {
		return netbackend.Lease{}
	}
	n := max(etherLen+p.mtu, netbackend.MinFrame)
	lease := p.rx.Reserve(netbackend.Request{Min: n, Max: n})
	p.rxFull = lease.Len() == 0
	return lease
}
