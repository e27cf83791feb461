package proof

import (
	"errors"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/stats"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Reasons why a connection is refused, beside those of the packages that read it.
var (
	ErrLate   = errors.New("its first bytes did not come in time")
	ErrCut    = errors.New("it ended in the middle of what tells its server")
	ErrEarly  = errors.New("it sent more before its request for another protocol was answered")
	ErrSecond = errors.New("it asked for another protocol in another request than its first")
	ErrPort   = errors.New("its Host field has another port")
	ErrRecord = errors.New("what follows its ClientHello is no TLS")
	ErrPlaces = errors.New("too many connections were held")
)

// Config is what an inspector asks of others.
type Config struct {
	Guest *Guest
	TCP   *tcp.Engine
	// Allow judges a connection whose first bytes name a server, in one of the ways. Without a name it is "", and none of the ways. Who
	// refuses tells the user.
	Allow func(t *shard.Turn, f *shard.Flow, name string, by policy.Proof) bool
	// Watch is told when Tend is to be called at the latest.
	Watch func(at int64)
	// Refused is told why a connection is refused whose first bytes cannot be relied on. It reports whether the connection goes on all the same, and is
	// looked at no more.
	Refused func(t *shard.Turn, f *shard.Flow, name string, why error) (goesOn bool)
}

// Inspector looks at the connections of a queue pair. It belongs to its thread.
type Inspector struct {
	shard   *shard.Shard
	cfg     Config
	lookAt  int64 // when connections are to be looked at for their time, 0 for never
	serving bool  // TCP serves the connection that is looked at, and ends it itself
	pieces  []guestmem.Iovec
}

// SetUp makes that of a queue pair.
func (e *Inspector) SetUp(s *shard.Shard, cfg Config) {
	*e = Inspector{shard: s, cfg: cfg, pieces: make([]guestmem.Iovec, 0, shard.MaxIovecs)}
}

// Begin holds a connection that was just made, until it has told its server in one of the ways.
func (e *Inspector) Begin(f *shard.Flow, ways policy.Proof) {
	*e.cfg.Guest.records.Make(f.Index) = record{ways: ways}
	f.Bits |= shard.Held
	e.cfg.TCP.Inspect(f)
}

// Deliver implements tcp.InspectorHooks.
func (e *Inspector) Deliver(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, n int, fin bool) bool {
	r := e.cfg.Guest.records.At(f.Index)
	for at := 0; ; {
		if !e.advance(t, f, r) {
			if e.cfg.TCP.IsAlive(f) {
				e.cfg.TCP.Stall(f, n-at)
			}
			return false
		}
		if at == n {
			return !fin || e.mayEnd(t, f, r)
		}
		if plain := min(r.plain(), uint64(n-at)); plain > 0 {
			sent, ok := e.pass(t, f, iov, at, int(plain))
			r.skip(sent)
			if at += sent; !ok {
				t.Counters.TCPRefused += uint64(n - at - (int(plain) - sent))
				return false
			}
			continue
		}
		taken := e.keep(t, f, r, iov, at, n-at)
		if taken == 0 {
			if e.refuse(t, f, "", ErrPlaces) {
				return false
			}
			continue
		}
		at += taken
	}
}

// pass gives the host's socket n bytes of the guest that nobody needs to look at, and returns how many it took.
func (e *Inspector) pass(t *shard.Turn, f *shard.Flow, iov []guestmem.Iovec, at, n int) (sent int, ok bool) {
	pieces, ok := shard.AppendRange(e.pieces, iov, at, n)
	if !ok {
		return 0, false
	}
	before := f.FromGuest
	ok = e.cfg.TCP.DeliverTo(t, f, pieces, n)
	return int(f.FromGuest - before), ok
}

// keep copies up to n bytes of the guest to what is kept, and returns how many. It returns 0 if there is no place for them.
func (e *Inspector) keep(t *shard.Turn, f *shard.Flow, r *record, iov []guestmem.Iovec, at, n int) int {
	if r.place == 0 && !e.takePlace(t, f, r) {
		return 0
	}
	k := e.cfg.Guest.at(r.place)
	before := len(k.bytes)
	n = min(n, maxBytes-before)
	k.bytes = append(k.bytes, make([]byte, n)...)
	guestmem.CopyFrom(k.bytes[before:], iov, at)
	e.cfg.TCP.Take(f, n)
	return n
}

// takePlace takes a place for a connection. If there is none, the one of this queue pair that waits longest is refused for it.
func (e *Inspector) takePlace(t *shard.Turn, f *shard.Flow, r *record) bool {
	if r.place = e.cfg.Guest.take(f.Index, t.Now); r.place != 0 {
		e.watch(t.Now + patience)
		return true
	}
	if oldest := e.oldest(); oldest != nil {
		t.Counters.ProofsEvicted++
		if !e.refuse(t, oldest, "", ErrPlaces) {
			e.resume(t, oldest)
		}
		r.place = e.cfg.Guest.take(f.Index, t.Now)
	}
	return r.place != 0
}

// oldest returns the connection of this queue pair that is waited for longest, nil if there is none.
func (e *Inspector) oldest() (f *shard.Flow) {
	var first int64
	e.cfg.Guest.waiting(func(flow uint32, since int64) {
		if e.isOurs(flow) && (f == nil || since < first) {
			f, first = e.shard.Flows.At(flow), since
		}
	})
	return f
}

// isOurs reports whether a flow belongs to this queue pair, and is open.
func (e *Inspector) isOurs(flow uint32) bool {
	return e.shard.Flows.IsOf(flow, e.shard.Owner) && e.cfg.TCP.IsOpen(e.shard.Flows.At(flow))
}

// mayEnd reports whether the guest may end its stream: nothing of it is undecided.
func (e *Inspector) mayEnd(t *shard.Turn, f *shard.Flow, r *record) bool {
	if r.place == 0 {
		return true
	}
	return !e.refuse(t, f, "", ErrCut) && e.resume(t, f)
}

// OnWritable implements tcp.InspectorHooks.
func (e *Inspector) OnWritable(t *shard.Turn, f *shard.Flow) bool {
	e.serving = true
	defer func() { e.serving = false }()
	return e.resume(t, f)
}

// resume gives the host's socket what may go. It returns false if the socket is full or dead, or if the connection is refused.
func (e *Inspector) resume(t *shard.Turn, f *shard.Flow) bool {
	if e.advance(t, f, e.cfg.Guest.records.At(f.Index)) {
		return true
	}
	if e.cfg.TCP.IsAlive(f) {
		e.cfg.TCP.Stall(f, 0)
	}
	return false
}

// refuse resets a connection before the host's socket has got what was not decided on, and reports whether it did. If it did not, all of the
// connection may go.
func (e *Inspector) refuse(t *shard.Turn, f *shard.Flow, name string, why error) (refused bool) {
	if e.cfg.Refused(t, f, name, why) {
		e.letGo(e.cfg.Guest.records.At(f.Index))
		return false
	}
	e.end(t, f)
	return true
}

// letGo lets all of a connection go, which is looked at no more.
func (e *Inspector) letGo(r *record) {
	r.stage = opaque
	if r.place != 0 {
		k := e.cfg.Guest.at(r.place)
		e.decide(r, k, len(k.bytes))
	}
}

// end resets a connection that was refused.
func (e *Inspector) end(t *shard.Turn, f *shard.Flow) {
	t.Counters.ProofsRefused++
	e.OnClosing(f)
	if e.serving {
		e.cfg.TCP.Abort(f, stats.EndUnproven)
		return
	}
	e.cfg.TCP.ResetGuest(f, stats.EndUnproven)
}

// OnClosing forgets what is kept of a connection. Flows of which nothing is may be given, too.
func (e *Inspector) OnClosing(f *shard.Flow) {
	if f.Bits&shard.Held != 0 {
		e.forget(e.cfg.Guest.records.At(f.Index))
	}
}

// forget gives the place of a connection back.
func (e *Inspector) forget(r *record) {
	if r.place != 0 {
		e.cfg.Guest.give(r.place)
		r.place = 0
	}
}

// watch has Tend look at connections at a time.
func (e *Inspector) watch(at int64) {
	e.lookAt = netbackend.Earlier(e.lookAt, at)
	e.cfg.Watch(e.lookAt)
}

// OnMoved takes note that a connection comes from another queue pair, whose time is looked at here now.
func (e *Inspector) OnMoved(t *shard.Turn, f *shard.Flow) {
	if f.Bits&shard.Held != 0 && e.cfg.Guest.records.At(f.Index).place != 0 {
		e.watch(t.Now + patience)
	}
}

// Next returns when Tend is to be called, 0 for never.
func (e *Inspector) Next() int64 { return e.lookAt }

// Tend refuses connections whose time is over.
func (e *Inspector) Tend(t *shard.Turn) {
	if e.lookAt == 0 || t.Now < e.lookAt {
		return
	}
	e.lookAt = 0
	var late []uint32
	e.cfg.Guest.waiting(func(flow uint32, since int64) {
		switch {
		case !e.isOurs(flow):
		case t.Now >= since+patience:
			late = append(late, flow)
		default:
			e.lookAt = netbackend.Earlier(e.lookAt, since+patience)
		}
	})
	for _, flow := range late {
		e.late(t, e.shard.Flows.At(flow))
	}
}

// late refuses a connection whose time is over, unless its guest could not send more since the host's peer takes nothing.
func (e *Inspector) late(t *shard.Turn, f *shard.Flow) {
	if e.cfg.TCP.IsStalled(f) {
		e.cfg.Guest.wait(e.cfg.Guest.records.At(f.Index).place, t.Now)
		e.lookAt = netbackend.Earlier(e.lookAt, t.Now+patience)
		return
	}
	t.Counters.ProofsLate++
	if !e.refuse(t, f, "", ErrLate) {
		e.resume(t, f)
	}
}
