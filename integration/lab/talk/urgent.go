package talk

import (
	"errors"
	"io"
	"net"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Heard is what one end of a connection heard of the other one in a conversation with urgent bytes.
type Heard struct {
	Text  string // all that came
	Marks []int  // where in Text the kernel said that an urgent byte was
	Told  int    // how often the kernel told of an urgent byte before it was read, as select(2) tells of exceptions
	Error string // why it ended too early
}

// Echo says each part, and then hears as much. Upper-case letters are urgent.
func Echo(conn *net.TCPConn, parts []string, limit time.Duration) Heard {
	return urgently(conn, parts, limit, say, hear)
}

// EchoBack hears as much as each part is, and then says the part.
func EchoBack(conn *net.TCPConn, parts []string, limit time.Duration) Heard {
	return urgently(conn, parts, limit, hear, say)
}

// turn is one end's doing in one direction. fd is a socket that blocks.
type turn func(h *Heard, fd int, part string) error

func urgently(conn *net.TCPConn, parts []string, limit time.Duration, turns ...turn) (h Heard) {
	defer conn.Close()
	err := func() error {
		file, err := conn.File()
		if err != nil {
			return err
		}
		defer file.Close()
		fd := int(file.Fd()) // which makes it block
		patience := unix.NsecToTimeval(limit.Nanoseconds())
		err = errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_OOBINLINE, 1),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &patience))
		for i := 0; i < len(parts) && err == nil; i++ {
			for _, t := range turns {
				err = errors.Join(err, t(&h, fd, parts[i]))
			}
		}
		return err
	}()
	if err != nil {
		h.Error = err.Error()
	}
	return h
}

func isUrgent(r rune) bool { return r >= 'A' && r <= 'Z' }

func say(_ *Heard, fd int, part string) error {
	for part != "" {
		n, flags := strings.IndexFunc(part, isUrgent), 0
		switch n {
		case -1:
			n = len(part)
		case 0:
			n, flags = 1, unix.MSG_OOB
		}
		if err := unix.Sendto(fd, []byte(part[:n]), flags|unix.MSG_NOSIGNAL, nil); err != nil {
			return err
		}
		part = part[n:]
	}
	return nil
}

func hear(h *Heard, fd int, part string) error {
	if strings.IndexFunc(part, isUrgent) >= 0 {
		if err := h.awaitUrgent(fd); err != nil {
			return err
		}
	}
	b := make([]byte, len(part))
	for got := 0; got < len(b); {
		if _, err := receive(fd, b[got:got+1], unix.MSG_PEEK); err != nil {
			return err
		}
		mark, err := unix.IoctlGetUint32(fd, unix.SIOCATMARK) // now that the byte is there, its mark is known
		if err != nil {
			return err
		}
		if mark != 0 {
			h.Marks = append(h.Marks, len(h.Text)+got)
		}
		n, err := receive(fd, b[got:], 0)
		if err != nil {
			return err
		}
		got += n
	}
	h.Text += string(b)
	return nil
}

// awaitUrgent waits until the kernel tells of an urgent byte.
func (h *Heard) awaitUrgent(fd int) error {
	const patience = 20_000 // milliseconds
	for {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI}}, patience)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return err
		case n == 0:
			return errors.New("nothing was told of the urgent byte")
		default:
			h.Told++
			return nil
		}
	}
}

// receive is recvfrom(2) that goes on after signals and knows the end of the stream.
func receive(fd int, b []byte, flags int) (n int, err error) {
	for {
		if n, _, err = unix.Recvfrom(fd, b, flags); err != unix.EINTR {
			break
		}
	}
	if err == nil && n == 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
