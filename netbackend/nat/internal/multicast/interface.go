package multicast

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// inquiry asks the kernel for interfaces and their addresses (rtnetlink(7)). It needs no right, but its socket must be opened
// before the sandbox is entered.
type inquiry struct {
	fd  int
	seq uint32
	buf []byte
}

// answerPatience is how long the kernel, which answers at once, is waited for.
const answerPatience = 1 // second

func (q *inquiry) open() (err error) {
	if q.fd, err = unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("socket for the look-up of interfaces: %w", err)
	}
	err = unix.SetsockoptTimeval(q.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: answerPatience})
	if err == nil {
		err = unix.Bind(q.fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
	}
	if err != nil {
		_ = unix.Close(q.fd)
		return fmt.Errorf("socket for the look-up of interfaces: %w", err)
	}
	const dump = 64 << 10 // the kernel sends less in one message
	q.buf = make([]byte, dump)
	return nil
}

func (q *inquiry) close() { _ = unix.Close(q.fd) }

// state is what is to be known of an interface. The zero value is one that is not there.
type state struct {
	index    uint32
	flags    uint32         // unix.IFF_UP and so on
	networks []netip.Prefix // its addresses, with the length of their networks
}

// isUp reports whether packets can leave.
func (s *state) isUp() bool { return s.index != 0 && s.flags&unix.IFF_UP != 0 }

// holds reports whether an address is in one of the interface's networks.
func (s *state) holds(a netip.Addr) bool {
	if a.Is6() && a.IsLinkLocalUnicast() {
		return true // it is good on this link only, and there is no other network of it
	}
	for _, n := range s.networks {
		if n.Contains(a) {
			return true
		}
	}
	return false
}

// owns reports whether an address is the interface's.
func (s *state) owns(a netip.Addr) bool {
	for _, n := range s.networks {
		if n.Addr() == a {
			return true
		}
	}
	return false
}

// find returns the state of an interface.
func (q *inquiry) find(name string) (s state, err error) {
	body := make([]byte, unix.SizeofIfInfomsg)
	body = appendAttribute(body, unix.IFLA_IFNAME, append([]byte(name), 0))
	err = q.ask(unix.RTM_GETLINK, 0, body, func(m syscall.NetlinkMessage) {
		if m.Header.Type == unix.RTM_NEWLINK && len(m.Data) >= unix.SizeofIfInfomsg {
			s.index, s.flags = binary.NativeEndian.Uint32(m.Data[4:]), binary.NativeEndian.Uint32(m.Data[8:])
		}
	})
	if errors.Is(err, unix.ENODEV) {
		return state{}, nil
	}
	if err != nil {
		return state{}, fmt.Errorf("look up an interface: %w", err)
	}
	err = q.ask(unix.RTM_GETADDR, unix.NLM_F_DUMP, make([]byte, unix.SizeofIfAddrmsg), func(m syscall.NetlinkMessage) {
		if n, ok := networkIn(m, s.index); ok {
			s.networks = append(s.networks, n)
		}
	})
	if err != nil {
		return state{}, fmt.Errorf("look up the addresses of an interface: %w", err)
	}
	return s, nil
}

// networkIn returns the address of the interface index that a message tells of.
func networkIn(m syscall.NetlinkMessage, index uint32) (n netip.Prefix, ok bool) {
	if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg || binary.NativeEndian.Uint32(m.Data[4:]) != index {
		return n, false
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(&m)
	if err != nil {
		return n, false
	}
	for _, a := range attributes {
		// Of an interface with a peer, IFA_ADDRESS is the peer's, and in its network; IFA_LOCAL is the interface's.
		if a.Attr.Type != unix.IFA_LOCAL && (a.Attr.Type != unix.IFA_ADDRESS || ok) {
			continue
		}
		if addr, valid := netip.AddrFromSlice(a.Value); valid {
			n, ok = netip.PrefixFrom(addr, int(m.Data[1])), true
		}
	}
	return n, ok && n.IsValid()
}

// ask sends a request, and hands each message of the answer to fn.
func (q *inquiry) ask(kind uint16, flags uint16, body []byte, fn func(syscall.NetlinkMessage)) error {
	q.seq++
	b := make([]byte, unix.SizeofNlMsghdr, unix.SizeofNlMsghdr+len(body))
	binary.NativeEndian.PutUint32(b, uint32(cap(b)))
	binary.NativeEndian.PutUint16(b[4:], kind)
	binary.NativeEndian.PutUint16(b[6:], unix.NLM_F_REQUEST|flags)
	binary.NativeEndian.PutUint32(b[8:], q.seq)
	if _, err := unix.Write(q.fd, append(b, body...)); err != nil {
		return err
	}
	for {
		n, err := unix.Read(q.fd, q.buf)
		if err != nil {
			return err
		}
		messages, err := syscall.ParseNetlinkMessage(q.buf[:n])
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Seq != q.seq {
				continue
			}
			if m.Header.Type == unix.NLMSG_DONE {
				return nil
			}
			if m.Header.Type == unix.NLMSG_ERROR {
				return errorIn(m.Data)
			}
			if fn(m); m.Header.Flags&unix.NLM_F_MULTI == 0 {
				return nil
			}
		}
	}
}

// errorIn returns what an error message says; 0 is none.
func errorIn(data []byte) error {
	if len(data) < 4 {
		return unix.EBADMSG
	}
	if code := int32(binary.NativeEndian.Uint32(data)); code != 0 {
		return unix.Errno(-code)
	}
	return nil
}

// appendAttribute appends an attribute of any length.
func appendAttribute(b []byte, kind uint16, value []byte) []byte {
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(value)))
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}
