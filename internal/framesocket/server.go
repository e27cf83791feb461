package framesocket

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/internal/pace"
	"github.com/vringnet/vring/internal/socketfile"
)

// Server serves front ends, one after the other.
type Server struct {
	cfg       Config
	frames    *frames
	source    source
	file      socketfile.File // of the listener, if we bound it
	connected atomic.Bool
	pacer     pace.Pacer
	patience  time.Duration // how long a front end that comes waits for the end of the one before it
}

// NewServer makes the rings, and binds the socket, so that its errors come at once. A socket file that a dead process left is replaced; one
// on which somebody listens, and any other file, is an error.
//
// Serve must be called, be it with a context that has ended, to release the socket.
func NewServer(cfg Config) (*Server, error) {
	cfg.setDefaults()
	if err := cfg.check(); err != nil {
		return nil, err
	}
	src, file, err := newSource(&cfg)
	if err != nil {
		return nil, err
	}
	return &Server{cfg: cfg, frames: newFrames(cfg.Framing), source: src, file: file, patience: usualPatience}, nil
}

// Connected reports whether a front end is there. Anybody may call it.
func (s *Server) Connected() bool { return s.connected.Load() }

// Serve serves front ends, and survives their end, until ctx ends. It then takes everything away from the Device, removes the socket file
// that NewServer made, and returns nil. It may be called once.
//
// With an inherited connection, and with Config.OneOff, Serve also returns when that ends. An error tells why the connection was given up, or
// that the Device did not let go of it.
func (s *Server) Serve(ctx context.Context) error {
	var err error
	switch {
	case s.cfg.Framing == Datagrams && s.cfg.SocketPath != "":
		err = s.serveDatagrams(ctx)
	case s.source.listener >= 0:
		err = s.serveListener(ctx)
	case s.source.conn >= 0:
		fd := s.source.conn
		s.source.conn = -1
		r := s.session(ctx, fd)
		err = errors.Join(r.reason, r.err)
	default:
		err = s.serveDialled(ctx)
	}
	return errors.Join(err, s.source.close(), s.file.Remove())
}

// outcome tells how a session ended.
type outcome struct {
	reason error // why the front end was given up, nil if it hung up itself
	err    error // that the device did not let go
	began  time.Time
}

// usualPatience is enough for a front end that has just gone.
const usualPatience = 200 * time.Millisecond

// serveListener serves one front end at a time. One that comes while another is served is closed, but not before it is sure that the
// present one has not just gone, as when QEMU is killed and started again.
func (s *Server) serveListener(ctx context.Context) error {
	l := newListener(s.source.listener)
	s.source.listener = -1
	ctx, cancel := context.WithCancel(ctx)
	conns := make(chan int)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		l.accept(ctx, conns, s.cfg.Log)
	}()
	err := s.serveEach(ctx, conns)
	cancel()
	err = errors.Join(err, l.Close())
	<-accepted
	return err
}

// serveEach serves the front ends that conns brings until ctx ends, or after the first one.
func (s *Server) serveEach(ctx context.Context, conns <-chan int) error {
	var current chan outcome
	var tooLate <-chan time.Time
	next := -1
	defer func() { closeFD(next) }()
	for {
		if current == nil && next >= 0 {
			current = s.start(ctx, next)
			next, tooLate = -1, nil
		}
		incoming := conns
		if next >= 0 {
			incoming = nil
		}
		select {
		case <-ctx.Done():
			if current != nil {
				return (<-current).err
			}
			return nil
		case next = <-incoming:
			tooLate = time.After(s.patience)
		case <-tooLate:
			s.cfg.Log.Warn("another front end was refused: one is being served already", peerAttrs(next)...)
			closeFD(next)
			next, tooLate = -1, nil
		case r := <-current:
			current = nil
			if s.cfg.OneOff || r.err != nil {
				return errors.Join(r.reason, r.err)
			}
			if !pause(ctx, s.pacer.Ended(r.began, time.Now())) {
				return nil
			}
		}
	}
}

