package hostconf

import (
	"fmt"
	"net/netip"
	"strings"
)

// Route leads to a network by a router of the guest's own network. Both are IPv4: in IPv6, routers advertise themselves.
type Route struct {
	Network netip.Prefix
	Router  netip.Addr
}

// RouteForm is what ParseRoute reads.
const RouteForm = "NETWORK/BITS=ROUTER"

// ParseRoute reads RouteForm.
func ParseRoute(text string) (Route, error) {
	network, router, found := strings.Cut(text, "=")
	if !found {
		network, router, found = strings.Cut(text, " via ")
	}
	p, err := netip.ParsePrefix(network)
	a, badAddr := netip.ParseAddr(router)
	switch {
	case !found || err != nil || badAddr != nil:
		return Route{}, fmt.Errorf("--route %q: want %s, as in 192.168.7.0/24=10.0.2.50", text, RouteForm)
	case !p.Addr().Is4() || !a.Is4():
		return Route{}, fmt.Errorf("--route %q: want IPv4; in IPv6 each router advertises itself", text)
	case p != p.Masked():
		return Route{}, fmt.Errorf("--route %q: bits are set behind the first %d; write %s=%s", text, p.Bits(), p.Masked(), a)
	}
	return Route{Network: p, Router: a}, nil
}

func (r Route) String() string { return r.Network.String() + "=" + r.Router.String() }

// appendTo appends r as option 121 carries it (RFC 3442).
func (r Route) appendTo(b []byte) []byte {
	a := r.Network.Addr().As4()
	b = append(append(b, byte(r.Network.Bits())), a[:(r.Network.Bits()+7)/8]...)
	return append(b, r.Router.AsSlice()...)
}

// ClasslessRoutes returns the value of option 121 for routes and the default router, nil if there are no routes. A client that
// takes it does not look at the option for routers (RFC 3442), so it has the default route too.
func ClasslessRoutes(routes []Route, router netip.Addr) (b []byte) {
	if len(routes) == 0 {
		return nil
	}
	hasDefault := false
	for _, r := range routes {
		b = r.appendTo(b)
		hasDefault = hasDefault || r.Network.Bits() == 0
	}
	if router.IsValid() && !hasDefault {
		b = Route{Network: netip.PrefixFrom(netip.IPv4Unspecified(), 0), Router: router}.appendTo(b)
	}
	return b
}
