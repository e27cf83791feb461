package proxyclient

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socks/wire"
	"github.com/vringnet/vring/netbackend/nat/proxyproto"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Target is where a proxy is to connect to. With a Name that proxies can be told, it is that, and the proxy resolves it; else the address.
type Target struct {
	Name string
	At   netip.AddrPort
}

// Failure is why there is no connection.
type Failure struct {
	Errno unix.Errno // of a connect that fails so
	Why   string     // in words, without what the proxy has said itself
	// Faulty is that the proxy, or its configuration, is to blame, and not the destination: somebody should look.
	Faulty bool
}

// Error implements error.
func (f *Failure) Error() string { return f.Why }

// Handshake is what is said with one proxy about one connection. It is not safe for concurrent use.
type Handshake struct {
	out    []byte // what is yet to be sent
	answer answer // nil if no more is awaited
}

// answer takes what a proxy has sent, and returns how many of the bytes are its own, and what is said next. It is asked again with what
// follows until next is not it.
type answer func(b []byte) (used int, next answer, reply []byte, err *Failure)

// New begins a handshake with a proxy that was checked (spec.Proxy.Check).
func New(p *spec.Proxy, to Target) *Handshake {
	if len(to.Name) > wire.MaxName || !isName(to.Name) {
		to.Name = ""
	}
	if p.Kind == spec.HTTPConnect {
		return &Handshake{out: connectRequest(p, &to), answer: new(head).read}
	}
	return newSOCKS(p, &to)
}

// NewHeader begins with a header of the PROXY protocol, version 2. That is all of the handshake.
func NewHeader(from, to netip.AddrPort) *Handshake {
	return &Handshake{out: proxyproto.Append(nil, 2, proxyproto.Header{Source: from, Destination: to})}
}

// isName reports whether name is one that hosts have, so that it means the same to all proxies, and ends no line.
func isName(name string) bool {
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._") == "" && strings.Trim(name, ".0123456789") != ""
}

// hostPort is a target as HTTP has it.
func (t *Target) hostPort() string {
	if t.Name != "" {
		return t.Name + ":" + strconv.Itoa(int(t.At.Port()))
	}
	return t.At.String()
}

// Output is what is to be sent now. It is valid until the next call.
func (h *Handshake) Output() []byte { return h.out }

// Sent takes note that the first n bytes of Output were sent.
func (h *Handshake) Sent(n int) { h.out = h.out[n:] }

// IsDone reports whether the handshake is over, and the stream may begin.
func (h *Handshake) IsDone() bool { return h.answer == nil && len(h.out) == 0 }

// Input takes what the proxy has sent, and returns how many of the bytes belong to the handshake. If these are not all, the handshake is
// over, or what was to be sent first is not yet. After an error there is nothing more to do.
func (h *Handshake) Input(b []byte) (used int, failure *Failure) {
	for len(b) > used && h.answer != nil {
		n, next, reply, err := h.answer(b[used:])
		used += n
		if err != nil {
			return used, err
		}
		h.answer = next
		h.out = append(h.out, reply...)
	}
	return used, nil
}

// Ended says what it means that the proxy has ended its stream before the handshake is over.
func (h *Handshake) Ended() *Failure {
	return &Failure{unix.ECONNREFUSED, "the proxy has ended the connection instead of an answer", false}
}

// Late says what it means that the proxy takes longer than the caller waits.
func (h *Handshake) Late() *Failure {
	return &Failure{unix.EHOSTUNREACH, "the proxy does not answer", true}
}

// faulty is a Failure that is the proxy's own.
func faulty(errno unix.Errno, format string, args ...any) *Failure {
	return &Failure{errno, fmt.Sprintf(format, args...), true}
}
