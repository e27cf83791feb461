package nat

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// endpoint is an address and port without pointers.
type endpoint struct {
	addr address
	port uint16
}

func endpointFrom(a netip.AddrPort) endpoint {
	return endpoint{addr: addressFrom(a.Addr()), port: a.Port()}
}

func (e endpoint) netip() netip.AddrPort { return netip.AddrPortFrom(e.addr.netip(), e.port) }

// sockaddr returns e for a system call. Only connections are made so, never a datagram sent.
func (e endpoint) sockaddr() unix.Sockaddr {
	return &unix.SockaddrInet4{Addr: [4]byte(e.addr.v4()), Port: int(e.port)}
}

// HostService is a service of the host that is opened to the guest.
type HostService struct {
	Proto uint8 // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	// Addr is the host's address that the guest names. The zero Addr stands for the gateway's address, which leads to
	// 127.0.0.1.
	Addr netip.Addr
	Port uint16
}

// verdict is what the policy says of a destination.
type verdict uint8

const (
	allowed  verdict = iota
	isClosed         // it is the host's, and was not opened
	isNobody         // nobody has that address
)

// policy decides where a guest's packets may go. It belongs to the worker's thread.
type policy struct {
	prefix       netip.Prefix
	gateway, dns address
	resolver     func(now int64) (netip.AddrPort, bool)
	open         map[HostService]bool
	probe        int              // UDP socket that asks the kernel for routes, never sending anything
	told         map[flowKey]bool // denials that the user was told of
}

func newPolicy(cfg *Config, resolver func(now int64) (netip.AddrPort, bool)) (policy, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return policy{}, fmt.Errorf("socket for looking up routes: %w", err)
	}
	p := policy{
		prefix: cfg.Prefix, gateway: addressFrom(cfg.Gateway), dns: addressFrom(cfg.DNS),
		resolver: resolver, open: map[HostService]bool{}, probe: fd, told: map[flowKey]bool{},
	}
	for _, s := range cfg.AllowHost {
		p.open[s] = true
	}
	return p, nil
}

func (p *policy) close() { _ = unix.Close(p.probe) }

// destination says where the remote end of a flow that the guest begins really is.
func (p *policy) destination(now int64, key *flowKey) (endpoint, verdict) {
	remote := endpoint{addr: key.remote, port: key.remotePort}
	switch {
	case key.remote == p.dns && key.remotePort == dnsPort:
		if to, ok := p.resolver(now); ok {
			return endpointFrom(to), allowed
		}
		return remote, isNobody
	case key.remote == p.gateway:
		return p.throughGateway(key)
	case p.prefix.Contains(key.remote.netip()):
		return remote, isNobody
	case p.open[HostService{Proto: key.proto, Addr: key.remote.netip(), Port: key.remotePort}]:
		return remote, allowed
	case p.isHost(remote):
		return remote, isClosed
	}
	return remote, allowed
}

// throughGateway maps the gateway's address to the host's loopback, where that was opened.
func (p *policy) throughGateway(key *flowKey) (endpoint, verdict) {
	loopback := endpoint{addr: addressFrom4([]byte{127, 0, 0, 1}), port: key.remotePort}
	if p.open[HostService{Proto: key.proto, Port: key.remotePort}] {
		return loopback, allowed
	}
	return loopback, isClosed
}

// isHost tells whether e is the host itself, or so near that services there trust whoever reaches them: loopback, any
// address of the host's, link-local addresses, where clouds keep their metadata.
func (p *policy) isHost(e endpoint) bool {
	a := e.addr.netip()
	return a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() || p.isLocal(e)
}

// isLocal asks the kernel's routing table: packets to an address of the host's own have it as their source too. That
// is always up to date, and sends nothing.
func (p *policy) isLocal(e endpoint) bool {
	unspecified := &unix.RawSockaddrInet4{Family: unix.AF_UNSPEC}
	defer disconnect(p.probe, unspecified)
	if err := unix.Connect(p.probe, e.sockaddr()); err != nil {
		return false // there is no way to it, so it is not the host
	}
	from, err := unix.Getsockname(p.probe)
	if err != nil {
		return true
	}
	local, ok := from.(*unix.SockaddrInet4)
	return !ok || local.Addr == [4]byte(e.addr.v4())
}

// deny counts a denial, and tells the user of the first one to a service, naming the flag that opens it.
func (p *Port) deny(key *flowKey, v verdict) {
	p.counters.Denied++
	const most = 64 // distinct denials that are told
	service := flowKey{remote: key.remote, remotePort: key.remotePort, proto: key.proto}
	if v != isClosed || p.policy.told[service] || len(p.policy.told) >= most {
		return
	}
	p.policy.told[service] = true
	name := protoName(key.proto)
	flag := fmt.Sprintf("%s:%d", name, key.remotePort)
	if key.remote != p.policy.gateway {
		flag = fmt.Sprintf("%s:%s", name, key.remoteAddrPort())
	}
	p.warn("the guest was denied a service of the host; to open it, start with --allow-host "+flag,
		"destination", fmt.Sprintf("%s %s", name, key.remoteAddrPort()))
}

func protoName(proto uint8) string {
	if proto == protoUDP {
		return "udp"
	}
	return "tcp"
}
