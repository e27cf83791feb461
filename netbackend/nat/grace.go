package nat

// A front end that goes may come back with the same guest: QEMU reconnects its sockets, and a guest that is saved and
// restored, or moved, gets another one. With Config.ReconnectGrace the engine waits so long before it takes the guest for
// dead. Connections then stand still; those of a guest that turns out to be a new one end when its driver starts, see
// probeAfterRestart. Forwards let nobody in meanwhile.

// lose deals with the loss of the front end.
func (p *Port) lose() {
	p.forgetFragments()
	if p.cfg.ReconnectGrace == 0 {
		p.bury()
		return
	}
	p.away, p.awayUntil = true, 0
}

// bury takes the guest for dead: all its connections end.
func (p *Port) bury() {
	p.away = false
	p.abandonAll(endGuestGone)
	p.from, p.to = anyHost, anyHost
	p.pairs.hosts.forget()
	p.pairs.leases.free()
	p.pairs.advertiseAt.Store(0)
}

// awaitReturn takes the guest for dead if its front end stays away.
func (p *Port) awaitReturn() {
	switch {
	case !p.away:
	case p.awayUntil == 0: // when it was lost, the time was not known
		p.awayUntil = p.now + int64(p.cfg.ReconnectGrace)
	case p.now >= p.awayUntil:
		p.bury()
	}
	if !p.away {
		p.awayUntil = 0
	}
}
