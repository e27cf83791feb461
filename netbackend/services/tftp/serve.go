package tftp

import (
	"errors"
	"os"
	"time"
)

// Conn is a socket that is connected to one client, by datagrams.
type Conn interface {
	Read(p []byte) (int, error)
	Write(p []byte) (int, error)
	SetReadDeadline(t time.Time) error
}

const (
	// maxDatagram is how many bytes of a client's datagram are read: a request has 512 at most (RFC 2347 section 2).
	maxDatagram = 1024
	// maxErrors is how many errors in a row a client's socket may have: each datagram that it does not take is told as one.
	maxErrors = 8
)

// Serve runs a session on a socket, until the client has sent nothing for idle, or the socket has failed. It ends the session, and does not close the socket.
func Serve(c Conn, open Opener, maxBlock int, idle time.Duration, busy func(bool)) {
	s := NewSession(open, maxBlock, func(packet []byte) { _, _ = c.Write(packet) })
	defer s.Close()
	var datagram [maxDatagram]byte
	heard, failed := time.Now(), 0
	for {
		busy(s.Busy())
		if c.SetReadDeadline(earlier(s.Deadline(), heard.Add(idle))) != nil {
			return
		}
		n, err := c.Read(datagram[:])
		now := time.Now()
		switch {
		case err == nil:
			heard, failed = now, 0
			busy(true) // before the client has an answer, by which it knows
			s.Datagram(datagram[:n], now)
		case !errors.Is(err, os.ErrDeadlineExceeded):
			if failed++; failed == maxErrors {
				return
			}
		case now.Sub(heard) >= idle:
			return
		default:
			s.Timeout(now)
		}
	}
}

// earlier returns the earlier of a time, if it is one, and another one.
func earlier(a, b time.Time) time.Time {
	if !a.IsZero() && a.Before(b) {
		return a
	}
	return b
}
