package hostsock

import "github.com/vringnet/vring/netbackend/nat/internal/ipaddr"

// Way is how a peer's datagrams have reached a socket that is bound to all addresses. The zero Way says nothing: the kernel chooses.
type Way struct {
	Local ipaddr.Addr // the address that was asked; the zero address for one of many hosts, as in multicast
	Scope uint32      // index of the interface on which the peer has its link-local address, 0 if it has another
	Link  uint32      // index of the interface that the first datagram came by; 0 for none that answers could leave by
}

// Same reports whether datagrams that came by v belong to the same flow as those that came by w. A peer may change the interface.
func (w *Way) Same(v *Way) bool { return w.Local == v.Local && w.Scope == v.Scope }

// IsChosen reports whether w leaves by an address or an interface that the kernel did not choose.
func (w *Way) IsChosen() bool { return w.Local != ipaddr.Addr{} || w.Link != 0 }

// Forget makes w a way that leaves the choice to the kernel, but for the link on which a peer is.
func (w *Way) Forget() { w.Local, w.Link = ipaddr.Addr{}, 0 }

// Caller is who has sent a datagram to such a socket, and how it came.
type Caller struct {
	Peer ipaddr.Endpoint
	Way
}
