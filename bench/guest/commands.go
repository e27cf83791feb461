package main

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/bench/stream"
	"github.com/vringnet/vring/integration/guest/proto"
)

const (
	card        = "eth0"
	dialTimeout = 30 * time.Second
)

// execute does one request. It may report events before it returns its result.
func execute(r proto.Request, event func(any)) (result any, err error) {
	switch {
	case r.Command == "configure" && len(r.Args) == 3: // ADDRESS/LENGTH ROUTER MTU
		return nil, configure(r.Args[0], r.Args[1], r.Args[2])
	case r.Command == "send" && len(r.Args) == 2: // ADDRESS:PORT DURATION
		return send(r.Args[0], r.Args[1])
	case r.Command == "receive" && len(r.Args) == 1: // PORT
		return receive(r.Args[0], event)
	default:
		return nil, fmt.Errorf("unknown request %q", r)
	}
}

// configure sets the network card up.
func configure(address, router, mtu string) error {
	link, err := netlink.LinkByName(card)
	if err != nil {
		return err
	}
	size, err := strconv.Atoi(mtu)
	if err != nil {
		return err
	}
	if err := netlink.LinkSetMTU(link, size); err != nil {
		return fmt.Errorf("set MTU %d: %w", size, err)
	}
	prefix, err := netlink.ParseAddr(address)
	if err != nil {
		return err
	}
	if err := netlink.AddrReplace(link, prefix); err != nil {
		return fmt.Errorf("set address %s: %w", address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", card, err)
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(router)}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("set router %s: %w", router, err)
	}
	return nil
}

// send connects to a receiver and sends for a time.
func send(address, duration string) (proto.Transfer, error) {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return proto.Transfer{}, err
	}
	dialed, err := net.DialTimeout("tcp4", address, dialTimeout)
	if err != nil {
		return proto.Transfer{}, err
	}
	conn, err := block(dialed)
	if err != nil {
		return proto.Transfer{}, err
	}
	defer conn.Close()
	if err := stream.AwaitGo(conn); err != nil {
		return proto.Transfer{}, err
	}
	n, err := stream.Send(conn, d)
	return proto.Transfer{Bytes: n}, err
}

// receive waits for one sender, and reads what it sends.
func receive(port string, event func(any)) (proto.Transfer, error) {
	listener, err := net.Listen("tcp4", ":"+port)
	if err != nil {
		return proto.Transfer{}, err
	}
	defer listener.Close()
	event(proto.Listening{Address: listener.Addr().String()})
	accepted, err := listener.Accept()
	if err != nil {
		return proto.Transfer{}, err
	}
	conn, err := block(accepted)
	if err != nil {
		return proto.Transfer{}, err
	}
	defer conn.Close()
	if err := stream.SayGo(conn); err != nil {
		return proto.Transfer{}, err
	}
	n, err := stream.Receive(conn)
	return proto.Transfer{Bytes: n}, err
}

// blocking is a connection whose calls block in the kernel.
type blocking struct{ *os.File }

// block takes a connection over.
func block(conn net.Conn) (blocking, error) {
	defer conn.Close()
	f, err := conn.(*net.TCPConn).File() // a copy in blocking mode
	return blocking{f}, err
}

func (b blocking) CloseWrite() error { return unix.Shutdown(int(b.Fd()), unix.SHUT_WR) }
