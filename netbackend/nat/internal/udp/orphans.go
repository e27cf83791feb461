package udp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/listeners"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// PrepareForward is PrepareForwards for one of them.
func (e *Engine) PrepareForward(l *listeners.Listener) {
	if e.cfg.GRO && l.Proto == netpkt.UDP && e.shard.TakesUSO(&l.Guest.Addr) {
		l.Receiver.GRO = unix.SetsockoptInt(int(l.FD), hostsock.SolUDP, unix.UDP_GRO, 1) == nil
	}
}

// IsOrphan reports whether a flow has come by a UDP forward that is over.
func (e *Engine) IsOrphan(f *shard.Flow) bool {
	return f.Bits&shard.SharedSocket != 0 && e.of(f).via != viaMapping && e.listeners.OfForward(e.of(f).via-1) == nil
}

// EndOrphans ends the flows of this queue pair that have come by forwards that are over.
func (e *Engine) EndOrphans(t *shard.Turn) {
	t.Flows.ForEach(t.Owner, func(f *shard.Flow) {
		if f.Key.Proto == netpkt.UDP && e.IsOrphan(f) {
			t.Remove(f)
		}
	})
}
