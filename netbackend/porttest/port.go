package porttest

import (
	"context"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Ports that FreePort chooses from. They are below the range that the kernel takes ports of outgoing connections from
// (net.ipv4.ip_local_port_range), so none of the connections that tests make gets one of them in the meantime. Each process has a
// share of them: the tests of several packages run at once, and seldom with the same share.
const firstPort, lastPort, shares = 16384, 32767, 4

// recent are the ports that FreePort returned last, for all tests of the process.
var recent struct {
	sync.Mutex
	ports []uint16
}

// FreePort returns a port of the host's loopback that is free for TCP and UDP, for somebody to open later, or for nobody.
// A test may ask for several ports before it opens the first: the same port does not come again among the next 2048.
func FreePort(t testing.TB) netip.AddrPort {
	t.Helper()
	recent.Lock()
	defer recent.Unlock()
	const share = (lastPort - firstPort + 1) / shares
	first := firstPort + os.Getpid()%shares*share
	for range 1000 {
		p := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(first+rand.IntN(share)))
		if slices.Contains(recent.ports, p.Port()) || !isFree(p) {
			continue
		}
		const remembered = 2048
		recent.ports = append(recent.ports[max(0, len(recent.ports)-remembered+1):], p.Port())
		return p
	}
	t.Fatalf("porttest: no port between %d and %d is free", first, first+share-1)
	return netip.AddrPort{}
}

// isFree reports whether p can be bound by anybody: also by who does not set SO_REUSEADDR, which a connection in TIME_WAIT
// of an earlier test refuses.
func isFree(p netip.AddrPort) bool {
	strict := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) (err error) {
		if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 0) }); e != nil {
			return e
		}
		return err
	}}
	stream, err := strict.Listen(context.Background(), "tcp4", p.String())
	if err != nil {
		return false
	}
	defer stream.Close()
	datagrams, err := net.ListenPacket("udp4", p.String())
	if err != nil {
		return false
	}
	return datagrams.Close() == nil
}
