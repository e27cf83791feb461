package nat

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// udpFlow is an association between a port of the guest and one remote endpoint. Its socket is connected, so that the
// kernel tells what became of a datagram; or it is that of a forward, which all peers share.
type udpFlow struct {
	peer endpoint // where a shared flow's datagrams go
}

const (
	udpHeaders = etherLen + ipv4Len + udpLen
	udpBurst   = 64 // datagrams to the guest that a flow may have in one turn
	dnsPort    = 53
	// udpTimeout ends an association after silence (RFC 4787 section 4.3 asks for at least two minutes). A name server
	// answers once, and soon.
	udpTimeout = int64(180e9)
	dnsTimeout = int64(20e9)
)

// udp handles a UDP datagram of the guest.
func (p *Port) udp(k *packet) {
	if len(k.l4) < udpLen {
		p.counters.Malformed++
		return
	}
	length := int(binary.BigEndian.Uint16(k.l4[4:]))
	if length < udpLen || length > k.l4Len {
		p.counters.Malformed++
		return
	}
	if binary.BigEndian.Uint16(k.l4[2:]) == dhcpServerPort && p.forDHCP(k) {
		p.dhcp(k, length)
		return
	}
	key, ok := p.key(k, protoUDP)
	if !ok {
		p.counters.BadAddress++
		return
	}
	if p.isQuery(&key) && !p.afford(errandQuery) {
		return
	}
	f := p.flows.lookup(&key)
	if f == nil {
		if f = p.associate(&key, k, length); f == nil {
			return
		}
	}
	p.sendDatagram(f, k, length-udpLen)
}

// associate makes a flow for the guest's first datagram to somebody. It returns nil if there is to be none.
func (p *Port) associate(key *flowKey, k *packet, length int) *flow {
	to, verdict := p.policy.destination(p.now, key)
	if verdict != allowed {
		if p.isQuery(key) {
			p.answerDNS(key, k, length)
			return nil
		}
		p.reject(key, verdict, length, k.l4)
		return nil
	}
	c := crowdAssociations
	if p.isQuery(key) {
		c = crowdQueries
	}
	if !p.admit(c) {
		p.sendUnreachable(key, codeHost, length, k.l4)
		return nil
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		p.hit(limitHost)
		p.sendUnreachable(key, codeHost, length, k.l4)
		return nil
	}
	if err := unix.Connect(fd, to.sockaddr()); err != nil {
		_ = unix.Close(fd)
		p.undelivered(key, err, length, k.l4)
		return nil
	}
	f := p.create(key, fd, stateUDP, 0, c)
	if f != nil {
		p.counters.UDPFlows++
	}
	return f
}

// touch puts the end of an association off.
func (p *Port) touch(f *flow) {
	timeout := udpTimeout
	if f.key.remotePort == dnsPort {
		timeout = dnsTimeout
	}
	p.wheel.set(f, p.now+timeout)
	p.used(f)
}

// sendDatagram passes n bytes of the guest's to the host's socket.
func (p *Port) sendDatagram(f *flow, k *packet, n int) {
	p.touch(f)
	iov, ok := appendRange(p.pieces[:0], k.chain.Iov, k.l4Offset+udpLen, n)
	if !ok {
		p.counters.Malformed++
		return
	}
	nameLen := uint32(0)
	if f.bits&shared != 0 {
		p.nameTo(f.udp.peer)
		nameLen = sizeOfSockAddr
	}
	_, errno := p.msg.send(f.fd, iov, nameLen)
	if errno == unix.ECONNREFUSED {
		// It tells of an earlier datagram, and this one was not sent.
		p.unreachableFlow(f)
		_, errno = p.msg.send(f.fd, iov, nameLen)
	}
	switch errno {
	case 0:
		f.fromGuest += uint64(n)
	case unix.EFAULT:
		p.worker.Fault(errno)
	default:
		p.counters.UDPRefused++
	}
}

// nameTo sets the destination of the next call.
func (p *Port) nameTo(to endpoint) {
	name := p.msg.inet4()
	name.Family = unix.AF_INET
	binary.BigEndian.PutUint16(p.msg.port(), to.port)
	name.Addr = [4]byte(to.addr.v4())
}

// serviceUDP passes the guest what its association has received.
func (p *Port) serviceUDP(f *flow) outcome {
	for range udpBurst {
		if f.bits&readable == 0 {
			return idle
		}
		iov := p.reserveDatagram()
		if len(iov) == 0 {
			return starves
		}
		n, ok := p.receiveDatagram(f.fd, iov, false)
		if ok {
			p.commitDatagram(&f.key, iov, n)
			f.toGuest += uint64(n)
			p.touch(f)
			continue
		}
		p.datagramFailed(f, unix.Errno(-n))
	}
	return more
}

// reserveDatagram reserves room for the longest datagram that the guest's MTU allows. The fragments of the one before go
// first.
func (p *Port) reserveDatagram() []guestmem.Iovec {
	if !p.sendFragments() || p.rxFull {
		return nil
	}
	n := etherLen + p.mtu
	iov := p.rx.Reserve(n, n)
	p.rxFull = len(iov) == 0
	return iov
}

