package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// A forward may begin at a unix socket of the host instead of a port. Its clients are TCP connections to the guest, which
// come from the gateway. The kernel's calls are the same on both kinds of sockets, but for three differences, each in
// one function: how bytes are dropped (dropSome), what a short answer means (stopped), and where the kernel counts what was
// not read yet (measure).
//
// A unix socket knows no reset. When the guest resets a connection, the client sees the end of the stream, or an error if
// it has sent what the guest did not take.

// unixClient is where the guest sees clients of a unix socket: at the gateway, which loopback is shown as, with a port of
// no meaning.
func (e *acceptor) unixClient() ipaddr.Endpoint {
	e.unixPort = e.unixPort%(65535-firstAnyPort) + 1
	return ipaddr.Endpoint{Addr: e.shard.nets.V4.Loopback, Port: firstAnyPort + e.unixPort}
}

// dropSome removes up to n bytes from the receive queue of a flow's socket. Only TCP can do so without copying them.
func (e *tcpEngine) dropSome(t *turn, f *flow, n uint32) (int, unix.Errno) {
	if f.bits&unixSocket == 0 {
		return hostsock.Discard(f.fd, n)
	}
	iov, _ := e.swallowed(t.pieces[:0], min(n, uint32(len(e.swallow))))
	got, _, errno := t.msg.Receive(f.fd, iov, 0, false)
	return got, errno
}
