package udp

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// firstLook is how many datagrams are asked for at first. Most often there is one; only who gets so many may have more.
	firstLook = 4
	// leastRoom is the least room in a receive buffer that is good for a datagram by itself.
	leastRoom = netpkt.EtherLen + 1500
)

// rxBatch is the scratch for receiving datagrams. Each goes straight into a receive buffer of the guest, and what does not
// fit there into a buffer of ours.
type rxBatch struct {
	lease netbackend.Lease        // a frame for each
	room  [hostsock.BatchSize]int // for payload, in the frame
}

// rxSource is a socket that datagrams are received from: that of one flow, or of a forward.
type rxSource struct {
	flow     *shard.Flow         // nil for a forward's
	listener *listeners.Listener // nil for a flow's
}

func (m *rxSource) fd() int32 {
	if m.flow != nil {
		return m.flow.FD
	}
	return m.listener.FD
}

func (e *Engine) receiver(m *rxSource) *listeners.Receiver {
	if m.flow != nil {
		return &e.of(m.flow).receiver
	}
	return &m.listener.Receiver
}

// guest is the address of the guest that datagrams are for.
func (m *rxSource) guest() *ipaddr.Addr {
	if m.flow != nil {
		return &m.flow.Key.Guest
	}
	return &m.listener.Guest.Addr
}

// common is the socket if flows share it, nil if it is one flow's.
func (m *rxSource) common() *listeners.SharedSocket {
	if m.flow != nil {
		return nil
	}
	return m.listener.Shared
}

// ready tells whether there may be more. drained takes note that there is not.
func (m *rxSource) ready() bool {
	if m.flow != nil {
		return m.flow.State == shard.StateActive && m.flow.Bits&shard.Readable != 0
	}
	return m.listener.Ready
}

func (m *rxSource) drained() {
	if m.flow != nil {
		m.flow.Bits &^= shard.Readable
		return
	}
	m.listener.Ready = false
}

// Serve passes the guest what its association has received, and what became of its own datagrams.
func (e *Engine) Serve(t *shard.Turn, f *shard.Flow) shard.Outcome {
	if f.Bits&shard.SharedSocket != 0 {
		return shard.Idle // the forward receives for it
	}
	if f.Bits&shard.SockError != 0 {
		f.Bits &^= shard.SockError
		if e.readErrorsOf(t, &rxSource{flow: f}) == shard.ErrorBurst {
			f.Bits |= shard.SockError // there may be more
			return shard.Again
		}
	}
	return e.receive(t, rxSource{flow: f})
}

// receive takes what has come in, up to DatagramBurst datagrams.
func (e *Engine) receive(t *shard.Turn, m rxSource) shard.Outcome {
	want := firstLook
	for budget := shard.DatagramBurst; m.ready(); {
		if budget <= 0 {
			return shard.Again
		}
		room := e.reserveDatagrams(t, &m, min(want, budget))
		if room == 0 {
			return shard.NoBuffers
		}
		n, errno := e.batch.Receive(m.fd(), room)
		t.Counters.UDPReceives++
		if errno != 0 {
			budget--
			e.receiveFailed(t, &m, errno)
			continue
		}
		e.deliverAll(t, &m, n)
		if n < room {
			m.drained() // what comes now comes with an event of its own, and so does an error
		}
		budget -= n
		want = hostsock.BatchSize
	}
	return shard.Idle
}

// reserveDatagrams makes room for up to want datagrams and returns for how many, 0 if the guest has none. What is left of
// a long datagram goes first.
func (e *Engine) reserveDatagrams(t *shard.Turn, m *rxSource, want int) (n int) {
	if !e.fragments.SendRest(t) || t.RXFull {
		return 0
	}
	s := e.receiver(m)
	frame := netpkt.EtherLen + t.MTU
	if !s.Long && !s.GRO {
		e.rxBatch.lease = t.RX.Reserve(netbackend.Request{
			Min: min(frame, leastRoom), Max: frame, Frames: want, Shape: netbackend.OneBuffer,
		})
		n = e.rxBatch.lease.Len()
	}
	if n == 0 {
		most := frame
		if s.GRO {
			most = netpkt.EtherLen + 65535
		}
		e.rxBatch.lease = t.RX.Reserve(netbackend.Request{Min: frame, Max: most})
		if n = e.rxBatch.lease.Len(); n == 0 {
			t.RXFull = true
			return 0
		}
	}
	return e.prepare(t, m, n)
}

