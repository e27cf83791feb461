package route

import (
	"encoding/binary"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Table asks the kernel's routing table (rtnetlink(7)), which is always up to date and sends nothing. No right is needed. It is
// not safe for concurrent use.
type Table struct {
	fd      int
	seq     uint32
	request [routeRequestLen]byte
	answer  [1024]byte // only its fixed part is looked at
}

const (
	routeHeaders    = unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr
	routeRequestLen = routeHeaders + 16

	// Where the fields that are read lie in a message (linux/netlink.h, linux/rtnetlink.h).
	nlType     = 4
	nlSequence = 8
	nlError    = unix.SizeofNlMsghdr     // of an error message
	routeType  = unix.SizeofNlMsghdr + 7 // of a route
)

// Open must come first. It has a socket of package routesocket, which is r's from then on. The answers are read without waiting: the kernel has given them before the question's system
// call returns.
func (r *Table) Open(socket int) {
	r.fd = socket
	b := r.request[:]
	binary.NativeEndian.PutUint16(b[nlType:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	binary.NativeEndian.PutUint16(b[routeHeaders-2:], unix.RTA_DST)
}

// Close closes the socket.
func (r *Table) Close() { _ = unix.Close(r.fd) }

// IsLocal reports whether packets to a end on this host. What cannot be found out counts as such.
func (r *Table) IsLocal(a *ipaddr.Addr) bool {
	if _, err := unix.Write(r.fd, r.localRequest(a)); err != nil {
		return true
	}
	for {
		n, err := unix.Read(r.fd, r.answer[:])
		if err != nil || n <= routeType {
			return true
		}
		if binary.NativeEndian.Uint32(r.answer[nlSequence:]) == r.seq {
			return r.answerIsLocal()
		}
	}
}

// localRequest returns the request for the route to a.
func (r *Table) localRequest(a *ipaddr.Addr) []byte {
	r.seq++
	to := a.Bytes()
	b := r.request[:routeHeaders+len(to)]
	binary.NativeEndian.PutUint32(b[0:], uint32(len(b)))
	binary.NativeEndian.PutUint32(b[nlSequence:], r.seq)
	route := b[unix.SizeofNlMsghdr:]
	route[0], route[1] = uint8(a.Domain()), uint8(8*len(to)) // of the destination's bits all count
	binary.NativeEndian.PutUint16(route[unix.SizeofRtMsg:], uint16(unix.SizeofRtAttr+len(to)))
	copy(b[routeHeaders:], to)
	return b
}

func (r *Table) answerIsLocal() bool {
	switch binary.NativeEndian.Uint16(r.answer[nlType:]) {
	case unix.RTM_NEWROUTE:
		return isHostRoute(r.answer[routeType])
	case unix.NLMSG_ERROR:
		return !leadsNowhere(unix.Errno(-int32(binary.NativeEndian.Uint32(r.answer[nlError:]))))
	}
	return true
}

// leadsNowhere reports whether errno is that of an address without a route, or with one of the kinds "unreachable",
// "prohibit" and "blackhole": nothing is there, and so not the host.
func leadsNowhere(errno unix.Errno) bool {
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL:
		return true
	}
	return false
}
