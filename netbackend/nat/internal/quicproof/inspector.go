package quicproof

import (
	"errors"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/quichello"
	"github.com/vringnet/vring/netbackend/nat/internal/servername"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tlshello"
	"github.com/vringnet/vring/netbackend/nat/internal/udp"
)

// Reasons why datagrams are refused, beside those of the packages that read them.
var (
	ErrLate   = errors.New("its first packets of QUIC did not come in time")
	ErrMany   = errors.New("its first packets of QUIC take more than four datagrams or 8 KiB")
	ErrAgain  = errors.New("the identifier of its QUIC connection began another one, or too many began lately")
	ErrPlaces = errors.New("too many associations were held")
)

// Config is what an inspector asks of others.
type Config struct {
	Guest *Guest
	UDP   *udp.Engine
	// Allow judges an association whose datagrams name a server, by QUIC. Without a name it is "", and by is none. Who refuses tells the
	// user.
	Allow func(t *shard.Turn, f *shard.Flow, name string, by policy.Proof) bool
	// Watch is told when Tend is to be called at the latest.
	Watch func(at int64)
	// Refused is told why datagrams are refused that cannot be relied on.
	Refused func(t *shard.Turn, f *shard.Flow, why error)
}

// Inspector looks at the associations of a queue pair. It belongs to its thread.
type Inspector struct {
	shard  *shard.Shard
	cfg    Config
	lookAt int64 // when associations are to be looked at for their time, 0 for never
}

// SetUp makes that of a queue pair.
func (e *Inspector) SetUp(s *shard.Shard, cfg Config) { *e = Inspector{shard: s, cfg: cfg} }

// Hold implements udp.InspectorHooks.
func (e *Inspector) Hold(f *shard.Flow) { *e.cfg.Guest.records.Make(f.Index) = record{} }

// Datagram implements udp.InspectorHooks.
func (e *Inspector) Datagram(t *shard.Turn, f *shard.Flow, d []byte, m hostsock.Manner) {
	r := e.cfg.Guest.records.At(f.Index)
	kind, err := quichello.KindOf(d)
	switch {
	case err != nil:
		e.refuse(t, f, r, err)
	case !kind.Long:
		e.other(t, f, r, d, m)
	case !kind.Initial:
		e.early(t, f, r, d, m)
	case !t.Allow(limits.Hello): // which counts it
	default:
		e.initial(t, f, r, d, m)
	}
	if kind.Handshake && r.open {
		e.forget(r)
	}
}

// other takes a datagram that begins no connection.
func (e *Inspector) other(t *shard.Turn, f *shard.Flow, r *record, d []byte, m hostsock.Manner) {
	if r.open || e.judge(t, f, r, "", 0) {
		e.open(f, r)
		e.cfg.UDP.SendCopy(t, f, d, m)
	}
}

// early takes a datagram of early data or of a handshake, which names nobody.
func (e *Inspector) early(t *shard.Turn, f *shard.Flow, r *record, d []byte, m hostsock.Manner) {
	if r.open {
		e.cfg.UDP.SendCopy(t, f, d, m)
		return
	}
	if e.takePlace(t, f, r) {
		e.keep(t, f, r, d, m)
	}
}

// initial takes a datagram with Initial packets.
func (e *Inspector) initial(t *shard.Turn, f *shard.Flow, r *record, d []byte, m hostsock.Manner) {
	if !e.takePlace(t, f, r) {
		return
	}
	k := e.cfg.Guest.at(r.place)
	content, hello, err := k.reader.Read(d)
	if begun := k.reader.Begun(); begun != k.current {
		e.dropOthers(t, k, begun)
	}
	switch {
	case isNameless(err):
		e.decide(t, f, r, k, "", 0, d, m)
	case err != nil:
		e.refuse(t, f, r, err)
	case content == quichello.Hello:
		e.decide(t, f, r, k, hello.Name, policy.ProofQUIC, d, m)
	case content == quichello.Repeat && k.allowed == k.current:
		e.cfg.UDP.SendCopy(t, f, d, m)
	default:
		e.keep(t, f, r, d, m)
	}
}

// dropOthers drops what waits of a connection that is not followed any more, since another one has begun. Early data that came before
// any hello are of the first.
func (e *Inspector) dropOthers(t *shard.Turn, k *kept, begun int) {
	if k.current != 0 {
		t.Counters.HellosDropped += uint64(len(k.datagrams))
		k.drop()
	}
	k.current = begun
}

// isNameless reports whether an error tells that a hello has no server name, rather than one that cannot be relied on.
func isNameless(err error) bool {
	return errors.Is(err, tlshello.ErrNoName) || errors.Is(err, servername.ErrAddress)
}

// decide judges a connection whose hello is there with d, and lets all go on that waits for that.
func (e *Inspector) decide(t *shard.Turn, f *shard.Flow, r *record, k *kept, name string, by policy.Proof, d []byte, m hostsock.Manner) {
	if !e.judge(t, f, r, name, by) {
		return
	}
	if k.allowed != k.current && !e.cfg.Guest.seen.claim(k.reader.Destination(), t.Now) {
		e.refuse(t, f, r, ErrAgain)
		return
	}
	k.allowed = k.current
	e.open(f, r)
	e.cfg.Guest.follow(r.place, t.Now+following)
	e.watch(t.Now + following)
	waiting := k.datagrams
	k.drop()
	for _, w := range waiting {
		e.cfg.UDP.SendCopy(t, f, w.bytes, w.manner)
	}
	e.cfg.UDP.SendCopy(t, f, d, m)
}

