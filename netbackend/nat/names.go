package nat

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// What the guest sends to the name server's address goes to resolvers of the host, see package namerelay. Here are frames, sockets and
// limits, which that package does not know.

// nameRelay brings the guest's queries to the relay, and its answers to the guest.
type nameRelay struct {
	shard     *shard.Shard
	fragments *fragmenter
	tcp       *tcpEngine
	relay     namerelay.Relay
}

// setUp makes that of a queue pair, whose turn the relay gets for what it asks.
func (e *nameRelay) setUp(t *shard.Turn, fragments *fragmenter, tcp *tcpEngine, g *namerelay.Guest) {
	*e = nameRelay{shard: &t.Shard, fragments: fragments, tcp: tcp}
	e.relay = namerelay.New(namerelay.Config{
		Guest: g, Buffer: t.Frame, Sockets: t.MaxSockets,
		Open:  func(to netip.AddrPort, gen, index uint32) (int, error) { return e.openSocket(t, to, gen, index) },
		Close: e.closeSocket,
		Reply: func(to *namerelay.Client, answer []byte) bool { return e.reply(t, *to, answer) },
		Left:  e.tellLeft,
		Back:  e.tellBack,
	})
}

// query handles datagrams of the guest to the name server. length is that of UDP header and payload.
func (e *nameRelay) query(t *shard.Turn, key *flowtable.Key, k *shard.Packet, length int) {
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
func (e *nameRelay) ask(t *shard.Turn, key *flowtable.Key, message []byte) {
	if !t.Allow(limits.Query) {
		return
	}
	switch e.relay.Ask(t.Now, &namerelay.Client{Key: *key, Host: t.From}, message) {
	case namerelay.Passed:
		t.Counters.Queries++
	case namerelay.Refused:
		t.Counters.QueriesRefused++
	case namerelay.TooMany:
		t.OverLimit(limits.Queries)
	}
}

// openSocket connects a socket to a resolver, for datagrams.
func (e *nameRelay) openSocket(t *shard.Turn, resolver netip.AddrPort, gen, index uint32) (fd int, err error) {
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

// CloseSocket closes a socket of openSocket.
func (e *nameRelay) closeSocket(fd int) {
	e.shard.Worker.Unregister(fd)
	_ = unix.Close(fd)
	e.shard.CountSockets(-1)
}

// event takes what a resolver has answered.
func (e *nameRelay) event(t *shard.Turn, gen, index uint32) {
	strays, ok := e.relay.Event(t.Now, gen, index)
	if !ok {
		t.Counters.StaleEvents++
	}
	t.Counters.Strangers += uint64(strays)
}

// reply sends an answer to a host of the guest, and reports whether there was room for it.
func (e *nameRelay) reply(t *shard.Turn, c namerelay.Client, answer []byte) bool {
	before := t.To
	defer func() { t.To = before }()
	switch {
	case !e.fragments.sendFragments(t):
		return false
	case len(answer) <= e.fragments.longest(&c.Key.Guest):
		return t.Send(t.UDPFrame(hosts.UnpackMAC(t.Hosts.MAC(c.Host)), &c.Key, answer))
	case !t.RX.Available():
		return false
	}
	t.To = c.Host
	e.fragments.cut(t, &c.Key, answer, 0)
	return true
}

// tend does what is due to queries and to connections to the name server.
func (e *nameRelay) tend(t *shard.Turn) {
	if e.relay.TendQueries(t.Now) {
		t.RX.Starve()
	}
	if e.relay.AreStreamsDue(t.Now) {
		e.tendStreams(t)
	}
}

// next returns when there is something to tend, 0 for never.
func (e *nameRelay) next(t *shard.Turn) int64 { return e.relay.Next(t.Now) }

// forget ends all queries: the guest is gone. forgive forgets which resolvers have failed.
func (e *nameRelay) forget()  { e.relay.Forget() }
func (e *nameRelay) forgive() { e.relay.Forgive() }

// tellLeft tells the user that a resolver is asked last from now on.
func (e *nameRelay) tellLeft(to netip.AddrPort, by dns.Transport) {
	how := ""
	if by == dns.TCP {
		how = " by TCP"
	}
	e.shard.Counters.ResolversLeft++
	e.shard.Warn("a resolver of the host does not answer; others are asked before it", "resolver", to.String()+how)
}

// tellBack tells the user that one is asked in its turn again.
func (e *nameRelay) tellBack(to netip.AddrPort) {
	e.shard.Worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "a resolver of the host answers again", Key: "resolver", Value: to.String(),
	})
}
