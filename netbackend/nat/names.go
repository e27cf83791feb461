package nat

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// Queries to the name server by UDP are no flows: each is asked of one resolver after the other until one answers, as the C
// library does, by a socket of its own for each resolver, of which the first answer goes to the guest. Queries and answers pass
// as they are. All of this is rare, so it works on copies and may allocate.

const (
	// queryLife is how long the last resolver that was asked may take. Then it has given the query up itself, as dnsmasq and
	// BIND do; before, to forget it would only hide that it takes a place there.
	queryLife = int64(10e9)
	// openTries is how many resolvers' answers to one query are awaited at once.
	openTries = 3
)

// nameRelay passes the guest's queries on to the host's resolvers.
type nameRelay struct {
	shard     *shard
	fragments *fragmenter
	tcp       *tcpEngine
	relay     *dns.Relay
	queries   nameQueries
	streamsAt int64 // when tendStreams looks again, 0 for never
}

// nameQueries are the queries of one queue pair that are under way. The zero value has none.
type nameQueries struct {
	slots  []nameQuery // a free one has no query
	gen    uint32      // of the last one that was begun
	wakeAt int64       // when one of them wants attention, 0 for never; it may be earlier
	owed   int         // answers that wait for room
}

// nameQuery is one query.
type nameQuery struct {
	gen    uint32
	key    flowKey
	host   hosts.ID // of the guest, who asked
	query  []byte   // nil if the slot is free
	tries  []nameTry
	answer []byte // the best one until now, which may be an error
	owed   bool   // it is to be sent as soon as there is room
	over   bool   // the guest has its answer, and only a probe is awaited
	nextAt int64  // when the next resolver is asked, 0 for never
	endAt  int64  // when nobody is awaited any more
}

// nameTry is a query that one resolver was asked.
type nameTry struct {
	to    netip.AddrPort
	fd    int // -1 if its answer is not awaited any more
	since int64
	asked bool // it was asked since the guest last asked
	probe bool // it had failed before, and is asked beside another one
}

// nameQuery handles datagrams of the guest to the name server. length is that of UDP header and payload.
func (e *nameRelay) nameQuery(t *turn, key *flowKey, k *packet, length int) {
	payload := t.copyPayload(k, length)
	if payload == nil {
		return
	}
	payload = bytes.Clone(payload)
	if k.segment == 0 || len(payload) == 0 {
		e.affordQuery(t, key, payload)
		return
	}
	for message := range slices.Chunk(payload, k.segment) {
		e.affordQuery(t, key, message)
	}
}

func (e *nameRelay) affordQuery(t *turn, key *flowKey, message []byte) {
	if t.allow(slowQuery) {
		e.passQuery(t, key, message)
	}
}

// passQuery passes a query on, or answers it.
func (e *nameRelay) passQuery(t *turn, key *flowKey, message []byte) {
	if v := dns.Inspect(message); v != dns.Ordinary {
		t.counters.QueriesRefused++
		e.replyName(t, key, t.from, dns.Refuse(message, v))
		return
	}
	if q := e.queries.find(key, message); q != nil {
		e.repeatQuery(t, q)
		return
	}
	if e.queries.full(e.mostQueries()) || !t.pairs.queries.take() {
		t.hit(limitQueries)
		e.replyName(t, key, t.from, dns.Fail(message))
		return
	}
	t.counters.Queries++
	q := e.queries.begin(key, message)
	q.host = t.from
	if !e.askNext(t, q) {
		e.finishQuery(t, q, dns.Fail(message))
		return
	}
	if to, due := e.relay.Probe(t.now); due && q.find(to) == nil {
		e.try(t, q, to).probe = true
	}
}

// mostQueries is how many queries a queue pair may have under way though the quota has more: their sockets are to leave some.
func (e *nameRelay) mostQueries() int { return max(e.shard.maxSockets()/(2*openTries), 1) }

// find returns the query that message repeats, nil if it is a new one.
func (n *nameQueries) find(key *flowKey, message []byte) *nameQuery {
	for i := range n.slots {
		q := &n.slots[i]
		if q.query != nil && !q.over && q.key == *key && bytes.Equal(q.query, message) {
			return q
		}
	}
	return nil
}

// full reports whether there are most queries.
func (n *nameQueries) full(most int) bool {
	used := 0
	for i := range n.slots {
		if n.slots[i].query != nil {
			used++
		}
	}
	return used >= most
}

