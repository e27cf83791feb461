package traffic

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// answerWait is how long a UDP answer may take before it counts as lost.
	answerWait = 200 * time.Millisecond
	// silence is how long no datagram comes before a server looks whether the client is done.
	silence = 50 * time.Millisecond
)

// sendDatagrams sends as many datagrams as it can for a time.
func sendDatagrams(ctx context.Context, server *peer, p Plan) (c Counts, end time.Time, err error) {
	conn, err := dial(unix.SOCK_DGRAM, server.address)
	if err != nil {
		return c, end, err
	}
	defer conn.Close()
	buf := make([]byte, p.Test.Size)
	start := time.Now()
	for end = start; end.Sub(start) < p.Length && ctx.Err() == nil; {
		sent, err := sendBurst(conn, buf)
		c.Sent += sent
		if err != nil {
			return c, end, err
		}
		end = time.Now()
	}
	return c, end, server.finish()
}

// burst is how many datagrams are sent between two looks at the clock.
const burst = 16

// sendBurst sends datagrams. One that the kernel has no room for is not sent, which is no error.
func sendBurst(conn *socket, buf []byte) (sent int64, err error) {
	for range burst {
		_, err := conn.Write(buf)
		switch {
		case err == nil:
			sent++
		case !errors.Is(err, unix.ENOBUFS):
			return sent, err
		}
	}
	return sent, nil
}

// countDatagrams counts what comes until the client is done and nothing comes any more.
func countDatagrams(s *Server, control *socket, p Plan) (Counts, time.Time, error) {
	buf := make([]byte, p.Test.Size+1)
	start := time.Now()
	c, end, err := s.datagrams(control, func(c *Counts) error {
		if _, err := s.udp.Read(buf); err != nil {
			return err
		}
		c.Received++
		return nil
	})
	c.Took = end.Sub(start)
	return c, end, err
}

// answerUDP sends every datagram back.
func answerUDP(s *Server, control *socket, p Plan) (Counts, time.Time, error) {
	buf := make([]byte, p.Test.Size+1)
	return s.datagrams(control, func(c *Counts) error {
		n, from, err := unix.Recvfrom(s.udp.fd, buf, 0)
		if err != nil {
			return os.NewSyscallError("recvfrom", err)
		}
		c.Received++
		if err := unix.Sendto(s.udp.fd, buf[:n], 0, from); err != nil {
			return os.NewSyscallError("sendto", err)
		}
		c.Sent++
		return nil
	})
}

// datagrams calls one for each datagram, until the client is done and nothing comes any more.
func (s *Server) datagrams(control *socket, one func(*Counts) error) (c Counts, end time.Time, err error) {
	if err := s.udp.setPatience(silence); err != nil {
		return c, end, err
	}
	for {
		switch err := one(&c); {
		case err == nil, errors.Is(err, unix.EINTR):
		case !timedOut(err):
			return c, end, err
		default:
			end := time.Now().Add(-silence)
			if done, err := control.readable(); done || err != nil {
				return c, end, errors.Join(err)
			}
		}
	}
}

// readable tells, without waiting, whether something has come, which may be the end of the stream.
func (s *socket) readable() (bool, error) {
	fds := []unix.PollFd{{Fd: int32(s.fd), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	if errors.Is(err, unix.EINTR) {
		return false, nil
	}
	return n > 0, os.NewSyscallError("poll", err)
}

// askUDP sends a datagram and waits for its answer, again and again. What is not answered in time is lost.
func askUDP(ctx context.Context, server *peer, p Plan) (Counts, time.Time, error) {
	conn, err := dial(unix.SOCK_DGRAM, server.address)
	if err != nil {
		return Counts{}, time.Time{}, err
	}
	defer conn.Close()
	if err := conn.setPatience(answerWait); err != nil {
		return Counts{}, time.Time{}, err
	}
	questions := &questions{conn: conn, out: make([]byte, p.Test.Size), in: make([]byte, p.Test.Size+1)}
	var took latencies
	start := time.Now()
	last := start
	for last.Sub(start) < p.Length && ctx.Err() == nil {
		answered, err := questions.ask()
		if err != nil {
			return Counts{}, last, err
		}
		now := time.Now()
		if answered {
			took.add(now.Sub(last))
		}
		last = now
	}
	counts := took.counts()
	counts.Sent = int64(questions.number)
	return counts, last, server.finish()
}

// questions are numbered, so that a late answer is not taken for another.
type questions struct {
	conn    *socket
	number  uint64
	out, in []byte
}

// ask sends the next question and waits for its answer.
func (q *questions) ask() (answered bool, err error) {
	q.number++
	binary.LittleEndian.PutUint64(q.out, q.number)
	if _, err := q.conn.Write(q.out); err != nil {
		return false, err
	}
	for {
		n, err := q.conn.Read(q.in)
		if timedOut(err) {
			return false, nil
		}
		if err != nil {
			return false, err
		}
		if n == len(q.out) && binary.LittleEndian.Uint64(q.in) == q.number {
			return true, nil
		}
	}
}
