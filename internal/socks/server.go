package socks

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	// maxWaiting is how many clients may be in a handshake, or wait for a guest, at once.
	maxWaiting = 128
	// patience is how long a handshake may take, and farewellPatience how long it is waited for that a client has read why it is refused.
	patience, farewellPatience = 30 * time.Second, 2 * time.Second
	// maxFarewell is how many bytes are read of a client that is refused, so that it can read why.
	maxFarewell = 256 << 10
	// acceptRate is how many connections are accepted in a second, after acceptBurst at once. Others wait in the kernel.
	acceptRate, acceptBurst = 500, 500
)

// Connector connects a client to where it wants to be. The client is sent greeting when it is, and is the guest's then; c stays the caller's to
// close. The reply is Succeeded then, and else why not, with err for the log; the client was sent nothing.
type Connector func(ctx context.Context, to Target, c *net.TCPConn, greeting []byte) (Reply, error)

// Server answers the clients of a listener.
type Server struct {
	listener net.Listener
	connect  Connector
	log      *slog.Logger
	pace     *rate.Limiter
	patience time.Duration
	farewell time.Duration
	ctx      context.Context // ends with the server
	cancel   context.CancelFunc
	running  sync.WaitGroup

	mu      sync.Mutex
	clients map[*net.TCPConn]*client // that are in a handshake, or wait for a guest
	clock   uint64                   // counts clients
}

// client is what is known of one.
type client struct {
	number  uint64
	calling bool            // its handshake is over
	ctx     context.Context // ends when it is closed
	cancel  context.CancelFunc
}

// NewServer returns a server. The listener is the caller's to close. Refusals are logged at the level debug.
func NewServer(l net.Listener, connect Connector, log *slog.Logger) *Server {
	s := &Server{
		listener: l, connect: connect, log: log, pace: rate.NewLimiter(acceptRate, acceptBurst), patience: patience, farewell: farewellPatience,
		clients: map[*net.TCPConn]*client{},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s
}

// Serve answers until the listener or the server is closed.
func (s *Server) Serve() {
	const pause = 100 * time.Millisecond
	for {
		if s.pace.Wait(s.ctx) != nil {
			return
		}
		c, err := s.listener.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // such as too many open files, which passes
			time.Sleep(pause)
			continue
		}
		conn, ok := c.(*net.TCPConn)
		if !ok || !s.add(conn) {
			_ = c.Close()
			continue
		}
		go func() {
			defer s.running.Done()
			s.serve(conn)
		}()
	}
}

// Close closes all connections that are not a guest's, and waits until nobody uses them. It does not close the listener, of which Serve accepts one more at most.
func (s *Server) Close() {
	s.mu.Lock()
	s.cancel()
	for c := range s.clients {
		_ = c.Close()
	}
	s.mu.Unlock()
	s.running.Wait()
}

// add adds a client, and closes another one if there are too many. It reports false if the server is closed.
func (s *Server) add(c *net.TCPConn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return false
	}
	if len(s.clients) >= maxWaiting {
		s.closeOldest()
	}
	s.clock++
	is := &client{number: s.clock}
	is.ctx, is.cancel = context.WithCancel(s.ctx)
	s.clients[c] = is
	s.running.Add(1)
	return true
}

// closeOldest closes the client whose handshake has lasted longest. If all handshakes are over, it is the one that has waited longest for a
// guest; whoever connects to guests may still have it.
func (s *Server) closeOldest() {
	var last *net.TCPConn
	for c, is := range s.clients {
		if last == nil || is.before(s.clients[last]) {
			last = c
		}
	}
	s.clients[last].cancel()
	_ = last.Close()
	delete(s.clients, last)
}

// before reports whether c is closed before other.
func (c *client) before(other *client) bool {
	if c.calling != other.calling {
		return other.calling
	}
	return c.number < other.number
}

// remove forgets a client.
func (s *Server) remove(c *net.TCPConn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if is, there := s.clients[c]; there {
		is.cancel()
		delete(s.clients, c)
	}
}

// setCalling notes that a client's handshake is over, and returns its context. It reports whether the client was not closed meanwhile.
func (s *Server) setCalling(c *net.TCPConn) (context.Context, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	is, there := s.clients[c]
	if !there {
		return nil, false
	}
	is.calling = true
	return is.ctx, true
}

// serve answers a client.
func (s *Server) serve(c *net.TCPConn) {
	defer c.Close()
	defer s.remove(c)
	_ = c.SetDeadline(time.Now().Add(s.patience))
	to, err := handshake(c)
	if refused := new(refusal); errors.As(err, &refused) {
		s.refuse(c, refused.reply, err)
		return
	}
	if err != nil {
		s.tell(c, err)
		return
	}
	ctx, there := s.setCalling(c)
	if !there {
		return
	}
	_ = c.SetDeadline(time.Time{})
	if reply, err := s.connect(ctx, to, c, message(Succeeded)); reply != Succeeded {
		s.refuse(c, reply, err)
	}
}

// refuse tells a client that it is not connected.
func (s *Server) refuse(c *net.TCPConn, reply Reply, why error) {
	s.tell(c, why)
	_ = c.SetDeadline(time.Now().Add(s.farewell))
	if _, err := c.Write(message(reply)); err != nil {
		return
	}
	_ = c.CloseWrite()
	_, _ = io.CopyN(io.Discard, c, maxFarewell) // a client whose bytes meet a closed socket may not read the reply
}

func (s *Server) tell(c *net.TCPConn, why error) {
	s.log.Debug("client of the SOCKS port refused", "client", c.RemoteAddr(), "reason", why)
}
