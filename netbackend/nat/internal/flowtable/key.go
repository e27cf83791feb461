package flowtable

import (
	"encoding/binary"
	"net/netip"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// Key names a flow as the guest sees it.
type Key struct {
	Guest, Remote         ipaddr.Addr
	GuestPort, RemotePort uint16
	Proto                 uint8
}

// Bytes returns the key in a fixed form, for hashing.
func (k *Key) Bytes() (b [37]byte) {
	copy(b[0:], k.Guest[:])
	copy(b[16:], k.Remote[:])
	binary.BigEndian.PutUint16(b[32:], k.GuestPort)
	binary.BigEndian.PutUint16(b[34:], k.RemotePort)
	b[36] = k.Proto
	return b
}

// is reports whether k and other are the same. It is asked for each frame: == would call a function that compares bytes.
func (k *Key) is(other *Key) bool {
	return k.RemotePort == other.RemotePort && k.GuestPort == other.GuestPort && k.Proto == other.Proto &&
		k.Remote == other.Remote && k.Guest == other.Guest
}

// GuestSide returns the guest's end.
func (k *Key) GuestSide() ipaddr.Endpoint {
	return ipaddr.Endpoint{Addr: k.Guest, Port: k.GuestPort}
}

// RemoteAddrPort returns the other end.
func (k *Key) RemoteAddrPort() netip.AddrPort {
	return netip.AddrPortFrom(k.Remote.Netip(), k.RemotePort)
}
