package hostsock

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

const (
	// BatchSize is how many datagrams one recvmmsg moves at most, and how many messages one sendmmsg.
	BatchSize = 32

	// SolUDP is the level of UDP's socket options.
	SolUDP = unix.IPPROTO_UDP
)

// Batch is the scratch of one sendmmsg or recvmmsg call. Its owner keeps it, so that a call allocates nothing. Not
// safe for concurrent use.
type Batch struct {
	hdrs    [BatchSize]multiHeader
	names   [BatchSize]unix.RawSockaddrInet6 // large enough for IPv4 too
	control [BatchSize]controlBuffer
}

// multiHeader is the kernel's struct mmsghdr.
type multiHeader struct {
	hdr unix.Msghdr
	n   uint32 // bytes that were sent or received
	_   uint32
}

// Set makes message i one of the pieces in iov, which stay where they are until the call.
func (b *Batch) Set(i int, iov []guestmem.Iovec) {
	h := &b.hdrs[i]
	*h = multiHeader{}
	if len(iov) > 0 {
		h.hdr.Iov = (*unix.Iovec)(unsafe.Pointer(&iov[0]))
		h.hdr.Iovlen = uint64(len(iov))
	}
}

// To addresses message i, on a socket that is not connected.
func (b *Batch) To(i int, peer *ipaddr.Endpoint) {
	h := &b.hdrs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	h.Namelen = putName(&b.names[i], peer)
}

// WantName asks for the sender of message i.
func (b *Batch) WantName(i int) {
	h := &b.hdrs[i].hdr
	h.Name = (*byte)(unsafe.Pointer(&b.names[i]))
	h.Namelen = uint32(unsafe.Sizeof(b.names[i]))
}

// CutAt lets the kernel cut message i into datagrams of size bytes; the last one may be shorter.
func (b *Batch) CutAt(i int, size int) {
	*(*uint16)(b.put(i, option{SolUDP, unix.UDP_SEGMENT}, segmentSize)) = uint16(size)
}

// Send sends the first n messages by fd, and returns how many the kernel took. The error is that of the first.
func (b *Batch) Send(fd int32, n int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(n),
		unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// Receive receives up to n messages from fd. Fewer than n mean that there were no more, or that an error came between,
// which the next call returns.
func (b *Batch) Receive(fd int32, n int) (int, unix.Errno) {
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.hdrs[0])), uintptr(n),
		unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), 0
}

// Length returns how many bytes message i had.
func (b *Batch) Length(i int) int { return int(b.hdrs[i].n) }

// Segment returns the size of the datagrams that message i was put together of, 0 if it is one.
func (b *Batch) Segment(i int) int {
	if b.hdrs[i].hdr.Controllen == 0 {
		return 0
	}
	size := (*uint32)(b.found(i, option{SolUDP, unix.UDP_GRO}, groSize))
	if size == nil {
		return 0
	}
	return int(*size)
}

// Peer returns who sent message i.
func (b *Batch) Peer(i int) ipaddr.Endpoint { return endpointIn(&b.names[i]) }

// putName writes e as the kernel takes names of sockets, and returns its length.
func putName(name *unix.RawSockaddrInet6, e *ipaddr.Endpoint) uint32 {
	if e.Addr.Is4() {
		name4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		*name4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Addr: [4]byte(e.Addr[12:])}
		*portIn(&name4.Port) = [2]byte{byte(e.Port >> 8), byte(e.Port)}
		return unix.SizeofSockaddrInet4
	}
	*name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Addr: e.Addr}
	*portIn(&name.Port) = [2]byte{byte(e.Port >> 8), byte(e.Port)}
	return unix.SizeofSockaddrInet6
}

// endpointIn reads a name that the kernel has written, the zero endpoint if it is none of IP.
func endpointIn(name *unix.RawSockaddrInet6) (e ipaddr.Endpoint) {
	switch name.Family {
	case unix.AF_INET:
		e.Addr = ipaddr.From4((*unix.RawSockaddrInet4)(unsafe.Pointer(name)).Addr[:])
	case unix.AF_INET6:
		e.Addr = name.Addr
	default:
		return e
	}
	port := portIn(&name.Port) // at the same place in both
	e.Port = uint16(port[0])<<8 | uint16(port[1])
	return e
}

// portIn gives access to a port, which stands in a name in network byte order.
func portIn(port *uint16) *[2]byte { return (*[2]byte)(unsafe.Pointer(port)) }

// errorControl takes the control messages with which the kernel tells an error of a socket: the error itself, and how the ICMP
// message came if the socket asks for that (see WantAsked).
type errorControl [16]uint64

// errorData is what the error's control message holds (IP_RECVERR of ip(7), IPV6_RECVERR of ipv6(7)).
type errorData struct {
	err      ExtendedError
	offender unix.RawSockaddrInet6 // shorter for IPv4
}

// ExtendedError is the kernel's struct sock_extended_err (linux/errqueue.h).
type ExtendedError struct {
	Errno      uint32
	Origin     uint8
	Kind, Code uint8 // of the ICMP message, if it came by one
	_          uint8
	Info       uint32 // with EMSGSIZE, the MTU
	_          uint32
}

// option is the name of a control message.
type option struct{ level, kind int32 }

// Error is an error that the kernel kept for a socket: what became of one of its datagrams.
type Error struct {
	ExtendedError
	To       Caller      // where the datagram went, and from which address of the host if the socket asks for that
	Offender ipaddr.Addr // who told, the zero address if it was the kernel itself
	N        int         // bytes of the datagram's payload that are known
}

// ReceiveError takes the oldest error out of fd's queue, with the beginning of the datagram's payload in quote; !ok if
// there is none. Taking the last one clears the socket's pending error too.
func (m *Message) ReceiveError(fd int32, quote []byte) (e Error, ok bool) {
	m.pieces[0] = guestmem.PieceOf(quote)
	m.set(m.pieces[:], uint32(unsafe.Sizeof(m.name)))
	m.err = errorControl{}
	m.hdr.Control = (*byte)(unsafe.Pointer(&m.err))
	m.hdr.Controllen = uint64(unsafe.Sizeof(m.err))
	r, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&m.hdr)),
		unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	if errno != 0 {
		return e, false
	}
	control, length := unsafe.Pointer(&m.err), int(m.hdr.Controllen)
	const least = int(unsafe.Sizeof(e.ExtendedError)) + unix.SizeofSockaddrInet4
	data := (*errorData)(findControl(control, length, option{unix.IPPROTO_IP, unix.IP_RECVERR}, least))
	if data == nil {
		data = (*errorData)(findControl(control, length, option{unix.IPPROTO_IPV6, unix.IPV6_RECVERR}, least))
	}
	if data != nil {
		e.ExtendedError = data.err
		e.Offender = endpointIn(&data.offender).Addr
	}
	e.To.Peer = m.From()
	e.To.Local, _ = askedIn(control, length)
	if e.To.Peer.Addr.IsLinkLocal() {
		e.To.Scope = m.name.Scope_id
	}
	e.N = int(r)
	return e, true
}
