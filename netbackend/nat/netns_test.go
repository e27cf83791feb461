package nat_test

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// insideNamespace is set in the environment of a test that runs in a namespace of its own.
const insideNamespace = "VRING_TEST_IN_NAMESPACE"

// inNamespace runs the rest of a test in a network namespace of its own, of which nothing is up but the loopback: it
// tells the caller to return, after the test has been run once more in a process in such a namespace. Where user
// namespaces are forbidden the test is skipped.
func inNamespace(t *testing.T) (outside bool) {
	t.Helper()
	if os.Getenv(insideNamespace) != "" {
		up(t, "lo")
		return false
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Skipf("no user namespace is to be had here: %v", err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("in the namespace: %v\n%s", err, out.String())
	}
	return true
}

// up sets an interface up.
func up(t testing.TB, name string) netlink.Link {
	t.Helper()
	link, err := netlink.LinkByName(name)
	require.NoError(t, err)
	require.NoError(t, netlink.LinkSetUp(link))
	return link
}

// address gives an interface an address, such as 192.0.2.1/24.
func address(t testing.TB, link netlink.Link, text string) {
	t.Helper()
	addr, err := netlink.ParseAddr(text)
	require.NoError(t, err)
	addr.Flags = unix.IFA_F_NODAD // of IPv6: nobody else has it, and it is needed at once
	require.NoError(t, netlink.AddrAdd(link, addr))
	awaitLocal(link, addr)
}

// awaitLocal waits until packets to an address of IPv6 are taken, which is a moment after an interface has got it; not if the
// interface has no carrier, which gets there later.
func awaitLocal(link netlink.Link, addr *netlink.Addr) {
	if addr.IP.To4() != nil {
		return
	}
	host := &net.IPNet{IP: addr.IP, Mask: net.CIDRMask(128, 128)}
	local := &netlink.Route{Table: unix.RT_TABLE_LOCAL, Dst: host, LinkIndex: link.Attrs().Index}
	for start := time.Now(); time.Since(start) < time.Second || hasCarrier(link) && time.Since(start) < time.Minute; time.Sleep(time.Millisecond) {
		const by = netlink.RT_FILTER_TABLE | netlink.RT_FILTER_DST | netlink.RT_FILTER_OIF
		if found, err := netlink.RouteListFiltered(netlink.FAMILY_V6, local, by); err == nil && len(found) > 0 {
			return
		}
	}
}

// hasCarrier reports whether an interface has one.
func hasCarrier(link netlink.Link) bool {
	now, err := netlink.LinkByIndex(link.Attrs().Index)
	return err == nil && now.Attrs().RawFlags&unix.IFF_LOWER_UP != 0
}

// route makes a route of a kind, such as unix.RTN_UNREACHABLE.
func route(t *testing.T, kind int, to string) {
	t.Helper()
	dst, err := netlink.ParseIPNet(to)
	require.NoError(t, err)
	require.NoError(t, netlink.RouteAdd(&netlink.Route{Type: kind, Dst: dst}))
}

// sysctl sets a setting of the namespace.
func sysctl(t testing.TB, name, value string) {
	t.Helper()
	require.NoError(t, os.WriteFile("/proc/sys/"+strings.ReplaceAll(name, ".", "/"), []byte(value), 0))
}

// permitPings lets the process of the test have ping sockets.
func permitPings(t testing.TB) { t.Helper(); sysctl(t, "net.ipv4.ping_group_range", "0 0") }

// neighbour makes a veth pair, of which one end has the address near, such as 192.0.2.1/24. The other end is up, and
// nobody is behind it.
func neighbour(t *testing.T, near string) (link, far netlink.Link) {
	t.Helper()
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "near"}, PeerName: "far"}))
	far, link = up(t, "far"), up(t, "near")
	address(t, link, near)
	return link, far
}

// inhabit moves link to another namespace, and gives it an address there, so that somebody answers.
func inhabit(t *testing.T, link netlink.Link, addr string) {
	t.Helper()
	thread, moved, ready, over := make(chan int), make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with the goroutine, and the namespace with the thread
		require.NoError(t, unix.Unshare(unix.CLONE_NEWNET))
		thread <- unix.Gettid()
		<-moved
		address(t, up(t, link.Attrs().Name), addr)
		close(ready)
		<-over
	}()
	require.NoError(t, netlink.LinkSetNsPid(link, <-thread))
	close(moved)
	<-ready
	t.Cleanup(func() { close(over) })
}

// at is an address and port by their text.
func at(text string) netip.AddrPort { return netip.MustParseAddrPort(text) }

// silent makes addr a neighbour that is known and does not answer.
func silent(t *testing.T, near, far netlink.Link, addr string) {
	t.Helper()
	require.NoError(t, netlink.NeighAdd(&netlink.Neigh{
		LinkIndex: near.Attrs().Index, State: netlink.NUD_PERMANENT, Family: netlink.FAMILY_V4,
		IP: net.ParseIP(addr), HardwareAddr: far.Attrs().HardwareAddr,
	}))
}
