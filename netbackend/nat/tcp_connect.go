package nat

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// connect begins the host's side of a connection whose SYN the guest sent. The guest is answered when the host has
// answered (rule T2 in docs/nat-rules.md).
func (e *tcpEngine) connect(t *turn, key *flowtable.Key, s *segment) (retry bool) {
	if t.isQuery(key) {
		return e.hooks.resolver.connect(t, *key, *s)
	}
	to, verdict := e.policy.Judge(policy.DestinationOf(key))
	if verdict != policy.Allowed {
		e.icmp.deny(key, verdict)
		e.refuse(t, key, s)
		return false
	}
	if !t.mayBegin() {
		return false
	}
	if !t.admit(classConnects) {
		e.refuse(t, key, s)
		return false
	}
	fd, set, err := e.dial(t, to, key, s)
	if err != nil {
		errno, _ := err.(unix.Errno)
		if !e.icmp.unreachableSYN(t, key, s.Seq, errno) {
			e.refuse(t, key, s)
		}
		return false
	}
	f, at := e.connecting(t, key, fd, set, s)
	t.began(f, at)
	return at == elsewhere
}

// connecting makes the flow of a connection that dial has begun, nil if that cannot be done.
func (e *tcpEngine) connecting(t *turn, key *flowtable.Key, fd int, set udpSender, s *segment) (*flow, where) {
	created, at := t.create(key, fd, stateConnecting, 0, classConnects)
	switch at {
	case elsewhere:
		return nil, at
	case nowhere:
		e.refuse(t, key, s)
		return nil, at
	}
	t.counters.TCPFlows++
	f := e.begin(created)
	f.sender = set
	f.tcp.irs, f.tcp.rcvNxt, f.tcp.rcvEdge = s.Seq, s.Seq.Plus(1), s.Seq.Plus(1)
	f.tcp.rto = initialRTO
	e.tcpOptions(f, s)
	return created, here
}

// dial opens a socket for the guest's SYN s, and begins to connect it. It returns how the socket's packets travel.
func (e *tcpEngine) dial(t *turn, to ipaddr.Endpoint, key *flowtable.Key, s *segment) (fd int, set udpSender, err error) {
	fd, err = unix.Socket(to.Addr.Domain(), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.hit(limits.Host)
		return -1, set, err
	}
	hostsock.ReadInline(fd)
	e.setUp(fd)
	t.boundNew(fd, stream)
	set = e.depart(fd, &to.Addr, key, s)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil && err != unix.EINPROGRESS {
		_ = unix.Close(fd)
		return -1, set, err
	}
	return fd, set, nil
}

// setUp prepares the host's socket of a connection.
func (e *tcpEngine) setUp(fd int) {
	// The guest's stack has decided when a segment is to go; another one need not wait (RFC 9293 section 3.7.4).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if e.cfg.PeekOffset {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, hostsock.SOPeekOff, 0)
	}
}

