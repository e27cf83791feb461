package nat

import (
	"fmt"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Call is a connection into the guest that somebody asks for.
type Call = tcp.Call

// CallFailure is why a Call has led to no connection.
type CallFailure = tcp.CallFailure

// MaxGreeting bounds a Call's Greeting, in bytes.
const MaxGreeting = tcp.MaxGreeting

// CheckCall returns why no call can lead to an address of this guest.
func (c *Config) CheckCall(to netip.AddrPort) error {
	a := to.Addr()
	switch {
	case !a.IsValid() || to.Port() == 0:
		return fmt.Errorf("%s: want an address and a port from 1 to 65535", to)
	case !c.mayBeGuest(a):
		return fmt.Errorf("%s is no guest's address in the network %s", a, c.networks())
	case setOf(c.Others)[ipaddr.From(a)]:
		return fmt.Errorf("%s is the address of another guest; name that one", a)
	}
	return nil
}

// Call calls the guest. It is for the worker's thread, between two turns, of any of the guest's queue pairs; or for anybody after Close.
func (p *Port) Call(c *tcp.Call) {
	if p.inbound.IsClosed() {
		c.Fail(stats.EndClosed, false)
		return
	}
	p.inbound.Call(c)
}
