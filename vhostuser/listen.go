package vhostuser

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
)

// source is where front ends come from: exactly one of its fields is set.
type source struct {
	listener *net.UnixListener
	conn     *net.UnixConn // an inherited connection: the only front end there will be
	dial     string        // path of a front end that listens
}

// newSource opens where front ends come from, and returns the file that was made for it.
func newSource(c *Config) (source, socketfile.File, error) {
	if c.SocketPath == "" {
		s, err := inherit(c.FD)
		return s, socketfile.File{}, err
	}
	if err := socketfile.CheckLength(c.SocketPath); err != nil {
		return source{}, socketfile.File{}, err
	}
	if c.Client {
		return source{dial: c.SocketPath}, socketfile.File{}, nil
	}
	l, file, err := listen(c)
	return source{listener: l}, file, err
}

// close may be called again, and after the connection was closed.
func (s *source) close() error {
	var err error
	switch {
	case s.listener != nil:
		err = s.listener.Close()
	case s.conn != nil:
		err = s.conn.Close()
	}
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// listenBacklog is how many front ends may wait to be accepted; the kernel may allow fewer (net.core.somaxconn).
const listenBacklog = 4096

// bind returns the socket, in whose place the socket of a process that is gone may lie, and its file, if that is the server's.
func (c *Config) bind() (fd int, file socketfile.File, err error) {
	if c.Listen != nil {
		fd, err = c.Listen(c.SocketPath)
		return fd, file, err
	}
	return socketfile.Replace(c.SocketPath, socketfile.Access{Mode: c.SocketMode, Group: c.SocketGroup}, listenBacklog)
}

// listen binds the socket, in whose place the socket of a process that is gone may lie.
func listen(c *Config) (*net.UnixListener, socketfile.File, error) {
	fd, file, err := c.bind()
	if err != nil {
		return nil, file, err
	}
	f := os.NewFile(uintptr(fd), c.SocketPath)
	defer f.Close() // package net works on a duplicate
	l, err := net.FileListener(f)
	if err != nil {
		return nil, socketfile.File{}, errors.Join(err, file.Remove())
	}
	unixListener := l.(*net.UnixListener)
	unixListener.SetUnlinkOnClose(false) // socketfile.File does it, and looks first
	return unixListener, file.Unless(c.KeepFile), nil
}

// CheckSocketPath tells, without changing anything, why a server could not listen on path, or dial it if client is set.
// What NewServer would replace, a socket that a dead process left, is no reason.
func CheckSocketPath(path string, client bool) error {
	if client {
		return socketfile.CheckLength(path)
	}
	return socketfile.Check(path)
}

// inherit takes over a socket that the process was started with.
func inherit(fd int) (source, error) {
	listening, err := inspect(fd)
	if err != nil {
		return source{}, fmt.Errorf("inherited file descriptor %d: %w", fd, err)
	}
	f := os.NewFile(uintptr(fd), "front end")
	defer f.Close() // package net works on a duplicate, which is close-on-exec
	if listening {
		l, err := net.FileListener(f)
		if err != nil {
			return source{}, err
		}
		return source{listener: l.(*net.UnixListener)}, nil
	}
	c, err := net.FileConn(f)
	if err != nil {
		return source{}, err
	}
	return source{conn: c.(*net.UnixConn)}, nil
}

// inspect tells whether fd, which must be a unix stream socket, listens.
func inspect(fd int) (listening bool, err error) {
	for _, want := range []struct {
		option, value int
		what          string
	}{
		{unix.SO_DOMAIN, unix.AF_UNIX, "a unix"},
		{unix.SO_TYPE, unix.SOCK_STREAM, "a stream"},
	} {
		v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, want.option)
		if err != nil {
			return false, err
		}
		if v != want.value {
			return false, fmt.Errorf("is not %s socket", want.what)
		}
	}
	v, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return v != 0, err
}
