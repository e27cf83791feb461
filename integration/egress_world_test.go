package integration

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/overheard"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/tapguest"
)

// The cable between the host and the internet of an egress test.
const (
	egressWire  = "wire0"
	egressHost  = "198.18.7.1"
	egressHost6 = "2001:db8:7::1"
	resolver    = "198.18.7.2" // the host's resolver, in the internet
)

// The servers of the internet. Each address that is not here is a server, too: the internet answers at all of them.
const (
	goodAddress  = "203.0.113.10" // good.example, and others that rules do not name
	goodAddress6 = "2001:db8:113::10"
	cdnAddress   = "203.0.113.11" // what is below cdn.example
	evilAddress  = "203.0.113.66" // evil.example, which no rule names
	evilAddress6 = "2001:db8:113::66"
	hintAddress  = "203.0.113.67" // where records of type HTTPS lead
	freshAddress = "203.0.113.20" // fresh.example, which a rule names and nobody asks for
	timeAddress  = "203.0.113.30" // time.example
	sshAddress   = "203.0.113.31" // ssh.example
	proxyAddress = "203.0.113.32" // a proxy
	quicAddress  = "203.0.113.33" // quic.example
	metadata     = "169.254.169.254"
)

// egressRules are the rules of the guest that tries to get out.
func egressRules() []string {
	return []string{"--restrict", "--dns", resolver,
		"--deny-name", "bad.cdn.example",
		"--allow-name", "good.example:80,443",
		"--allow-name", "fresh.example:80,443",
		"--allow-name", "*.cdn.example:80,443",
		"--allow-name", "tcp:ssh.example:22",
		"--allow-name", "udp:time.example:123",
		"--allow-name", "every.example",
		"--allow-name", "listed.example:80,443;chain=listed",
		"--allow-name", "tcp:proxy.example:3128;verify=dns",
		"--allow-name", "tcp:proxy.example:8080;verify=http",
		"--allow-name", "quic.example:443;quic=verify",
		"-p", "udp:127.0.0.1:5353:5353",
	}
}

// egressLimit ends what hangs.
const egressLimit = 10 * time.Minute

// egress is a guest whose vring has nothing but an internet that the test has made.
type egress struct {
	t         *testing.T
	ctx       context.Context
	host      *host // where vring runs
	internet  *host
	dir       string
	vring     *daemon
	guest     *tapguest.Guest
	neighbour *tapguest.Guest // another guest of the same vring
	names     *zone
	web       *web

	wire, loopback *overheard.Line
}

