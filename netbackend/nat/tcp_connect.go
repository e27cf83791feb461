package nat

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// connect begins the host's side of a connection whose SYN the guest sent. The guest is answered when the host has
// answered (rule T2 in docs/nat-rules.md).
func (p *Port) connect(key *flowKey, s *segment) (retry bool) {
	if p.isQuery(key) {
		return p.connectResolver(key, s)
	}
	to, verdict := p.policy.destination(key)
	if verdict != allowed {
		p.deny(key, verdict)
		p.refuse(key, s)
		return false
	}
	if !p.mayBegin() {
		return false
	}
	if !p.admit(crowdConnects) {
		p.refuse(key, s)
		return false
	}
	fd, set, err := p.dial(to, key, s)
	if err != nil {
		errno, _ := err.(unix.Errno)
		if !p.unreachableSYN(key, s.seq, errno) {
			p.refuse(key, s)
		}
		return false
	}
	f, at := p.connecting(key, fd, set, s)
	p.began(f, at)
	return at == elsewhere
}

// connecting makes the flow of a connection that dial has begun, nil if that cannot be done.
func (p *Port) connecting(key *flowKey, fd int, set udpSender, s *segment) (*flow, where) {
	f, at := p.create(key, fd, stateConnecting, 0, crowdConnects)
	switch at {
	case elsewhere:
		return nil, at
	case nowhere:
		p.refuse(key, s)
		return nil, at
	}
	p.counters.TCPFlows++
	f.udp.sender = set
	f.tcp.irs, f.tcp.rcvNxt, f.tcp.rcvEdge = s.seq, s.seq+1, s.seq+1
	f.tcp.rto = initialRTO
	p.tcpOptions(f, s)
	return f, here
}

// dial opens a socket for the guest's SYN s, and begins to connect it. It returns how the socket's packets travel.
func (p *Port) dial(to ipaddr.Endpoint, key *flowKey, s *segment) (fd int, set udpSender, err error) {
	fd, err = unix.Socket(to.Addr.Domain(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.hit(limitHost)
		return -1, set, err
	}
	hostsock.ReadInline(fd)
	p.setUp(fd)
	p.boundNew(fd, stream)
	set = p.depart(fd, &to.Addr, key, s)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, set, err
	}
	return fd, set, nil
}

// setUp prepares the host's socket of a connection.
func (p *Port) setUp(fd int) {
	// The guest's stack has decided when a segment is to go; another one need not wait (RFC 9293 section 3.7.4).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if p.cfg.PeekOffset {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, hostsock.SOPeekOff, 0)
	}
}

