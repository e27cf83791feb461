package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vringnet/vring/internal/pace"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Server serves front ends, one after the other.
type Server struct {
	cfg    Config
	log    *limitedLog
	steps  *limitedLog
	door   *doorkeeper
	vain   vain
	pacer  pace.Pacer
	wait   waits
	source source
	file   socketfile.File // of the listener, if we bound it
	stages stages
	seat   *seat
	budget *guestmem.Budget // of all that front ends have us map, also for a session that cannot be ended yet
}

// waits is how long a server waits before it tells that something has not come.
type waits struct {
	patience
	frontEnd time.Duration // the first front end
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
		cfg:    cfg,
		log:    newLimitedLog(cfg.Log, sessionLimit(), time.Now),
		steps:  newLimitedLog(cfg.Log, stepLimit(), time.Now),
		door:   newDoorkeeper(newLimitedLog(cfg.Log, refusalLimit(), time.Now)),
		vain:   vain{log: cfg.Log, pairs: cfg.Device.QueuePairs(), hint: cfg.QueuesHint},
		wait:   waits{defaultPatience(), 30 * time.Second},
		source: src,
		file:   file,
		budget: guestmem.NewBudget(cfg.Memory),
		seat:   newSeat(cfg.Device),
		stages: newStages(cfg.Staged),
	}, nil
}

// Serve serves front ends, and survives their end, until ctx ends. It then takes everything away from the Device,
// removes the socket file that NewServer made, and returns nil. It may be called once.
//
// With an inherited connection, and with Config.OneOff, Serve also returns when that ends. An error tells why the connection was given up, or
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
	return errors.Join(err, s.source.close(), s.file.Remove())
}

// connect readies a socket for a session.
func (s *Server) connect(c *net.UnixConn) *fdconn.Conn { return fdconn.New(c, s.cfg.Timeout) }

// session serves one front end from beginning to end.
func (s *Server) session(ctx context.Context, conn *fdconn.Conn, quiet bool) sessionResult {
	session := newSession(conn, sessionConfig{
		seat: s.seat, log: s.log, channel: s.cfg.listens(), budget: s.budget,
		steps: s.steps, hint: s.cfg.QueuesHint, wait: s.wait.patience,
	})
	session.story.quiet = quiet
	session.story.stage = func(now Stage) { s.stages.set(session, now) }
	session.story.stage(Connected)
	defer session.story.stage(NoFrontEnd)
	reason := session.run(ctx)
	if ctx.Err() != nil {
		reason = nil
	}
	session.story.end(reason)
	return sessionResult{
		reason: reason, err: session.finish(ctx, reason),
		began: session.story.began, spoke: session.story.spoke, up: session.story.wasUp,
	}
}

// ended counts the end of a session, and returns how long to wait before the next one.
func (s *Server) ended(r sessionResult) time.Duration {
	s.vain.ended(r)
	return s.pacer.Ended(r.began, time.Now())
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
	lonely := time.Now().Add(s.wait.frontEnd) // zero once a front end was there, or that was told
	for {
		c, err := s.cfg.Dial(ctx, s.source.dial)
		switch {
		case err == nil:
			lastReason, lonely = "", time.Time{}
			r := s.start(ctx, s.connect(c)).wait(ctx)
			if s.cfg.OneOff {
				return errors.Join(r.reason, r.err)
			}
			if r.err != nil {
				return r.err
			}
			s.ended(r)
			if time.Since(r.began) > backoffMax { // and was not turned away at once
				wait.reset()
			}
		case ctx.Err() == nil && err.Error() != lastReason:
			lastReason = err.Error()
			s.log.Info("waiting for the front end to listen", "path", s.source.dial, "reason", err)
		}
		if !lonely.IsZero() && time.Now().After(lonely) {
			lonely = time.Time{}
			s.log.Info("no front end listens yet", "path", s.source.dial, "reason", lastReason,
				"hint", "is the guest started, and does its front end listen on this path?")
		}
		if !wait.sleep(ctx) {
			return nil
		}
	}
}

// Dial connects to the socket of a front end that listens.
func Dial(ctx context.Context, path string) (*net.UnixConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "unix", path)
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
	err = errors.Join(err, s.source.close())
	<-accepted
	s.door.wg.Wait()
	return err
}