// checkConnect looks how the host's connect has ended, if it has.
func (e *tcpEngine) checkConnect(t *turn, f conn) {
	if f.bits&(writable|failed) == 0 {
		return
	}
	f.bits &^= writable
	errno, err := unix.GetsockoptInt(int(f.fd), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno != 0 {
		e.connectFailed(t, f, unix.Errno(errno))
		return
	}
	if !e.hooks.judge(f.flow) {
		return
	}
	if f.bits&isNew != 0 {
		t.wasAnswered(f.flow)
	}
	e.arrive(f.flow)
	c := f.tcp
	c.iss = seqnum.From(t.identity.initial(&f.key, t.now))
	c.sndUna, c.sndNxt, c.sndMax = c.iss, c.iss.Plus(1), c.iss.Plus(1)
	c.rcvEdge = c.rcvNxt.Plus(synWindow)
	f.state = stateSynRcvd
	f.tcp.flags |= synDue
}

// connectFailed tells the guest why the host's connect failed (rule T3). A time that has run out is not told: the guest's own
// runs out as well, to the same error, where a reset would say that somebody had refused; and if its patience is
// greater, its next SYN is another try.
func (e *tcpEngine) connectFailed(t *turn, f conn, errno unix.Errno) {
	if t.isQuery(&f.key) && e.hooks.resolver.refused(t, f.flow) {
		return
	}
	if errno == unix.ETIMEDOUT || e.tellConnectError(t, f) || e.icmp.unreachableSYN(t, &f.key, f.tcp.irs, errno) {
		e.end(f.flow, stats.EndConnectFailed)
		t.remove(f.flow)
		return
	}
	e.resetGuest(f.flow, stats.EndConnectFailed)
}

// synWindow is the window in bytes that our SYN-ACK offers; the first acknowledgement opens it further. Every new
// socket takes as much (tcp_wmem).
const synWindow = 14600

// accept takes a connection of a forward. kind is unixSocket or 0.
func (e *acceptor) accept(t *turn, fd int, peer ipaddr.Endpoint, l *listener, kind flowBits) {
	t.counters.Accepts++
	if !t.hasGuest() {
		e.tcp.turnAway(fd, stats.EndNoGuest)
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
		e.tcp.awaitHeader(t, fd, l.to, &caller, kind)
		return
	}
	e.tcp.callGuest(t, fd, l.to, &caller, kind)
}

// located begins connections whose host was found since.
func (e *tcpEngine) located() {
	e.shard.flows.each(e.shard.me, func(f *flow) {
		if f.state == stateSynSent && f.host == hosts.Any {
			e.owe(e.conn(f), synDue)
		}
	})
}

// turnAway resets a connection of a forward for which no guest was called.
func (e *tcpEngine) turnAway(fd int, c stats.CloseReason) {
	e.shard.counters.Ends[c]++
	resetSocket(fd)
}

// callGuest begins the guest's side of a connection that a forward took. kind is unixSocket or 0.
func (e *tcpEngine) callGuest(t *turn, fd int, to ipaddr.Endpoint, caller *proxied, kind flowBits) {
	if !t.hasGuest() {
		e.turnAway(fd, stats.EndNoGuest)
		return
	}
	if e.callWith(t, fd, to, caller, kind) == nil {
		t.counters.Ends[stats.EndNoRoom]++
	}
}

// callWith makes the flow of a connection to the guest, for a client with a socket. If that cannot be done, it returns nil, and has refused
// the socket.
func (e *tcpEngine) callWith(t *turn, fd int, to ipaddr.Endpoint, caller *proxied, kind flowBits) *flow {
	key := flowtable.Key{
		Guest: to.Addr, GuestPort: to.Port, Proto: netpkt.TCP,
		Remote: t.nets.AsSeen(&caller.source.Addr, &to.Addr), RemotePort: caller.source.Port,
	}
	if !t.freePort(&key) || !t.admit(classCalls) {
		refuseSocket(fd, kind)
		return nil
	}
	e.setUp(fd)
	created, _ := t.create(&key, fd, stateSynSent, inbound|kind, classCalls)
	if created == nil {
		return nil
	}
	t.counters.TCPFlows++
	f := e.begin(created)
	f.tcp.flags = synDue
	e.startHeader(f, caller)
	c := f.tcp
	c.iss = seqnum.From(t.identity.initial(&key, t.now))
	c.sndUna, c.sndNxt, c.sndMax = c.iss, c.iss.Plus(1), c.iss.Plus(1)
	c.rto = initialRTO
	e.setMSS(f, netpkt.DefaultMSS)
	t.schedule(f.flow)
	return created
}

// resetSocket closes a connected socket so that its peer sees a reset.
func resetSocket(fd int) {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	_ = unix.Close(fd)
}

// refuseSocket resets the socket of a flow that there will not be, unless it is others', too.
func refuseSocket(fd int, bits flowBits) {
	if bits&(shared|awaited) == 0 {
		resetSocket(fd)
	}
}

// firstAnyPort is the first of the ports that mean nothing (RFC 6335 section 6).
const firstAnyPort = 49152

// freePort finds a remote port under which key is not in use yet, the peer's own if possible.
func (t *turn) freePort(key *flowtable.Key) bool {
	const tries = 64
	for i := range uint16(tries) {
		if key.RemotePort != 0 && t.flows.lookup(key) == nil {
			return true
		}
		key.RemotePort = firstAnyPort + uint16(t.identity.initial(key, t.now)+uint32(i))%(65535-firstAnyPort)
	}
	return false
}

// idHash makes initial sequence numbers that cannot be guessed, but rise for each pair of endpoints, so that a new
// connection is not taken for an old one (RFC 6528).
type idHash struct {
	secret [32]byte
	fixed  func() uint32 // tests choose the numbers
}

func newIDHash(fixed func() uint32) (idHash, error) {
	s := idHash{fixed: fixed}
	_, err := rand.Read(s.secret[:])
	return s, err
}

// fragments returns where the identifications of fragments to the guest begin for the pair of addresses in k.
func (s *idHash) fragments(k *flowtable.Key) uint32 {
	pair := flowtable.Key{Guest: k.Guest, Remote: k.Remote, Proto: k.Proto}
	return s.initial(&pair, 0)
}

// initial returns the number for a connection that begins now (nanoseconds). It advances every 64 ns.
func (s *idHash) initial(k *flowtable.Key, now int64) uint32 {
	if s.fixed != nil {
		return s.fixed()
	}
	var b [32 + 37]byte
	key := k.Bytes()
	copy(b[:], s.secret[:])
	copy(b[32:], key[:])
	sum := sha256.Sum256(b[:])
	return binary.BigEndian.Uint32(sum[:]) + uint32(now>>6)
}
