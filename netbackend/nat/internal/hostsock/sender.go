package hostsock

import (
	"golang.org/x/sys/unix"
)

// Sender is what is to be remembered of a socket for datagrams that leave by it.
type Sender struct {
	V6     bool   // the socket is one of IPv6
	Manner Manner // as it was set last
}

// Manner is how a datagram travels: what the guest wrote into its IP header, and what the kernel is to write.
type Manner struct {
	HopLimit     uint8 // as the guest sent it, less the hop to us; 0 for as many as the host gives
	TrafficClass uint8 // traffic class: DSCP and ECN
	PMTU         PMTUMode
}

// PMTUMode is what becomes of a datagram that is longer than the way allows.
type PMTUMode uint8

const (
	PMTUUnset    PMTUMode = iota
	MayFragment           // it is cut
	DontFragment          // it is dropped, and the guest is told the MTU
)

// ipOptions are the names of the options of a socket that say how its datagrams travel.
type ipOptions struct{ level, hops, discovery, tos int }

var (
	inetOptions  = ipOptions{unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MTU_DISCOVER, unix.IP_TOS}
	inet6Options = ipOptions{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, unix.IPV6_MTU_DISCOVER, unix.IPV6_TCLASS}
)

// Set lets what leaves by the socket fd travel as m says.
func (s *Sender) Set(fd int32, m Manner) {
	if s.Manner == m {
		return
	}
	o := inetOptions
	if s.V6 {
		o = inet6Options
	}
	if s.Manner.HopLimit != m.HopLimit {
		hops := int(m.HopLimit)
		if hops == 0 {
			hops = -1 // what the host gives (ip(7))
		}
		_ = unix.SetsockoptInt(int(fd), o.level, o.hops, hops)
	}
	if s.Manner.PMTU != m.PMTU && m.PMTU != PMTUUnset {
		route := unix.IP_PMTUDISC_DONT // the values are the same for both versions of IP
		if m.PMTU == DontFragment {
			route = unix.IP_PMTUDISC_DO
		}
		_ = unix.SetsockoptInt(int(fd), o.level, o.discovery, route)
	}
	if s.Manner.TrafficClass != m.TrafficClass {
		_ = unix.SetsockoptInt(int(fd), o.level, o.tos, int(m.TrafficClass))
	}
	s.Manner = m
}
