package socks

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"

	"github.com/vringnet/vring/internal/socks/wire"
)

// Reply is how a client's request has ended.
type Reply = wire.Reply

// Replies that are given.
const (
	Succeeded          = wire.Succeeded
	GeneralFailure     = wire.GeneralFailure
	NotAllowed         = wire.NotAllowed
	NetworkUnreachable = wire.NetworkUnreachable
	HostUnreachable    = wire.HostUnreachable
	Refused            = wire.Refused
	NoSuchCommand      = wire.NoSuchCommand
	NoSuchAddressType  = wire.NoSuchAddressType
)

// Target is where a client wants to be connected to: an address, or a name.
type Target struct {
	Addr netip.Addr
	Name string // up to 255 bytes of whatever the client has sent; "" if there is an Addr
	Port uint16 // not 0
}

// String returns the target as a log has it.
func (t *Target) String() string {
	if t.Name != "" {
		return fmt.Sprintf("%q:%d", t.Name, t.Port)
	}
	return netip.AddrPortFrom(t.Addr, t.Port).String()
}

// refusal is a request that is answered by a reply.
type refusal struct {
	reply Reply
	why   string
}

func (r *refusal) Error() string { return r.why }

// Errors of clients that are not answered, or by the end of the handshake.
var (
	errVersion = errors.New("it does not speak SOCKS 5")
	errMethod  = errors.New("it wants to authenticate, and there is only access without")
)

// handshake reads what a client wants, and answers its first message. It reads no byte of what follows. The error is a refusal if the client
// is to be answered.
func handshake(c io.ReadWriter) (Target, error) {
	if err := greet(c); err != nil {
		return Target{}, err
	}
	return readRequest(c)
}

// greet reads which ways of authentication a client offers, and chooses none (RFC 1928 section 3).
func greet(c io.ReadWriter) error {
	var b [255]byte
	if _, err := io.ReadFull(c, b[:2]); err != nil {
		return err
	}
	if b[0] != wire.Version {
		return errVersion
	}
	methods := b[:b[1]]
	if _, err := io.ReadFull(c, methods); err != nil {
		return err
	}
	for _, m := range methods {
		if m == wire.NoAuth {
			_, err := c.Write([]byte{wire.Version, wire.NoAuth})
			return err
		}
	}
	_, _ = c.Write([]byte{wire.Version, wire.NoneOfMethods}) // who does not read it is not told
	return errMethod
}

// readRequest reads a request (RFC 1928 section 4).
func readRequest(r io.Reader) (to Target, err error) {
	var b [4]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return to, err
	}
	if b[0] != wire.Version {
		return to, errVersion
	}
	if to, err = readAddress(r, b[3]); err != nil {
		return to, err
	}
	switch {
	case b[1] != wire.Connect:
		return to, &refusal{NoSuchCommand, "command " + strconv.Itoa(int(b[1])) + " is not CONNECT"}
	case to.Port == 0:
		return to, &refusal{HostUnreachable, "there is no port 0"}
	case to.Name == "" && !to.Addr.IsValid():
		return to, &refusal{HostUnreachable, "the name is empty"}
	}
	return to, nil
}

// readAddress reads an address of a type, and a port.
func readAddress(r io.Reader, kind byte) (to Target, err error) {
	var b [1 + 255 + 2]byte
	n := 0
	switch kind {
	case wire.TypeIPv4:
		n = 4
	case wire.TypeIPv6:
		n = 16
	case wire.TypeName:
		if _, err := io.ReadFull(r, b[:1]); err != nil {
			return to, err
		}
		n = int(b[0])
	default:
		return to, &refusal{NoSuchAddressType, "address type " + strconv.Itoa(int(kind)) + " is neither IPv4, IPv6 nor a name"}
	}
	if _, err := io.ReadFull(r, b[:n+2]); err != nil {
		return to, err
	}
	to.Port = uint16(b[n])<<8 | uint16(b[n+1])
	if kind == wire.TypeName {
		to.Name = string(b[:n])
		if a, err := netip.ParseAddr(to.Name); err == nil && a.Zone() == "" {
			to.Addr, to.Name = a.Unmap(), "" // some clients do not tell the two apart
		}
		return to, nil
	}
	a, _ := netip.AddrFromSlice(b[:n])
	to.Addr = a.Unmap()
	return to, nil
}

// message is a reply as a client gets it. The address of the connection's end means nothing to it.
func message(r Reply) []byte {
	return []byte{wire.Version, byte(r), 0, wire.TypeIPv4, 0, 0, 0, 0, 0, 0}
}
