package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// consume removes up to n bytes from the receive queue of a flow's socket. Only TCP can do so without copying them.
func (e *Engine) consume(t *shard.Turn, f *shard.Flow, n uint32) (int, unix.Errno) {
	switch {
	case f.Bits&shard.NoSocket != 0:
		e.acknowledged(t, e.conn(f), n)
		return int(n), 0
	case f.Bits&shard.UnixSocket == 0:
		return hostsock.Discard(f.FD, n)
	}
	iov, _ := e.appendDiscard(t.Pieces[:0], min(n, uint32(len(e.discardBuf))))
	got, _, errno := t.Msg.Receive(f.FD, iov, 0, false)
	return got, errno
}