// prepare makes messages of the first n reserved frames, and returns how many it could.
func (e *Engine) prepare(t *shard.Turn, m *rxSource, n int) int {
	pieces := t.Pieces[:0]
	headers := shard.UDPHeaders(m.guest())
	for i := range n {
		start, in := len(pieces), &e.rxBatch
		frame := in.lease.Frame(i)
		in.room[i] = shard.Capacity(frame) - headers
		longer, ok := shard.AppendRange(pieces, frame, headers, in.room[i])
		if !ok || len(longer) == cap(longer) {
			return i
		}
		pieces = longer
		if beyond := shard.BounceLen - in.room[i]; beyond > 0 {
			pieces = append(pieces, guestmem.PieceOf(t.BounceFor(i)[:beyond]))
		}
		e.batch.Set(i, pieces[start:])
		if m.flow == nil {
			e.batch.WantName(i)
		}
		if e.receiver(m).GRO || m.flow == nil && m.listener.Shared.AsksWays {
			e.batch.WantControl(i)
		}
	}
	return n
}

func (e *Engine) receiveFailed(t *shard.Turn, m *rxSource, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		m.drained()
	case unix.EFAULT:
		m.drained()
		t.Worker.Fault(errno)
	case unix.EINTR:
	default:
		e.readErrorsOf(t, m)
	}
}

// readErrorsOf tells the guest what became of datagrams that have left by m's socket, and returns how many errors there were.
func (e *Engine) readErrorsOf(t *shard.Turn, m *rxSource) (n int) {
	common := m.common()
	if common != nil {
		common.Mu.Lock()
		defer common.Mu.Unlock()
	}
	n, _ = e.readErrors(t, m.fd(), m.flow, common)
	return n
}

// deliverAll gives the guest the first n messages, each in the frame that it was received into.
func (e *Engine) deliverAll(t *shard.Turn, m *rxSource, n int) {
	longest := e.fragments.MaxPayload(m.guest())
	for i := range n {
		size, segment := e.batch.Length(i), e.batch.Segment(i)
		f := e.recipient(t, m, i)
		fits := size <= e.rxBatch.room[i] && size <= longest
		if segment != 0 && segment < size {
			fits = t.TakesUSO(m.guest()) && segment <= longest && size <= e.rxBatch.room[i]
		}
		if f == nil || !fits {
			e.deliverOverflow(t, m, f, i, n)
			return
		}
		e.received(t, f, size)
		e.commitDatagrams(t, &f.Key, i, size, segment)
	}
}

// recipient returns the flow that message i is for, nil if it is for nobody.
func (e *Engine) recipient(t *shard.Turn, m *rxSource, i int) *shard.Flow {
	if m.flow != nil {
		return m.flow
	}
	c := e.callerOf(m.listener.Shared, i)
	return e.forwarded(t, m.listener.Shared, &c)
}

// received takes note of n bytes for the guest. What comes by a shared socket for a flow of another queue pair leaves no trace
// there: silence is the guest's (RFC 4787 section 4.3, outbound refresh).
func (e *Engine) received(t *shard.Turn, f *shard.Flow, n int) {
	if !t.Flows.IsOf(f.Index, t.Owner) {
		return
	}
	f.ToGuest += uint64(n)
	if f.Bits&shard.IsNew != 0 {
		t.WasAnswered(f)
	}
	if f.Class == shard.ClassStrangers {
		return
	}
	e.prolong(t, f)
	t.Touch(f)
}

// deliverOverflow gives the guest messages i to n-1, which cannot stay where they are: the first, which is for f, does not fit
// its buffer, or is for nobody. So all of them leave the guest's buffers, which then take what becomes of them.
func (e *Engine) deliverOverflow(t *shard.Turn, m *rxSource, f *shard.Flow, i, n int) {
	in := &e.rxBatch
	t.Overflow = t.Overflow[:0]
	for j := i; j < n; j++ {
		t.Overflow = e.appendMessage(t, t.Overflow, j, shard.UDPHeaders(m.guest()))
	}
	rest := t.Overflow
	for first := i; i < n; i++ {
		size := e.batch.Length(i)
		payload := rest[:size]
		rest = rest[size:]
		if i > first {
			f = e.recipient(t, m, i)
		}
		if f == nil {
			continue
		}
		e.receiver(m).Long = e.receiver(m).Long || size > in.room[i]
		if e.fragments.IsBusy() {
			t.DropToGuest(&t.Counters.NoRoom, &f.Key) // the guest has no room for the one before
			continue
		}
		e.received(t, f, size)
		e.fragments.SendDatagrams(t, &f.Key, payload, e.batch.Segment(i))
	}
}

// appendMessage appends the payload of message i, which stands behind headers, to b.
func (e *Engine) appendMessage(t *shard.Turn, b []byte, i, headers int) []byte {
	size := e.batch.Length(i)
	inFrame := min(size, e.rxBatch.room[i])
	start := len(b)
	if cap(b)-start < size {
		b = append(make([]byte, 0, 2*start+shard.BounceLen), b...)
	}
	b = b[:start+inFrame]
	guestmem.CopyFrom(b[start:], e.rxBatch.lease.Frame(i), headers)
	return append(b, t.BounceFor(i)[:size-inFrame]...)
}

