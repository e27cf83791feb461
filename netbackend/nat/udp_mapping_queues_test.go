package nat_test

import (
	"net"
	"net/netip"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// peers are sockets of the host that send back what they get, and remember who has sent it.
type peers struct {
	*bench
	hopper *hopper
	at     []netip.AddrPort // as the guest names them
	ports  chan seen
}

// seen is what a peer got: by which port of the host came what the guest sent from which of its own.
type seen struct {
	guest uint16
	host  netip.AddrPort
}

// newPeers is a bench whose guest has n queue pairs, and one port of the host for each of its own.
func newPeers(t *testing.T, n, count int, options ...func(*nat.Config)) *peers {
	t.Helper()
	p := &peers{ports: make(chan seen, 4096)}
	var services []spec.HostService
	for range count {
		host, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		t.Cleanup(func() { _ = host.Close() })
		services = append(services, spec.HostService{Proto: unix.IPPROTO_UDP, Port: addrPort(host.LocalAddr()).Port()})
		go p.answer(host)
	}
	p.bench, p.hopper = newQueues(t, n, append(options, func(c *nat.Config) {
		c.EndpointIndependent = true
		c.AllowHost = append(c.AllowHost, services...)
	})...)
	for _, s := range services {
		p.at = append(p.at, netip.AddrPortFrom(p.Gateway, s.Port))
	}
	return p
}

// answer sends back what comes. It begins with the guest's port.
func (p *peers) answer(host *net.UDPConn) {
	buf := make([]byte, 2000)
	for {
		n, from, err := host.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		p.ports <- seen{guest: uint16(buf[0])<<8 | uint16(buf[1]), host: from}
		_, _ = host.WriteToUDPAddrPort(buf[:n], from)
	}
}

// speak lets each of these ports of the guest send a datagram to each peer, waits for all answers, and returns by which
// port of the host each has spoken.
func (p *peers) speak(ports ...uint16) map[uint16]netip.AddrPort {
	p.t.Helper()
	for _, port := range ports {
		for _, to := range p.at {
			p.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(p.IP, port), Dst: to, Payload: numbered(int(port), 100)})
		}
	}
	left := len(ports) * len(p.at)
	p.Until("all have answered", func() bool {
		for _, d := range p.Datagrams() {
			requireSame(p.t, numbered(int(d.Dst.Port()), 100), d.Payload)
			left--
		}
		return left == 0
	})
	by := map[uint16]netip.AddrPort{}
	for range len(ports) * len(p.at) {
		s := <-p.ports
		if before, known := by[s.guest]; known {
			require.Equal(p.t, before, s.host, "port %d of the guest is one of the host", s.guest)
		}
		by[s.guest] = s.host
	}
	return by
}

// openSockets counts the sockets of this process for datagrams. Connections of tests before may end at any time.
func openSockets(t *testing.T) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	for _, f := range files {
		fd, err := strconv.Atoi(f.Name())
		require.NoError(t, err)
		if kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE); err == nil && kind == unix.SOCK_DGRAM {
			n++
		}
	}
	return n
}

func TestAPortOfTheGuestIsOnePortOfTheHostOnAllQueues(t *testing.T) {
	p := newPeers(t, 8, 4)
	before := openSockets(t)
	ports := []uint16{3000, 3001, 3002, 3003}
	first := p.speak(ports...)
	for range 20 {
		require.Equal(t, first, p.speak(ports...), "and stays so")
	}
	require.NotZero(t, p.hopper.moved(), "the flows did hop")
	require.Equal(t, before+len(ports), openSockets(t))
}

// What comes in goes on arriving when the queue pair that has made the mapping is not used any more.
func TestMappingsFollowTheQueuesThatRun(t *testing.T) {
	p := newPeers(t, 4, 2)
	first := p.speak(3000, 3001, 3002)
	p.hopper.eachLowest(func() { require.Equal(t, first, p.speak(3000, 3001, 3002)) })
}

func TestMappingsOfAllQueuesEndWithTheirFlows(t *testing.T) {
	p := newPeers(t, 8, 3)
	before := openSockets(t)
	for range 3 {
		p.speak(3000, 3001, 3002, 3003, 3004, 3005)
	}
	require.Equal(t, before+6, openSockets(t))
	require.NoError(t, p.hopper.device.Reset())
	require.Eventually(t, func() bool { return openSockets(t) == before }, 2*time.Minute, time.Millisecond)

	p.hopper.comeBack()
	p.Resolve()
	p.speak(3000, 3001)
	require.Equal(t, before+2, openSockets(t), "a new guest has new ones")
	p.Stop()
	require.Less(t, openSockets(t), before, "and none is left without the engine")
}

// Who has no socket left takes that of the association that was idle longest, whichever pair reads its mapping.
func TestMappingsOfManyQueuesKeepToTheShareOfSockets(t *testing.T) {
	const most, spare = 40, 20
	p := newPeers(t, 2, 1, func(c *nat.Config) { c.MaxSockets = most + len(c.Forwards) })
	before := openSockets(t)
	for port := range uint16(400) {
		p.speak(5000 + port)
		p.speak(5000 + port) // perhaps by the other queue pair
		require.LessOrEqual(t, openSockets(t), before+most+spare)
	}
	last := p.speak(5399)
	require.Equal(t, last, p.speak(5399), "the last one is still there")
	for _, c := range p.hopper.counters() {
		require.NotZero(t, c.AssociationsEvicted)
		require.Zero(t, c.SocketsSpent)
	}
}
