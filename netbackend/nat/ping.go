package nat

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// pingFlow is a series of echo requests with one identifier from the guest to one address. Its socket is a ping socket
// (icmp(7)): the kernel puts an identifier of its own in the place of the guest's, and gives the socket the replies.
type pingFlow struct {
	request [icmpLen]byte // the newest request's header, for errors to quote
}

// pingTimeout ends a series after silence (RFC 5508 section 3.2 asks for at least a minute).
const pingTimeout = int64(60e9)

// pingSocket opens a socket for pings to an address.
func pingSocket(to *ipaddr.Addr) (int, error) {
	return unix.Socket(to.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(icmpProto(to)))
}

// CheckPing tells whether the host lets this process send echo requests for its guests. The error says what to do.
func CheckPing() error {
	fd, err := pingSocket(&ipaddr.Addr{10: 0xff, 11: 0xff}) // what permits those of IPv4 permits the others too
	if err == nil {
		return unix.Close(fd)
	}
	if errors.Is(err, unix.EACCES) {
		return errors.New("the host forbids ping sockets to this process's groups; to permit them, set the sysctl " +
			"net.ipv4.ping_group_range to a range with one of them, as in: sysctl net.ipv4.ping_group_range=\"0 2147483647\"")
	}
	return fmt.Errorf("ping socket: %w", err)
}

// ping passes on an echo request of the guest.
func (p *Port) ping(k *packet) (retry bool) {
	key := flowKey{
		guest: k.src, remote: k.dst, proto: protoICMP,
		guestPort: binary.BigEndian.Uint16(k.l4[4:]), // the identifier
	}
	if k.hops <= 1 && p.outlived(k, &key, k.l4Len) {
		return false
	}
	f, at := p.find(&key)
	if at == nowhere {
		f, at = p.openPing(&key, k)
	}
	if f == nil {
		return at == elsewhere
	}
	p.sendPing(f, k)
	return false
}

// openPing makes a flow for the first request of a series. It returns nil if there is to be none.
func (p *Port) openPing(key *flowKey, k *packet) (*flow, where) {
	to, verdict := p.policy.destination(key)
	if verdict != allowed {
		p.reject(key, verdict, k.l4Len, k.l4)
		return nil, nowhere
	}
	if !p.mayBegin() {
		return nil, nowhere
	}
	if !p.admit(crowdAssociations) {
		p.sendUnreachable(key, codeHost, k.l4Len, k.l4)
		return nil, nowhere
	}
	fd, err := pingSocket(&to.Addr)
	switch {
	case errors.Is(err, unix.EACCES):
		p.counters.PingForbidden++
		p.sendUnreachable(key, codeProhibited, k.l4Len, k.l4)
		return nil, nowhere
	case err != nil:
		p.hit(limitHost)
		p.sendUnreachable(key, codeHost, k.l4Len, k.l4)
		return nil, nowhere
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	news := p.pairs.changes.Number()
	hostsock.WantArrivals(&to.Addr, fd)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		_ = unix.Close(fd)
		p.pingRefused(key, err, k.l4Len, k.l4)
		return nil, nowhere
	}
	f, at := p.create(key, fd, statePing, 0, crowdAssociations)
	p.began(f, at)
	if f != nil {
		p.counters.PingFlows++
		f.udp.sender.v6, f.news = !to.Addr.Is4(), news
		p.wheel.set(f, p.now+pingTimeout)
	}
	return f, at
}

// pingRefused tells the guest why its echo request was not sent, or not received.
func (p *Port) pingRefused(key *flowKey, err error, n int, l4 []byte) {
	errno, _ := err.(unix.Errno)
	if code, ok := unreachableCode(errno); ok {
		p.sendUnreachable(key, code, n, l4)
		return
	}
	p.counters.PingRefused++
}

