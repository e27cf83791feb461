package nameserver

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/nat/internal/egress"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/ledger"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/namejudge"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnsmsg"
)

// What the guest sends to the name server's address goes to resolvers of the host, see package namerelay. Here are frames, sockets and
// limits, which that package does not know.

// Relay brings the guest's queries to the relay, and its answers to the guest.
type Relay struct {
	shard     *shard.Shard
	fragments *fragments.Sender
	tcp       *tcp.Engine
	policy    *policy.Policy
	ledger    *ledger.Keeper
	relay     namerelay.Relay
	told      limits.Told[string] // names that the guest was refused, and the user was told of
}

// Uses are the parts that bring queries and answers with it.
type Uses struct {
	Fragments *fragments.Sender
	TCP       *tcp.Engine
	Policy    *policy.Policy
	Ledger    *ledger.Keeper
}

// SetUp makes that of a queue pair, whose turn the relay gets for what it asks.
func (e *Relay) SetUp(t *shard.Turn, u Uses, g *namerelay.Guest) {
	*e = Relay{shard: &t.Shard, fragments: u.Fragments, tcp: u.TCP, policy: u.Policy, ledger: u.Ledger}
	e.relay = namerelay.New(namerelay.Config{
		Guest: g, Buffer: t.Frame, Sockets: t.MaxSockets,
		Open: func(to netip.AddrPort, by dns.Transport, gen, index uint32) (int, error) {
			return e.open(t, to, by, gen, index)
		},
		Close: e.closeSocket,
		Reply: func(to *namerelay.Client, answer []byte) bool { return e.reply(t, *to, answer) },
		Wake:  e.wake,
		Stale: func() { t.Counters.QueriesStale++ },
		Left:  e.tellLeft,
		Back:  e.tellBack,
	})
}

// UseJudge lets somebody judge queries and answers, before the first query.
func (e *Relay) UseJudge(j *namejudge.Judge) { e.relay.UseJudge(j) }

// Query handles datagrams of the guest to the name server. length is that of UDP header and payload.
func (e *Relay) Query(t *shard.Turn, key *flowtable.Key, k *shard.Packet, length int) {
	payload := t.CopyPayload(k, length)
	if payload == nil {
		return
	}
	payload = bytes.Clone(payload)
	by := &namerelay.Client{Key: *key, Host: t.From}
	if k.Segment == 0 || len(payload) == 0 {
		e.ask(t, by, payload)
		return
	}
	for message := range slices.Chunk(payload, k.Segment) {
		e.ask(t, by, message)
	}
}

// ask passes on a query, if the guest may have another one.
func (e *Relay) ask(t *shard.Turn, by *namerelay.Client, message []byte) {
	if !t.Allow(limits.Query) {
		e.relay.Decline(by, message)
		return
	}
	outcome := e.relay.Ask(t.Now, by, message)
	e.record(&by.Key, message, outcome)
	switch outcome {
	case namerelay.Passed:
		t.Counters.Queries++
	case namerelay.Cached:
		t.Counters.QueriesCached++
	case namerelay.Named:
		t.Counters.QueriesNamed++
	case namerelay.Refused:
		t.Drop(&t.Counters.QueriesRefused)
	case namerelay.TooMany:
		t.OverLimit(limits.Queries)
	}
}

// record tells the ledger what the guest has asked, and how rules judge it.
func (e *Relay) record(key *flowtable.Key, message []byte, outcome namerelay.Outcome) {
	if outcome == namerelay.Refused || outcome == namerelay.Repeated || outcome != namerelay.Denied && !e.ledger.Records() {
		return
	}
	name, kind, ok := dns.Question(message)
	if !ok {
		return
	}
	if outcome == namerelay.Denied {
		e.tellDenied(spec.CanonicalName(name))
	}
	d := policy.Decision{Rule: audit.NoRule}
	if outcome != namerelay.Named { // which the configuration answers whatever the rules say
		q := e.policy.JudgeQuestion(spec.CanonicalName(name))
		d.Verdict, d.Rule = q.Verdict, q.Rule
	}
	switch {
	case outcome != namerelay.Denied:
		d.Verdict = policy.Allowed
	case d.Verdict == policy.Allowed: // it was the name of an address, or a question that nobody can judge
		d.Verdict = policy.IsUnlisted
	}
	d.Name = strings.TrimSuffix(name, ".")
	e.ledger.Asked(key, kind, ledger.Judged(&d))
}

// tellDenied tells the user once of a name that no rule lets the guest ask for. What a rule denies is denied as the user wished.
func (e *Relay) tellDenied(name string) {
	v := e.policy.JudgeQuestion(name).Verdict
	_, isReverse := dnsmsg.AddrOf(name)
	if name == "" || isReverse || v != policy.IsUnlisted && v != policy.IsResolver || !e.told.IsNew(name) {
		return
	}
	opener := policy.NameOpener(name)
	form := "the guest was refused a name, which %s opens, or its other ports"
	if v == policy.IsResolver {
		form = "the guest was refused the name of another name server than vring's, past which rules by name would mean nothing, which %s opens"
	}
	e.shard.Warn(fmt.Sprintf(form, opener.ForShell()), "name", name)
}

