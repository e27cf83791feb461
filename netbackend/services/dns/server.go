package dns

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"strings"
)

// Server is a resolver, and how it is asked. It can be compared, and be a key.
type Server struct {
	Addr netip.AddrPort
	// TLS is that it is asked by TLS (RFC 7858), and by nothing else. Its certificate must be good for Name, or for its address if there is
	// none. Name is in lower case.
	TLS  bool
	Name string
}

// PortTLS is that of DNS over TLS (RFC 7858 section 3.1).
const PortTLS = 853

// ServerForm is what ParseServer reads.
const ServerForm = "ADDRESS[:PORT], or tls://ADDRESS[:PORT][#NAME]"

const tlsScheme = "tls://"

// Plain are resolvers that are asked by UDP and TCP.
func Plain(addrs ...netip.AddrPort) (list []Server) {
	for _, a := range addrs {
		list = append(list, Server{Addr: a})
	}
	return list
}

// ParseServer reads ServerForm.
func ParseServer(text string) (Server, error) {
	rest, isTLS := strings.CutPrefix(text, tlsScheme)
	if !isTLS {
		a, err := parseAddr(text, Port)
		return Server{Addr: a}, err
	}
	addr, name, named := strings.Cut(rest, "#")
	a, err := parseAddr(addr, PortTLS)
	if err != nil {
		return Server{}, err
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if named && !isDomain(name) {
		return Server{}, fmt.Errorf("%q is not a name that a certificate can have", name)
	}
	return Server{Addr: a, TLS: true, Name: name}, nil
}

// parseAddr reads an address with or without a port. One of IPv6 has brackets if it has a port, and may have them without.
func parseAddr(text string, port uint16) (netip.AddrPort, error) {
	bare := text
	if inner, ok := strings.CutPrefix(text, "["); ok && strings.HasSuffix(inner, "]") {
		bare = strings.TrimSuffix(inner, "]")
	}
	if a, err := netip.ParseAddr(bare); err == nil && (bare == text || a.Is6()) {
		return netip.AddrPortFrom(a, port), nil
	}
	if a, err := netip.ParseAddrPort(text); err == nil {
		return a, nil
	}
	return netip.AddrPort{}, fmt.Errorf("%q is not an IP address, or one with a port", text)
}

// String returns s as ParseServer reads it.
func (s Server) String() string {
	if !s.TLS {
		return s.Addr.String()
	}
	text := tlsScheme + s.Addr.String()
	if s.Name != "" {
		text += "#" + s.Name
	}
	return text
}

// Identity is what the certificate of a server by TLS must be good for: a name, or an address.
func (s Server) Identity() string { return cmp.Or(s.Name, s.Addr.Addr().Unmap().String()) }

// by returns how s is asked instead of by t.
func (s Server) by(t Transport) Transport {
	if s.TLS {
		return TLS
	}
	return t
}

// CheckServers returns what is wrong with resolvers that stand in for each other: where one is asked by TLS, another one without would be
// told in clear text what the first was to be told in secret.
func CheckServers(list []Server) error {
	for _, s := range list {
		if s.TLS != list[0].TLS {
			return errors.New("some resolvers are asked by TLS and others in clear text, which would then be asked in their place; want tls:// for all, or for none")
		}
	}
	return nil
}
