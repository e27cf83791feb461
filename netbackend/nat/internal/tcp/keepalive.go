package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
)

// A guest can forget its connections without a word: it was restored from a snapshot, its firewall was emptied, it hangs. Of a
// program that died after it had closed its side, its kernel forgets the connection after a minute. The peer then waits for
// what never comes, and the engine, which keeps a flow and a socket for it, is who can find out. So a guest that has been
// silent is asked whether it still knows a connection: one that does not answers by a reset, and one that answers nothing is
// given up like one that acknowledges nothing. It is asked and not cut off, for a connection may be idle, or half closed, for
// hours.
//
// How long a guest may be silent depends on who waits: the client of a forward should not have to, who talks to a guest that
// has closed its side, or to one that does not close it, can wait a minute longer, and what the guest itself began and left open
// it will hardly forget.

const (
	// keepaliveInterval is how often connections are looked at whose guest is asked soon, and rareInterval how often the others are.
	keepaliveInterval = int64(10e9)
	rareInterval      = int64(3600e9)
)

// patience is for how many looks the guest may be silent on an open connection, and whether those are often: at a forward
// 20 to 30 seconds, on a half-closed connection 60 to 70, on another two to three hours (RFC 9293
// section 3.8.4).
func (f conn) patience() (looks uint8, often bool) {
	switch {
	case f.tcp.flags&(guestFIN|finAcked) != 0:
		return 6, true
	case f.Bits&shard.Inbound != 0:
		return 2, true
	}
	return 2, false
}

// keepaliveTimes are when connections are looked at, 0 for never.
type keepaliveTimes struct{ often, rare int64 }

// start makes sure that there is a look.
func (w *keepaliveTimes) start(often bool, now int64) {
	if often && w.often == 0 {
		w.often = now + keepaliveInterval
	}
	if !often && w.rare == 0 {
		w.rare = now + rareInterval
	}
}

// take tells which looks are due. They are over with that.
func (w *keepaliveTimes) take(now int64) (often, rare bool) {
	if often = w.often != 0 && now >= w.often; often {
		w.often = 0
	}
	if rare = w.rare != 0 && now >= w.rare; rare {
		w.rare = 0
	}
	return often, rare
}

// next returns when the next look is due, 0 for never.
func (w *keepaliveTimes) next() int64 { return netbackend.Earlier(w.often, w.rare) }

// startKeepalive makes sure that an open connection is looked at.
func (e *Engine) startKeepalive(f conn) {
	_, often := f.patience()
	e.nextKeepalive.start(often, e.shard.LastTurn)
}

// OnMovedIn is startKeepalive for a connection that was another queue pair's.
func (e *Engine) OnMovedIn(f *shard.Flow) { e.startKeepalive(e.conn(f)) }

// Keepalive looks at all connections if it is time. It ends when there are none.
func (e *Engine) Keepalive(t *shard.Turn) {
	if e.nextKeepalive != (keepaliveTimes{}) {
		e.keepaliveScan(t)
	}
}

func (e *Engine) keepaliveScan(t *shard.Turn) {
	often, rare := e.nextKeepalive.take(t.Now)
	if !often && !rare {
		return
	}
	if t.Pairs.Paths.Prune(t.Now) {
		e.nextKeepalive.start(true, t.Now)
	}
	if rare && t.GiveUpLingering(rareInterval) {
		e.nextKeepalive.start(false, t.Now)
	}
	t.Flows.ForEach(t.Owner, func(f *shard.Flow) {
		if f.Key.Proto == netpkt.TCP {
			e.keepaliveFlow(t, e.conn(f), often, rare)
		}
	})
}

// keepaliveFlow asks the guest about a connection on which it has been silent, unless something of it awaits an answer anyway.
func (e *Engine) keepaliveFlow(t *shard.Turn, f conn, often, rare bool) {
	e.widen(t, f)
	if f.State != stateOpen {
		return
	}
	e.startKeepalive(f)
	looks, isOften := f.patience()
	if isOften && !often || !isOften && !rare {
		return
	}
	if f.tcp.idleTicks < looks {
		f.tcp.idleTicks++
		return
	}
	if t.Wheel.Deadline(f.Index) == 0 {
		e.probeGuest(f)
	}
}

// probeGuest lets the guest tell whether it still knows a connection. It is asked again until it answers, or is given up.
func (e *Engine) probeGuest(f conn) {
	f.tcp.rto = max(f.tcp.baseRTO(), persistDelay)
	e.schedule(f, pendProbe)
}

// keepHostAlive lets the kernel find out whether the host's peer is still there, because the guest wants to know: it has sent
// a keepalive segment. That one is answered by the engine, who would not know.
func (e *Engine) keepHostAlive(f *shard.Flow) {
	if f.Bits&shard.NoSocket != 0 {
		return // the engine is there
	}
	const idle, interval, probes = 60, 10, 6 // lost peers are found within two minutes, as by guests that ask
	for _, o := range [...]struct{ name, value int }{
		{unix.TCP_KEEPIDLE, idle}, {unix.TCP_KEEPINTVL, interval}, {unix.TCP_KEEPCNT, probes},
	} {
		_ = unix.SetsockoptInt(int(f.FD), unix.IPPROTO_TCP, o.name, o.value) // a unix socket knows none, and needs none
	}
	_ = unix.SetsockoptInt(int(f.FD), unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
}

// ClampMSS keeps the segments of a connection within an MTU that has become smaller. Other flows stay as they are.
func (e *Engine) ClampMSS(of *shard.Flow) {
	if of.Key.Proto != netpkt.TCP {
		return
	}
	f := e.conn(of)
	e.setMSS(f, min(f.tcp.fullMSS, uint16(e.shard.MTU-(f.headers()-netpkt.EtherLen))))
}

// ProbeAfterRestart asks a guest whose driver is new whether it still knows an open connection. A guest that was rebooted
// answers by a reset, and the host's side need not wait for nothing. Where data is under way, its repetition asks.
func (e *Engine) ProbeAfterRestart(of *shard.Flow) {
	if of.State != stateOpen {
		return
	}
	if f := e.conn(of); f.tcp.sndUna == f.tcp.sndMax {
		e.probeGuest(f)
	}
}

// NextKeepalive returns when connections are looked at next, 0 for never, and KeepaliveSoon makes sure that they are.
func (e *Engine) NextKeepalive() int64 { return e.nextKeepalive.next() }

// KeepaliveSoon makes sure that connections are looked at.
func (e *Engine) KeepaliveSoon(t *shard.Turn) { e.nextKeepalive.start(true, t.Now) }
