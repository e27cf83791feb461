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
	"github.com/vringnet/vring/netbackend/services/dns"
)

// What the guest sends to the name server's address goes to resolvers of the host, see package namerelay. Here are frames, sockets and
// limits, which that package does not know.

// nameRelay brings the guest's queries to the relay, and its answers to the guest.
type nameRelay struct {
	shard     *shard
	fragments *fragmenter
	tcp       *tcpEngine
	relay     namerelay.Relay
}

// relayConfig returns what the relay asks of the engine.
func (p *Port) relayConfig() namerelay.Config {
	t := &p.turn
	return namerelay.Config{
		Guest: p.guest.names, Buffer: p.turn.slow, Sockets: p.shard.maxSockets,
		Open:  func(to netip.AddrPort, gen, index uint32) (int, error) { return p.names.openSocket(t, to, gen, index) },
		Close: func(fd int) { p.names.closeSocket(fd) },
		Reply: func(to *namerelay.Client, answer []byte) bool { return p.names.reply(t, *to, answer) },
		Left:  func(to netip.AddrPort, by dns.Transport) { p.names.tellLeft(to, by) },
		Back:  func(to netip.AddrPort) { p.names.tellBack(to) },
	}
}

// query handles datagrams of the guest to the name server. length is that of UDP header and payload.
func (e *nameRelay) query(t *turn, key *flowtable.Key, k *packet, length int) {
	payload := t.copyPayload(k, length)
	if payload == nil {
		return
	}
	payload = bytes.Clone(payload)
	if k.segment == 0 || len(payload) == 0 {
		e.ask(t, key, payload)
		return
	}
	for message := range slices.Chunk(payload, k.segment) {
		e.ask(t, key, message)
	}
}

// ask passes on a query, if the guest may have another one.
func (e *nameRelay) ask(t *turn, key *flowtable.Key, message []byte) {
	if !t.allow(limits.Query) {
		return
	}
	switch e.relay.Ask(t.now, &namerelay.Client{Key: *key, Host: t.from}, message) {
	case namerelay.Passed:
		t.counters.Queries++
	case namerelay.Refused:
		t.counters.QueriesRefused++
	case namerelay.TooMany:
		t.hit(limits.Queries)
	}
}

// openSocket connects a socket to a resolver, for datagrams.
func (e *nameRelay) openSocket(t *turn, resolver netip.AddrPort, gen, index uint32) (fd int, err error) {
	if !t.admitSocket() {
		return -1, namerelay.ErrNoRoom
	}
	to := ipaddr.EndpointFrom(resolver)
	fd, err = unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil { // that the host does not speak that version of IP is one reason
		if namerelay.IsShortage(err) {
			t.hit(limits.Host)
		}
		return -1, err
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	sender := udpSender{v6: !to.Addr.Is4()}
	sender.set(int32(fd), manner{route: mayFragment})
	if err := t.worker.RegisterInput(fd, token(tokenName, gen, index)); err != nil {
		t.hit(limits.Host)
		_ = unix.Close(fd)
		return -1, namerelay.ErrNoRoom
	}
	t.countSockets(1)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		e.closeSocket(fd)
		return -1, err
	}
	return fd, nil
}

// closeSocket closes a socket of openSocket.
func (e *nameRelay) closeSocket(fd int) {
	e.shard.worker.Unregister(fd)
	_ = unix.Close(fd)
	e.shard.countSockets(-1)
}

// event takes what a resolver has answered.
func (e *nameRelay) event(t *turn, gen, index uint32) {
	strays, ok := e.relay.Event(t.now, gen, index)
	if !ok {
		t.counters.StaleEvents++
	}
	t.counters.Strangers += uint64(strays)
}

// reply sends an answer to a host of the guest, and reports whether there was room for it.
func (e *nameRelay) reply(t *turn, c namerelay.Client, answer []byte) bool {
	before := t.to
	defer func() { t.to = before }()
	switch {
	case !e.fragments.sendFragments(t):
		return false
	case len(answer) <= e.fragments.longest(&c.Key.Guest):
		return t.send(t.udpFrame(hosts.UnpackMAC(t.hosts.MAC(c.Host)), &c.Key, answer))
	case !t.rx.Available():
		return false
	}
	t.to = c.Host
	e.fragments.cut(t, &c.Key, answer, 0)
	return true
}

// tend does what is due to queries and to connections to the name server.
func (e *nameRelay) tend(t *turn) {
	if e.relay.TendQueries(t.now) {
		t.rx.Starve()
	}
	if e.relay.AreStreamsDue(t.now) {
		e.tendStreams(t)
	}
}

// next returns when there is something to tend, 0 for never.
func (e *nameRelay) next(t *turn) int64 { return e.relay.Next(t.now) }

// forget ends all queries: the guest is gone. forgive forgets which resolvers have failed.
func (e *nameRelay) forget()  { e.relay.Forget() }
func (e *nameRelay) forgive() { e.relay.Forgive() }

// tellLeft tells the user that a resolver is asked last from now on.
func (e *nameRelay) tellLeft(to netip.AddrPort, by dns.Transport) {
	how := ""
	if by == dns.TCP {
		how = " by TCP"
	}
	e.shard.counters.ResolversLeft++
	e.shard.warn("a resolver of the host does not answer; others are asked before it", "resolver", to.String()+how)
}

// tellBack tells the user that one is asked in its turn again.
func (e *nameRelay) tellBack(to netip.AddrPort) {
	e.shard.worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "a resolver of the host answers again", Key: "resolver", Value: to.String(),
	})
}