// newEgress makes the host and the internet.
func newEgress(t *testing.T) *egress {
	e := &egress{t: t, ctx: limitedTo(t, egressLimit), host: newHost(t), internet: newHost(t), dir: shortDir(t)}
	require.NoError(t, os.Chmod(e.dir, 0o755))
	e.host.wire(egressWire, e.internet)
	e.host.run("ip address add "+egressHost+"/24 dev "+egressWire, "ip address add "+egressHost6+"/64 dev "+egressWire+" nodad",
		"ip route add default via "+resolver, "ip route add default via 2001:db8:7::2")
	e.internet.run("ip address add "+resolver+"/24 dev "+egressWire, "ip address add 2001:db8:7::2/64 dev "+egressWire+" nodad",
		// Every address is one of the internet's own, but for those of the host.
		"ip route add table local unicast "+egressHost+" dev "+egressWire, "ip route add table local local 0.0.0.0/0 dev lo",
		"ip -6 route add table local unicast "+egressHost6+" dev "+egressWire, "ip -6 route add table local unicast fe80::/10 dev "+egressWire,
		"ip -6 route add table local local ::/0 dev lo")
	require.NoError(t, e.host.Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	e.wire, e.loopback = e.listen(e.internet, egressWire), e.listen(e.host, "lo")
	e.names = serveZone(e)
	e.web = serveWeb(e)
	return e
}

// listen listens to an interface until the end of the test.
func (e *egress) listen(h *host, name string) *overheard.Line {
	e.t.Helper()
	line, err := overheard.Listen(h.Namespace, name)
	require.NoError(e.t, err)
	e.t.Cleanup(func() { require.NoError(e.t, line.Close()) })
	return line
}

// start starts vring with more arguments, and the guest on it.
func (e *egress) start(args ...string) {
	e.t.Helper()
	second := filepath.Join(e.dir, "second.sock")
	e.vring = startVringWith(e.t, process.Options{Thread: e.host.Enter}, "nat", append([]string{"--socket-path", second, "--front-end", "stream"}, args...)...)
	e.guest, e.neighbour = e.plug(e.vring.Socket, 15), e.plug(second, 16)
}

// plug makes a guest on a socket of vring.
func (e *egress) plug(socket string, number int) *tapguest.Guest {
	e.t.Helper()
	guest, err := tapguest.New(socket)
	require.NoError(e.t, err)
	e.t.Cleanup(func() { require.NoError(e.t, guest.Close()) })
	h := &host{guest.Namespace, e.t}
	require.NoError(e.t, guest.Sysctl("net.ipv6.conf."+tapguest.Card+".accept_ra", "0"))
	require.NoError(e.t, guest.Sysctl("net.ipv4.ping_group_range", "0 2147483647"))
	h.run(fmt.Sprintf("ip address add 10.0.2.%d/24 dev %s", number, tapguest.Card),
		fmt.Sprintf("ip address add fd00:10:0:2::%d/64 dev %s nodad", number, tapguest.Card),
		fmt.Sprintf("ip link set %s address 52:54:00:12:34:%02d", tapguest.Card, number),
		"ip link set "+tapguest.Card+" up", "ip neigh add 10.0.2.77 lladdr 52:55:0a:00:02:02 dev "+tapguest.Card,
		"ip route add default via 10.0.2.2", "ip -6 route add default via fd00:10:0:2::2")
	return guest
}

// listenTCP opens a port at all addresses of the internet.
func (e *egress) listenTCP(port int) (l net.Listener) {
	e.t.Helper()
	require.NoError(e.t, e.internet.Do(func() (err error) {
		l, err = net.Listen("tcp", fmt.Sprintf(":%d", port))
		return err
	}))
	e.t.Cleanup(func() { _ = l.Close() })
	return l
}

// serveTCP serves connections to a port of all addresses, each on a goroutine of its own.
func (e *egress) serveTCP(port int, serve func(net.Conn)) {
	e.t.Helper()
	go serveEach(e.listenTCP(port), serve)
}

// serveEach serves each connection of a listener on a goroutine of its own, until the listener is closed.
func serveEach(l net.Listener, serve func(net.Conn)) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			serve(conn)
		}()
	}
}

// serveEcho returns datagrams to who has sent them, at one address of the internet.
func (e *egress) serveEcho(address string, port int) {
	e.t.Helper()
	var conn net.PacketConn
	require.NoError(e.t, e.internet.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", netip.AddrPortFrom(netip.MustParseAddr(address), uint16(port)).String())
		return err
	}))
	e.t.Cleanup(func() { _ = conn.Close() })
	go func() {
		buffer := make([]byte, 1<<16)
		for {
			n, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(buffer[:n], from)
		}
	}()
}

// write writes a file to the folder that guest, host and internet share, and returns its path.
func (e *egress) write(name, text string) (path string) {
	e.t.Helper()
	path = filepath.Join(e.dir, name)
	require.NoError(e.t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(e.t, os.WriteFile(path, []byte(text), 0o755))
	return path
}

// hostOf returns the name in "host:port", without a final dot, in lower case.
func hostOf(text string) string {
	name, _, err := net.SplitHostPort(text)
	if err != nil {
		name = text
	}
	return strings.ToLower(strings.TrimSuffix(name, "."))
}
