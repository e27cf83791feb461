package presence

import (
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// When a guest is taken for dead, all of its flows end. Each costs some calls of the kernel, and a guest may have 16384, so that all at
// once would hold the thread for a third of a second, and whoever waits for it: the front end, whose rings are stopped, and the control
// plane, which gives a thread up that does not answer. So they end in slices, one a turn, and turns follow each other until all have
// ended.
//
// Another guest may be there before that, with flows of the same ports. It is to meet nothing of the last one. So until all have ended,
// the guest's frames stay in its ring, forwards take no clients, no flow is served, and another queue pair that asks for a flow finds
// that there is none. With a thousand flows that takes some ten milliseconds; a guest takes longer to boot.
//
// An engine that is closed, though, ends its flows at once: there is no turn after that.

const (
	// slice is how long a turn ends flows, in nanoseconds, and endCost what one of them is taken to cost.
	slice   = int64(200e3)
	endCost = int64(20e3)
)

// departure is the end of all flows of a guest that is gone, on one queue pair. The zero value is over.
type departure struct {
	next  uint32 // the record to go on with, 0 if there are no more
	cause stats.CloseReason
}

// IsDeparting reports whether flows of a guest that is gone are left, and Cause why they end.
func (k *Keeper) IsDeparting() bool { return k.departure.next != 0 }

// Cause returns why the flows end of a guest that is gone.
func (k *Keeper) Cause() stats.CloseReason { return k.departure.cause }

// DepartSome ends as many flows as there is time for in one turn.
func (k *Keeper) DepartSome() {
	d := &k.departure
	left := slice
	d.next = k.shard.Flows.ForEachFrom(d.next, k.shard.Owner, func(f *shard.Flow) bool {
		k.hooks.Drop(f, d.cause)
		left -= endCost
		return left > 0
	})
}
