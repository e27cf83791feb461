package nat

import (
	"time"

	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
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
// Connections of a guest that turns out to be a new one end when its driver starts, see probeAfterRestart.

// driverPatience is how long connections outlive a driver that has reset its device; with a longer Config.ReconnectGrace, as
// long as that.
const driverPatience = 5 * time.Second

// absence is what has gone.
type absence uint8

const (
	nothingGone absence = iota
	frontEndGone
	driverGone
)

// lose deals with the loss of the front end.
func (p *Port) lose() {
	p.forgetFragments()
	p.names.forget()
	if p.cfg.ReconnectGrace == 0 {
		p.bury(stats.EndGuestGone)
		return
	}
	p.shard.gone, p.goneUntil = frontEndGone, 0
}

// driverReset takes note of whether the guest's driver has reset its device, and no other has begun since.
func (p *Port) driverReset(reset bool) {
	if reset && !p.shard.reset {
		p.shard.gone, p.goneUntil = driverGone, 0
	}
	p.shard.reset = reset
}

// bury takes the guest for dead: all its flows end, see departure.
func (p *Port) bury(c stats.CloseReason) {
	p.shard.gone = nothingGone
	p.beginDeparture(c)
	p.shard.from = hosts.Any
	p.shard.hosts.Forget()
	p.services.freeLeases()
	p.link.advertiseNever()
}

// awaitReturn takes the guest for dead if what has gone stays away.
func (p *Port) awaitReturn(t *turn) {
	switch {
	case t.gone == nothingGone:
	case t.gone == driverGone && t.othersRun(): // the new driver has no use for this pair
		t.gone = nothingGone
	case p.goneUntil == 0: // when it was lost, the time was not known
		p.goneUntil = t.now + int64(p.patienceFor(t.gone))
	case t.now >= p.goneUntil:
		p.bury(t.gone.cause())
	}
	if t.gone == nothingGone {
		p.goneUntil = 0
	}
}

func (p *Port) patienceFor(a absence) time.Duration {
	if a == driverGone {
		return max(driverPatience, p.cfg.ReconnectGrace)
	}
	return p.cfg.ReconnectGrace
}

// cause is why connections end of a guest that has gone so.
func (a absence) cause() stats.CloseReason {
	if a == driverGone {
		return stats.EndDriverGone
	}
	return stats.EndGuestGone
}

// hasGuest tells whether there is a guest to call. One whose driver has just reset its device may be back in a moment.
func (s *shard) hasGuest() bool {
	return s.connected && (!s.reset || s.gone == driverGone || s.othersRun())
}

// standstill says why connections stand still, "" if they do not.
func (p *Port) standstill() string {
	switch {
	case p.shard.gone == frontEndGone:
		return "no front end"
	case p.shard.gone == driverGone:
		return "no driver"
	case !p.shard.receiving:
		return "paused"
	}
	return ""
}
