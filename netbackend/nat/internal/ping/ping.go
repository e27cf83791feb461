package ping

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/egress"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/source"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// Engine passes echo requests on.
type Engine struct {
	icmp      *icmperr.Sender
	sources   *source.Keeper
	fragments *fragments.Sender
	policy    *policy.Policy
	ledger    *ledger.Keeper
	sockets   func(v6 bool) (fd int, err error) // opens those that this process may not have; nil is nobody
	requests  flowtable.Slab[request]           // of the guest; all queue pairs share it, and each has what belongs to its own flows
}

// Uses are the parts that pass echo requests on with it.
type Uses struct {
	ICMP      *icmperr.Sender
	Sources   *source.Keeper
	Fragments *fragments.Sender
	Policy    *policy.Policy
	Ledger    *ledger.Keeper
	Sockets   func(v6 bool) (fd int, err error)
}

// SetUp makes that of a queue pair.
func (e *Engine) SetUp(u Uses, g Guest) {
	*e = Engine{icmp: u.ICMP, sources: u.Sources, fragments: u.Fragments, policy: u.Policy, ledger: u.Ledger, sockets: u.Sockets, requests: g.requests}
}

// Guest is what the queue pairs of a guest share of it.
type Guest struct{ requests flowtable.Slab[request] }

// NewGuest returns that of a guest with a table of flows.
func NewGuest(t *shard.Table) Guest {
	return Guest{flowtable.NewSlab[request](t.Table)}
}

// A series of echo requests with one identifier from the guest to one address is a flow. Its socket is a ping socket (icmp(7)): the
// kernel puts an identifier of its own in the place of the guest's, and gives the socket the replies.

// request is the newest request of a series, for errors to quote.
type request struct{ head [netpkt.ICMPLen]byte }

// Newest returns the header of the newest request of a series.
func (e *Engine) Newest(f *shard.Flow) []byte { return e.requests.At(f.Index).head[:] }

// timeout ends a series after silence (RFC 5508 section 3.2 asks for at least a minute).
const timeout = int64(60e9)

// socket opens a socket for pings to an address.
func (e *Engine) socket(to *ipaddr.Addr) (int, error) {
	fd, err := unix.Socket(to.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(netpkt.ICMPProto(to)))
	if err == unix.EACCES && e.sockets != nil {
		return e.sockets(!to.Is4())
	}
	return fd, err
}

// Request passes on an echo request of the guest.
func (e *Engine) Request(t *shard.Turn, k *shard.Packet) (retry bool) {
	key := flowtable.Key{
		Guest: k.Src, Remote: k.Dst, Proto: netpkt.ICMP,
		GuestPort: binary.BigEndian.Uint16(k.L4[4:]), // the identifier
	}
	if k.Hops <= 1 && e.icmp.Outlived(t, k, &key, k.L4Len) {
		return false
	}
	f, at := t.Find(&key)
	if at == shard.Nowhere {
		f, at = e.open(t, &key, k)
	}
	if f == nil {
		return at == shard.Elsewhere
	}
	e.send(t, f, k)
	return false
}