// receiveDatagram reads a datagram to its place in the frame iov, and what the guest's MTU does not allow there to
// p.swallow. !ok means that there is none to deliver; n is then the negative error.
func (p *Port) receiveDatagram(fd int32, iov []guestmem.Iovec, named bool) (n int, ok bool) {
	pieces, _ := appendRange(p.pieces[:0], iov, udpHeaders, p.longest())
	beyond := maxIPv4Payload - udpLen - p.longest()
	pieces = append(pieces, guestmem.Iovec{Base: addressOf(p.swallow), Len: uint64(beyond)})
	n, _, errno := p.msg.receive(fd, pieces, 0, named)
	if errno != 0 {
		return -int(errno), false
	}
	return n, true
}

func (p *Port) datagramFailed(f *flow, errno unix.Errno) {
	switch errno {
	case unix.EAGAIN:
		f.bits &^= readable
	case unix.EFAULT:
		f.bits &^= readable
		p.worker.Fault(errno)
	case unix.ECONNREFUSED:
		p.unreachableFlow(f)
	}
}

// commitDatagram writes the headers in front of n bytes in iov, and gives the guest the frame, or several if the datagram
// is longer than its MTU.
func (p *Port) commitDatagram(key *flowKey, iov []guestmem.Iovec, n int) {
	if n > p.longest() {
		p.cut(key, iov, n)
		return
	}
	b := p.template[:udpHeaders]
	src, dst := key.remote.v4(), key.guest.v4()
	p.putEtherIPv4(b, src, dst, protoUDP, ipv4Len+udpLen+n)
	udp := b[etherLen+ipv4Len:]
	putUDP(udp, key.remotePort, key.guestPort, udpLen+n)
	sum := vnet.PseudoHeaderSum(protoUDP, src, dst, uint32(udpLen+n))
	var h vnet.Header
	if p.guestCsum {
		h.Flags, h.CsumStart, h.CsumOffset = vnet.FlagNeedsCSum, etherLen+ipv4Len, 6
	} else {
		sum = udpChecksum(p.sumRange(iov, udpHeaders, n, vnet.Sum(udp, sum)))
	}
	binary.BigEndian.PutUint16(udp[6:], sum)
	guestmem.CopyTo(iov, 0, b)
	p.rx.Commit(&h, p.rx.Pad(iov, udpHeaders+n))
}

// putUDP writes a UDP header without checksum. length is that of header and payload.
func putUDP(b []byte, from, to uint16, length int) {
	binary.BigEndian.PutUint16(b[0:], from)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(length))
	b[6], b[7] = 0, 0
}

// udpChecksum turns a sum into the checksum field: 0 there means none (RFC 768).
func udpChecksum(sum uint16) uint16 {
	if sum == 0xffff {
		return sum
	}
	return ^sum
}

// receiveForwarded passes the guest what has come in on a forward.
func (p *Port) receiveForwarded(l *listener) {
	for range udpBurst {
		if !p.connected || p.guestMAC == [6]byte{} {
			p.discard(l)
			return
		}
		iov := p.reserveDatagram()
		if len(iov) == 0 {
			p.rx.Starve()
			return
		}
		n, ok := p.receiveDatagram(l.fd, iov, true)
		switch {
		case n == -int(unix.EAGAIN):
			l.ready = false
			return
		case n == -int(unix.EFAULT):
			p.worker.Fault(unix.EFAULT)
			return
		case ok:
			p.forwardDatagram(l, iov, n)
		}
	}
	p.again = true
}

// forwardDatagram delivers n bytes from the peer in p.msg, and remembers the way back.
func (p *Port) forwardDatagram(l *listener, iov []guestmem.Iovec, n int) {
	name := p.msg.inet4()
	peer := endpoint{addr: addressFrom4(name.Addr[:]), port: binary.BigEndian.Uint16(p.msg.port())}
	key := flowKey{
		guest: l.to.addr, guestPort: l.to.port, proto: protoUDP,
		remote: p.asSeen(peer.addr), remotePort: peer.port,
	}
	f := p.flows.lookup(&key)
	if f == nil {
		if !p.admitPeer() {
			return
		}
		if f = p.create(&key, int(l.fd), stateUDP, inbound|shared, crowdPeers); f == nil {
			return
		}
		p.counters.UDPFlows++
		f.udp.peer = peer
	}
	if f.fd != l.fd || f.udp.peer != peer {
		p.counters.BadAddress++ // the guest speaks to that port by a flow of its own
		return
	}
	p.touch(f)
	f.toGuest += uint64(n)
	p.commitDatagram(&key, iov, n)
}

// discard drops what has come in for a guest that is not there, and asks for it.
func (p *Port) discard(l *listener) {
	for range udpBurst {
		if _, _, errno := p.msg.receive(l.fd, nil, 0, false); errno == unix.EAGAIN {
			l.ready = false
			break
		}
		p.counters.NoGuest++
	}
	p.again = p.again || l.ready
	p.ask(l.to.addr)
}