// commitDatagrams writes the headers in front of n bytes in frame i of the lease, and gives the guest the frame. segment is the
// length of each of several datagrams, 0 for one.
func (e *Engine) commitDatagrams(t *shard.Turn, key *flowtable.Key, i, n, segment int) {
	iov := e.rxBatch.lease.Frame(i)
	at := t.PutIP(t.Template[:], &key.Remote, &key.Guest, netpkt.UDP, netpkt.UDPLen+n)
	headers := at + netpkt.UDPLen
	udp := t.Template[at:headers]
	netpkt.PutUDP(udp, key.RemotePort, key.GuestPort, netpkt.UDPLen+n)
	sum := shard.PseudoSum(key, netpkt.UDPLen+n)
	var h vnet.Header
	if t.GuestCsum {
		h.Flags, h.CsumStart, h.CsumOffset = vnet.FlagNeedsCSum, uint16(at), 6
	} else {
		sum = netpkt.UDPChecksum(t.SumRange(iov, headers, n, vnet.Sum(udp, sum)))
	}
	if segment != 0 && segment < n {
		h.GSOType, h.GSOSize, h.HdrLen = vnet.GSOUDPL4, uint16(segment), uint16(headers)
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	guestmem.CopyTo(iov, 0, t.Template[:headers])
	e.rxBatch.lease.Commit(&h, headers+n)
}

// ReceiveForwarded passes the guest what has come in on a forward, and what became of the guest's answers.
func (e *Engine) ReceiveForwarded(t *shard.Turn, l *listeners.Listener) {
	if l.FD < 0 {
		l.Ready = false // a mapping that has ended
		return
	}
	e.toUser(t, &l.Guest.Addr)
	if l.SockError {
		l.SockError = e.readErrorsOf(t, &rxSource{listener: l}) == shard.ErrorBurst // then there may be more
		t.Again = t.Again || l.SockError
	}
	if !t.Connected || t.Hosts.MAC(hosts.Any) == 0 {
		e.discard(t, l)
		return
	}
	switch e.receive(t, rxSource{listener: l}) {
	case shard.Again:
		t.Again = true
	case shard.NoBuffers:
		t.RX.Starve()
	}
}

// toUser lets what is made next go to the host that uses the address guest. If that is not known, the link is asked.
func (e *Engine) toUser(t *shard.Turn, guest *ipaddr.Addr) {
	if t.To = e.user.User(t.Hosts, guest); t.To == hosts.Any {
		e.link.AskOnce(t, *guest)
	}
}

// forwarded returns the flow for what a caller sends to a forward, which remembers the way back, or to a mapping; nil if there
// is none.
func (e *Engine) forwarded(t *shard.Turn, s *listeners.SharedSocket, c *hostsock.Caller) *shard.Flow {
	key := e.forwardKey(s, c.Peer)
	if f := t.Flows.Find(&key); f != nil && e.isOf(f, s, c) {
		return f
	}
	f, free := e.callerFlow(s, c)
	switch {
	case f != nil:
		return f
	case free == flowtable.Key{}:
		t.DropToGuest(&t.Counters.BadAddress, &key) // the guest speaks to that port by flows of its own
		return nil
	case s.Via == viaMapping:
		return e.letIn(t, s, c, &free)
	}
	return e.beginCaller(t, s, c, &free)
}

// forwardKey names the flow of a peer of a UDP forward, or of a mapping.
func (e *Engine) forwardKey(s *listeners.SharedSocket, peer ipaddr.Endpoint) flowtable.Key {
	return flowtable.Key{
		Guest: s.Guest.Addr, GuestPort: s.Guest.Port, Proto: netpkt.UDP,
		Remote: e.shard.Nets.AsSeen(&peer.Addr, &s.Guest.Addr), RemotePort: peer.Port,
	}
}

// discard drops what has come in for a guest that is not there, and asks for it.
func (e *Engine) discard(t *shard.Turn, l *listeners.Listener) {
	for range shard.DatagramBurst {
		if _, _, errno := t.Msg.Receive(l.FD, nil, 0, false); errno == unix.EAGAIN {
			l.Ready = false
			break
		}
		t.DropToGuest(&t.Counters.NoGuest, &flowtable.Key{Guest: l.Guest.Addr, GuestPort: l.Guest.Port, Proto: netpkt.UDP})
	}
	t.Again = t.Again || l.Ready
	e.link.AskOnce(t, l.Guest.Addr)
}
