package sandbox

import (
	"golang.org/x/sys/unix"
)

// socketKind is a kind of sockets that may be made.
type socketKind struct{ family, kind, protocol uint32 }

// socketKinds are streams, datagrams and pings of the internet. The rest (raw sockets, SCTP, DCCP, MPTCP and so on) is of
// no use here, and to ask for it could load a module of the kernel.
func socketKinds(cfg *Config) (kinds []socketKind) {
	const flags = unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if len(cfg.Dial)+len(cfg.MakeIn) > 0 { // who makes one looks whether somebody listens at its path
		kinds = append(kinds, socketKind{unix.AF_UNIX, unix.SOCK_STREAM | flags, 0})
	}
	if len(cfg.MakeIn) > 0 {
		kinds = append(kinds, socketKind{unix.AF_UNIX, unix.SOCK_SEQPACKET | flags, 0})
	}
	if cfg.Interfaces {
		kinds = append(kinds,
			socketKind{unix.AF_NETLINK, unix.SOCK_RAW | unix.SOCK_CLOEXEC, unix.NETLINK_ROUTE},
			socketKind{unix.AF_UNIX, unix.SOCK_DGRAM | flags, 0}) // the lock of an interface's name
	}
	if cfg.Routes {
		kinds = append(kinds, socketKind{unix.AF_NETLINK, unix.SOCK_RAW | flags, unix.NETLINK_ROUTE})
	}
	if cfg.Bind {
		for _, family := range []uint32{unix.AF_INET, unix.AF_INET6} {
			kinds = append(kinds, socketKind{family, unix.SOCK_STREAM | flags, 0}, socketKind{family, unix.SOCK_DGRAM | flags, 0})
		}
	}
	pings := map[uint32]uint32{unix.AF_INET: unix.IPPROTO_ICMP, unix.AF_INET6: unix.IPPROTO_ICMPV6}
	if cfg.Pings {
		for family, ping := range pings {
			kinds = append(kinds, socketKind{family, unix.SOCK_DGRAM | flags, ping})
		}
	}
	if !cfg.Internet {
		return kinds
	}
	for family, ping := range pings {
		kinds = append(kinds,
			socketKind{family, unix.SOCK_STREAM | flags, 0}, socketKind{family, unix.SOCK_STREAM | flags, unix.IPPROTO_TCP},
			socketKind{family, unix.SOCK_DGRAM | flags, 0}, socketKind{family, unix.SOCK_DGRAM | flags, unix.IPPROTO_UDP},
			socketKind{family, unix.SOCK_DGRAM | flags, ping})
	}
	return kinds
}

// socketCalls make sockets.
func socketCalls(cfg *Config) (calls []call) {
	for _, k := range socketKinds(cfg) {
		calls = append(calls, where("socket", condition{0, equal, k.family}, condition{1, equal, k.kind}, condition{2, equal, k.protocol}))
	}
	return calls
}

// addressCalls are those that may name another socket. Beside one that they may not use, the kernel looks at each of them;
// else it remembers that they are allowed.
func addressCalls(cfg *Config) (calls []call) {
	for _, name := range []string{"sendmsg", "sendmmsg", "sendto"} {
		calls = append(calls, where(name, cfg.notOnNotify()...))
	}
	if cfg.Internet || cfg.Meets || cfg.Reconnects || len(cfg.Dial)+len(cfg.MakeIn) > 0 {
		calls = append(calls, where("connect", cfg.notOnNotify()...))
	}
	return calls
}

// portCalls use ports that a socket has, or, of rtnetlink, gets.
func portCalls(cfg *Config) (calls []string) {
	makes := cfg.Bind || len(cfg.MakeIn) > 0
	if cfg.Internet || makes {
		calls = append(calls, "listen") // a gate opens again
	}
	if cfg.Interfaces || cfg.Multicast || cfg.Sources || cfg.Routes || makes {
		calls = append(calls, "bind")
	}
	return calls
}

// notOnNotify are conditions that a call's first argument, a descriptor, is another one than that of the service manager's
// socket. The kernel looks at the lower 32 bits of it only.
func (c *Config) notOnNotify() []condition {
	if c.Notify == 0 {
		return nil
	}
	return []condition{{0, notEqual, uint32(c.Notify)}}
}

