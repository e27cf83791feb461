package broker

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"
)

const (
	// pingBurst is how many ping sockets may be opened at once, and pingRate how many each second in the long run. What is open is
	// bounded by the descriptors that the server may have.
	pingBurst, pingRate = 1024, 200
)

// newPingPace bounds how often ping sockets are opened.
func newPingPace() *rate.Limiter { return rate.NewLimiter(pingRate, pingBurst) }

// openPing opens a ping socket (icmp(7)) and passes it on: the host lets this process have one, and not the server, which is another
// user's.
func (p *process) openPing(to *net.UnixConn, v6 bool) error {
	if !p.pingPace.AllowN(time.Now(), 1) {
		return reply(to, nil, fmt.Errorf("more than %d ping sockets in a second; try again later", pingRate))
	}
	family, protocol := unix.AF_INET, unix.IPPROTO_ICMP
	if v6 {
		family, protocol = unix.AF_INET6, unix.IPPROTO_ICMPV6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, protocol)
	if err != nil {
		return reply(to, nil, os.NewSyscallError("socket", err))
	}
	defer unix.Close(fd)
	return pass(to, fd)
}

// OpenPing opens a ping socket, of IPv6 or of IPv4. EACCES is that the broker is not there for that.
func (c *Client) OpenPing(v6 bool) (fd int, err error) {
	if !c.duties.Pings {
		return -1, unix.EACCES
	}
	a, err := c.askHurried(request{Verb: verbPing, V6: v6})
	return descriptorIn(a, err)
}
