package nat_test

import (
	"net"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The host of these tests, which is the namespace of the test itself, is 192.0.2.1 and 2001:db8:1::1. Behind it stand two
// routers and a host in a row, each in a namespace of its own:
//
//	host ── 192.0.2.9 first 198.51.100.1 ── 198.51.100.9 second 203.0.113.1 ── 203.0.113.9 world
//	     2001:db8:1::9      2001:db8:2::1   2001:db8:2::9       2001:db8:3::1  2001:db8:3::9

// routers is the row. Who answers a packet whose time to live runs out is the next one's nearer address.
type routers struct{ first, second, world *room }

const (
	firstRouter, secondRouter, theWorld    = "192.0.2.9", "198.51.100.9", "203.0.113.9"
	firstRouter6, secondRouter6, theWorld6 = "2001:db8:1::9", "2001:db8:2::9", "2001:db8:3::9"
)

func newRouters(t testing.TB) *routers {
	t.Helper()
	permitPings(t)
	r := &routers{newRoom(t), newRoom(t), newRoom(t)}
	here := &room{t: t}
	for _, r := range []*room{here, r.first, r.second, r.world} {
		r.sysctl("net.ipv6.conf.default.accept_dad", "0") // nobody else has the addresses, and they are needed at once
	}
	here.join(r.first, "to-first", []string{"192.0.2.1/24", "2001:db8:1::1/64"}, []string{firstRouter + "/24", firstRouter6 + "/64"})
	r.first.join(r.second, "to-second",
		[]string{"198.51.100.1/24", "2001:db8:2::1/64"}, []string{secondRouter + "/24", secondRouter6 + "/64"})
	r.second.join(r.world, "to-world", []string{"203.0.113.1/24", "2001:db8:3::1/64"}, []string{theWorld + "/24", theWorld6 + "/64"})
	for _, router := range []*room{r.first, r.second} {
		for name, value := range map[string]string{
			"net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1",
			"net.ipv4.icmp_ratelimit": "0", "net.ipv6.icmp.ratelimit": "0",
		} {
			router.sysctl(name, value)
		}
	}
	r.world.sysctl("net.ipv4.icmp_ratelimit", "0")
	r.world.sysctl("net.ipv6.icmp.ratelimit", "0")
	here.via(firstRouter, firstRouter6)
	r.first.via(secondRouter, secondRouter6)
	r.second.via("198.51.100.1", "2001:db8:2::1")
	r.world.via("203.0.113.1", "2001:db8:3::1")
	return r
}

// room is a network namespace, and a thread in it; without a thread, it is the test's own.
type room struct {
	t     testing.TB
	tid   int
	tasks chan func() error
	done  chan error
}

func newRoom(t testing.TB) *room {
	t.Helper()
	r := &room{t: t, tasks: make(chan func() error), done: make(chan error)}
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine, and the namespace with the thread
		r.tid = unix.Gettid()
		r.done <- unix.Unshare(unix.CLONE_NEWNET)
		for task := range r.tasks {
			r.done <- task()
		}
	}()
	require.NoError(t, <-r.done)
	t.Cleanup(func() { close(r.tasks) })
	r.do(func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(lo)
	})
	return r
}

// do runs task in the namespace. Sockets that it makes stay there.
func (r *room) do(task func() error) {
	r.t.Helper()
	if r.tasks == nil {
		require.NoError(r.t, task())
		return
	}
	r.tasks <- task
	require.NoError(r.t, <-r.done)
}

func (r *room) sysctl(name, value string) {
	r.t.Helper()
	r.do(func() error { return os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0) })
}

// join makes a cable from r to another room. Both ends have the same name.
func (r *room) join(to *room, name string, near, far []string) {
	r.t.Helper()
	r.do(func() error {
		if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "far"}); err != nil {
			return err
		}
		end, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		return netlink.LinkSetNsPid(end, to.tid)
	})
	to.do(func() error {
		end, err := netlink.LinkByName("far")
		if err != nil {
			return err
		}
		return netlink.LinkSetName(end, "uplink")
	})
	r.number(name, near)
	to.number("uplink", far)
}

// number gives an interface its addresses, and sets it up.
func (r *room) number(name string, addresses []string) {
	r.t.Helper()
	r.do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		for _, text := range addresses {
			addr, err := netlink.ParseAddr(text)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := netlink.AddrAdd(link, addr); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(link)
	})
}

// via makes routers the default routes.
func (r *room) via(gateways ...string) {
	r.t.Helper()
	r.do(func() error {
		for _, gateway := range gateways {
			dst := "0.0.0.0/0"
			if strings.Contains(gateway, ":") {
				dst = "::/0"
			}
			_, all, _ := net.ParseCIDR(dst)
			if err := netlink.RouteAdd(&netlink.Route{Dst: all, Gw: net.ParseIP(gateway)}); err != nil {
				return err
			}
		}
		return nil
	})
}

// block makes a router answer that a network cannot be reached, by a route of the kind given; the function that it returns
// undoes that.
func (r *room) block(kind int, network string) (undo func()) {
	r.t.Helper()
	dst, err := netlink.ParseIPNet(network)
	require.NoError(r.t, err)
	blocked := &netlink.Route{Type: kind, Dst: dst}
	r.do(func() error { return netlink.RouteAdd(blocked) })
	return func() { r.do(func() error { return netlink.RouteDel(blocked) }) }
}

// sniff returns what reads the IP packets that come in by the room's uplink from now on, without waiting.
func (r *room) sniff() (packets func() [][]byte) {
	r.t.Helper()
	fd := -1
	r.do(func() (err error) {
		const all = unix.ETH_P_ALL>>8 | unix.ETH_P_ALL&0xff<<8 // in network byte order
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, all)
		if err != nil {
			return err
		}
		link, err := netlink.LinkByName("uplink")
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Attrs().Index})
	})
	r.t.Cleanup(func() { _ = unix.Close(fd) })
	return func() (list [][]byte) {
		for {
			b := make([]byte, 1<<16)
			n, from, err := unix.Recvfrom(fd, b, 0)
			if err != nil {
				return list
			}
			if l, ok := from.(*unix.SockaddrLinklayer); ok && l.Pkttype != unix.PACKET_OUTGOING {
				list = append(list, b[:n])
			}
		}
	}
}

// listen opens a TCP port of the room.
func (r *room) listen(addr string) (l *net.TCPListener) {
	r.t.Helper()
	r.do(func() error {
		any, err := net.Listen("tcp", addr)
		if err == nil {
			l = any.(*net.TCPListener)
		}
		return err
	})
	r.t.Cleanup(func() { _ = l.Close() })
	return l
}

// mtu sets the MTU of an interface.
func (r *room) mtu(name string, n int) {
	r.t.Helper()
	r.do(func() error {
		link, err := netlink.LinkByName(name)
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, n)
	})
}