// socketOption is an option that may be set, of any socket that is open.
type socketOption struct{ level, name uint32 }

// socketOptions are what the NAT engine sets. Others reach beyond the socket: its network device, marks for the host's
// firewall, filters that are programs, multicast, modules of the kernel (TCP_ULP, TCP_CONGESTION).
func socketOptions() []socketOption {
	return []socketOption{
		{unix.SOL_SOCKET, unix.SO_PEEK_OFF}, {unix.SOL_SOCKET, unix.SO_LINGER}, {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
		{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_RCVBUF}, {unix.SOL_SOCKET, unix.SO_SNDBUF},
		{unix.SOL_SOCKET, unix.SO_OOBINLINE},
		{unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
		{unix.IPPROTO_UDP, unix.UDP_GRO},
		{unix.IPPROTO_IP, unix.IP_RECVERR}, {unix.IPPROTO_IP, unix.IP_TTL}, {unix.IPPROTO_IP, unix.IP_MTU_DISCOVER},
		{unix.IPPROTO_IP, unix.IP_TOS}, {unix.IPPROTO_IP, unix.IP_RECVTTL}, {unix.IPPROTO_IP, unix.IP_RECVTOS},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVERR}, {unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS},
		{unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER}, {unix.IPPROTO_IPV6, unix.IPV6_TCLASS},
		{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT}, {unix.IPPROTO_IPV6, unix.IPV6_RECVTCLASS},
	}
}

// multicastOptions are what is set of sockets for groups besides.
func multicastOptions() []socketOption {
	return []socketOption{
		{unix.IPPROTO_IP, unix.IP_MULTICAST_TTL}, {unix.IPPROTO_IP, unix.IP_MULTICAST_LOOP}, {unix.IPPROTO_IP, unix.IP_MULTICAST_ALL},
		{unix.IPPROTO_IP, unix.IP_ADD_MEMBERSHIP}, {unix.IPPROTO_IP, unix.IP_PKTINFO},
		{unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_HOPS}, {unix.IPPROTO_IPV6, unix.IPV6_MULTICAST_LOOP},
		{unix.IPPROTO_IPV6, unix.IPV6_ADD_MEMBERSHIP}, {unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
	}
}

// bindOptions are what is set of the sockets of forwards before they are bound.
func bindOptions() []socketOption {
	return []socketOption{
		{unix.SOL_SOCKET, unix.SO_REUSEADDR}, {unix.SOL_SOCKET, unix.SO_OOBINLINE},
		{unix.IPPROTO_IP, unix.IP_RECVERR}, {unix.IPPROTO_IP, unix.IP_PKTINFO},
		{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY}, {unix.IPPROTO_IPV6, unix.IPV6_RECVERR}, {unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO},
		{unix.SOL_SOCKET, unix.SO_BINDTODEVICE}, {unix.IPPROTO_IP, unix.IP_FREEBIND}, {unix.IPPROTO_IPV6, unix.IPV6_FREEBIND},
	}
}

func optionCalls(cfg *Config) (calls []call) {
	var options []socketOption
	switch {
	case cfg.Internet:
		options = socketOptions()
	case cfg.Accept:
		options = []socketOption{{unix.IPPROTO_TCP, unix.TCP_NODELAY}}
	}
	if cfg.Multicast {
		options = append(options, multicastOptions()...)
	}
	if cfg.Devices {
		options = append(options, socketOption{unix.SOL_SOCKET, unix.SO_BINDTODEVICE})
	}
	if cfg.Sources {
		options = append(options, socketOption{unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT})
	}
	if cfg.Bind {
		options = append(options, bindOptions()...)
	}
	if !cfg.Internet {
		options = append(options, socketOption{unix.SOL_SOCKET, unix.SO_SNDBUF}) // of front ends that share no memory, whatever is behind them
	}
	for _, o := range options {
		calls = append(calls, where("setsockopt", condition{1, equal, o.level}, condition{2, equal, o.name}))
	}
	if cfg.Interfaces {
		calls = append(calls, where("setsockopt", condition{1, equal, unix.SOL_NETLINK}))
	}
	return calls
}