// ForgetTold lets the user be told of all names again.
func (e *Relay) ForgetTold() { e.told.Forget() }

// open opens what tells of a resolver's answer.
func (e *Relay) open(t *shard.Turn, resolver netip.AddrPort, by dns.Transport, gen, index uint32) (fd int, err error) {
	switch {
	case !t.AdmitSocket():
		return -1, namerelay.ErrNoRoom
	case by == dns.UDP:
		return e.openSocket(t, resolver, gen, index)
	}
	fd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		t.OverLimit(limits.Host)
		return -1, namerelay.ErrNoRoom
	}
	return fd, e.register(t, fd, gen, index)
}

// register lets events of a descriptor come to the relay, or closes it.
func (e *Relay) register(t *shard.Turn, fd int, gen, index uint32) error {
	if err := t.Worker.RegisterInput(fd, shard.Token(shard.TokenName, gen, index)); err != nil {
		t.OverLimit(limits.Host)
		_ = unix.Close(fd)
		return namerelay.ErrNoRoom
	}
	t.CountSockets(1)
	return nil
}

// openSocket connects a socket to a resolver, for datagrams.
func (e *Relay) openSocket(t *shard.Turn, resolver netip.AddrPort, gen, index uint32) (fd int, err error) {
	to := ipaddr.EndpointFrom(resolver)
	fd, err = unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil { // that the host does not speak that version of IP is one reason
		if namerelay.IsShortage(err) {
			t.OverLimit(limits.Host)
		}
		return -1, err
	}
	if err := egress.Bind(fd, to.Addr.Is4(), e.way()); err != nil {
		_ = unix.Close(fd)
		return -1, err
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	sender := hostsock.Sender{V6: !to.Addr.Is4()}
	sender.Set(int32(fd), hostsock.Manner{PMTU: hostsock.MayFragment})
	if err := e.register(t, fd, gen, index); err != nil {
		return -1, err
	}
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		e.closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

// way is how queries leave the host, nil as the kernel chooses: by the interface and the address of what no rule speaks of, and by no
// proxy, which would be asked for a name server by its address.
func (e *Relay) way() *spec.Way {
	usual := e.policy.UsualWay()
	if usual == nil || !usual.Via.IsUsed() {
		return usual
	}
	way := *usual
	way.Via = spec.Proxy{}
	return &way
}

// closeSocket closes what open has opened.
func (e *Relay) closeSocket(fd int) {
	e.shard.Worker.Unregister(fd)
	_ = unix.Close(fd)
	e.shard.CountSockets(-1)
}

// OnEvent takes what a resolver has answered.
func (e *Relay) OnEvent(t *shard.Turn, gen, index uint32) {
	strays, ok := e.relay.Event(t.Now, gen, index)
	if !ok {
		t.Counters.StaleEvents++
	}
	t.Counters.Strangers += uint64(strays)
}

// reply sends an answer to a host of the guest, and reports whether there was room for it.
func (e *Relay) reply(t *shard.Turn, c namerelay.Client, answer []byte) bool {
	before := t.To
	defer func() { t.To = before }()
	switch {
	case !e.fragments.SendRest(t):
		return false
	case len(answer) <= e.fragments.MaxPayload(&c.Key.Guest):
		return t.Send(t.UDPFrame(hosts.UnpackMAC(t.Hosts.MAC(c.Host)), &c.Key, answer))
	case !t.RX.Available():
		return false
	}
	t.To = c.Host
	e.fragments.SendDatagrams(t, &c.Key, answer, 0)
	return true
}

// Tend does what is due to queries and to connections to the name server.
func (e *Relay) Tend(t *shard.Turn) {
	if e.relay.TendQueries(t.Now) {
		t.RX.Starve()
	}
	if e.relay.HasNews() {
		e.tendStreams(t)
	}
	if e.relay.AreStreamsDue(t.Now) {
		e.endStreams(t)
	}
}

// Next returns when there is something to tend, 0 for never.
func (e *Relay) Next(t *shard.Turn) int64 { return e.relay.Next(t.Now) }

// Forget ends all queries: the guest is gone. forgive forgets which resolvers have failed.
func (e *Relay) Forget() { e.relay.Forget() }

// Forgive forgets which resolvers have failed.
func (e *Relay) Forgive() { e.relay.Forgive() }

// tellLeft tells the user that a resolver is asked last from now on.
func (e *Relay) tellLeft(to dns.Server, by dns.Transport) {
	how := ""
	if by == dns.TCP && !to.TLS {
		how = " by TCP"
	}
	e.shard.Counters.ResolversLeft++
	e.shard.Warn("a resolver of the host does not answer; others are asked before it", "resolver", to.String()+how)
}

// tellBack tells the user that one is asked in its turn again.
func (e *Relay) tellBack(to dns.Server) {
	e.shard.Worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "a resolver of the host answers again", Key: "resolver", Value: to.String(),
	})
}