// begin takes a slot for a query. Pointers to others are of no use any more.
func (n *nameQueries) begin(key *flowKey, message []byte) *nameQuery {
	i := slices.IndexFunc(n.slots, func(q nameQuery) bool { return q.query == nil })
	if i < 0 {
		i = len(n.slots)
		n.slots = append(n.slots, nameQuery{})
	}
	n.gen = (n.gen + 1) & generationMask
	n.slots[i] = nameQuery{gen: n.gen, key: *key, query: message}
	return &n.slots[i]
}

// askNext asks the next resolver, and reports whether there was one.
func (e *nameRelay) askNext(t *turn, q *nameQuery) bool {
	relay := e.relay
	for to, ok := relay.Next(t.now, dns.UDP, q.asked()); ok; to, ok = relay.Next(t.now, dns.UDP, q.asked()) {
		if e.try(t, q, to).fd >= 0 {
			q.nextAt, q.endAt = t.now+int64(relay.Patience()), t.now+queryLife
			e.queries.wake(q)
			return true
		}
	}
	return false
}

// repeatQuery handles a query that the guest has sent again. A resolver is asked that was not; if there is none, all of them are
// once more.
func (e *nameRelay) repeatQuery(t *turn, q *nameQuery) {
	if q.owed || e.askNext(t, q) {
		return
	}
	for i := range q.tries {
		q.tries[i].asked = false
	}
	if !e.askNext(t, q) {
		e.settleQuery(t, q)
	}
}

// settleQuery ends a query for which nobody else can be asked, unless an answer is awaited.
func (e *nameRelay) settleQuery(t *turn, q *nameQuery) {
	awaited, probes := q.awaits()
	switch {
	case awaited+probes == 0 || awaited == 0 && q.answer != nil:
		if q.answer == nil {
			q.answer = dns.Fail(q.query)
		}
		e.finishQuery(t, q, q.answer)
	case q.answer != nil:
		q.nextAt = t.now + int64(e.relay.Patience()) // so long for a better one
		e.queries.wake(q)
	default:
		q.nextAt = 0
	}
}

// find returns what q asked a resolver, nil if nothing.
func (q *nameQuery) find(to netip.AddrPort) *nameTry {
	for i := range q.tries {
		if q.tries[i].to == to {
			return &q.tries[i]
		}
	}
	return nil
}

// asked returns the resolvers that were asked since the guest last asked.
func (q *nameQuery) asked() (list []netip.AddrPort) {
	for i := range q.tries {
		if q.tries[i].asked {
			list = append(list, q.tries[i].to)
		}
	}
	return list
}

// awaits returns how many answers are awaited, those of probes apart.
func (q *nameQuery) awaits() (n, probes int) {
	for i := range q.tries {
		switch t := &q.tries[i]; {
		case t.fd < 0:
		case t.probe:
			probes++
		default:
			n++
		}
	}
	return n, probes
}

// wake makes sure that q gets attention in time.
func (n *nameQueries) wake(q *nameQuery) {
	n.wakeAt = netbackend.Earlier(n.wakeAt, netbackend.Earlier(q.nextAt, q.endAt))
}

// try asks one resolver. Its fd is negative if that failed.
func (e *nameRelay) try(t *turn, q *nameQuery, to netip.AddrPort) *nameTry {
	attempt := q.find(to)
	if attempt == nil {
		q.tries = append(q.tries, nameTry{to: to, fd: -1})
		attempt = &q.tries[len(q.tries)-1]
	}
	attempt.asked, attempt.probe, attempt.since = true, false, t.now
	if attempt.fd >= 0 {
		if sent(attempt.fd, q.query) {
			return attempt
		}
		e.endTry(attempt) // the host's address, which the socket has, may be another one now
	}
	if e.openTry(t, q, attempt) && !sent(attempt.fd, q.query) {
		e.tryFailed(t, attempt)
	}
	return attempt
}

// sent sends a query, and reports whether there was no error but those that are nobody's fault.
func sent(fd int, query []byte) bool {
	_, err := unix.Write(fd, query)
	return err == nil || isShortage(err)
}

// openTry opens the socket of a try.
func (e *nameRelay) openTry(t *turn, q *nameQuery, try *nameTry) bool {
	e.limitTries(q)
	if !t.admitSocket() {
		return false
	}
	to := ipaddr.EndpointFrom(try.to)
	fd, err := unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if isShortage(err) {
		t.hit(limitHost)
		return false
	}
	if err != nil { // the host does not speak that version of IP
		e.tryFailed(t, try)
		return false
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	sender := udpSender{v6: !to.Addr.Is4()}
	sender.set(int32(fd), manner{route: mayFragment})
	if err := t.worker.RegisterInput(fd, e.queries.token(q, try)); err != nil {
		t.hit(limitHost)
		_ = unix.Close(fd)
		return false
	}
	try.fd = fd
	t.flows.sockets.Add(1)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		e.tryFailed(t, try)
		return false
	}
	return true
}

