package ledger

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/witness"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// Guest is the ledger of a guest, which its queue pairs share.
type Guest struct {
	log     *audit.Recorder // nil for nobody
	witness *witness.Table  // of names that the guest was answered
	rules   atomic.Pointer[Rules]
	marks   flowtable.Slab[mark] // each queue pair has those of its own flows

	mu    sync.Mutex // guards what follows, and change of rules
	rows  held[*row]
	names held[string]
}

// mark is what is kept of a flow until it is over.
type mark struct {
	row   uint32 // number in rows, 0 if the guest has not begun the flow
	name  uint32 // number in names, 0 for none
	rule  int32
	cause uint8 // of its end, counted from 1; 0 is none
}

// NewGuest returns the ledger of a guest with a table of flows, which was answered the names of a witness. log may be nil.
func NewGuest(t *shard.Table, log *audit.Recorder, w *witness.Table) *Guest {
	g := &Guest{log: log, witness: w, marks: flowtable.NewSlab[mark](t.Table)}
	g.rules.Store(newRules(nil, nil))
	return g
}

// Adopt returns the rows of a policy's rules, whose texts are those of options. What was counted for a rule of the policy before stays
// with the rule of the same text. Any thread may call it, one after the other.
func (g *Guest) Adopt(texts []string) *Rules {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := newRules(texts, g.rules.Load())
	g.rules.Store(r)
	return r
}

// Counts returns what was counted for each rule of the policy in force, in their order, and behind them for what no rule decides. Anybody
// may call it at any time.
func (g *Guest) Counts() []Count { return g.rules.Load().counts() }

// Keeper is the ledger of a queue pair. Its methods are for the pair's thread. On a nil Keeper they do nothing.
type Keeper struct {
	shard *shard.Shard
	guest *Guest
	rules *Rules // of the policy that the pair has adopted
}

// SetUp makes that of a queue pair, which has adopted rules.
func (k *Keeper) SetUp(s *shard.Shard, g *Guest, rules *Rules) {
	*k = Keeper{shard: s, guest: g, rules: rules}
}

// Adopt follows rules of a policy that is new to this pair.
func (k *Keeper) Adopt(rules *Rules) { k.rules = rules }

// Judgement is what the policy has said of a flow, in the words of the audit log.
type Judgement struct {
	Verdict string // "allowed", "closed", "unlisted", "denied", "nobody", "resolver", "unproved", "no_way", or another word
	Rule    int    // index in the rules of the policy that the pair has adopted, audit.NoRule if none decides
	Name    string // by which a rule was found, or that the witness knows; "" for none
	Detail  string // more of the reason; "" for no more
	Given   bool   // no rule was asked
}

// Created makes room for what is kept of a new flow, whoever has begun it. It is called once for each, before all else.
func (k *Keeper) Created(f *shard.Flow) {
	if k != nil {
		k.guest.marks.Make(f.Index)
	}
}

// Begun takes note that the guest has begun f, which is nil if there was no room for it. It is called once for each flow.
func (k *Keeper) Begun(f *shard.Flow, j Judgement) {
	if k == nil || f == nil {
		return
	}
	r := k.rules.of(j.Rule)
	r.begun.Add(1)
	if k.guest.log.IsOn() {
		e := k.entry(audit.Begun, &f.Key, r, j)
		j.Name = e.Name // also when it ends, whatever the witness knows by then
		k.guest.log.Record(e)
	}
	k.guest.hold(k.guest.marks.At(f.Index), r, j)
}

// Denied takes note that the guest may not begin the flow of key, by its address, port and witnessed names.
func (k *Keeper) Denied(key *flowtable.Key, j Judgement) { k.deny(audit.Denied, key, j) }

// Refused takes note that the flow of key was refused by what its first bytes tell, be it one that has begun or not.
func (k *Keeper) Refused(key *flowtable.Key, j Judgement) { k.deny(audit.Refused, key, j) }

func (k *Keeper) deny(kind audit.Kind, key *flowtable.Key, j Judgement) {
	if k == nil {
		return
	}
	r := k.rules.of(j.Rule)
	r.denied.Add(1)
	if k.guest.log.IsOn() {
		k.guest.log.Record(k.entry(kind, key, r, j))
	}
}

// Records reports whether Asked does anything.
func (k *Keeper) Records() bool { return k != nil && k.guest.log.IsOn() }

// Asked takes note that the guest has asked for a name, and whether the rules let it have the answer. qtype is that of the records. key is
// that of the query's flow.
func (k *Keeper) Asked(key *flowtable.Key, qtype uint16, j Judgement) {
	if !k.Records() {
		return
	}
	e := k.entry(audit.Query, key, k.rules.of(j.Rule), j)
	e.Type = qtype
	k.guest.log.Record(e)
}

