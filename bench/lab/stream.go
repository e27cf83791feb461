package lab

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"time"

	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/stream"
)

// patience is how much longer than planned a stream may take before it counts as broken.
const patience = 30 * time.Second

// meter reads how much processor time was used so far.
type meter func() (measure.Usage, error)

// timed measures transfer, which returns how many bytes have arrived.
func timed(read meter, transfer func() (int64, error)) (measure.Sample, error) {
	before, err := read()
	if err != nil {
		return measure.Sample{}, err
	}
	start := time.Now()
	n, err := transfer()
	elapsed := time.Since(start)
	if err != nil {
		return measure.Sample{}, fmt.Errorf("after %d bytes: %w", n, err)
	}
	after, err := read()
	return measure.Sample{Bytes: n, Elapsed: elapsed, CPU: after.Sub(before)}, err
}

// receiveOn measures, as the receiver.
func receiveOn(conn *net.TCPConn, read meter) (measure.Sample, error) {
	return timed(read, func() (int64, error) {
		if err := stream.SayGo(conn); err != nil {
			return 0, err
		}
		return stream.Receive(conn)
	})
}

// sendOn measures, as the sender.
func sendOn(conn *net.TCPConn, read meter, d time.Duration) (measure.Sample, error) {
	if err := stream.AwaitGo(conn); err != nil {
		return measure.Sample{}, err
	}
	return timed(read, func() (int64, error) { return stream.Send(conn, d) })
}

// guard makes calls on conn fail when ctx ends, which is that of one transfer, or a while after the stream should have
// been over.
func guard(ctx context.Context, conn net.Conn, d time.Duration) error {
	context.AfterFunc(ctx, func() { conn.Close() })
	return conn.SetDeadline(time.Now().Add(d + patience))
}

// listen opens a port of the loopback.
func listen() (*net.TCPListener, error) {
	return net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
}

// accept waits for one connection.
func accept(ctx context.Context, l *net.TCPListener, d time.Duration) (*net.TCPConn, error) {
	stop := context.AfterFunc(ctx, func() { _ = l.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := l.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	conn, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return conn, guard(ctx, conn, d)
}

// dial connects to a port of the loopback.
func dial(ctx context.Context, port int, d time.Duration) (*net.TCPConn, error) {
	conn, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp4", local(port))
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), guard(ctx, conn, d)
}

func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func portOf(l *net.TCPListener) int { return l.Addr().(*net.TCPAddr).Port }

// freePort returns a port of the loopback for a back end to open.
func freePort() (int, error) {
	l, err := listen()
	if err != nil {
		return 0, err
	}
	return portOf(l), l.Close()
}