// accept passes on the connections of the listener until that is closed. Other errors, such as too many open files, pass.
func (s *Server) accept(ctx context.Context, conns chan<- *net.UnixConn) {
	const deadAtOnce = 256 // connections that were closed before they were accepted cost a pause
	var wait backoff
	dead := 0
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
		if s.connect(c).PeerGone() { // it just looked whether somebody listens
			c.Close()
			if dead++; dead%deadAtOnce == 0 && !pause(ctx, backoffMin) {
				return
			}
			continue
		}
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

// sessionResult tells how a session ended.
type sessionResult struct {
	reason error // why the front end was given up, nil if it hung up itself
	err    error // that its resources could not be released
	began  time.Time
	spoke  bool // it sent a message
	up     bool // its guest's driver was up
}

func (s *Server) start(ctx context.Context, conn *fdconn.Conn) *active {
	a := &active{conn: conn, result: make(chan sessionResult, 1)}
	quiet := s.pacer.Storm()
	go func() { a.result <- s.session(ctx, conn, quiet) }()
	return a
}

// queue is what serveEach has before it: the front ends that are served, see seat, and one that waits until it may begin.
type queue struct {
	current *active
	second  *active // came while current was there; nil for none, and without current
	next    *fdconn.Conn
	pause   <-chan time.Time // nil if the next one may begin at once
}

// serveEach serves the front ends that conns brings, until ctx ends and the last session with it.
func (s *Server) serveEach(ctx context.Context, conns <-chan *net.UnixConn) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var q queue
	defer func() {
		if q.next != nil {
			q.next.Close()
		}
	}()
	place := make(chan struct{}, 1)
	lonely := time.NewTimer(s.wait.frontEnd)
	defer lonely.Stop()
	for {
		s.startNext(ctx, &q)
		incoming := conns
		if s.door.full() || q.pause != nil && q.next != nil {
			incoming = nil // those who come wait to be accepted
		}
		select {
		case <-ctx.Done():
			return q.wait(ctx)
		case c := <-incoming:
			lonely.Stop()
			s.admit(ctx, &q, s.connect(c), place)
		case <-place:
		case <-q.pause:
			q.pause = nil
		case <-lonely.C:
			s.tellNoFrontEnd()
		case r := <-q.current.done():
			q.current, q.second = q.second, nil
			if s.cfg.OneOff && q.current == nil {
				return errors.Join(r.reason, r.err)
			}
			if err := s.follow(&q, r); err != nil {
				cancel()
				return errors.Join(err, q.wait(ctx))
			}
		case r := <-q.second.done():
			q.second = nil
			if err := s.follow(&q, r); err != nil {
				cancel()
				return errors.Join(err, q.wait(ctx))
			}
		}
	}
}

// wait waits for the end of the sessions. Ctx has ended.
func (q *queue) wait(ctx context.Context) error {
	return errors.Join(q.current.wait(ctx).err, q.second.wait(ctx).err)
}

// follow counts the end of a session. The error is one with which no more can be served.
func (s *Server) follow(q *queue, r sessionResult) error {
	if r.err != nil {
		return fmt.Errorf("cannot go on: %w", r.err)
	}
	if d := s.ended(r); d > 0 {
		q.pause = time.After(d)
	}
	return nil
}

// startNext serves the front end that waits, if it may begin: one that came while another one was there as well, unless that
// has hung up. One that has left meanwhile is forgotten.
func (s *Server) startNext(ctx context.Context, q *queue) {
	if q.next == nil || q.pause != nil || q.second != nil || q.current != nil && q.current.conn.PeerGone() {
		return
	}
	if s.pacer.Storm() && q.next.PeerGone() {
		q.next.Close()
		q.next = nil
		return
	}
	a := s.start(ctx, q.next)
	q.next = nil
	if q.current == nil {
		q.current = a
		return
	}
	q.second = a
	s.log.Info("a second front end has connected", "reason", "a guest can be migrated to it")
}

func (s *Server) tellNoFrontEnd() {
	where := s.cfg.SocketPath
	if where == "" {
		where = "inherited"
	}
	s.log.Info("no front end has connected yet", "socket", where,
		"hint", "is the guest started, and does its front end have this socket's path?")
}

// admit decides about a new front end. A third one is refused, unless one of those before has hung up and that was not
// noticed yet, as happens when QEMU is killed and started again.
func (s *Server) admit(ctx context.Context, q *queue, c *fdconn.Conn, place chan<- struct{}) {
	if q.next != nil && q.next.PeerGone() {
		q.next.Close()
		q.next = nil
	}
	present := 0
	for _, a := range []*active{q.current, q.second} {
		switch {
		case a == nil:
		case a.conn.PeerGone():
			a.conn.Close()
		default:
			present++
		}
	}
	if present > 1 || q.next != nil {
		s.door.turnAway(ctx, c, place)
		return
	}
	q.next = c
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
