package nat

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
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
	e.unixPort = e.unixPort%(65535-shard.FirstAnyPort) + 1
	return ipaddr.Endpoint{Addr: e.shard.Nets.V4.Loopback, Port: shard.FirstAnyPort + e.unixPort}
}

// dropSome removes up to n bytes from the receive queue of a flow's socket. Only TCP can do so without copying them.
func (e *tcpEngine) dropSome(t *shard.Turn, f *shard.Flow, n uint32) (int, unix.Errno) {
	if f.Bits&shard.UnixSocket == 0 {
		return hostsock.Discard(f.FD, n)
	}
	iov, _ := e.swallowed(t.Pieces[:0], min(n, uint32(len(e.swallow))))
	got, _, errno := t.Msg.Receive(f.FD, iov, 0, false)
	return got, errno
}
