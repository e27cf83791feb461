package traffic

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// exchanges repeats an exchange for a time and records how long each took: the time from the end of the one before, so
// that the clock is read once for each. It ends early with ctx.
func exchanges(ctx context.Context, d time.Duration, exchange func() error) (took latencies, end time.Time, err error) {
	last := time.Now()
	for start := last; last.Sub(start) < d && ctx.Err() == nil; {
		if err := exchange(); err != nil {
			return took, last, err
		}
		now := time.Now()
		took.add(now.Sub(last))
		last = now
	}
	return took, last, ctx.Err()
}

// counts returns the result of a client whose exchanges have all been answered.
func (l *latencies) counts() Counts {
	return Counts{Sent: l.count, Received: l.count, P50: l.percentile(50), P99: l.percentile(99)}
}

// askTCP sends a byte on the control connection and waits for one, again and again.
func askTCP(ctx context.Context, server *peer, p Plan) (Counts, time.Time, error) {
	b := make([]byte, 1)
	took, end, err := exchanges(ctx, p.Length, func() error { return exchangeByte(server.control, b) })
	if err == nil {
		err = server.finish()
	}
	return took.counts(), end, err
}

// exchangeByte sends b and waits for another.
func exchangeByte(conn *socket, b []byte) error {
	if _, err := conn.Write(b); err != nil {
		return err
	}
	_, err := conn.Read(b)
	return err
}

// answerTCP answers each byte with one.
func answerTCP(_ *Server, control *socket, _ Plan) (c Counts, end time.Time, err error) {
	b := make([]byte, 1)
	for {
		_, err := control.Read(b)
		if err == io.EOF {
			return c, time.Now(), nil
		}
		if err != nil {
			return c, end, err
		}
		c.Received++
		if _, err := control.Write(b); err != nil {
			return c, end, err
		}
		c.Sent++
	}
}

// What the request of a connection says.
const (
	moreToCome byte = iota
	lastOne
)

// connectAgain makes connections, one after the other, with one exchange each. It closes first.
func connectAgain(ctx context.Context, server *peer, p Plan) (Counts, time.Time, error) {
	took, end, err := exchanges(ctx, p.Length, func() error { return connectOnce(server, moreToCome) })
	if err != nil {
		return took.counts(), end, fmt.Errorf("connection %d: %w", took.count+1, err)
	}
	return took.counts(), end, errors.Join(connectOnce(server, lastOne), server.finish())
}

func connectOnce(server *peer, request byte) error {
	conn, err := dial(unix.SOCK_STREAM, server.address)
	if err != nil {
		return err
	}
	return errors.Join(exchangeByte(conn, []byte{request}), conn.Close())
}

// acceptAgain serves the connections of connectAgain, but for the last one without counting it.
func acceptAgain(s *Server, _ *socket, _ Plan) (c Counts, end time.Time, err error) {
	for {
		request, err := s.acceptOnce()
		if err != nil {
			return c, end, fmt.Errorf("connection %d: %w", c.Received+1, err)
		}
		if request == lastOne {
			return c, time.Now(), nil
		}
		c.Received++
		c.Sent++
	}
}

// acceptOnce serves one connection up to its end and returns its request.
func (s *Server) acceptOnce() (request byte, err error) {
	conn, err := s.accept()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	var b [1]byte
	if _, err := io.ReadFull(conn, b[:]); err != nil {
		return 0, err
	}
	if _, err := conn.Write(b[:]); err != nil {
		return 0, err
	}
	return b[0], awaitEnd(conn)
}
