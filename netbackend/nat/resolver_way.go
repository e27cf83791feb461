package nat

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"github.com/vringnet/vring/netbackend/nat/internal/egress"
)

// dialResolver connects to a resolver that is asked by a connection of its own, which leaves the host as what no rule speaks of does, but
// by no proxy. Any goroutine may call it.
func (g *guest) dialResolver(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	way := g.policy.Load().rules.UsualWay()
	d := net.Dialer{KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) (err error) {
		if wrong := c.Control(func(fd uintptr) { err = egress.Bind(int(fd), to.Addr().Is4(), way) }); wrong != nil {
			return wrong
		}
		return err
	}}
	return d.DialContext(ctx, "tcp", to.String())
}
