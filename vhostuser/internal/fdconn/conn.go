package fdconn

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/wire"
)

// Conn is a connection to a front end.
type Conn struct {
	socket  *net.UnixConn
	timeout time.Duration

	// Scratch of Read.
	header  [wire.HeaderSize]byte
	payload [wire.MaxPayload]byte
	oob     [oobSize]byte
}

// maxFDs is one descriptor more than any valid message has. The kernel closes what does not fit, and tells so.
const maxFDs = wire.MaxRegions + 1

const oobSize = unix.SizeofCmsghdr + maxFDs*4

var (
	// ErrTooManyFDs means that more descriptors came with a message than any message has.
	ErrTooManyFDs = fmt.Errorf("more than %d file descriptors with a message", wire.MaxRegions)
	// ErrNoRoomForFDs means that this process could not take the descriptors of a message.
	ErrNoRoomForFDs = errors.New("no room for the file descriptors of a message: this process has as many open files as it may; " +
		"raise its limit (RLIMIT_NOFILE: ulimit -n, or LimitNOFILE= of a systemd unit)")
	// ErrQuiet means that nothing came in the time that Read had.
	ErrQuiet = errors.New("nothing came")
)

// Message is one request as it arrived.
type Message struct {
	Header  wire.Header
	Payload []byte // valid until the next Read
	FDs     FDs    // owned by the receiver of the message
	// FDErr tells why some of the descriptors that were sent are missing; nil if none is.
	FDErr error
}

// New returns a connection that owns socket. timeout bounds the time that a peer may take to read what is written, and to
// complete a message of which it sent the first byte.
func New(socket *net.UnixConn, timeout time.Duration) *Conn {
	return &Conn{socket: socket, timeout: timeout}
}

// Read waits for the next request, until a time if that is not zero: then the error is ErrQuiet, and the connection is as
// good as before. At the end of the stream the error is io.EOF, or io.ErrUnexpectedEOF within a message. After any error but
// ErrQuiet the connection is of no more use.
func (c *Conn) Read(until time.Time) (Message, error) {
	if err := c.socket.SetReadDeadline(until); err != nil {
		return Message{}, err
	}
	_, fds, fdErr, err := c.receive(c.header[:1])
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return Message{}, ErrQuiet
	}
	if err != nil {
		return Message{}, err
	}
	m, err := c.readRest()
	if err != nil {
		fds.Close()
		return Message{}, err
	}
	m.FDs, m.FDErr = fds, fdErr
	return m, nil
}

// readRest reads a message from its second byte on.
func (c *Conn) readRest() (Message, error) {
	if err := c.socket.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return Message{}, err
	}
	if err := c.readFull(c.header[1:]); err != nil {
		return Message{}, err
	}
	h, err := wire.DecodeHeader(c.header[:])
	if err != nil {
		return Message{}, err
	}
	m := Message{Header: h, Payload: c.payload[:h.Size]}
	if err := c.readFull(m.Payload); err != nil {
		return Message{}, err
	}
	return m, nil
}

// ReadReply fills b with what the peer answers: the front end's side. A reply carries no descriptors.
func (c *Conn) ReadReply(b []byte) error {
	if err := c.socket.SetReadDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	return c.readFull(b)
}

// readFull fills b. Descriptors are out of place here.
func (c *Conn) readFull(b []byte) error {
	for len(b) > 0 {
		n, fds, fdErr, err := c.receive(b)
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		if len(fds) > 0 || fdErr != nil {
			fds.Close()
			return fmt.Errorf("%w: file descriptors in the middle of a message", wire.ErrFraming)
		}
		b = b[n:]
	}
	return nil
}

// receive reads into b, at least one byte. The kernel ends a read behind the bytes that descriptors came with, so those
// returned belong to bytes in b. fdErr tells why some of them are missing.
func (c *Conn) receive(b []byte) (n int, fds FDs, fdErr, err error) {
	n, oobn, flags, _, err := c.socket.ReadMsgUnix(b, c.oob[:]) // sets MSG_CMSG_CLOEXEC
	fds, parseErr := parseRights(c.oob[:oobn])
	if err == nil {
		err = parseErr
	}
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		fds.Close()
		return 0, nil, nil, err
	}
	return n, fds, missing(flags, len(fds)), nil
}

// missing tells why descriptors are missing, of which got came. The kernel sets MSG_CTRUNC where not all of them fit into
// the buffer, and where it could open no more of them.
func missing(flags, got int) error {
	switch {
	case flags&unix.MSG_CTRUNC == 0:
		return nil
	case got == maxFDs:
		return ErrTooManyFDs
	}
	return ErrNoRoomForFDs
}

func parseRights(oob []byte) (FDs, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var fds FDs
	for i := range messages {
		rights, err := unix.ParseUnixRights(&messages[i])
		if err != nil {
			continue // not SCM_RIGHTS
		}
		fds = append(fds, rights...)
	}
	return fds, nil
}

// Write sends b, with fds attached to its first byte. The descriptors stay the caller's.
func (c *Conn) Write(b []byte, fds ...int) error {
	if err := c.socket.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return err
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.socket.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) {
		_, err = c.socket.Write(b[n:])
	}
	return err
}

// Spoke waits until the peer has sent something, which it leaves to be read, or has hung up. It reports false if that came
// first; a peer that does neither in time counts as one that speaks.
func (c *Conn) Spoke(limit time.Duration) bool {
	raw, err := c.socket.SyscallConn()
	if err != nil || c.socket.SetReadDeadline(time.Now().Add(limit)) != nil {
		return false
	}
	spoke := false
	err = raw.Read(func(fd uintptr) (done bool) {
		n, _, err := unix.Recvfrom(int(fd), c.header[:1], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		spoke = n > 0
		return !errors.Is(err, unix.EAGAIN)
	})
	return spoke || errors.Is(err, os.ErrDeadlineExceeded)
}

// Peer returns the process and the user at the other end, as they were when it connected (SO_PEERCRED).
func (c *Conn) Peer() (pid, uid int, ok bool) {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return 0, 0, false
	}
	var cred *unix.Ucred
	var failed error
	err = raw.Control(func(fd uintptr) { cred, failed = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) })
	if err != nil || failed != nil {
		return 0, 0, false
	}
	return int(cred.Pid), int(cred.Uid), true
}

// PeerGone tells whether the peer has closed or shut down its end, so that nothing new can come. It is true after Close.
func (c *Conn) PeerGone() bool {
	raw, err := c.socket.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0
	})
	return gone || err != nil
}

// Close ends a Read or Write in progress. It may be called again.
func (c *Conn) Close() error {
	err := c.socket.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
