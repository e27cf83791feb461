package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/agent"
	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// dialTimeout is generous: a guest under a processor emulator is slow.
const dialTimeout = 30 * time.Second

// exchange sends test data and at the same time reads what the peer sends, each to its end. It closes conn.
func exchange(conn net.Conn, seed uint64, n int64) (proto.Transfer, error) {
	defer conn.Close()
	options, err := optionsOf(conn)
	if err != nil {
		return proto.Transfer{}, err
	}
	sent := make(chan error, 1)
	go func() { sent <- sendPattern(conn, seed, n) }()
	got := proto.Sum(conn)
	got.Peer, got.Local, got.Options = conn.RemoteAddr().String(), conn.LocalAddr().String(), options
	return got, <-sent
}

// optionsOf asks the kernel which TCP options a connection has.
func optionsOf(conn net.Conn) (proto.Options, error) {
	raw, err := conn.(*net.TCPConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var failed error
	if err := raw.Control(func(fd uintptr) {
		info, failed = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	}); err != nil {
		return 0, err
	}
	if failed != nil {
		return 0, failed
	}
	return proto.Options(info.Options), nil
}

func sendPattern(conn net.Conn, seed uint64, n int64) error {
	// Large writes: a system call is dear in User-mode Linux.
	if _, err := io.CopyBuffer(struct{ io.Writer }{conn}, proto.Pattern(seed, n), make([]byte, 256<<10)); err != nil {
		return err
	}
	return conn.(*net.TCPConn).CloseWrite()
}

// patternArguments reads BYTES and SEED from argument i on.
func patternArguments(args agent.Arguments, i int) (seed uint64, n int64, err error) {
	length, err := args.Number(i)
	if err != nil {
		return 0, 0, err
	}
	number, err := args.Number(i + 1)
	return uint64(number), int64(length), err
}

// tcpDial connects and exchanges test data with the peer.
func tcpDial(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	seed, n, err := patternArguments(args, 1)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	return exchange(conn, seed, n)
}

// tcpRead connects, and reads so many bytes of what the peer sends. Then it closes the connection.
func tcpRead(args agent.Arguments, _ func(any)) (any, error) {
	address, err := args.Text(0)
	if err != nil {
		return nil, err
	}
	n, err := args.Number(1)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialTimeout("tcp", address, dialTimeout)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	got := proto.Sum(io.LimitReader(conn, int64(n)))
	got.Peer, got.Local = conn.RemoteAddr().String(), conn.LocalAddr().String()
	return got, nil
}

// tcpListen exchanges test data with everyone who connects. It reports each transfer as an event, and ends after the
// given number of connections, which are served at the same time.
func tcpListen(args agent.Arguments, event func(any)) (any, error) {
	seed, n, err := patternArguments(args, 1)
	if err != nil {
		return nil, err
	}
	count, err := args.Optional(3, 1)
	if err != nil {
		return nil, err
	}
	listener, err := listen(args, event)
	if err != nil {
		return nil, err
	}
	defer listener.Close()

	failed := make(chan error, count)
	for range count {
		conn, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			transfer, err := exchange(conn, seed, n)
			event(transfer)
			failed <- err
		}()
	}
	for range count {
		if err := <-failed; err != nil {
			return nil, err
		}
	}
	return proto.Text{}, nil
}

// tcpEcho sends back what comes, until the guest ends.
func tcpEcho(args agent.Arguments, event func(any)) (any, error) {
	listener, err := listen(args, event)
	if err != nil {
		return nil, err
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return nil, err
		}
		go func() {
			defer conn.Close()
			_, _ = io.Copy(conn, conn)
		}()
	}
}

// listen opens the port of the first argument and says so.
func listen(args agent.Arguments, event func(any)) (net.Listener, error) {
	port, err := args.Number(0)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return nil, err
	}
	event(proto.Listening{Address: listener.Addr().String()})
	return listener, nil
}