// Named takes note of the name by which f goes on, which its first bytes have told.
func (k *Keeper) Named(f *shard.Flow, name string) {
	if k != nil {
		k.guest.rename(k.guest.marks.At(f.Index), name)
	}
}

// Learned takes note of the name that the first bytes of f have told, "" for none, for who learns names.
func (k *Keeper) Learned(f *shard.Flow, name string) {
	if !k.Records() {
		return
	}
	e := k.entry(audit.Named, &f.Key, k.rules.none(), Judgement{Verdict: Allowed, Rule: audit.NoRule, Name: name})
	e.Told = name != ""
	k.guest.log.Record(e)
}

// Blame takes note of why f is about to end.
func (k *Keeper) Blame(f *shard.Flow, c stats.CloseReason) {
	if k != nil {
		k.guest.marks.At(f.Index).cause = uint8(c) + 1
	}
}

// Ended takes note that f is about to end, whoever has begun it.
func (k *Keeper) Ended(f *shard.Flow) {
	if k == nil {
		return
	}
	m := k.guest.marks.At(f.Index)
	if m.row == 0 {
		return
	}
	r, name := k.guest.release(m)
	r.fromGuest.Add(f.FromGuest)
	r.toGuest.Add(f.ToGuest)
	if !k.guest.log.IsOn() {
		return
	}
	told := k.entry(audit.Ended, &f.Key, r, Judgement{Verdict: Allowed, Rule: int(m.rule), Name: name})
	if m.cause > 0 {
		told.Detail = stats.CloseReason(m.cause - 1).String()
	}
	told.FromGuest, told.ToGuest, told.Duration = f.FromGuest, f.ToGuest, time.Duration(k.shard.LastTurn-f.CreatedAt)
	k.guest.log.Record(told)
}

// Allowed is the verdict of what was let through.
const Allowed = "allowed"

// entry returns what the audit log is told of a flow.
func (k *Keeper) entry(kind audit.Kind, key *flowtable.Key, r *row, j Judgement) audit.Entry {
	from := netip.AddrPortFrom(key.Guest.Netip(), key.GuestPort)
	if key.Proto == netpkt.ICMP {
		from = netip.AddrPortFrom(from.Addr(), 0) // it is an identifier
	}
	name, others := j.Name, []string(nil)
	answered := true
	if name == "" {
		name, others = k.namesAt(&key.Remote)
	} else {
		answered = k.guest.witness.Holds(k.shard.LastTurn, spec.CanonicalName(name), &key.Remote)
	}
	return audit.Entry{
		Answered: answered && name != "", Private: policy.IsPrivate(&key.Remote), Given: j.Given,
		Kind: kind, Proto: key.Proto, From: from, To: key.RemoteAddrPort(), Name: name, Others: others,
		Verdict: j.Verdict, Rule: j.Rule, RuleText: r.text, Detail: j.Detail, IsHost: k.shard.Nets.IsGateway(&key.Remote),
	}
}

// namesAt returns the name that the guest was answered last with an address, and others of which that is so.
func (k *Keeper) namesAt(a *ipaddr.Addr) (name string, others []string) {
	var names witness.Names
	n := k.guest.witness.Names(k.shard.LastTurn, a, &names)
	if n == 0 {
		return "", nil
	}
	return names[0], slices.Clone(names[1:n])
}

// hold keeps what a flow was begun by.
func (g *Guest) hold(m *mark, r *row, j Judgement) {
	g.mu.Lock()
	defer g.mu.Unlock()
	m.rule = int32(j.Rule)
	m.row = g.rows.hold(r)
	if j.Name != "" {
		m.name = g.names.hold(j.Name)
	}
}

// rename keeps another name of a flow that the guest has begun.
func (g *Guest) rename(m *mark, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if m.row == 0 {
		return
	}
	if m.name != 0 {
		g.names.release(m.name)
	}
	if m.name = 0; name != "" {
		m.name = g.names.hold(name)
	}
}

// release returns what hold has kept of a flow, and forgets it.
func (g *Guest) release(m *mark) (r *row, name string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r = g.rows.release(m.row)
	if m.name != 0 {
		name = g.names.release(m.name)
	}
	m.row, m.name = 0, 0
	return r, name
}

// Judged returns what a decision of the policy says of a flow.
func Judged(d *policy.Decision) Judgement {
	return Judgement{Verdict: word(d.Verdict), Rule: d.Rule, Name: d.Name, Given: d.Given}
}

// word returns a verdict as the audit log has it.
func word(v policy.Verdict) string {
	switch v {
	case policy.Allowed:
		return Allowed
	case policy.IsClosed:
		return "closed"
	case policy.IsUnlisted:
		return "unlisted"
	case policy.IsDenied:
		return "denied"
	case policy.IsResolver:
		return "resolver"
	case policy.Held:
		return "unproved"
	case policy.NoWay:
		return "no_way"
	}
	return "nobody"
}
