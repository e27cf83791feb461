package sandbox

import (
	"github.com/elastic/go-seccomp-bpf"
	"golang.org/x/sys/unix"
)

// socketKind is a kind of sockets that may be made.
type socketKind struct{ family, kind, protocol uint64 }

// socketKinds are streams, datagrams and pings of the internet. The rest (raw sockets, SCTP, DCCP, MPTCP and so on) is of
// no use here, and to ask for it could load a module of the kernel.
func socketKinds(cfg *Config) (kinds []socketKind) {
	if len(cfg.Dial) > 0 {
		kinds = append(kinds, socketKind{unix.AF_UNIX, unix.SOCK_STREAM, 0}, socketKind{unix.AF_UNIX, unix.SOCK_DGRAM, 0})
	}
	if !cfg.Internet {
		return kinds
	}
	for family, ping := range map[uint64]uint64{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6} {
		kinds = append(kinds,
			socketKind{family, unix.SOCK_STREAM, 0}, socketKind{family, unix.SOCK_STREAM, unix.IPPROTO_TCP},
			socketKind{family, unix.SOCK_DGRAM, 0}, socketKind{family, unix.SOCK_DGRAM, unix.IPPROTO_UDP},
			socketKind{family, unix.SOCK_DGRAM, ping})
	}
	return kinds
}

// socketCalls make sockets. All are made so that they do not block and no program inherits them.
func socketCalls(cfg *Config) (calls []seccomp.NameWithConditions) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	for _, k := range socketKinds(cfg) {
		calls = append(calls, where("socket", equal(0, k.family), equal(1, k.kind|flags), equal(2, k.protocol)))
	}
	return calls
}

// socketOption is an option that may be set, of any socket that is open.
type socketOption struct{ level, name uint64 }

// socketOptions are what the NAT engine sets. Others reach beyond the socket: its network device, marks for the host's
// firewall, filters that are programs, multicast, modules of the kernel (TCP_ULP, TCP_CONGESTION).
func socketOptions() []socketOption {
	return []socketOption{
		{unix.SOL_SOCKET, unix.SO_PEEK_OFF}, {unix.SOL_SOCKET, unix.SO_LINGER}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_RCVBUF}, {unix.SOL_SOCKET, unix.SO_SNDBUF},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		{unix.IPPROTO_UDP, unix.UDP_GRO},
		{unix.IPPROTO_IP, unix.IP_RECVERR}, {unix.IPPROTO_IP, unix.IP_TTL}, {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVERR}, {unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
		{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER},
	}
}

func optionCalls(cfg *Config) (calls []seccomp.NameWithConditions) {
	if !cfg.Internet {
		return nil
	}
	for _, o := range socketOptions() {
		calls = append(calls, where("setsockopt", equal(1, o.level), equal(2, o.name)))
	}
	return calls
}
