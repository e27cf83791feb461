package tlshello

import (
	"encoding/binary"
	"errors"

	"github.com/vringnet/vring/netbackend/nat/internal/servername"
)

// Hello is what a ClientHello says of where its client wants to go.
type Hello struct {
	// Name is the server name that everybody can read, in lower case and without a final dot. With encrypted_client_hello it is the
	// outer one (RFC 9849 section 6.1).
	Name      string
	Encrypted bool // it has an encrypted_client_hello, which may be a meaningless one (GREASE)
	EarlyData bool // data follow it that no answer is waited for (RFC 8446 section 4.2.10)
}

// Reasons why something is no hello whose name can be relied on, beside those of package servername.
var (
	ErrNotTLS      = errors.New("it does not begin with a TLS handshake")
	ErrMalformed   = errors.New("its ClientHello is malformed")
	ErrTooLong     = errors.New("its ClientHello is longer than 16 KiB")
	ErrNoName      = errors.New("its ClientHello has no server name")
	ErrSeveral     = errors.New("its ClientHello has several server names")
	errShortRecord = errors.New("more bytes are needed")
)

const (
	typeClientHello = 1

	extensionServerName = 0
	extensionEarlyData  = 42
	extensionECH        = 0xfe0d

	nameTypeHost  = 0
	maxExtensions = 128 // browsers send twenty
)

// cursor reads fields whose lengths the sender tells.
type cursor []byte

// take cuts off n bytes.
func (c *cursor) take(n int) (b cursor, ok bool) {
	if n > len(*c) {
		return nil, false
	}
	b, *c = (*c)[:n], (*c)[n:]
	return b, true
}

// vector cuts off a vector whose length has one or two bytes.
func (c *cursor) vector(lengthBytes int) (cursor, bool) {
	l, ok := c.take(lengthBytes)
	if !ok {
		return nil, false
	}
	n := 0
	for _, b := range l {
		n = n<<8 | int(b)
	}
	return c.take(n)
}

// uint16 cuts off a number.
func (c *cursor) uint16() (uint16, bool) {
	b, ok := c.take(2)
	if !ok {
		return 0, false
	}
	return binary.BigEndian.Uint16(b), true
}

// Parse reads a ClientHello with its handshake header, which message holds whole and alone. It keeps nothing of message.
func Parse(message []byte) (Hello, error) {
	c := cursor(message)
	kind, ok := c.take(1)
	if !ok || kind[0] != typeClientHello {
		return Hello{}, ErrNotTLS
	}
	body, ok := c.vector(3)
	if !ok || len(c) > 0 {
		return Hello{}, ErrMalformed
	}
	extensions, ok := skipToExtensions(body)
	if !ok {
		return Hello{}, ErrMalformed
	}
	return parseExtensions(extensions)
}

// skipToExtensions returns the extensions of a ClientHello's body, which may have none.
func skipToExtensions(c cursor) (extensions cursor, ok bool) {
	version, ok := c.uint16()
	if !ok || version>>8 != 3 {
		return nil, false
	}
	if _, ok = c.take(32); !ok { // random
		return nil, false
	}
	if session, ok := c.vector(1); !ok || len(session) > 32 {
		return nil, false
	}
	if suites, ok := c.vector(2); !ok || len(suites) < 2 || len(suites)%2 != 0 {
		return nil, false
	}
	if compression, ok := c.vector(1); !ok || len(compression) == 0 {
		return nil, false
	}
	if len(c) == 0 {
		return nil, true
	}
	extensions, ok = c.vector(2)
	return extensions, ok && len(c) == 0
}

// parseExtensions reads those that matter. None may be there twice (RFC 8446 section 4.2): servers differ in which one counts.
func parseExtensions(c cursor) (h Hello, err error) {
	var seen [maxExtensions]uint16
	for n := 0; len(c) > 0; n++ {
		kind, ok := c.uint16()
		content, ok2 := c.vector(2)
		if !ok || !ok2 || n == maxExtensions {
			return Hello{}, ErrMalformed
		}
		for _, earlier := range seen[:n] {
			if earlier == kind {
				return Hello{}, duplicate(kind)
			}
		}
		seen[n] = kind
		switch kind {
		case extensionServerName:
			if h.Name, err = serverName(content); err != nil {
				return Hello{}, err
			}
		case extensionECH:
			h.Encrypted = true
		case extensionEarlyData:
			h.EarlyData = true
		}
	}
	if h.Name == "" {
		return Hello{}, ErrNoName
	}
	return h, nil
}

// duplicate returns what is wrong with a hello that has two extensions of a type.
func duplicate(kind uint16) error {
	if kind == extensionServerName {
		return ErrSeveral
	}
	return ErrMalformed
}

// serverName reads the server_name extension: a list with one name, which is a host's.
func serverName(c cursor) (string, error) {
	list, ok := c.vector(2)
	if !ok || len(c) > 0 || len(list) == 0 {
		return "", ErrMalformed
	}
	kind, _ := list.take(1)
	name, ok := list.vector(2)
	switch {
	case !ok || len(name) == 0:
		return "", ErrMalformed
	case len(list) > 0:
		return "", ErrSeveral
	case kind[0] != nameTypeHost:
		return "", ErrNoName
	}
	return servername.Parse(string(name))
}
