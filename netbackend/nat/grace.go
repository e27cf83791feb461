package nat

import (
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Connections stand still while nobody is there who could know them. For how long depends on what has gone.
//
// A front end that goes may come back with the same guest: QEMU reconnects its sockets, and a guest that is saved and
// restored, or moved, gets another one. With Config.ReconnectGrace the engine waits so long before it takes the guest for
// dead. Forwards let nobody in meanwhile.
//
// A driver that resets its device belongs to a guest that reboots, or to one that loads its driver anew and keeps its
// connections. The second is soon over, and the first may take minutes. A paused guest resets nothing.
//
// Connections of a guest that turns out to be a new one end when its driver starts, see ProbeAfterRestart.

// driverPatience is how long connections outlive a driver that has reset its device; with a longer Config.ReconnectGrace, as
// long as that.
const driverPatience = 5 * time.Second

// lose deals with the loss of the front end.
func (p *Port) lose() {
	p.forgetFragments()
	p.names.Forget()
	if p.cfg.ReconnectGrace == 0 {
		p.bury(stats.EndGuestGone)
		return
	}
	p.shard.Gone, p.goneUntil = shard.FrontEndGone, 0
}

// driverReset takes note of whether the guest's driver has reset its device, and no other has begun since.
func (p *Port) driverReset(reset bool) {
	if reset && !p.shard.DriverReset {
		p.shard.Gone, p.goneUntil = shard.DriverGone, 0
	}
	p.shard.DriverReset = reset
}

// bury takes the guest for dead: all its flows end, see departure.
func (p *Port) bury(c stats.CloseReason) {
	p.shard.Gone = shard.NothingGone
	p.beginDeparture(c)
	p.shard.From = hosts.Any
	p.shard.Hosts.Forget()
	p.services.FreeLeases()
	p.link.AdvertiseNever()
}

// awaitReturn takes the guest for dead if what has gone stays away.
func (p *Port) awaitReturn(t *shard.Turn) {
	switch {
	case t.Gone == shard.NothingGone:
	case t.Gone == shard.DriverGone && t.OthersRun(): // the new driver has no use for this pair
		t.Gone = shard.NothingGone
	case p.goneUntil == 0: // when it was lost, the time was not known
		p.goneUntil = t.Now + int64(p.patienceFor(t.Gone))
	case t.Now >= p.goneUntil:
		p.bury(t.Gone.Cause())
	}
	if t.Gone == shard.NothingGone {
		p.goneUntil = 0
	}
}

func (p *Port) patienceFor(a shard.Absence) time.Duration {
	if a == shard.DriverGone {
		return max(driverPatience, p.cfg.ReconnectGrace)
	}
	return p.cfg.ReconnectGrace
}

// standstill says why connections stand still, "" if they do not.
func (p *Port) standstill() string {
	switch {
	case p.shard.Gone == shard.FrontEndGone:
		return "no front end"
	case p.shard.Gone == shard.DriverGone:
		return "no driver"
	case !p.shard.Receiving:
		return "paused"
	}
	return ""
}