// limitTries ends the try that waits longest if there are as many as there may be.
func (e *nameRelay) limitTries(q *nameQuery) {
	if n, probes := q.awaits(); n+probes < openTries {
		return
	}
	var oldest *nameTry
	for i := range q.tries {
		if t := &q.tries[i]; t.fd >= 0 && (oldest == nil || t.since < oldest.since) {
			oldest = t
		}
	}
	e.endTry(oldest)
}

// token names a try in events.
func (n *nameQueries) token(q *nameQuery, t *nameTry) uint64 {
	slot := slices.IndexFunc(n.slots, func(other nameQuery) bool { return other.gen == q.gen && other.query != nil })
	i := slices.IndexFunc(q.tries, func(other nameTry) bool { return other.to == t.to })
	return token(tokenName, q.gen, uint32(slot<<8|i))
}

// isShortage reports whether err says that the host lacks something just now, which is nobody's fault.
func isShortage(err error) bool {
	switch err {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM, unix.EMFILE, unix.ENFILE, unix.EINTR:
		return true
	}
	return false
}

// tryFailed ends a try whose resolver cannot be reached.
func (e *nameRelay) tryFailed(t *turn, try *nameTry) {
	if e.relay.Failed(t.now, dns.UDP, try.to) {
		e.tellResolver(try.to, "")
	}
	e.endTry(try)
}

// endTry closes the socket of a try.
func (e *nameRelay) endTry(t *nameTry) {
	if t.fd < 0 {
		return
	}
	e.shard.worker.Unregister(t.fd)
	_ = unix.Close(t.fd)
	e.shard.flows.sockets.Add(-1)
	t.fd = -1
}

// nameEvent takes what a resolver has answered.
func (e *nameRelay) nameEvent(t *turn, gen, index uint32) {
	slot, i := int(index>>8), int(index&0xff)
	if slot >= len(e.queries.slots) {
		return
	}
	q := &e.queries.slots[slot]
	if q.query == nil || q.gen != gen || i >= len(q.tries) {
		t.counters.StaleEvents++
		return
	}
	for try := &q.tries[i]; try.fd >= 0 && e.readTry(t, q, try); {
	}
}

// readTry reads one message of a resolver, and reports whether there may be another one.
func (e *nameRelay) readTry(t *turn, q *nameQuery, try *nameTry) bool {
	n, err := unix.Read(try.fd, t.slow)
	switch {
	case err == unix.EINTR:
		return true
	case err == unix.EAGAIN:
		return false
	case err != nil:
		e.tryFailed(t, try)
		e.goOn(t, q)
		return false
	}
	switch dns.Classify(q.query, t.slow[:n]) {
	case dns.NoReply:
		t.counters.Strangers++
		return true
	case dns.AskNext:
		e.heard(t, try)
		if q.answer == nil {
			q.answer = bytes.Clone(t.slow[:n])
		}
		e.endTry(try)
		e.goOn(t, q)
	default:
		e.heard(t, try)
		e.endTry(try)
		e.finishQuery(t, q, bytes.Clone(t.slow[:n]))
	}
	return false
}

// heard takes note that a resolver has answered.
func (e *nameRelay) heard(t *turn, try *nameTry) {
	if e.relay.Answered(t.now, dns.UDP, try.to) {
		e.tellRecovered(try.to)
	}
}

// goOn asks the next resolver in the place of one that has answered by an error, or not at all.
func (e *nameRelay) goOn(t *turn, q *nameQuery) {
	switch {
	case q.over:
		e.endProbe(q)
	case !e.askNext(t, q):
		e.settleQuery(t, q)
	}
}

// endProbe ends a query whose last probe is over, unless its answer waits for room.
func (e *nameRelay) endProbe(q *nameQuery) {
	if q.over = false; !q.owed {
		e.endQuery(q)
	}
}