// open makes a flow for the first request of a series. It returns nil if there is to be none.
func (e *Engine) open(t *shard.Turn, key *flowtable.Key, k *shard.Packet) (*shard.Flow, shard.Where) {
	d := e.policy.Judge(policy.DestinationOf(key))
	if d.Verdict != policy.Allowed {
		e.icmp.Reject(t, key, &d, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	if !t.MayBegin() {
		return nil, shard.Nowhere
	}
	if !t.Admit(shard.ClassAssociations) {
		e.icmp.SendUnreachable(t, key, netpkt.CodeHost, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	fd, err := e.socket(&d.To.Addr)
	switch {
	case errors.Is(err, unix.EACCES):
		t.Drop(&t.Counters.PingForbidden)
		e.icmp.SendUnreachable(t, key, netpkt.CodeProhibited, k.L4Len, k.L4)
		return nil, shard.Nowhere
	case err != nil:
		t.OverLimit(limits.Host)
		e.icmp.SendUnreachable(t, key, netpkt.CodeHost, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	hostsock.KeepErrors(&d.To.Addr, fd, 1)
	news := e.sources.Changes()
	hostsock.WantArrivals(&d.To.Addr, fd)
	err = egress.Bind(fd, d.To.Addr.Is4(), d.Way)
	if err == nil {
		err = unix.Connect(fd, d.To.Sockaddr())
	} else {
		err = egress.ErrnoOf(err)
	}
	if err != nil {
		_ = unix.Close(fd)
		e.refused(t, key, err, k.L4Len, k.L4)
		return nil, shard.Nowhere
	}
	f, at := t.Create(key, fd, shard.StateActive, 0, shard.ClassAssociations)
	e.ledger.Begun(f, ledger.Judged(&d))
	t.Began(f, at)
	if f != nil {
		t.Counters.PingFlows++
		e.requests.Make(f.Index)
		if egress.Binds(d.Way, d.To.Addr.Is4()) {
			f.Bits |= shard.Bound
		}
		f.Sender.V6, f.RouteNews = !d.To.Addr.Is4(), news
		t.Wheel.Set(f.Index, t.Now+timeout)
	}
	return f, at
}

// refused tells the guest why its echo request was not sent, or not received.
func (e *Engine) refused(t *shard.Turn, key *flowtable.Key, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	if code, ok := icmperr.UnreachableCode(errno); ok {
		e.icmp.SendUnreachable(t, key, code, n, l4)
		return
	}
	t.Drop(&t.Counters.PingRefused)
}

// send gives a request to the kernel, which fills in identifier and checksum.
func (e *Engine) send(t *shard.Turn, f *shard.Flow, k *shard.Packet) {
	t.Touch(f)
	if e.sources.KeepUp(f); f.State != shard.StateActive {
		return
	}
	iov, ok := shard.AppendRange(t.Pieces[:0], k.Chain.Iov, k.L4Offset, k.L4Len)
	if !ok {
		t.Drop(&t.Counters.Malformed) // more pieces than one call takes
		return
	}
	f.Sender.Set(f.FD, t.MannerOf(k))
	e.requests.At(f.Index).head = [netpkt.ICMPLen]byte(k.L4)
	for range shard.ErrorBurst {
		_, errno := t.Msg.Send(f.FD, iov, 0)
		switch errno {
		case 0:
			t.Wheel.Set(f.Index, t.Now+timeout)
			return
		case unix.EFAULT:
			t.Worker.Fault(errno)
			return
		}
		if e.sources.Recovers(t, f, errno) {
			continue
		}
		if f.State != shard.StateActive {
			return
		}
		// It may tell of earlier requests; then this one was not sent.
		earlier, told := e.readErrors(t, f)
		if told {
			return
		}
		if earlier == 0 {
			e.refused(t, &f.Key, errno, k.L4Len, k.L4)
			return
		}
	}
	t.Drop(&t.Counters.PingRefused)
}

// Serve passes the guest the replies to a series, and what became of its requests.
func (e *Engine) Serve(t *shard.Turn, f *shard.Flow) shard.Outcome {
	if f.Bits&shard.SockError != 0 {
		f.Bits &^= shard.SockError
		if n, _ := e.readErrors(t, f); n == shard.ErrorBurst {
			f.Bits |= shard.SockError // there may be more
			return shard.Again
		}
	}
	for range shard.DatagramBurst {
		if f.Bits&shard.Readable == 0 {
			return shard.Idle
		}
		lease := e.fragments.Reserve(t)
		if lease.Len() == 0 {
			return shard.NoBuffers
		}
		if errno := e.receive(t, f, lease); errno != 0 {
			e.receiveFailed(t, f, errno)
		}
	}
	return shard.Again
}

// receive reads a message, its header into scratch and the rest to its place in the frame of lease, or beyond, and gives the guest
// what is a reply to it. The kernel looks at identifiers only, and takes replies from anybody.
func (e *Engine) receive(t *shard.Turn, f *shard.Flow, lease netbackend.Lease) unix.Errno {
	iov := lease.Frame(0)
	head := t.Frame[:netpkt.ICMPLen]
	room := t.MTU - int(f.IPLen) - netpkt.ICMPLen
	pieces := append(t.Pieces[:0], guestmem.PieceOf(head))
	pieces, fits := shard.AppendRange(pieces, iov, netpkt.EtherLen+int(f.IPLen)+netpkt.ICMPLen, room)
	if fits && len(pieces) < cap(pieces) {
		pieces = append(pieces, guestmem.PieceOf(t.BounceFor(0)))
	}
	n, truncated, errno := t.Msg.ReceiveArrival(f.FD, pieces)
	if errno != 0 {
		return errno
	}
	if n < netpkt.ICMPLen || head[0] != netpkt.EchoReply(&f.Key.Guest) || t.Msg.From().Addr != f.Key.Remote {
		return 0
	}
	if f.Bits&shard.IsNew != 0 {
		t.WasAnswered(f)
	}
	t.Wheel.Set(f.Index, t.Now+timeout)
	switch {
	case truncated:
		t.DropToGuest(&t.Counters.NoRoom, &f.Key) // the guest's buffers are too small for even one frame
	case n > netpkt.ICMPLen+room:
		e.longReply(t, f, iov, head, room, n)
	default:
		e.commit(t, f, lease, head, n)
	}
	return 0
}

// commit writes the headers in front of a reply of n bytes, with the identifier that the guest chose, and gives it
// the frame.
func (e *Engine) commit(t *shard.Turn, f *shard.Flow, lease netbackend.Lease, head []byte, n int) {
	iov := lease.Frame(0)
	headers := t.PutIP(t.Template[:], &f.Key.Remote, &f.Key.Guest, netpkt.ICMP, n)
	shard.PutArrival(t.Msg.Arrived, t.Template[netpkt.EtherLen:headers])
	b := t.Template[:headers+netpkt.ICMPLen]
	icmp := b[headers:]
	copy(icmp, head)
	icmp[2], icmp[3] = 0, 0
	binary.BigEndian.PutUint16(icmp[4:], f.Key.GuestPort)
	sum := vnet.Sum(icmp, netpkt.ICMPSum(&f.Key.Remote, &f.Key.Guest, n))
	binary.BigEndian.PutUint16(icmp[2:], ^t.SumRange(iov, headers+netpkt.ICMPLen, n-netpkt.ICMPLen, sum))
	guestmem.CopyTo(iov, 0, b)
	var h vnet.Header
	lease.Commit(&h, headers+n)
}

func (e *Engine) receiveFailed(t *shard.Turn, f *shard.Flow, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		f.Bits &^= shard.Readable
	case unix.EFAULT:
		f.Bits &^= shard.Readable
		t.Worker.Fault(errno)
	default:
		if n, told := e.readErrors(t, f); n == 0 && !told {
			e.refused(t, &f.Key, errno, netpkt.ICMPLen, e.Newest(f))
		}
	}
}