func (s *Server) start(ctx context.Context, fd int) chan outcome {
	ended := make(chan outcome, 1)
	go func() { ended <- s.session(ctx, fd) }()
	return ended
}

// serveDialled connects to a front end that listens, again and again.
func (s *Server) serveDialled(ctx context.Context) error {
	const least, most = 100 * time.Millisecond, time.Second
	wait, last := least, ""
	for {
		fd, err := s.dial(ctx)
		switch {
		case err == nil:
			last = ""
			r := s.session(ctx, fd)
			if s.cfg.OneOff || r.err != nil {
				return errors.Join(r.reason, r.err)
			}
			if time.Since(r.began) > most {
				wait = least
			}
		case ctx.Err() == nil && err.Error() != last:
			last = err.Error()
			s.cfg.Log.Info("waiting for the front end to listen", "path", s.source.dial, "reason", err)
		}
		if !pause(ctx, wait) {
			return nil
		}
		wait = min(2*wait, most)
	}
}

// dial connects to a front end that listens. The connection is taken from package net, whose poller would wake up with each frame.
func (s *Server) dial(ctx context.Context) (int, error) {
	c, err := s.cfg.Dial(ctx, s.source.dial)
	if err != nil {
		return -1, err
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd, failed := -1, error(nil)
	err = raw.Control(func(own uintptr) { fd, failed = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, failed)
}

// session serves one front end from beginning to end, and closes fd.
func (s *Server) session(ctx context.Context, fd int) outcome {
	r := outcome{began: time.Now()}
	s.frames.begin(fd)
	told := !s.pacer.Storm()
	if r.reason = s.frames.Attach(s.cfg.Device, features, s.frames); r.reason == nil {
		s.setConnected(true)
		if told {
			s.cfg.Log.Info("front end connected", peerAttrs(fd)...)
		}
		select {
		case r.reason = <-s.frames.ended:
		case err := <-s.cfg.Device.Failed():
			r.reason = fmt.Errorf("device: %w", err)
		case <-ctx.Done():
		}
		s.setConnected(false)
	}
	r.err = ownrings.Release(ctx, s.cfg.Device)
	if r.err == nil {
		closeFD(fd)
	}
	switch {
	case ctx.Err() != nil:
		r.reason = nil
	case r.reason != nil:
		s.cfg.Log.Warn("front end given up", "reason", r.reason)
	case told:
		s.cfg.Log.Info("front end disconnected")
	}
	return r
}

func (s *Server) setConnected(on bool) {
	s.connected.Store(on)
	s.cfg.Staged(on)
}

// listener accepts connections that package net does not know: its poller would wake up with each frame.
type listener struct{ *os.File }

// newListener takes over fd, which does not block.
func newListener(fd int) listener { return listener{os.NewFile(uintptr(fd), "front ends")} }

// accept passes on connections until the listener is closed, after ctx has ended. Other errors, such as too many open files, pass.
func (l listener) accept(ctx context.Context, conns chan<- int, log *slog.Logger) {
	failed := false
	for {
		fd, err := l.one()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			if !failed {
				log.Warn("cannot accept front ends for now", "err", err)
			}
			failed = true
			if !pause(ctx, time.Second) {
				return
			}
			continue
		}
		failed = false
		select {
		case conns <- fd:
		case <-ctx.Done():
			closeFD(fd)
			return
		}
	}
}

// one accepts a connection.
func (l listener) one() (fd int, err error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return -1, err
	}
	waited := raw.Read(func(own uintptr) (done bool) {
		fd, _, err = unix.Accept4(int(own), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		return err != unix.EAGAIN && err != unix.EINTR && err != unix.ECONNABORTED
	})
	if waited != nil {
		return -1, waited
	}
	return fd, err
}

// peerAttrs tells the log who is at the other end of a socket.
func peerAttrs(fd int) []any {
	cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil || cred.Pid == 0 {
		return nil
	}
	return []any{"pid", cred.Pid, "uid", cred.Uid}
}

// pause reports false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	if d == 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func closeFD(fd int) {
	if fd >= 0 {
		_ = unix.Close(fd)
	}
}
