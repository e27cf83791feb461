package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Server serves front ends, one after the other.
type Server struct {
	cfg      Config
	log      *limitedLog
	refusals *limitedLog // of front ends that come while one is served
	source   source
	file     socketfile.File  // of the listener, if we bound it
	budget   *guestmem.Budget // of all that front ends have us map, also for a session that cannot be ended yet
}

// NewServer binds the socket, so that its errors come at once. A socket file that a dead process left is replaced; one
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
	return &Server{
		cfg:      cfg,
		log:      newLimitedLog(cfg.Log, sessionLimit(), time.Now),
		refusals: newLimitedLog(cfg.Log, refusalLimit(), time.Now),
		source:   src,
		file:     file,
		budget:   guestmem.NewBudget(cfg.Memory),
	}, nil
}

// Serve serves front ends, and survives their end, until ctx ends. It then takes everything away from the Device,
// removes the socket file that NewServer made, and returns nil. It may be called once.
//
// With an inherited connection, Serve also returns when that ends. An error tells why the connection was given up, or
// that the Device did not let go of a front end's memory, which is then still mapped.
func (s *Server) Serve(ctx context.Context) error {
	var err error
	switch {
	case s.source.listener != nil:
		err = s.serveListener(ctx)
	case s.source.conn != nil:
		err = s.serveOne(ctx, s.source.conn)
	default:
		err = s.serveDialled(ctx)
	}
	return multierror.Append(err, s.source.close(), s.file.Remove()).ErrorOrNil()
}

// connect readies a socket for a session.
func (s *Server) connect(c *net.UnixConn) *fdconn.Conn { return fdconn.New(c, s.cfg.Timeout) }

// session serves one front end from beginning to end. reason tells why the front end was given up, nil if it hung up
// itself; err, that its resources could not be released.
func (s *Server) session(ctx context.Context, conn *fdconn.Conn) (reason, err error) {
	s.log.Debug("front end connected")
	session := newSession(conn, sessionConfig{s.cfg.Device, s.log, s.cfg.listens(), s.budget})
	reason = session.run(ctx)
	switch {
	case ctx.Err() != nil:
		reason = nil
	case reason != nil:
		s.log.Warn("front end given up", "reason", reason)
	case session.announced:
		s.log.Info("front end hung up")
	default:
		s.log.Debug("front end hung up before its driver was up")
	}
	return reason, session.finish(ctx, reason)
}

// serveOne serves an inherited connection.
func (s *Server) serveOne(ctx context.Context, c *net.UnixConn) error {
	r := s.start(ctx, s.connect(c)).wait(ctx)
	return errors.Join(r.reason, r.err)
}

// serveDialled connects to a front end that listens, again and again.
func (s *Server) serveDialled(ctx context.Context) error {
	var wait backoff
	lastReason := ""
	for {
		c, err := s.dial(ctx)
		if err == nil {
			lastReason = ""
			begin := time.Now()
			if r := s.start(ctx, s.connect(c)).wait(ctx); r.err != nil {
				return r.err
			}
			if time.Since(begin) > backoffMax { // and was not turned away at once
				wait.reset()
			}
		} else if ctx.Err() == nil && err.Error() != lastReason {
			lastReason = err.Error()
			s.log.Info("waiting for the front end to listen", "path", s.source.dial, "reason", err)
		}
		if !wait.sleep(ctx) {
			return nil
		}
	}
}

func (s *Server) dial(ctx context.Context) (*net.UnixConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", s.source.dial)
	if err != nil {
		return nil, err
	}
	return c.(*net.UnixConn), nil
}

// serveListener accepts front ends and serves one at a time.
func (s *Server) serveListener(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	conns := make(chan *net.UnixConn)
	accepted := make(chan struct{})
	go func() {
		defer close(accepted)
		s.accept(ctx, conns)
	}()
	err := s.serveEach(ctx, conns)
	cancel()
	err = multierror.Append(err, s.source.close()).ErrorOrNil()
	<-accepted
	return err
}

// accept passes on the connections of the listener until that is closed. Other errors, such as too many open files, pass.
func (s *Server) accept(ctx context.Context, conns chan<- *net.UnixConn) {
	var wait backoff
	for {
		c, err := s.source.listener.AcceptUnix()
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if wait.first() {
				s.log.Warn("cannot accept front ends for now", "err", err)
			}
			if !wait.sleep(ctx) {
				return
			}
			continue
		}
		wait.reset()
		select {
		case conns <- c:
		case <-ctx.Done():
			c.Close()
			return
		}
	}
}

// active is the front end that is being served.
type active struct {
	conn   *fdconn.Conn
	result chan sessionResult
}

type sessionResult struct{ reason, err error }

func (s *Server) start(ctx context.Context, conn *fdconn.Conn) *active {
	a := &active{conn: conn, result: make(chan sessionResult, 1)}
	go func() {
		reason, err := s.session(ctx, conn)
		a.result <- sessionResult{reason, err}
	}()
	return a
}

// serveEach serves the front ends that conns brings, until ctx ends and the last session with it.
func (s *Server) serveEach(ctx context.Context, conns <-chan *net.UnixConn) error {
	var current *active
	var next *fdconn.Conn // waits for current, whose front end has hung up, to be finished
	defer func() {
		if next != nil {
			next.Close()
		}
	}()
	for {
		if current == nil && next != nil {
			current, next = s.start(ctx, next), nil
		}
		select {
		case <-ctx.Done():
			return current.wait(ctx).err
		case c := <-conns:
			next = s.admit(current, next, s.connect(c))
		case r := <-current.done():
			if r.err != nil {
				return fmt.Errorf("cannot go on: %w", r.err)
			}
			current = nil
			if r.reason != nil && !pause(ctx, backoffMin) { // QEMU would come again some thousand times a second
				return nil
			}
		}
	}
}

// admit decides about a new front end, and returns the one to serve next, if any. One is served at a time. A new one is
// refused, unless the present one has hung up and that was not noticed yet, as happens when QEMU is killed and started
// again.
func (s *Server) admit(current *active, next, c *fdconn.Conn) *fdconn.Conn {
	if next != nil && next.PeerGone() {
		next.Close()
		next = nil
	}
	if current != nil && current.conn.PeerGone() {
		current.conn.Close()
		current = nil
	}
	if current != nil || next != nil {
		s.refusals.Warn("another front end was refused: one is being served already")
		c.Close()
		return next
	}
	return c
}

func (a *active) done() <-chan sessionResult {
	if a == nil {
		return nil
	}
	return a.result
}

// endPatience is how long Serve waits for its session once it is to end. A device lets go within about a second.
const endPatience = 3 * time.Second

// errHeldUp tells that a session did not end when it was told to.
var errHeldUp = errors.New("the front end holds its session up; what it passed is kept")

// wait returns how the session ended. Once ctx has ended, patience does too: there is nothing that a front end could do,
// with descriptors and memory that it shares, to keep the process alive.
func (a *active) wait(ctx context.Context) sessionResult {
	if a == nil {
		return sessionResult{}
	}
	select {
	case r := <-a.result:
		return r
	case <-ctx.Done():
	}
	select {
	case r := <-a.result:
		return r
	case <-time.After(endPatience):
		return sessionResult{err: errHeldUp}
	}
}

// pause reports false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
