package inbound

import (
	"github.com/vringnet/vring/netbackend/nat/internal/forwardset"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// Follow adopts the forwards of now, as far as they have changed for this queue pair. after is what Forwards.Current was before the
// mailbox was emptied.
func (e *Acceptor) Follow(t *shard.Turn, after *forwardset.Set) {
	if after != e.following {
		e.follow(t, after)
	}
}

func (e *Acceptor) follow(t *shard.Turn, after *forwardset.Set) {
	if e.IsClosed() {
		return
	}
	before, orphans, budget := e.following, false, acceptBurst
	for i := range max(len(before.Bound), len(after.Bound)) {
		was, is := before.At(i), after.At(i)
		if was == is {
			continue
		}
		if was != nil {
			budget -= e.quit(t, uint32(i), budget)
			orphans = orphans || was.Spec.Proto == netpkt.UDP
		}
		if is != nil {
			e.begin(uint32(i), is.Listener)
		}
	}
	if orphans {
		e.udp.EndOrphans(t)
	}
	e.following = after
	e.forwards.Follow(t.Pair, after.Number)
}

// IsClosed reports whether the queue pair takes no clients any more.
func (e *Acceptor) IsClosed() bool { return e.forwards.IsClosed(e.shard.Pair) }