// checkConnect looks how the host's connect has ended, if it has.
func (p *Port) checkConnect(f *flow) {
	if f.bits&(writable|failed) == 0 {
		return
	}
	f.bits &^= writable
	errno, err := unix.GetsockoptInt(int(f.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno != 0 {
		p.connectFailed(f, unix.Errno(errno))
		return
	}
	if !p.judgeAgain(f) {
		return
	}
	if f.bits&isNew != 0 {
		p.wasAnswered(f)
	}
	p.arrive(f)
	t := &f.tcp
	t.iss = p.identity.initial(&f.key, p.now)
	t.sndUna, t.sndNxt, t.sndMax = t.iss, t.iss+1, t.iss+1
	t.rcvEdge = t.rcvNxt + synWindow
	f.state = stateSynRcvd
	f.bits |= synDue
}

// connectFailed tells the guest why the host's connect failed (rule T3). A time that has run out is not told: the guest's own
// runs out as well, to the same error, where a reset would say that somebody had refused; and if its patience is
// greater, its next SYN is another try.
func (p *Port) connectFailed(f *flow, errno unix.Errno) {
	if p.resolverRefused(f) {
		return
	}
	if errno == unix.ETIMEDOUT || p.tellConnectError(f) || p.unreachableSYN(&f.key, f.tcp.irs, errno) {
		p.end(f, endConnectFailed)
		p.remove(f)
		return
	}
	p.resetGuest(f, endConnectFailed)
}

// synWindow is the window in bytes that our SYN-ACK offers; the first acknowledgement opens it further. Every new
// socket takes as much (tcp_wmem).
const synWindow = 14600

// accept takes a connection of a forward. kind is unixSocket or 0.
func (p *Port) accept(fd int, peer ipaddr.Endpoint, l *listener, kind flowBits) {
	p.counters.Accepts++
	if !p.hasGuest() {
		p.turnAway(fd, endNoGuest)
		return
	}
	if kind == unixSocket {
		hostsock.ReadInline(fd) // one of TCP is as its listener is
	}
	caller := proxied{source: peer, version: l.sendProxy}
	if l.sendProxy != 0 {
		caller.destination, caller.known = localEnd(fd)
	}
	if l.acceptProxy {
		p.awaitHeader(fd, l.to, &caller, kind)
		return
	}
	p.callGuest(fd, l.to, &caller, kind)
}

// turnAway resets a connection of a forward for which no guest was called.
func (p *Port) turnAway(fd int, c endCause) {
	p.counters.Ends[c]++
	resetSocket(fd)
}

// callGuest begins the guest's side of a connection that a forward took. kind is unixSocket or 0.
func (p *Port) callGuest(fd int, to ipaddr.Endpoint, caller *proxied, kind flowBits) {
	if !p.hasGuest() {
		p.turnAway(fd, endNoGuest)
		return
	}
	key := flowKey{
		guest: to.Addr, guestPort: to.Port, proto: protoTCP,
		remote: p.nets.asSeen(&caller.source.Addr, &to.Addr), remotePort: caller.source.Port,
	}
	if !p.freePort(&key) || !p.admit(crowdCalls) {
		p.turnAway(fd, endNoRoom)
		return
	}
	p.setUp(fd)
	f, _ := p.create(&key, fd, stateSynSent, inbound|synDue|kind, crowdCalls)
	if f == nil {
		p.counters.Ends[endNoRoom]++
		return
	}
	p.counters.TCPFlows++
	p.startHeader(f, caller)
	t := &f.tcp
	t.iss = p.identity.initial(&key, p.now)
	t.sndUna, t.sndNxt, t.sndMax = t.iss, t.iss+1, t.iss+1
	t.rto = initialRTO
	p.setMSS(f, defaultMSS)
	p.run.push(p.flows, f)
}

// resetSocket closes a connected socket so that its peer sees a reset.
func resetSocket(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// firstAnyPort is the first of the ports that mean nothing (RFC 6335 section 6).
const firstAnyPort = 49152

// freePort finds a remote port under which key is not in use yet, the peer's own if possible.
func (p *Port) freePort(key *flowKey) bool {
	const tries = 64
	for i := range uint16(tries) {
		if key.remotePort != 0 && p.flows.lookup(key) == nil {
			return true
		}
		key.remotePort = firstAnyPort + uint16(p.identity.initial(key, p.now)+uint32(i))%(65535-firstAnyPort)
	}
	return false
}

// isnSource makes initial sequence numbers that cannot be guessed, but rise for each pair of endpoints, so that a new
// connection is not taken for an old one (RFC 6528).
type isnSource struct {
	secret [32]byte
	fixed  func() uint32 // tests choose the numbers
}

func newISNSource(fixed func() uint32) (isnSource, error) {
	s := isnSource{fixed: fixed}
	_, err := rand.Read(s.secret[:])
	return s, err
}

// fragments returns where the identifications of fragments to the guest begin for the pair of addresses in k.
func (s *isnSource) fragments(k *flowKey) uint32 {
	pair := flowKey{guest: k.guest, remote: k.remote, proto: k.proto}
	return s.initial(&pair, 0)
}

// initial returns the number for a connection that begins now (nanoseconds). It advances every 64 ns.
func (s *isnSource) initial(k *flowKey, now int64) uint32 {
	if s.fixed != nil {
		return s.fixed()
	}
	var b [32 + 37]byte
	key := k.bytes()
	copy(b[:], s.secret[:])
	copy(b[32:], key[:])
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint32(sum[:]) + uint32(now>>6)
}
