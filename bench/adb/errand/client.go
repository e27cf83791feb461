package errand

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"
	"time"
)

// Client is where the service is, as seen from here.
type Client struct {
	Address string        // of TCP
	Limit   time.Duration // for a whole errand
}

// dial connects and gives an order, with more bytes behind it.
func (c Client) dial(o Order, n int64, more ...byte) (*net.TCPConn, error) {
	conn, err := net.DialTimeout("tcp", c.Address, c.Limit)
	if err != nil {
		return nil, err
	}
	message := binary.BigEndian.AppendUint64([]byte{byte(o)}, uint64(n))
	_, err = conn.Write(append(message, more...))
	if err = errors.Join(err, conn.SetDeadline(time.Now().Add(c.Limit))); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn.(*net.TCPConn), nil
}

// Upload returns how long n bytes take to the service, until it has them all.
func (c Client) Upload(n int64) (time.Duration, error) {
	conn, err := c.dial(Take, n)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	start := time.Now()
	if err := send(conn, n); err != nil {
		return 0, err
	}
	err = receive(conn, 1)
	return time.Since(start), err
}

// Download returns how long n bytes take from the service.
func (c Client) Download(n int64) (time.Duration, error) {
	start := time.Now()
	conn, err := c.dial(Give, n)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	err = receive(conn, n)
	return time.Since(start), err
}

// Ask sends a byte and waits for it to come back, for the time given and at least once, on one connection. It returns the times,
// sorted.
func (c Client) Ask(length time.Duration) ([]time.Duration, error) {
	s, err := c.Stay()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	var times []time.Duration
	for end := time.Now().Add(length); len(times) == 0 || time.Now().Before(end); {
		start := time.Now()
		if err := s.Ask(); err != nil {
			return times, err
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	return times, nil
}

// Connects returns how many connections one after the other bring a byte back in the time given, per second. There is at least one.
func (c Client) Connects(length time.Duration) (float64, error) {
	start, n := time.Now(), 0
	for ; n == 0 || time.Since(start) < length; n++ {
		s, err := c.Stay()
		if err != nil {
			return 0, err
		}
		s.Close()
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// Session is a connection to Echo that is known to work.
type Session struct{ conn *net.TCPConn }

// Stay connects and asks once.
func (c Client) Stay() (*Session, error) {
	conn, err := c.dial(Echo, 0)
	if err != nil {
		return nil, err
	}
	s := &Session{conn}
	if err := s.Ask(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// Ask sends one byte and waits for it.
func (s *Session) Ask() error {
	if _, err := s.conn.Write([]byte{'?'}); err != nil {
		return err
	}
	return receive(s.conn, 1)
}

// Close ends the session.
func (s *Session) Close() { s.conn.Close() }

// Lesson is what a client has learned, and when.
type Lesson struct {
	What string        `json:"what"`
	Took time.Duration `json:"took_ns"`
}

// What a client has learned that waited for as long as it would: then Watch asks once more.
const (
	Nothing = "nothing"
	Lives   = "the connection lives"
)

// Watch waits for the end of the session. since is when the cause was, limit how long to wait from now on.
func (s *Session) Watch(since time.Time, limit time.Duration) Lesson {
	_ = s.conn.SetReadDeadline(time.Now().Add(limit))
	l := lesson(s.conn, since)
	if l.What != Nothing {
		return l
	}
	if s.conn.SetDeadline(time.Now().Add(limit)) == nil && s.Ask() == nil {
		l.What = Lives
	}
	return l
}

// Try connects to where no service may be, and waits for what comes.
func (c Client) Try() Lesson {
	start := time.Now()
	conn, err := c.dial(Echo, 0)
	if err != nil {
		return Lesson{name(err), time.Since(start)}
	}
	defer conn.Close()
	return lesson(conn, start)
}

// Provoke gives an order that is to end the connection and waits for that.
func (c Client) Provoke(o Order, more ...byte) (Lesson, error) {
	conn, err := c.dial(Echo, 0, '?') // the way is known to work
	if err != nil {
		return Lesson{}, err
	}
	err = receive(conn, 1)
	conn.Close()
	if err != nil {
		return Lesson{}, err
	}
	start := time.Now()
	if conn, err = c.dial(o, 0, more...); err != nil {
		return Lesson{}, err
	}
	defer conn.Close()
	if o == Last {
		if err := conn.CloseWrite(); err != nil {
			return Lesson{}, err
		}
	}
	return lesson(conn, start), nil
}

// lesson reads until the end of the connection and names what came.
func lesson(conn net.Conn, since time.Time) Lesson {
	data, err := io.ReadAll(conn)
	what := name(err)
	if len(data) > 0 {
		what = fmt.Sprintf("%q, %s", data, what)
	}
	return Lesson{what, time.Since(since)}
}

// name tells what kind of end an error is.
func name(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "end of stream"
	case errors.Is(err, syscall.ECONNRESET):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return Nothing
	default:
		return err.Error()
	}
}
