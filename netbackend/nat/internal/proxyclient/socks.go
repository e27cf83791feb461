package proxyclient

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socks/wire"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// client is one that speaks SOCKS 5.
type client struct {
	request []byte // CONNECT
	auth    []byte // user name and password, nil without
	have    []byte // of an answer that has not come whole
}

// newSOCKS begins a handshake by SOCKS 5.
func newSOCKS(p *spec.Proxy, to *Target) *Handshake {
	c := &client{request: request(to)}
	greeting := []byte{wire.Version, 1, wire.NoAuth}
	if p.User != "" {
		greeting = []byte{wire.Version, 2, wire.NoAuth, wire.UserPassword}
		c.auth = append([]byte{wire.AuthVersion, byte(len(p.User))}, p.User...)
		c.auth = append(append(c.auth, byte(len(p.Password))), p.Password...)
	}
	return &Handshake{out: greeting, answer: c.readMethod}
}

// request is CONNECT to a target (RFC 1928 section 4).
func request(to *Target) []byte {
	b := []byte{wire.Version, wire.Connect, 0}
	switch a := to.At.Addr(); {
	case to.Name != "":
		b = append(append(b, wire.TypeName, byte(len(to.Name))), to.Name...)
	case a.Is4():
		b = append(append(b, wire.TypeIPv4), a.AsSlice()...)
	default:
		b = append(append(b, wire.TypeIPv6), a.AsSlice()...)
	}
	return append(b, byte(to.At.Port()>>8), byte(to.At.Port()))
}

// take takes what is missing of an answer of n bytes from b, and returns how much that was.
func (c *client) take(b []byte, n int) (used int, whole bool) {
	used = max(min(n-len(c.have), len(b)), 0)
	c.have = append(c.have, b[:used]...)
	return used, len(c.have) >= n
}

// readMethod reads which method of authentication the proxy has chosen (RFC 1928 section 3).
func (c *client) readMethod(b []byte) (used int, next answer, reply []byte, err *Failure) {
	used, whole := c.take(b, 2)
	if c.have[0] != wire.Version {
		return used, nil, nil, faulty(unix.ECONNREFUSED, "the proxy does not speak SOCKS 5")
	}
	if !whole {
		return used, c.readMethod, nil, nil
	}
	method := c.have[1]
	c.have = c.have[:0]
	switch {
	case method == wire.NoAuth:
		return used, c.readReply, c.request, nil
	case method == wire.UserPassword && c.auth != nil:
		return used, c.readStatus, c.auth, nil
	case method == wire.NoneOfMethods && c.auth == nil:
		return used, nil, nil, faulty(unix.EACCES, "the proxy wants a user name and a password, or another proof: write via=socks5://USER:PASSWORD@...")
	}
	return used, nil, nil, faulty(unix.EACCES, "the proxy wants another kind of authentication than user name and password")
}

// readStatus reads whether the proxy takes the user name and password (RFC 1929 section 2).
func (c *client) readStatus(b []byte) (used int, next answer, reply []byte, err *Failure) {
	used, whole := c.take(b, 2)
	if !whole {
		return used, c.readStatus, nil, nil
	}
	status := c.have[1]
	c.have = c.have[:0]
	if status != 0 {
		return used, nil, nil, faulty(unix.EACCES, "the proxy does not take the user name and the password")
	}
	return used, c.readReply, c.request, nil
}

// readReply reads how the request has ended (RFC 1928 section 6). The address in it means nothing to us.
func (c *client) readReply(b []byte) (used int, next answer, reply []byte, err *Failure) {
	for used < len(b) {
		n, _ := c.take(b[used:], c.replyLength())
		used += n
		if err := c.checkReply(); err != nil {
			return used, nil, nil, err
		}
		if len(c.have) > shortReply && len(c.have) == c.replyLength() {
			return used, nil, nil, nil
		}
	}
	return used, c.readReply, nil, nil
}

// shortReply is the length of a reply up to the first byte of its address, which can be the length of the rest.
const shortReply = 5

// replyLength is how long the reply is, as far as what has come of it tells.
func (c *client) replyLength() int {
	const port = 2
	if len(c.have) < shortReply {
		return shortReply
	}
	switch c.have[3] {
	case wire.TypeIPv4:
		return 4 + 4 + port
	case wire.TypeIPv6:
		return 4 + 16 + port
	}
	return 4 + 1 + int(c.have[4]) + port
}

// checkReply returns what has come of a reply that ends the handshake without a connection.
func (c *client) checkReply() *Failure {
	switch r := c.have; {
	case r[0] != wire.Version:
		return faulty(unix.ECONNREFUSED, "the proxy does not speak SOCKS 5")
	case len(r) > 1 && r[1] != 0:
		return refusedBy(wire.Reply(r[1]))
	case len(r) > 3 && r[3] != wire.TypeIPv4 && r[3] != wire.TypeIPv6 && r[3] != wire.TypeName:
		return faulty(unix.ECONNREFUSED, "the proxy answers with an address of an unknown type, %d", r[3])
	}
	return nil
}

// refusedBy says what a reply of SOCKS means.
func refusedBy(r wire.Reply) *Failure {
	errno := unix.ECONNREFUSED
	switch r {
	case wire.NotAllowed:
		errno = unix.EACCES
	case wire.NetworkUnreachable:
		errno = unix.ENETUNREACH
	case wire.HostUnreachable, wire.Expired:
		errno = unix.EHOSTUNREACH
	}
	return &Failure{errno, "the proxy says: " + r.String(), false}
}