// sendPing gives a request to the kernel, which fills in identifier and checksum.
func (p *Port) sendPing(f *flow, k *packet) {
	p.used(f)
	if p.keepUp(f); f.state != statePing {
		return
	}
	iov, ok := appendRange(p.pieces[:0], k.chain.Iov, k.l4Offset, k.l4Len)
	if !ok {
		p.counters.Malformed++ // more pieces than one call takes
		return
	}
	f.udp.sender.set(f.fd, p.mannerOf(k))
	f.ping.request = [icmpLen]byte(k.l4)
	for range errorBurst {
		_, errno := p.msg.Send(f.fd, iov, 0)
		switch errno {
		case 0:
			p.wheel.set(f, p.now+pingTimeout)
			return
		case unix.EFAULT:
			p.worker.Fault(errno)
			return
		}
		if p.recovers(f, errno) {
			continue
		}
		if f.state != statePing {
			return
		}
		// It may tell of earlier requests; then this one was not sent.
		earlier, told := p.readPingErrors(f)
		if told {
			return
		}
		if earlier == 0 {
			p.pingRefused(&f.key, errno, k.l4Len, k.l4)
			return
		}
	}
	p.counters.PingRefused++
}

// servicePing passes the guest the replies to a series, and what became of its requests.
func (p *Port) servicePing(f *flow) outcome {
	if f.bits&failed != 0 {
		f.bits &^= failed
		if n, _ := p.readPingErrors(f); n == errorBurst {
			f.bits |= failed // there may be more
			return more
		}
	}
	for range udpBurst {
		if f.bits&readable == 0 {
			return idle
		}
		lease := p.reserveDatagram()
		if lease.Len() == 0 {
			return starves
		}
		if errno := p.receivePing(f, lease); errno != 0 {
			p.pingFailed(f, errno)
		}
	}
	return more
}

// receivePing reads a message, its header into scratch and the rest to its place in the frame of lease, or beyond, and gives the guest
// what is a reply to it. The kernel looks at identifiers only, and takes replies from anybody.
func (p *Port) receivePing(f *flow, lease netbackend.Lease) unix.Errno {
	iov := lease.Frame(0)
	head := p.slow[:icmpLen]
	room := p.mtu - int(f.ipLen) - icmpLen
	pieces := append(p.pieces[:0], guestmem.PieceOf(head))
	pieces, fits := appendRange(pieces, iov, etherLen+int(f.ipLen)+icmpLen, room)
	if fits && len(pieces) < cap(pieces) {
		pieces = append(pieces, guestmem.PieceOf(p.inbox.spilled(0)))
	}
	n, truncated, errno := p.msg.ReceiveArrival(f.fd, pieces)
	if errno != 0 {
		return errno
	}
	if n < icmpLen || head[0] != echoReply(&f.key.guest) || p.msg.From().Addr != f.key.remote {
		return 0
	}
	if f.bits&isNew != 0 {
		p.wasAnswered(f)
	}
	p.wheel.set(f, p.now+pingTimeout)
	switch {
	case truncated:
		p.counters.NoRoom++ // the guest's buffers are too small for even one frame
	case n > icmpLen+room:
		p.longReply(f, iov, head, room, n)
	default:
		p.commitPing(f, lease, head, n)
	}
	return 0
}

// commitPing writes the headers in front of a reply of n bytes, with the identifier that the guest chose, and gives it
// the frame.
func (p *Port) commitPing(f *flow, lease netbackend.Lease, head []byte, n int) {
	iov := lease.Frame(0)
	headers := p.putIP(p.template[:], &f.key.remote, &f.key.guest, protoICMP, n)
	putArrival(p.msg.Arrived, p.template[etherLen:headers])
	b := p.template[:headers+icmpLen]
	icmp := b[headers:]
	copy(icmp, head)
	icmp[2], icmp[3] = 0, 0
	binary.BigEndian.PutUint16(icmp[4:], f.key.guestPort)
	sum := vnet.Sum(icmp, icmpSum(&f.key.remote, &f.key.guest, n))
	binary.BigEndian.PutUint16(icmp[2:], ^p.sumRange(iov, headers+icmpLen, n-icmpLen, sum))
	guestmem.CopyTo(iov, 0, b)
	var h vnet.Header
	lease.Commit(&h, headers+n)
}

func (p *Port) pingFailed(f *flow, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		f.bits &^= readable
	case unix.EFAULT:
		f.bits &^= readable
		p.worker.Fault(errno)
	default:
		if n, told := p.readPingErrors(f); n == 0 && !told {
			p.pingRefused(&f.key, errno, icmpLen, f.ping.request[:])
		}
	}
}
