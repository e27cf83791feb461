package bootcheck

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// Amounts of data, in bytes: a first one that tells how fast it goes, and a second that takes as long as is wanted.
const (
	firstAmount = 4 << 20
	mostAmount  = 16 << 30
)

// DefaultTime is how long each figure is measured, or so.
const DefaultTime = 2 * time.Second

// speed is how long so much data took.
type speed struct {
	bytes int64
	took  time.Duration
}

func (s speed) gigabits() float64 { return float64(s.bytes) * 8 / s.took.Seconds() / 1e9 }

// measure streams a little, then for as long as is wanted, and tells how fast that was.
func measure(wanted time.Duration, stream func(n int64) (Received, error)) (speed, error) {
	s := speed{bytes: firstAmount}
	for round := range 2 {
		if round == 1 {
			s.bytes = min(mostAmount, max(firstAmount, int64(float64(s.bytes)*float64(wanted)/float64(s.took))))
		}
		start := time.Now()
		got, err := stream(s.bytes)
		if err == nil {
			err = whole(got, s.bytes)
		}
		if err != nil {
			return s, err
		}
		s.took = max(time.Since(start), time.Millisecond)
	}
	return s, nil
}

// whole says what is wrong with data that arrived.
func whole(got Received, sent int64) error {
	if got.Error != "" {
		return errors.New(got.Error)
	}
	if got.Wrong >= 0 {
		return fmt.Errorf("byte %d is not the one that was sent", got.Wrong)
	}
	if got.Bytes != sent {
		return fmt.Errorf("%d of %d bytes have arrived", got.Bytes, sent)
	}
	return nil
}

// describe asks the guest what it sees.
func describe(guest endpoint) (Guest, error) {
	var g Guest
	conn, err := ask(guest, requestDescribe)
	if err != nil {
		return g, err
	}
	defer func() { _ = conn.Close() }()
	return g, receiveValue(conn, &g)
}

// sendOut has the guest send to a server of the host, which it reaches by an address.
func sendOut(guest endpoint, host *sink, address string, n int64) (Received, error) {
	done := make(chan error, 1)
	go func() { done <- host.take() }()
	conn, err := ask(guest, requestDial, net.JoinHostPort(address, fmt.Sprint(host.port())), n)
	if err != nil {
		return Received{}, err
	}
	defer func() { _ = conn.Close() }()
	var got Received
	if err := receiveValue(conn, &got); err != nil {
		return got, err
	}
	return got, <-done
}

// sendIn sends to the guest.
func sendIn(guest endpoint, n int64) (Received, error) {
	return deliver(guest, n)
}

// count returns how often something is done in a second, one after the other, measured for as long as is wanted.
func count(wanted time.Duration, do func() error) (float64, error) {
	start, n := time.Now(), 0
	for n == 0 || time.Since(start) < wanted {
		if err := do(); err != nil {
			return 0, err
		}
		n++
	}
	return float64(n) / time.Since(start).Seconds(), nil
}

// countRequests counts requests of a byte, and answers of one, on one connection.
func countRequests(wanted time.Duration, guest endpoint) (float64, error) {
	conn, err := ask(guest, requestEcho)
	if err != nil {
		return 0, err
	}
	defer func() { _ = conn.Close() }()
	buf := make([]byte, 1)
	return count(wanted, func() error {
		if _, err := conn.Write(buf); err != nil {
			return err
		}
		_, err := conn.Read(buf)
		return err
	})
}

// countConnections counts connections, each with one request and one answer.
func countConnections(wanted time.Duration, guest endpoint) (float64, error) {
	return count(wanted, func() error {
		conn, err := ask(guest, requestSend, 1)
		if err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		_ = conn.Close()
		return err
	})
}
