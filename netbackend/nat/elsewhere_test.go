package nat_test

import (
	"net"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// elsewhere is another network namespace, in which services of the test run.
type elsewhere struct {
	t    *testing.T
	jobs chan func()
	tid  int
}

func newElsewhere(t *testing.T) *elsewhere {
	t.Helper()
	e := &elsewhere{t: t, jobs: make(chan func())}
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine, and the namespace with the thread
		require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
		thread <- unix.Gettid()
		for job := range e.jobs {
			job()
		}
	}()
	e.tid = <-thread
	t.Cleanup(func() { close(e.jobs) })
	e.do(func() { up(t, "lo") })
	return e
}

// do runs a job there.
func (e *elsewhere) do(job func()) {
	done := make(chan struct{})
	e.jobs <- func() { defer close(done); job() }
	<-done
}

// join moves link there, and gives it addresses.
func (e *elsewhere) join(link netlink.Link, addrs ...string) {
	e.t.Helper()
	require.NoError(e.t, netlink.LinkSetNsPid(link, e.tid))
	e.do(func() {
		there := up(e.t, link.Attrs().Name)
		for _, a := range addrs {
			address(e.t, there, a)
		}
	})
}

// echoService is a service that sends back what it gets, and remembers from whom.
type echoService struct {
	mu   sync.Mutex
	from []netip.AddrPort
}

// echo starts such a service there.
func (e *elsewhere) echo(addr string) *echoService {
	e.t.Helper()
	s := &echoService{}
	var conn *net.UDPConn
	e.do(func() {
		var err error
		conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at(addr)))
		require.NoError(e.t, err)
		awaitRoute(e.t, addr)
	})
	e.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.from = append(s.from, netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
			s.mu.Unlock()
			_, _ = conn.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	return s
}

// last is who sent last, the zero AddrPort if nobody has.
func (s *echoService) last() netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.from) == 0 {
		return netip.AddrPort{}
	}
	return s.from[len(s.from)-1]
}

// link makes a veth pair and sets both ends up, the far one in another namespace. Both get addresses.
func (e *elsewhere) link(name string, near, far []string) netlink.Link {
	e.t.Helper()
	pair := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: name + "-far"}
	require.NoError(e.t, netlink.LinkAdd(pair))
	other, err := netlink.LinkByName(name + "-far")
	require.NoError(e.t, err)
	e.join(other, far...)
	link := up(e.t, name)
	for _, a := range near {
		address(e.t, link, a)
	}
	require.Eventually(e.t, func() bool { // until then there are no routes of IPv6
		now, err := netlink.LinkByName(name)
		return err == nil && now.Attrs().OperState == netlink.OperUp
	}, 2*time.Minute, time.Millisecond)
	return link
}

// removeAddress takes an address, such as 192.0.2.1/24, from an interface.
func removeAddress(t *testing.T, link netlink.Link, text string) {
	t.Helper()
	addr, err := netlink.ParseAddr(text)
	require.NoError(t, err)
	require.NoError(t, netlink.AddrDel(link, addr))
}

// routeBy makes a route by a gateway, which wins over others of a larger metric.
func routeBy(t *testing.T, link netlink.Link, to, gateway string, metric int) {
	t.Helper()
	dst, err := netlink.ParseIPNet(to)
	require.NoError(t, err)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{
		LinkIndex: link.Attrs().Index, Dst: dst, Gw: net.ParseIP(gateway), Priority: metric,
	}))
}

// awaitRoute waits until datagrams can be sent to an address, from the namespace of this thread: an address of IPv6 that has just
// been given to an interface has its route a moment later.
func awaitRoute(t *testing.T, addr string) {
	t.Helper()
	for start := time.Now(); ; time.Sleep(time.Millisecond) {
		conn, err := net.Dial("udp", addr)
		if err == nil {
			require.NoError(t, conn.Close())
			return
		}
		require.Less(t, time.Since(start), 2*time.Minute, "no route: %v", err)
	}
}
