package nat

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// A forward may begin at a unix socket of the host instead of a port. Its clients are TCP connections to the guest, which
// come from the gateway. The kernel's calls are the same on both kinds of sockets, but for three differences, each in
// one function: how bytes are dropped (dropSome), what a short answer means (stopped), and where the kernel counts what was
// not read yet (measure).
//
// A unix socket knows no reset. When the guest resets a connection, the client sees the end of the stream, or an error if
// it has sent what the guest did not take.

// unixPrefix marks the path of a unix socket in a forward.
const unixPrefix = "unix:"

// parseUnixForward reads PATH:[GUEST-ADDRESS:]GUEST-PORT. The path may have colons: what follows the last one is the port,
// and what stands before that is the guest's address if it is one.
func parseUnixForward(text string) (Forward, error) {
	path, port, found := cutLast(text)
	if !found {
		return Forward{}, errors.New("a path and a guest port are needed")
	}
	number, err := parsePort(port)
	if err != nil {
		return Forward{}, fmt.Errorf("guest side: %w", err)
	}
	var guest netip.Addr
	parts := splitColons(path)
	last := parts[len(parts)-1]
	if a, err := parseBracketed(last); err == nil {
		path, guest = strings.TrimSuffix(strings.TrimSuffix(path, last), ":"), a
	}
	switch {
	case path == "":
		return Forward{}, errors.New("a path is needed")
	case strings.HasPrefix(path, "@"):
		return Forward{}, fmt.Errorf("anybody may connect to an abstract socket, so there are none; ./%s is a file", path)
	case strings.ContainsRune(path, 0):
		return Forward{}, errors.New("a path cannot have a zero byte")
	}
	return Forward{Proto: protoTCP, Path: path, Guest: netip.AddrPortFrom(guest, number), Count: 1}, nil
}

// cutLast cuts text around its last colon.
func cutLast(text string) (before, after string, found bool) {
	i := strings.LastIndexByte(text, ':')
	if i < 0 {
		return text, "", false
	}
	return text[:i], text[i+1:], true
}

// listenUnix opens the socket of a forward, which its owner may use. To share it, change its mode. What a dead process
// left at its path is replaced.
func listenUnix(cfg *Config, path string, l *listener) error {
	fd, file, err := socketfile.Replace(path, socketfile.OwnerOnly(), backlog)
	if err == nil {
		l.fd, l.file = int32(fd), file.Unless(cfg.KeepFiles)
	}
	return err
}

// unixClient is where the guest sees clients of a unix socket: at the gateway, which loopback is shown as, with a port of
// no meaning.
func (p *Port) unixClient() ipaddr.Endpoint {
	p.unixPort = p.unixPort%(65535-firstAnyPort) + 1
	return ipaddr.Endpoint{Addr: p.nets.v4.loopback, Port: firstAnyPort + p.unixPort}
}

// dropSome removes up to n bytes from the receive queue of a flow's socket. Only TCP can do so without copying them.
func (p *Port) dropSome(f *flow, n uint32) (int, unix.Errno) {
	if f.bits&unixSocket == 0 {
		return drop(f.fd, n)
	}
	iov, _ := p.swallowed(p.pieces[:0], min(n, uint32(len(p.swallow))))
	got, _, errno := p.msg.receive(f.fd, iov, 0, false)
	return got, errno
}
