package nameserver

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// What the guest sends to the name server's address goes to resolvers of the host, see package namerelay. Here are frames, sockets and
// limits, which that package does not know.

// Relay brings the guest's queries to the relay, and its answers to the guest.
type Relay struct {
	shard     *shard.Shard
	fragments *fragments.Sender
	tcp       *tcp.Engine
	relay     namerelay.Relay
}

// SetUp makes that of a queue pair, whose turn the relay gets for what it asks.
func (e *Relay) SetUp(t *shard.Turn, fragments *fragments.Sender, tcp *tcp.Engine, g *namerelay.Guest) {
	*e = Relay{shard: &t.Shard, fragments: fragments, tcp: tcp}
	e.relay = namerelay.New(namerelay.Config{
		Guest: g, Buffer: t.Frame, Sockets: t.MaxSockets,
		Open:  func(to netip.AddrPort, gen, index uint32) (int, error) { return e.openSocket(t, to, gen, index) },
		Close: e.closeSocket,
		Reply: func(to *namerelay.Client, answer []byte) bool { return e.reply(t, *to, answer) },
		Left:  e.tellLeft,
		Back:  e.tellBack,
	})
}

// Query handles datagrams of the guest to the name server. length is that of UDP header and payload.
func (e *Relay) Query(t *shard.Turn, key *flowtable.Key, k *shard.Packet, length int) {
	payload := t.CopyPayload(k, length)
	if payload == nil {
		return
	}
	payload = bytes.Clone(payload)
	if k.Segment == 0 || len(payload) == 0 {
		e.ask(t, key, payload)
		return
	}
	for message := range slices.Chunk(payload, k.Segment) {
		e.ask(t, key, message)
	}
}

// ask passes on a query, if the guest may have another one.
func (e *Relay) ask(t *shard.Turn, key *flowtable.Key, message []byte) {
	if !t.Allow(limits.Query) {
		return
	}
	switch e.relay.Ask(t.Now, &namerelay.Client{Key: *key, Host: t.From}, message) {
	case namerelay.Passed:
		t.Counters.Queries++
	case namerelay.Cached:
		t.Counters.QueriesCached++
	case namerelay.Refused:
		t.Drop(&t.Counters.QueriesRefused)
	case namerelay.TooMany:
		t.OverLimit(limits.Queries)
	}
}

// openSocket connects a socket to a resolver, for datagrams.
func (e *Relay) openSocket(t *shard.Turn, resolver netip.AddrPort, gen, index uint32) (fd int, err error) {
	if !t.AdmitSocket() {
		return -1, namerelay.ErrNoRoom
	}
	to := ipaddr.EndpointFrom(resolver)
	fd, err = unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil { // that the host does not speak that version of IP is one reason
		if namerelay.IsShortage(err) {
			t.OverLimit(limits.Host)
		}
		return -1, err
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	sender := hostsock.Sender{V6: !to.Addr.Is4()}
	sender.Set(int32(fd), hostsock.Manner{PMTU: hostsock.MayFragment})
	if err := t.Worker.RegisterInput(fd, shard.Token(shard.TokenName, gen, index)); err != nil {
		t.OverLimit(limits.Host)
		_ = unix.Close(fd)
		return -1, namerelay.ErrNoRoom
	}
	t.CountSockets(1)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		e.closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

// closeSocket closes a socket of openSocket.
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
	if e.relay.AreStreamsDue(t.Now) {
		e.tendStreams(t)
	}
}

// Next returns when there is something to tend, 0 for never.
func (e *Relay) Next(t *shard.Turn) int64 { return e.relay.Next(t.Now) }

// Forget ends all queries: the guest is gone. forgive forgets which resolvers have failed.
func (e *Relay) Forget() { e.relay.Forget() }

// Forgive forgets which resolvers have failed.
func (e *Relay) Forgive() { e.relay.Forgive() }

// tellLeft tells the user that a resolver is asked last from now on.
func (e *Relay) tellLeft(to netip.AddrPort, by dns.Transport) {
	how := ""
	if by == dns.TCP {
		how = " by TCP"
	}
	e.shard.Counters.ResolversLeft++
	e.shard.Warn("a resolver of the host does not answer; others are asked before it", "resolver", to.String()+how)
}

// tellBack tells the user that one is asked in its turn again.
func (e *Relay) tellBack(to netip.AddrPort) {
	e.shard.Worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "a resolver of the host answers again", Key: "resolver", Value: to.String(),
	})
}
