package presence

import (
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Connections stand still while nobody is there who could know them. For how long depends on what has gone.
//
// A front end that goes may come back with the same guest: QEMU reconnects its sockets, and a guest that is saved and
// restored, or moved, gets another one. With a grace the engine waits so long before it takes the guest for
// dead. Forwards let nobody in meanwhile.
//
// A driver that resets its device belongs to a guest that reboots, or to one that loads its driver anew and keeps its
// connections. The second is soon over, and the first may take minutes. A paused guest resets nothing.
//
// Connections of a guest that turns out to be a new one end when its driver starts.

// driverPatience is how long connections outlive a driver that has reset its device; with a longer grace, as long as that.
const driverPatience = 5 * time.Second

// Keeper knows it for a queue pair.
type Keeper struct {
	shard     *shard.Shard
	grace     time.Duration
	hooks     Hooks
	until     int64 // when the guest is taken for dead, 0 for never
	departure departure
}

// Hooks are what is asked of other parts. None is called for a packet.
type Hooks struct {
	Lost func()                               // the front end has gone: what was under way is forgotten
	Dead func()                               // the guest is taken for dead: nothing of it is left but its flows
	Drop func(*shard.Flow, stats.CloseReason) // a flow of a guest that is dead ends
}

// SetUp makes that of a queue pair. grace is how long connections outlive the front end.
func (k *Keeper) SetUp(s *shard.Shard, grace time.Duration, hooks Hooks) {
	*k = Keeper{shard: s, grace: grace, hooks: hooks}
}

// OnFrontendGone deals with the loss of the front end.
func (k *Keeper) OnFrontendGone() {
	k.hooks.Lost()
	if k.grace == 0 {
		k.expireGuest(stats.EndGuestGone)
		return
	}
	k.shard.Gone, k.until = shard.FrontEndGone, 0
}

// OnDriver takes note of whether the guest's driver has reset its device, and no other has begun since.
func (k *Keeper) OnDriver(reset bool) {
	if reset && !k.shard.DriverReset {
		k.shard.Gone, k.until = shard.DriverGone, 0
	}
	k.shard.DriverReset = reset
}

// expireGuest takes the guest for dead: all its flows end, see departure.
func (k *Keeper) expireGuest(c stats.CloseReason) {
	k.shard.Gone = shard.NothingGone
	k.departure = departure{next: shard.FirstRecord, cause: c}
	k.DepartSome()
	k.shard.From = hosts.Any
	k.shard.Hosts.Forget()
	k.hooks.Dead()
}

// CheckGrace takes the guest for dead if what has gone stays away.
func (k *Keeper) CheckGrace(t *shard.Turn) {
	if t.Gone != shard.NothingGone || k.until != 0 {
		k.checkGrace(t)
	}
}

func (k *Keeper) checkGrace(t *shard.Turn) {
	switch {
	case t.Gone == shard.NothingGone:
	case t.Gone == shard.DriverGone && t.OthersRun(): // the new driver has no use for this pair
		t.Gone = shard.NothingGone
	case k.until == 0: // when it was lost, the time was not known
		k.until = t.Now + int64(k.patienceFor(t.Gone))
	case t.Now >= k.until:
		k.expireGuest(t.Gone.Cause())
	}
	if t.Gone == shard.NothingGone {
		k.until = 0
	}
}

func (k *Keeper) patienceFor(a shard.Absence) time.Duration {
	if a == shard.DriverGone {
		return max(driverPatience, k.grace)
	}
	return k.grace
}

// Next returns when CheckGrace has something to do, 0 for never.
func (k *Keeper) Next() int64 { return k.until }

// Standstill says why connections stand still, "" if they do not.
func (k *Keeper) Standstill() string {
	switch {
	case k.shard.Gone == shard.FrontEndGone:
		return "no front end"
	case k.shard.Gone == shard.DriverGone:
		return "no driver"
	case !k.shard.Receiving:
		return "paused"
	}
	return ""
}
