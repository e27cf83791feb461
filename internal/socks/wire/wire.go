package wire

import "fmt"

// Versions of the messages.
const (
	Version     = 5
	AuthVersion = 1 // of RFC 1929
)

// Methods of authentication.
const (
	NoAuth        = 0x00
	UserPassword  = 0x02
	NoneOfMethods = 0xff
)

// Connect is the command CONNECT.
const Connect = 1

// Types of addresses.
const (
	TypeIPv4 = 1
	TypeName = 3
	TypeIPv6 = 4
)

// MaxName is the length of the longest name in bytes.
const MaxName = 255

// Reply is how a client's request has ended (RFC 1928 section 6).
type Reply byte

// All replies.
const (
	Succeeded          Reply = 0
	GeneralFailure     Reply = 1
	NotAllowed         Reply = 2
	NetworkUnreachable Reply = 3
	HostUnreachable    Reply = 4
	Refused            Reply = 5
	Expired            Reply = 6
	NoSuchCommand      Reply = 7
	NoSuchAddressType  Reply = 8
)

// String returns what r means, in the words of RFC 1928.
func (r Reply) String() string {
	all := [...]string{
		"succeeded", "general SOCKS server failure", "connection not allowed by ruleset", "network unreachable", "host unreachable",
		"connection refused", "TTL expired", "command not supported", "address type not supported",
	}
	if int(r) < len(all) {
		return all[r]
	}
	return fmt.Sprintf("reply %d", byte(r))
}
