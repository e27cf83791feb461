package vhostuser

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
	"time"

	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// session is the time that one front end is connected. Its goroutine owns everything in it but conn, which others may
// close.
type session struct {
	conn *fdconn.Conn
	dev  *tenant
	log  *limitedLog

	offered         uint64 // virtio features, FeatureProtocolFeatures among them
	offeredProtocol uint64

	features     uint64 // as the device knows them
	haveFeatures bool   // SET_FEATURES came
	waits        bool   // rings could run, and the device serves another front end
	toldWaits    bool   // and that was told
	driverGone   bool   // the device knows that the driver has reset it, and no ring has started since
	protocol     uint64

	rings     []ring
	mem       *guestmem.Table // nil until the front end passed memory
	budget    *guestmem.Budget
	hint      string         // see Config.QueuesHint
	slots     int            // regions that mem may be put together of
	repeats   map[slotID]int // how many times more than once a slot was added
	dirty     dirtyLog
	backendFD int // of SET_BACKEND_REQ_FD: kept open because User-mode Linux watches its end
	handled   int // messages that were understood
	story     story

	// What the device may or may not use still, after an error of a call that should have replaced it.
	limboFDs    []int
	limboTables []*guestmem.Table
}

// failure is an error by which the device ended the session, rather than the front end.
type failure struct{ err error }

func (f *failure) Error() string { return "device: " + f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// fail makes a failure of a device call that did not work.
func fail(err error, format string, args ...any) error {
	return &failure{fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)}
}

// sessionConfig is what sessions of a server have in common.
type sessionConfig struct {
	seat    *seat
	log     *limitedLog
	channel bool             // the back-end channel is offered
	budget  *guestmem.Budget // of the guest
	steps   *limitedLog      // for the story
	hint    string           // see Config.QueuesHint
	wait    patience
}

func newSession(conn *fdconn.Conn, c sessionConfig) *session {
	dev := c.seat.enter()
	pairs := dev.QueuePairs()
	s := &session{
		conn:            conn,
		dev:             dev,
		log:             c.log,
		budget:          c.budget,
		hint:            c.hint,
		slots:           slotsWithin(c.budget.Limits()),
		offered:         dev.Features() | neverOffered,
		offeredProtocol: protocolFeatures(pairs, c.channel),
		rings:           make([]ring, 2*pairs),
		repeats:         map[slotID]int{},
		backendFD:       noFD,
	}
	for i := range s.rings {
		s.rings[i] = newRing()
	}
	s.story = story{session: s, log: c.steps, wait: c.wait, peer: peerAttrs(conn.Peer()), began: time.Now(), stage: func(Stage) {}}
	return s
}

// run serves the front end until it hangs up, which gives nil, or until something ends the session.
func (s *session) run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		s.watch(ctx, cancel)
	}()
	err := s.serve()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	cancel(nil)
	<-watched
	return err
}

// watch ends the session when the device fails that it has, or when ctx ends.
func (s *session) watch(ctx context.Context, cancel context.CancelCauseFunc) {
	defer s.conn.Close()
	for {
		var failed <-chan error
		has, changes := s.dev.ownership()
		if has {
			failed = s.dev.Failed()
		}
		select {
		case err := <-failed:
			cancel(&failure{err})
			return
		case <-changes:
		case <-ctx.Done():
			return
		}
	}
}

func (s *session) serve() error {
	for {
		m, err := s.conn.Read(s.nextLook())
		if errors.Is(err, fdconn.ErrQuiet) {
			if err := s.look(); err != nil {
				return err
			}
			continue
		}
		if err == nil {
			err = s.handle(m)
		}
		switch {
		case err == nil:
		case hungUp(err):
			return nil
		default:
			return err
		}
	}
}

// waitInterval is how often a session whose rings wait looks whether they can run. The end of a migration does not depend on it.
const waitInterval = 50 * time.Millisecond

// nextLook returns when there is something to do though no message has come, zero for never.
func (s *session) nextLook() time.Time {
	next := s.story.next()
	if look := time.Now().Add(waitInterval); s.waits && (next.IsZero() || look.Before(next)) {
		return look
	}
	return next
}

// look does what there is to do though no message has come.
func (s *session) look() error {
	if next := s.story.next(); !next.IsZero() && !time.Now().Before(next) {
		s.story.quietUntilNow()
	}
	if !s.waits {
		return nil
	}
	err := s.startRings()
	s.story.after(wire.SetVringKick)
	return err
}

// hungUp tells whether err is the front end's ordinary end, which the server may have noticed first and closed the
// connection.
func hungUp(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, net.ErrClosed)
}

// finish takes everything away from the device and releases it. It does not return before the device has let go, unless
// ctx ends: what the device may still use is kept then, and the error tells so.
func (s *session) finish(ctx context.Context, cause error) error {
	s.conn.Close()
	var f *failure
	if errors.As(cause, &f) {
		for _, r := range s.rings {
			signal(r.fds.Err)
		}
	}
	if err := s.reset(ctx); err != nil {
		return fmt.Errorf("device still uses the memory of a front end that is gone: %w", err)
	}
	return s.dev.bequeath(s.release)
}

// reset asks the device to let go until it does.
func (s *session) reset(ctx context.Context) error {
	wait := backoff{}
	for {
		err := s.dev.Reset()
		if err == nil {
			return nil
		}
		if wait.first() {
			s.log.Warn("device does not let go of guest memory, no other front end is served until it does", "err", err)
		}
		s.unblockDevice()
		if !wait.sleep(ctx) {
			return err
		}
	}
}

// unblockDevice empties what a thread of the device may be waiting to write to.
func (s *session) unblockDevice() {
	for i := range s.rings {
		unblock(s.rings[i].fds.Call)
		unblock(s.rings[i].fds.Err)
	}
	for _, fd := range s.limboFDs {
		unblock(fd)
	}
}

// release closes and unmaps all that the front end passed. The device must have been reset.
func (s *session) release() error {
	for i := range s.rings {
		fds := &s.rings[i].fds
		closeFD(fds.Kick)
		closeFD(fds.Call)
		closeFD(fds.Err)
		s.rings[i] = newRing()
	}
	for _, fd := range append(s.limboFDs, s.backendFD) {
		closeFD(fd)
	}
	s.limboFDs, s.backendFD = nil, noFD
	var err error
	for _, t := range append(s.limboTables, s.mem) {
		if t != nil {
			err = errors.Join(err, t.Release())
		}
	}
	s.limboTables, s.mem = nil, nil
	return errors.Join(err, s.dirty.release())
}

// backoff is a pause that grows from 100 ms to a second. Its zero value is ready.
type backoff struct{ next time.Duration }

const (
	backoffMin = 100 * time.Millisecond
	backoffMax = time.Second
)

// first tells whether there was no pause yet.
func (b *backoff) first() bool { return b.next == 0 }

// reset makes the next pause the shortest again.
func (b *backoff) reset() { b.next = 0 }

// sleep pauses, and reports false if ctx ended.
func (b *backoff) sleep(ctx context.Context) bool {
	b.next = min(max(b.next*2, backoffMin), backoffMax)
	return pause(ctx, b.next)
}
