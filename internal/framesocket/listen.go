package framesocket

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
)

// source is where front ends come from. The descriptors are those of sockets that do not block.
type source struct {
	listener int    // -1 for none
	conn     int    // an inherited connection: the only front end there will be; -1 for none
	dial     string // path of a front end that listens
}

// listenBacklog is how many front ends may wait to be accepted; the kernel may allow fewer (net.core.somaxconn).
const listenBacklog = 128

// newSource opens where front ends come from, and returns the file that was made for it.
func newSource(c *Config) (source, socketfile.File, error) {
	s := source{listener: -1, conn: -1}
	if c.SocketPath == "" {
		listens, err := inspect(c.FD, c.Framing)
		if err != nil {
			return s, socketfile.File{}, fmt.Errorf("inherited file descriptor %d: %w", c.FD, err)
		}
		unix.CloseOnExec(c.FD)
		if err := unix.SetNonblock(c.FD, true); err != nil {
			return s, socketfile.File{}, err
		}
		if listens {
			s.listener = c.FD
		} else {
			s.conn = c.FD
		}
		return s, socketfile.File{}, nil
	}
	if err := socketfile.CheckLength(c.SocketPath); err != nil {
		return s, socketfile.File{}, err
	}
	if c.Framing == Datagrams {
		return s, socketfile.File{}, nil // Serve opens it
	}
	if c.Client {
		s.dial = c.SocketPath
		return s, socketfile.File{}, nil
	}
	fd, file, err := c.bind()
	s.listener = fd
	return s, file.Unless(c.KeepFile), err
}

// bind returns the socket, in whose place the socket of a process that is gone may lie, and its file, if that is the server's.
func (c *Config) bind() (fd int, file socketfile.File, err error) {
	if c.Listen != nil {
		fd, err = c.Listen(c.SocketPath)
		return fd, file, err
	}
	access := socketfile.Access{Mode: c.SocketMode, Group: c.SocketGroup}
	if c.Framing == Packets {
		return socketfile.ReplacePackets(c.SocketPath, access, listenBacklog)
	}
	return socketfile.Replace(c.SocketPath, access, listenBacklog)
}

// inspect tells whether fd, which must be a unix socket of the framing's type, listens.
func inspect(fd int, f Framing) (listens bool, err error) {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return false, err
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return false, err
	}
	if domain != unix.AF_UNIX || kind != f.kind() {
		return false, fmt.Errorf("want %s of unix", f)
	}
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return v != 0, err
}

// close closes what is open.
func (s *source) close() error {
	var errs []error
	for _, fd := range []*int{&s.listener, &s.conn} {
		if *fd >= 0 {
			errs = append(errs, unix.Close(*fd))
		}
		*fd = -1
	}
	return errors.Join(errs...)
}