// open lets pass what begins no connection.
func (e *Inspector) open(f *shard.Flow, r *record) {
	r.open = true
	e.cfg.UDP.PassShort(f)
}

// keep keeps a datagram until its connection is judged.
func (e *Inspector) keep(t *shard.Turn, f *shard.Flow, r *record, d []byte, m hostsock.Manner) {
	k := e.cfg.Guest.at(r.place)
	if len(k.datagrams) == maxDatagrams || k.bytes+len(d) > maxBytes {
		e.refuse(t, f, r, ErrMany)
		return
	}
	k.datagrams = append(k.datagrams, datagram{append([]byte(nil), d...), m})
	k.bytes += len(d)
	e.cfg.Guest.wait(r.place, t.Now)
	e.watch(t.Now + patience)
}

// drop forgets the datagrams that wait.
func (k *kept) drop() { k.datagrams, k.bytes = nil, 0 }

// takePlace takes a place for an association that has none. If there is none, one of this queue pair makes room.
func (e *Inspector) takePlace(t *shard.Turn, f *shard.Flow, r *record) bool {
	if r.place != 0 {
		return true
	}
	if r.place = e.cfg.Guest.take(f.Index); r.place != 0 {
		return true
	}
	e.makeRoom(t)
	if r.place = e.cfg.Guest.take(f.Index); r.place == 0 {
		e.refuse(t, f, r, ErrPlaces)
	}
	return r.place != 0
}

// makeRoom gives a place of this queue pair back: that of the association whose name was allowed first, or that waits longest.
func (e *Inspector) makeRoom(t *shard.Turn) {
	var allowed, waits place
	e.cfg.Guest.each(func(p *place) {
		oldest := &allowed
		if p.since != 0 {
			oldest = &waits
		}
		if e.isOurs(p.flow) && (oldest.flow == 0 || p.due() < oldest.due()) {
			*oldest = *p
		}
	})
	switch {
	case allowed.flow != 0:
		e.forget(e.cfg.Guest.records.At(allowed.flow))
	case waits.flow != 0:
		t.Counters.ProofsEvicted++
		e.giveUp(t, waits.flow, ErrPlaces)
	}
}

// isOurs reports whether a flow belongs to this queue pair, and is not over.
func (e *Inspector) isOurs(flow uint32) bool {
	return e.shard.Flows.IsOf(flow, e.shard.Owner) && e.shard.Flows.At(flow).State == shard.StateActive
}

// judge asks the policy, and drops what it does not allow.
func (e *Inspector) judge(t *shard.Turn, f *shard.Flow, r *record, name string, by policy.Proof) bool {
	if e.cfg.Allow(t, f, name, by) {
		return true
	}
	e.end(t, f, r)
	return false
}

// refuse drops what cannot be relied on.
func (e *Inspector) refuse(t *shard.Turn, f *shard.Flow, r *record, why error) {
	e.cfg.Refused(t, f, why)
	e.end(t, f, r)
}

// giveUp drops what waits of an association. The first of that counts as what is refused.
func (e *Inspector) giveUp(t *shard.Turn, flow uint32, why error) {
	r := e.cfg.Guest.records.At(flow)
	k := e.cfg.Guest.at(r.place)
	k.datagrams = k.datagrams[1:]
	e.refuse(t, e.shard.Flows.At(flow), r, why)
}

// end drops all that waits. An association of which nothing was allowed is over, and the guest is told; another one goes on.
func (e *Inspector) end(t *shard.Turn, f *shard.Flow, r *record) {
	t.Counters.ProofsRefused++
	if r.place != 0 {
		t.Counters.HellosDropped += uint64(len(e.cfg.Guest.at(r.place).datagrams))
	}
	e.forget(r)
	if !r.open {
		e.cfg.UDP.Refuse(t, f)
	}
}

// OnClosing forgets what is kept of an association. Flows of which nothing is may be given, too.
func (e *Inspector) OnClosing(f *shard.Flow) {
	if f.Bits&shard.Held != 0 {
		e.forget(e.cfg.Guest.records.At(f.Index))
	}
}

// forget gives the place of an association back.
func (e *Inspector) forget(r *record) {
	if r.place != 0 {
		e.cfg.Guest.give(r.place)
		r.place = 0
	}
}

// watch has Tend look at associations at a time.
func (e *Inspector) watch(at int64) {
	e.lookAt = netbackend.Earlier(e.lookAt, at)
	e.cfg.Watch(e.lookAt)
}

// OnMoved takes note that an association comes from another queue pair, whose time is looked at here now.
func (e *Inspector) OnMoved(t *shard.Turn, f *shard.Flow) {
	if f.Bits&shard.Held != 0 && e.cfg.Guest.records.At(f.Index).place != 0 {
		e.watch(t.Now + patience)
	}
}

// Next returns when Tend is to be called, 0 for never.
func (e *Inspector) Next() int64 { return e.lookAt }

// Tend refuses associations whose time is over, and forgets hellos that were kept for comparison.
func (e *Inspector) Tend(t *shard.Turn) {
	if e.lookAt == 0 || t.Now < e.lookAt {
		return
	}
	e.lookAt = 0
	var over []place
	e.cfg.Guest.each(func(p *place) {
		switch {
		case !e.isOurs(p.flow):
		case t.Now >= p.due():
			over = append(over, *p)
		default:
			e.lookAt = netbackend.Earlier(e.lookAt, p.due())
		}
	})
	for _, p := range over {
		if p.since == 0 {
			e.forget(e.cfg.Guest.records.At(p.flow))
			continue
		}
		t.Counters.ProofsLate++
		e.giveUp(t, p.flow, ErrLate)
	}
}
