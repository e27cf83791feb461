package broker

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/undo"
)

// Connections to the control socket reach the server on a channel of their own, a unix socket between the two (SOCK_SEQPACKET).
// Each message of the broker is one connection, as a descriptor. Each of the server is that one of them has ended.

// passPatience is how long the broker waits for a server that takes no connection.
const passPatience = time.Second

// openControl makes the control socket, and the server's end of the channel.
func (p *process) openControl() (theirs *os.File, err error) {
	if p.Control == "" {
		return nil, nil
	}
	l, file, err := listenControl(p.Control)
	if err != nil {
		return nil, err
	}
	p.control = l
	if err := p.list.AddFile(file, undo.OfProcess); err != nil {
		return nil, errors.Join(err, file.Remove())
	}
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("socketpair", err)
	}
	theirs = os.NewFile(uintptr(pair[1]), "control")
	p.channel, err = SocketOf(os.NewFile(uintptr(pair[0]), "control"))
	return theirs, err
}

// pass passes connections to the server, until the listener is closed.
func (p *process) pass() {
	go p.hearEnds()
	for {
		c, err := p.control.accept()
		if err != nil {
			return
		}
		_ = p.channel.SetWriteDeadline(time.Now().Add(passPatience))
		err = withDescriptor(c, func(fd int) error { return sendDescriptor(p.channel, []byte{0}, fd) })
		if err != nil {
			p.control.release()
		}
		_ = c.Close() // the server has it
	}
}

// hearEnds counts the ends of connections, until the server has gone.
func (p *process) hearEnds() {
	for message := make([]byte, 1); ; {
		if n, err := p.channel.Read(message); n == 0 || err != nil {
			return
		}
		p.control.release()
	}
}

// ListenControl returns the connections to the control socket at path. The broker accepts them, if that is one of its duties. Without
// one this process does, and makes the socket. Its file is removed by whoever made it. Closing the listener leaves connections open.
func (c *Client) ListenControl(path string) (net.Listener, error) {
	if c.channel != nil && c.duties.Control == path {
		return &passedListener{c.channel, path, sync.OnceValue(c.channel.Close)}, nil
	}
	l, file, err := listenControl(path)
	if err != nil {
		return nil, err
	}
	end := func() error { return errors.Join(file.Remove(), l.close()) } // another file may get its number when the socket is gone
	return &ownListener{l, sync.OnceValue(end)}, nil
}

// passedListener has the connections that the broker passes on.
type passedListener struct {
	channel *net.UnixConn
	path    string
	close   func() error // once
}

// Accept implements net.Listener.
func (l *passedListener) Accept() (net.Conn, error) {
	message, rights := make([]byte, 1), make([]byte, unix.CmsgSpace(4))
	for {
		n, rn, _, _, err := l.channel.ReadMsgUnix(message, rights)
		if err != nil || n == 0 {
			return nil, net.ErrClosed
		}
		fd := descriptorOf(rights[:rn])
		if fd < 0 { // no room for it in this process
			l.ended()
			continue
		}
		c, err := SocketOf(os.NewFile(uintptr(fd), "control"))
		if err != nil {
			l.ended()
			continue
		}
		return &controlConn{UnixConn: c, ended: l.ended}, nil
	}
}

// ended tells the broker that a connection has.
func (l *passedListener) ended() {
	_ = l.channel.SetWriteDeadline(time.Now().Add(passPatience))
	_, _ = l.channel.Write([]byte{0})
}

// Close implements net.Listener.
func (l *passedListener) Close() error { return l.close() }

// Addr implements net.Listener.
func (l *passedListener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// ownListener accepts in this process.
type ownListener struct {
	*controlListener
	end func() error // closes the socket and removes its file; once
}

// Accept implements net.Listener.
func (l *ownListener) Accept() (net.Conn, error) {
	c, err := l.accept()
	if err != nil {
		return nil, err
	}
	return &controlConn{UnixConn: c, ended: l.release}, nil
}

// Close implements net.Listener. It removes the file.
func (l *ownListener) Close() error { return l.end() }

// Addr implements net.Listener.
func (l *ownListener) Addr() net.Addr { return l.socket.Addr() }

// controlConn is a connection whose end is told once.
type controlConn struct {
	*net.UnixConn
	once  sync.Once
	ended func()
}

// Close implements net.Conn.
func (c *controlConn) Close() error {
	err := c.UnixConn.Close()
	c.once.Do(c.ended)
	return err
}
