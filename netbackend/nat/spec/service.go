package spec

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// HostService is a service of the host that is opened to the guest.
type HostService struct {
	Proto uint8 // unix.IPPROTO_TCP, IPPROTO_UDP, or IPPROTO_ICMP for echo requests
	// Addr is the host's address that the guest names. The zero Addr stands for the gateway's addresses, which lead to
	// 127.0.0.1 and ::1; each of these stands for the gateway's address of its version.
	Addr netip.Addr
	Port uint16 // 0 for ICMP
}

// ParseHostServices reads HostServiceForm: without an address, ports of the host's loopback behind the gateway's address,
// which is also what 127.0.0.1 and ::1 mean, for one version of IP each. Without a protocol it is TCP. An error is one line.
func ParseHostServices(text string) ([]HostService, error) {
	services, err := readHostServices(text)
	if err == nil {
		return services, nil
	}
	if c, ok := correctService(text); ok {
		return nil, fmt.Errorf("host service %q: %s; write --allow-host %s", text, c.why, c.text)
	}
	return nil, fmt.Errorf("host service %q: %w; want %s, as in tcp:5432", text, err, HostServiceForm)
}

func readHostServices(text string) ([]HostService, error) {
	if ping, isPing := strings.CutPrefix(text, icmpPrefix); isPing {
		return readPing(ping)
	}
	proto, ports := parseProto(text)
	var addr netip.Addr
	parts := splitColons(ports)
	if len(parts) > 2 {
		return nil, errors.New("IPv6 addresses are written in brackets")
	}
	if len(parts) == 2 {
		var err error
		if addr, err = parseBracketed(parts[0]); err != nil {
			return nil, err
		}
		ports = parts[1]
	}
	if err := checkServiceAddress(addr); err != nil {
		return nil, err
	}
	first, last, err := parsePortRange(ports)
	if err != nil {
		return nil, err
	}
	var services []HostService
	for port := int(first); port <= int(last); port++ {
		services = append(services, HostService{Proto: proto, Addr: addr, Port: uint16(port)})
	}
	return services, nil
}

// readPing reads the address of an echo service.
func readPing(text string) ([]HostService, error) {
	a, err := parseAddress(strings.Trim(text, "[]"))
	if err != nil {
		return nil, err
	}
	if a.IsLoopback() || a.IsUnspecified() {
		return nil, fmt.Errorf("the guest cannot name %s; its router always answers", a)
	}
	return []HostService{{Proto: protoICMP, Addr: a}}, nil
}

// checkServiceAddress refuses addresses that no guest can reach the host by.
func checkServiceAddress(a netip.Addr) error {
	switch {
	case a.IsUnspecified():
		return fmt.Errorf("%s is no address of a service; leave it out for the host's loopback", a)
	case a.IsLoopback() && !IsRouterLoopback(a):
		return fmt.Errorf("the guest reaches 127.0.0.1 and ::1 of the host's loopback, but not %s", a)
	case a.IsMulticast():
		return fmt.Errorf("%s is a multicast address", a)
	}
	return nil
}

// isRouterLoopback reports whether the gateway's address leads to a, in its version of IP.
func IsRouterLoopback(a netip.Addr) bool {
	return a == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || a == netip.IPv6Loopback()
}

// String returns s as ParseHostServices reads it.
func (s HostService) String() string {
	if s.Proto == protoICMP {
		return icmpPrefix + s.Addr.String()
	}
	text := ProtoName(s.Proto) + ":"
	if s.Addr.IsValid() {
		text += bracketed(s.Addr) + ":"
	}
	return text + strconv.Itoa(int(s.Port))
}

// HostServiceTexts returns services as ParseHostServices reads them, in their order: one text for neighbouring ports.
func HostServiceTexts(services []HostService) (texts []string) {
	for i := 0; i < len(services); {
		last := i
		for last+1 < len(services) && services[last].isBefore(services[last+1]) {
			last++
		}
		text := services[i].String()
		if last > i {
			text += "-" + strconv.Itoa(int(services[last].Port))
		}
		texts, i = append(texts, text), last+1
	}
	return texts
}

// isBefore reports whether next is the service of the next port of the same address.
func (s HostService) isBefore(next HostService) bool {
	return s.Proto == next.Proto && s.Proto != protoICMP && s.Addr == next.Addr && int(s.Port)+1 == int(next.Port)
}
