package nat

import (
	"encoding/binary"
	"fmt"

	"golang.org/x/sys/unix"
)

// routes asks the kernel's routing table whose an address is (rtnetlink(7)), which is always up to date and sends
// nothing. No right is needed.
type routes struct {
	fd      int
	seq     uint32
	request [routeRequestLen]byte
	answer  [1024]byte // only its fixed part is looked at
}

const (
	routeRequestLen = unix.SizeofNlMsghdr + unix.SizeofRtMsg + unix.SizeofRtAttr + 4

	// Where the fields that are read lie in a message (linux/netlink.h, linux/rtnetlink.h).
	nlType     = 4
	nlSequence = 8
	nlError    = unix.SizeofNlMsghdr     // of an error message
	routeType  = unix.SizeofNlMsghdr + 7 // of a route
)

// open must come first. The answers are read without waiting: the kernel has given them before the question's system
// call returns.
func (r *routes) open() (err error) {
	const kind = unix.SOCK_RAW | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if r.fd, err = unix.Socket(unix.AF_NETLINK, kind, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("socket for looking up routes: %w", err)
	}
	b := r.request[:]
	binary.NativeEndian.PutUint32(b[0:], routeRequestLen)
	binary.NativeEndian.PutUint16(b[nlType:], unix.RTM_GETROUTE)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST)
	route := b[unix.SizeofNlMsghdr:]
	route[0], route[1] = unix.AF_INET, 32 // of the destination's bits all count
	attribute := route[unix.SizeofRtMsg:]
	binary.NativeEndian.PutUint16(attribute[0:], unix.SizeofRtAttr+4)
	binary.NativeEndian.PutUint16(attribute[2:], unix.RTA_DST)
	return nil
}

func (r *routes) close() { _ = unix.Close(r.fd) }

// isLocal tells whether packets to the IPv4 address a end on this host. What cannot be found out counts as such.
func (r *routes) isLocal(a *address) bool {
	r.seq++
	binary.NativeEndian.PutUint32(r.request[nlSequence:], r.seq)
	copy(r.request[routeRequestLen-4:], a.v4())
	if _, err := unix.Write(r.fd, r.request[:]); err != nil {
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

func (r *routes) answerIsLocal() bool {
	switch binary.NativeEndian.Uint16(r.answer[nlType:]) {
	case unix.RTM_NEWROUTE:
		return r.answer[routeType] == unix.RTN_LOCAL
	case unix.NLMSG_ERROR:
		return !leadsNowhere(unix.Errno(-int32(binary.NativeEndian.Uint32(r.answer[nlError:]))))
	}
	return true
}

// leadsNowhere tells whether errno is that of an address without a route, or with one of the kinds "unreachable",
// "prohibit" and "blackhole": nothing is there, and so not the host.
func leadsNowhere(errno unix.Errno) bool {
	switch errno {
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EACCES, unix.EINVAL:
		return true
	}
	return false
}
