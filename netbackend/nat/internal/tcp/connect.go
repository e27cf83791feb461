package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/measure"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Connect begins the host's side of a connection whose SYN the guest sent. The guest is answered when the host has
// answered (rule T2 in docs/nat-rules.md).
func (e *Engine) Connect(t *shard.Turn, key *flowtable.Key, s *Segment) (retry bool) {
	if t.IsQuery(key) {
		return e.hooks.Resolver.Connect(t, *key, *s)
	}
	if service := e.cfg.Services.Find(key); service != measure.None {
		return e.answer(t, key, s, service)
	}
	d := e.policy.Judge(policy.DestinationOf(key))
	if d.Verdict != policy.Allowed && d.Verdict != policy.Held {
		e.icmp.ReportDenied(key, &d)
		e.Refuse(t, key, s)
		return false
	}
	if !t.MayBegin() {
		return false
	}
	if !t.Admit(shard.ClassConnects) {
		e.Refuse(t, key, s)
		return false
	}
	out := Outward{To: d.To, Way: d.Way, Name: e.policy.NameAt(&d)}
	fd, set, err := e.Dial(t, &out, key, s)
	if err != nil {
		errno, _ := err.(unix.Errno)
		if !e.icmp.SendUnreachableSYN(t, key, s.Seq, errno) {
			e.Refuse(t, key, s)
		}
		return false
	}
	f, at := e.Connecting(t, key, fd, set, s)
	if f != nil {
		e.policy.Opened(f.Index, d.Name)
		if d.Verdict == policy.Held {
			e.hooks.Inspector.Hold(f, d.Proof)
		}
		e.Negotiate(t, f, &out)
	}
	e.ledger.Begun(f, ledger.Judged(&d))
	t.Began(f, at)
	return at == shard.Elsewhere
}

// Connecting makes the flow of a connection that dial has begun, nil if that cannot be done.
func (e *Engine) Connecting(t *shard.Turn, key *flowtable.Key, fd int, set hostsock.Sender, s *Segment) (*shard.Flow, shard.Where) {
	created, at := t.Create(key, fd, stateConnecting, 0, shard.ClassConnects)
	switch at {
	case shard.Elsewhere:
		return nil, at
	case shard.Nowhere:
		e.Refuse(t, key, s)
		return nil, at
	}
	t.Counters.TCPFlows++
	f := e.begin(created)
	f.Sender = set
	f.tcp.irs, f.tcp.rcvNxt, f.tcp.rcvWndEdge = s.Seq, s.Seq.Plus(1), s.Seq.Plus(1)
	f.tcp.rto = initialRTO
	e.takeOptions(f, s)
	return created, shard.Here
}

// prepareSocket prepares the host's socket of a connection.
func (e *Engine) prepareSocket(fd int) {
	// The guest's stack has decided when a segment is to go; another one need not wait (RFC 9293 section 3.7.4).
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if e.cfg.PeekOffset {
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, hostsock.SOPeekOff, 0)
	}
}

// checkConnect looks how the host's connect has ended, if it has.
func (e *Engine) checkConnect(t *shard.Turn, f conn) {
	byProxy := f.tcp.flags&byProxy != 0
	if f.Bits&(shard.Writable|shard.SockError) == 0 && !(byProxy && f.Bits&shard.Readable != 0) {
		return
	}
	f.Bits &^= shard.Writable
	errno, err := unix.GetsockoptInt(int(f.FD), unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil || errno != 0 {
		e.connectFailed(t, f, unix.Errno(errno))
		return
	}
	if byProxy && !e.isNegotiated(t, f) {
		return
	}
	if !e.hooks.Judge(f.Flow) {
		return
	}
	if f.Bits&shard.IsNew != 0 {
		t.WasAnswered(f.Flow)
	}
	e.arrive(f.Flow)
	c := f.tcp
	c.iss = seqnum.From(t.Identity.Initial(&f.Key, t.Now))
	c.sndUna, c.sndNxt, c.sndMax = c.iss, c.iss.Plus(1), c.iss.Plus(1)
	c.rcvWndEdge = c.rcvNxt.Plus(synWindow)
	f.State = stateSynRcvd
	e.stand(f)
	t.Pairs.Handshakes.FromGuest.Observe(t.Now - f.CreatedAt)
	f.tcp.flags |= pendSYN
}

// connectFailed tells the guest why the host's connect failed (rule T3). A time that has run out is not told: the guest's own
// runs out as well, to the same error, where a reset would say that somebody had refused; and if its patience is
// greater, its next SYN is another try.
func (e *Engine) connectFailed(t *shard.Turn, f conn, errno unix.Errno) {
	if f.tcp.flags&byProxy != 0 {
		e.proxyUnreached(t, f, errno)
		return
	}
	if errno == unix.ETIMEDOUT || e.tellConnectError(t, f) || e.icmp.SendUnreachableSYN(t, &f.Key, f.tcp.irs, errno) {
		e.countEnd(f.Flow, stats.EndConnectFailed)
		t.Remove(f.Flow)
		return
	}
	e.ResetGuest(f.Flow, stats.EndConnectFailed)
}

// synWindow is the window in bytes that our SYN-ACK offers; the first acknowledgement opens it further. Every new
// socket takes as much (tcp_wmem).
const synWindow = 14600

// OnLocated begins connections whose host was found since.
func (e *Engine) OnLocated() {
	e.shard.Flows.ForEach(e.shard.Owner, func(f *shard.Flow) {
		if f.State == stateSynSent && f.Host == hosts.Any {
			e.schedule(e.conn(f), pendSYN)
		}
	})
}

// Reject resets a connection of a forward for which no guest was called.
func (e *Engine) Reject(fd int, c stats.CloseReason) {
	e.shard.Counters.Ends[c]++
	hostsock.Reset(fd)
}

// DialGuest begins the guest's side of a connection that a forward took. kind is UnixSocket or 0.
func (e *Engine) DialGuest(t *shard.Turn, fd int, to ipaddr.Endpoint, caller *ProxyState, kind shard.Bits) {
	if !t.HasGuest() {
		e.Reject(fd, stats.EndNoGuest)
		return
	}
	if e.dialWith(t, fd, to, caller, kind) == nil {
		t.Counters.Ends[stats.EndNoRoom]++
	}
}

// dialWith makes the flow of a connection to the guest, for a client with a socket. If that cannot be done, it returns nil, and has refused
// the socket.
func (e *Engine) dialWith(t *shard.Turn, fd int, to ipaddr.Endpoint, caller *ProxyState, kind shard.Bits) *shard.Flow {
	key := flowtable.Key{
		Guest: to.Addr, GuestPort: to.Port, Proto: netpkt.TCP,
		Remote: t.Nets.AsSeen(&caller.Source.Addr, &to.Addr), RemotePort: caller.Source.Port,
	}
	if !t.FreePort(&key) || !t.Admit(shard.ClassCalls) {
		shard.RefuseSocket(fd, kind)
		return nil
	}
	e.prepareSocket(fd)
	created, _ := t.Create(&key, fd, stateSynSent, shard.Inbound|kind, shard.ClassCalls)
	if created == nil {
		return nil
	}
	t.Counters.TCPFlows++
	f := e.begin(created)
	f.tcp.flags = pendSYN
	e.startHeader(f, caller)
	c := f.tcp
	c.iss = seqnum.From(t.Identity.Initial(&key, t.Now))
	c.sndUna, c.sndNxt, c.sndMax = c.iss, c.iss.Plus(1), c.iss.Plus(1)
	c.rto = initialRTO
	e.setMSS(f, netpkt.DefaultMSS)
	t.Schedule(f.Flow)
	return created
}
