package nat

import (
	"encoding/binary"
	"errors"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// pingEngine passes echo requests on.
type pingEngine struct {
	icmp      *icmpSender
	sources   *sourceKeeper
	fragments *fragmenter
	policy    *policy.Policy
	requests  flowtable.Slab[pingRequest] // of the guest, as those of tcpEngine
}

// A series of echo requests with one identifier from the guest to one address is a flow. Its socket is a ping socket (icmp(7)): the
// kernel puts an identifier of its own in the place of the guest's, and gives the socket the replies.

// pingRequest is the newest request of a series, for errors to quote.
type pingRequest struct{ head [netpkt.ICMPLen]byte }

// pingTimeout ends a series after silence (RFC 5508 section 3.2 asks for at least a minute).
const pingTimeout = int64(60e9)

// pingSocket opens a socket for pings to an address.
func pingSocket(to *ipaddr.Addr) (int, error) {
	return unix.Socket(to.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(netpkt.ICMPProto(to)))
}

// ping passes on an echo request of the guest.
func (e *pingEngine) ping(t *turn, k *packet) (retry bool) {
	key := flowtable.Key{
		Guest: k.Src, Remote: k.Dst, Proto: netpkt.ICMP,
		GuestPort: binary.BigEndian.Uint16(k.L4[4:]), // the identifier
	}
	if k.Hops <= 1 && e.icmp.outlived(t, k, &key, k.L4Len) {
		return false
	}
	f, at := t.find(&key)
	if at == nowhere {
		f, at = e.openPing(t, &key, k)
	}
	if f == nil {
		return at == elsewhere
	}
	e.sendPing(t, f, k)
	return false
}

// openPing makes a flow for the first request of a series. It returns nil if there is to be none.
func (e *pingEngine) openPing(t *turn, key *flowtable.Key, k *packet) (*flow, where) {
	to, verdict := e.policy.Judge(policy.DestinationOf(key))
	if verdict != policy.Allowed {
		e.icmp.reject(t, key, verdict, k.L4Len, k.L4)
		return nil, nowhere
	}
	if !t.mayBegin() {
		return nil, nowhere
	}
	if !t.admit(classAssociations) {
		e.icmp.sendUnreachable(t, key, netpkt.CodeHost, k.L4Len, k.L4)
		return nil, nowhere
	}
	fd, err := pingSocket(&to.Addr)
	switch {
	case errors.Is(err, unix.EACCES):
		t.counters.PingForbidden++
		e.icmp.sendUnreachable(t, key, netpkt.CodeProhibited, k.L4Len, k.L4)
		return nil, nowhere
	case err != nil:
		t.hit(limits.Host)
		e.icmp.sendUnreachable(t, key, netpkt.CodeHost, k.L4Len, k.L4)
		return nil, nowhere
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	news := e.sources.changes()
	hostsock.WantArrivals(&to.Addr, fd)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		_ = unix.Close(fd)
		e.pingRefused(t, key, err, k.L4Len, k.L4)
		return nil, nowhere
	}
	f, at := t.create(key, fd, stateActive, 0, classAssociations)
	t.began(f, at)
	if f != nil {
		t.counters.PingFlows++
		e.requests.Make(f.index)
		f.sender.v6, f.news = !to.Addr.Is4(), news
		t.wheel.Set(f.index, t.now+pingTimeout)
	}
	return f, at
}

// pingRefused tells the guest why its echo request was not sent, or not received.
func (e *pingEngine) pingRefused(t *turn, key *flowtable.Key, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	if code, ok := unreachableCode(errno); ok {
		e.icmp.sendUnreachable(t, key, code, n, l4)
		return
	}
	t.counters.PingRefused++
}

// sendPing gives a request to the kernel, which fills in identifier and checksum.
func (e *pingEngine) sendPing(t *turn, f *flow, k *packet) {
	t.touch(f)
	if e.sources.keepUp(f); f.state != stateActive {
		return
	}
	iov, ok := appendRange(t.pieces[:0], k.chain.Iov, k.L4Offset, k.L4Len)
	if !ok {
		t.counters.Malformed++ // more pieces than one call takes
		return
	}
	f.sender.set(f.fd, t.mannerOf(k))
	e.requests.At(f.index).head = [netpkt.ICMPLen]byte(k.L4)
	for range errorBurst {
		_, errno := t.msg.Send(f.fd, iov, 0)
		switch errno {
		case 0:
			t.wheel.Set(f.index, t.now+pingTimeout)
			return
		case unix.EFAULT:
			t.worker.Fault(errno)
			return
		}
		if e.sources.recovers(t, f, errno) {
			continue
		}
		if f.state != stateActive {
			return
		}
		// It may tell of earlier requests; then this one was not sent.
		earlier, told := e.readPingErrors(t, f)
		if told {
			return
		}
		if earlier == 0 {
			e.pingRefused(t, &f.key, errno, k.L4Len, k.L4)
			return
		}
	}
	t.counters.PingRefused++
}

// servicePing passes the guest the replies to a series, and what became of its requests.
func (e *pingEngine) servicePing(t *turn, f *flow) outcome {
	if f.bits&failed != 0 {
		f.bits &^= failed
		if n, _ := e.readPingErrors(t, f); n == errorBurst {
			f.bits |= failed // there may be more
			return more
		}
	}
	for range datagramBurst {
		if f.bits&readable == 0 {
			return idle
		}
		lease := e.fragments.reserveDatagram(t)
		if lease.Len() == 0 {
			return starves
		}
		if errno := e.receivePing(t, f, lease); errno != 0 {
			e.pingFailed(t, f, errno)
		}
	}
	return more
}

// receivePing reads a message, its header into scratch and the rest to its place in the frame of lease, or beyond, and gives the guest
// what is a reply to it. The kernel looks at identifiers only, and takes replies from anybody.
func (e *pingEngine) receivePing(t *turn, f *flow, lease netbackend.Lease) unix.Errno {
	iov := lease.Frame(0)
	head := t.slow[:netpkt.ICMPLen]
	room := t.mtu - int(f.ipLen) - netpkt.ICMPLen
	pieces := append(t.pieces[:0], guestmem.PieceOf(head))
	pieces, fits := appendRange(pieces, iov, netpkt.EtherLen+int(f.ipLen)+netpkt.ICMPLen, room)
	if fits && len(pieces) < cap(pieces) {
		pieces = append(pieces, guestmem.PieceOf(t.bounceFor(0)))
	}
	n, truncated, errno := t.msg.ReceiveArrival(f.fd, pieces)
	if errno != 0 {
		return errno
	}
	if n < netpkt.ICMPLen || head[0] != netpkt.EchoReply(&f.key.Guest) || t.msg.From().Addr != f.key.Remote {
		return 0
	}
	if f.bits&isNew != 0 {
		t.wasAnswered(f)
	}
	t.wheel.Set(f.index, t.now+pingTimeout)
	switch {
	case truncated:
		t.counters.NoRoom++ // the guest's buffers are too small for even one frame
	case n > netpkt.ICMPLen+room:
		e.longReply(t, f, iov, head, room, n)
	default:
		e.commitPing(t, f, lease, head, n)
	}
	return 0
}

// commitPing writes the headers in front of a reply of n bytes, with the identifier that the guest chose, and gives it
// the frame.
func (e *pingEngine) commitPing(t *turn, f *flow, lease netbackend.Lease, head []byte, n int) {
	iov := lease.Frame(0)
	headers := t.putIP(t.template[:], &f.key.Remote, &f.key.Guest, netpkt.ICMP, n)
	putArrival(t.msg.Arrived, t.template[netpkt.EtherLen:headers])
	b := t.template[:headers+netpkt.ICMPLen]
	icmp := b[headers:]
	copy(icmp, head)
	icmp[2], icmp[3] = 0, 0
	binary.BigEndian.PutUint16(icmp[4:], f.key.GuestPort)
	sum := vnet.Sum(icmp, netpkt.ICMPSum(&f.key.Remote, &f.key.Guest, n))
	binary.BigEndian.PutUint16(icmp[2:], ^t.sumRange(iov, headers+netpkt.ICMPLen, n-netpkt.ICMPLen, sum))
	guestmem.CopyTo(iov, 0, b)
	var h vnet.Header
	lease.Commit(&h, headers+n)
}

func (e *pingEngine) pingFailed(t *turn, f *flow, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		f.bits &^= readable
	case unix.EFAULT:
		f.bits &^= readable
		t.worker.Fault(errno)
	default:
		if n, told := e.readPingErrors(t, f); n == 0 && !told {
			e.pingRefused(t, &f.key, errno, netpkt.ICMPLen, e.requests.At(f.index).head[:])
		}
	}
}
