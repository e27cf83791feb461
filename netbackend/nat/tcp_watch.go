package nat

import "golang.org/x/sys/unix"

// A guest can forget its connections without a word: it was restored from a snapshot, its firewall was emptied, it hangs.
// Whoever began a connection through a forward then waits for an answer that never comes, and the engine is who can find
// out. So a guest that has been silent on such a connection is asked whether it still knows it: one that does not answers
// by a reset, and one that answers nothing is given up like one that acknowledges nothing. Connections that the guest
// began need no such care, for what it has forgotten it does not wait for.

const (
	// watchInterval is how often connections through forwards are looked at, while there are any.
	watchInterval = int64(10e9)
	// mostSilence is for how many looks a guest may be silent: it is asked between 20 and 30 seconds after its last word.
	mostSilence = 2
)

// startWatch makes sure that connections through forwards are looked at.
func (p *Port) startWatch() {
	if p.watchAt == 0 {
		p.watchAt = p.now + watchInterval
	}
}

// watch looks at all connections through forwards if it is time. It ends when there are none.
func (p *Port) watch() {
	if p.watchAt == 0 || p.now < p.watchAt {
		return
	}
	p.watchAt = 0
	if p.pairs.paths.prune(p.now) {
		p.startWatch()
	}
	p.flows.each(p.me, p.watchFlow)
}

// watchFlow asks the guest about a connection on which it has been silent, unless something of it awaits an answer anyway.
func (p *Port) watchFlow(f *flow) {
	p.widen(f)
	if f.bits&inbound == 0 || f.state != stateOpen {
		return
	}
	p.startWatch()
	if f.tcp.silence < mostSilence {
		f.tcp.silence++
		return
	}
	if f.deadline == 0 {
		p.askAbout(f)
	}
}

// askAbout lets the guest tell whether it still knows a connection. It is asked again until it answers, or is given up.
func (p *Port) askAbout(f *flow) {
	f.tcp.rto = max(f.tcp.baseRTO(), persistDelay)
	p.owe(f, probeDue)
}

// watchHost lets the kernel find out whether the host's peer is still there, because the guest wants to know: it has sent
// a keepalive segment. That one is answered by the engine, who would not know.
func (p *Port) watchHost(f *flow) {
	const idle, interval, probes = 60, 10, 6 // lost peers are found within two minutes, as by guests that ask
	for _, o := range [...]struct{ name, value int }{
		{unix.TCP_KEEPIDLE, idle}, {unix.TCP_KEEPINTVL, interval}, {unix.TCP_KEEPCNT, probes},
	} {
		_ = unix.SetsockoptInt(int(f.fd), unix.IPPROTO_TCP, o.name, o.value) // a unix socket knows none, and needs none
	}
	_ = unix.SetsockoptInt(int(f.fd), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}

// clampMSS keeps segments within an MTU that has become smaller.
func (p *Port) clampMSS(f *flow) {
	p.setMSS(f, min(f.fullMSS, uint16(p.mtu-(f.headers()-etherLen))))
}
