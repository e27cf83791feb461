package nat

import "time"

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
	p.forgetNames()
	if p.cfg.ReconnectGrace == 0 {
		p.bury(endGuestGone)
		return
	}
	p.gone, p.goneUntil = frontEndGone, 0
}

// driverReset takes note of whether the guest's driver has reset its device, and no other has begun since.
func (p *Port) driverReset(reset bool) {
	if reset && !p.reset {
		p.gone, p.goneUntil = driverGone, 0
	}
	p.reset = reset
}

// bury takes the guest for dead: all its connections end.
func (p *Port) bury(c endCause) {
	p.gone = nothingGone
	p.abandonAll(c)
	p.from, p.to = anyHost, anyHost
	p.hosts.forget()
	p.pairs.leases.free()
	p.pairs.advertiseAt.Store(0)
}

// awaitReturn takes the guest for dead if what has gone stays away.
func (p *Port) awaitReturn() {
	switch {
	case p.gone == nothingGone:
	case p.gone == driverGone && p.othersRun(): // the new driver has no use for this pair
		p.gone = nothingGone
	case p.goneUntil == 0: // when it was lost, the time was not known
		p.goneUntil = p.now + int64(p.patienceFor(p.gone))
	case p.now >= p.goneUntil:
		p.bury(p.gone.cause())
	}
	if p.gone == nothingGone {
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
func (a absence) cause() endCause {
	if a == driverGone {
		return endDriverGone
	}
	return endGuestGone
}

// hasGuest tells whether there is a guest to call. One whose driver has just reset its device may be back in a moment.
func (p *Port) hasGuest() bool {
	return p.connected && (!p.reset || p.gone == driverGone || p.othersRun())
}

// standstill says why connections stand still, "" if they do not.
func (p *Port) standstill() string {
	switch {
	case p.gone == frontEndGone:
		return "no front end"
	case p.gone == driverGone:
		return "no driver"
	case !p.receiving:
		return "paused"
	}
	return ""
}