// finishQuery gives the guest its answer. Resolvers that were silent meanwhile are set aside, if they are so to others too.
func (e *nameRelay) finishQuery(t *turn, q *nameQuery, answer []byte) {
	if q.over {
		e.endProbe(q)
		return
	}
	patience := int64(e.relay.Patience())
	for i := range q.tries {
		try := &q.tries[i]
		if try.fd >= 0 && try.probe && t.now-try.since < patience {
			q.over, q.endAt = true, try.since+patience
			continue
		}
		e.endSilent(t, try, patience)
	}
	q.nextAt, q.answer = 0, answer
	if !e.replyName(t, &q.key, q.host, answer) {
		q.owed, q.endAt = true, t.now+queryLife
		e.queries.owed++
	} else if !q.over {
		e.endQuery(q)
	}
	e.queries.wake(q)
}

// endSilent ends a try. Its resolver is set aside if it was silent for as long as patience.
func (e *nameRelay) endSilent(t *turn, try *nameTry, patience int64) {
	if try.fd >= 0 && t.now-try.since >= patience && e.relay.Silent(t.now, dns.UDP, try.to, try.since) {
		e.tellResolver(try.to, "")
	}
	e.endTry(try)
}

// endQuery frees the slot of a query.
func (e *nameRelay) endQuery(q *nameQuery) {
	for i := range q.tries {
		e.endTry(&q.tries[i])
	}
	if q.owed {
		e.queries.owed--
	}
	*q = nameQuery{}
	e.shard.pairs.queries.give()
}

// replyName sends an answer to a host of the guest, and reports whether there was room for it. nil is none.
func (e *nameRelay) replyName(t *turn, key *flowKey, host hosts.ID, answer []byte) bool {
	before := t.to
	defer func() { t.to = before }()
	switch {
	case answer == nil:
		return true
	case !e.fragments.sendFragments(t):
		return false
	case len(answer) <= e.fragments.longest(&key.Guest):
		return t.send(t.udpFrame(hosts.UnpackMAC(t.hosts.MAC(host)), key, answer))
	case !t.rx.Available():
		return false
	}
	t.to = host
	e.fragments.cut(t, key, answer, 0)
	return true
}

// tendNames sends answers that waited for room, asks the next resolvers in the place of silent ones, and ends what nobody has
// answered.
func (e *nameRelay) tendNames(t *turn) {
	if e.queries.wakeAt != 0 || e.queries.owed > 0 {
		e.tendQueries(t)
	}
}

func (e *nameRelay) tendQueries(t *turn) {
	n := &e.queries
	due := n.wakeAt != 0 && t.now >= n.wakeAt
	if !due && n.owed == 0 {
		return
	}
	if due {
		n.wakeAt = 0
	}
	for i := range n.slots {
		if q := &n.slots[i]; q.query != nil {
			e.tendQuery(t, q)
		}
	}
	if n.owed > 0 {
		t.rx.Starve()
	}
}

func (e *nameRelay) tendQuery(t *turn, q *nameQuery) {
	if q.owed && e.replyName(t, &q.key, q.host, q.answer) {
		q.owed = false
		e.queries.owed--
		if !q.over {
			e.endQuery(q)
			return
		}
	}
	switch {
	case t.now >= q.endAt:
		if q.over {
			for i := range q.tries {
				e.endSilent(t, &q.tries[i], 0)
			}
		}
		e.endQuery(q)
		return
	case q.nextAt != 0 && t.now >= q.nextAt && !e.askNext(t, q):
		if q.nextAt = 0; q.answer != nil {
			e.finishQuery(t, q, q.answer)
			return
		}
	}
	e.queries.wake(q)
}

// forgetNames ends all queries: the guest is gone.
func (e *nameRelay) forgetNames() {
	for i := range e.queries.slots {
		if q := &e.queries.slots[i]; q.query != nil {
			e.endQuery(q)
		}
	}
}

// tellResolver tells the user that a resolver is asked last from now on.
func (e *nameRelay) tellResolver(to netip.AddrPort, how string) {
	e.shard.counters.ResolversLeft++
	e.shard.warn("a resolver of the host does not answer; others are asked before it", "resolver", to.String()+how)
}

// tellRecovered tells the user that one is asked in its turn again.
func (e *nameRelay) tellRecovered(to netip.AddrPort) {
	e.shard.worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "a resolver of the host answers again", Key: "resolver", Value: to.String(),
	})
}

// next returns when queries or connections to the name server want attention, 0 for never.
func (e *nameRelay) next(t *turn) int64 {
	return netbackend.Earlier(e.queries.wakeAt, e.streamsNext(t))
}

// forgive forgets which resolvers have failed.
func (e *nameRelay) forgive() { e.relay.Forgive() }
