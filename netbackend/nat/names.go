package nat

import (
	"bytes"
	"log/slog"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
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
	host   hostID // of the guest, who asked
	query  []byte // nil if the slot is free
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
func (p *Port) nameQuery(key *flowKey, k *packet, length int) {
	payload := p.copyPayload(k, length)
	if payload == nil {
		return
	}
	payload = bytes.Clone(payload)
	if k.segment == 0 || len(payload) == 0 {
		p.affordQuery(key, payload)
		return
	}
	for message := range slices.Chunk(payload, k.segment) {
		p.affordQuery(key, message)
	}
}

func (p *Port) affordQuery(key *flowKey, message []byte) {
	if p.afford(errandQuery) {
		p.passQuery(key, message)
	}
}

// passQuery passes a query on, or answers it.
func (p *Port) passQuery(key *flowKey, message []byte) {
	if v := dns.Inspect(message); v != dns.Ordinary {
		p.counters.QueriesRefused++
		p.replyName(key, p.from, dns.Refuse(message, v))
		return
	}
	if q := p.names.find(key, message); q != nil {
		p.repeatQuery(q)
		return
	}
	if p.names.full(p.mostQueries()) || !p.pairs.queries.take() {
		p.hit(limitQueries)
		p.replyName(key, p.from, dns.Fail(message))
		return
	}
	p.counters.Queries++
	q := p.names.begin(key, message)
	q.host = p.from
	if !p.askNext(q) {
		p.finishQuery(q, dns.Fail(message))
		return
	}
	if to, due := p.services.dns.Probe(p.now); due && q.find(to) == nil {
		p.try(q, to).probe = true
	}
}

// mostQueries is how many queries a queue pair may have under way though the quota has more: their sockets are to leave some.
func (p *Port) mostQueries() int { return max(p.maxSockets()/(2*openTries), 1) }

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
func (p *Port) askNext(q *nameQuery) bool {
	relay := p.services.dns
	for to, ok := relay.Next(p.now, dns.UDP, q.asked()); ok; to, ok = relay.Next(p.now, dns.UDP, q.asked()) {
		if p.try(q, to).fd >= 0 {
			q.nextAt, q.endAt = p.now+int64(relay.Patience()), p.now+queryLife
			p.names.wake(q)
			return true
		}
	}
	return false
}

// repeatQuery handles a query that the guest has sent again. A resolver is asked that was not; if there is none, all of them are
// once more.
func (p *Port) repeatQuery(q *nameQuery) {
	if q.owed || p.askNext(q) {
		return
	}
	for i := range q.tries {
		q.tries[i].asked = false
	}
	if !p.askNext(q) {
		p.settleQuery(q)
	}
}

// settleQuery ends a query for which nobody else can be asked, unless an answer is awaited.
func (p *Port) settleQuery(q *nameQuery) {
	awaited, probes := q.awaits()
	switch {
	case awaited+probes == 0 || awaited == 0 && q.answer != nil:
		if q.answer == nil {
			q.answer = dns.Fail(q.query)
		}
		p.finishQuery(q, q.answer)
	case q.answer != nil:
		q.nextAt = p.now + int64(p.services.dns.Patience()) // so long for a better one
		p.names.wake(q)
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
func (p *Port) try(q *nameQuery, to netip.AddrPort) *nameTry {
	t := q.find(to)
	if t == nil {
		q.tries = append(q.tries, nameTry{to: to, fd: -1})
		t = &q.tries[len(q.tries)-1]
	}
	t.asked, t.probe, t.since = true, false, p.now
	if t.fd >= 0 {
		if sent(t.fd, q.query) {
			return t
		}
		p.endTry(t) // the host's address, which the socket has, may be another one now
	}
	if p.openTry(q, t) && !sent(t.fd, q.query) {
		p.tryFailed(t)
	}
	return t
}

// sent sends a query, and reports whether there was no error but those that are nobody's fault.
func sent(fd int, query []byte) bool {
	_, err := unix.Write(fd, query)
	return err == nil || isShortage(err)
}

// openTry opens the socket of a try.
func (p *Port) openTry(q *nameQuery, t *nameTry) bool {
	p.limitTries(q)
	if !p.admitSocket() {
		return false
	}
	to := ipaddr.EndpointFrom(t.to)
	fd, err := unix.Socket(to.Addr.Domain(), unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if isShortage(err) {
		p.hit(limitHost)
		return false
	}
	if err != nil { // the host does not speak that version of IP
		p.tryFailed(t)
		return false
	}
	hostsock.KeepErrors(&to.Addr, fd, 1)
	sender := udpSender{v6: !to.Addr.Is4()}
	sender.set(int32(fd), manner{route: mayFragment})
	if err := p.worker.RegisterInput(fd, p.names.token(q, t)); err != nil {
		p.hit(limitHost)
		_ = unix.Close(fd)
		return false
	}
	t.fd = fd
	p.flows.sockets.Add(1)
	if err := unix.Connect(fd, to.Sockaddr()); err != nil {
		p.tryFailed(t)
		return false
	}
	return true
}

// limitTries ends the try that waits longest if there are as many as there may be.
func (p *Port) limitTries(q *nameQuery) {
	if n, probes := q.awaits(); n+probes < openTries {
		return
	}
	var oldest *nameTry
	for i := range q.tries {
		if t := &q.tries[i]; t.fd >= 0 && (oldest == nil || t.since < oldest.since) {
			oldest = t
		}
	}
	p.endTry(oldest)
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
func (p *Port) tryFailed(t *nameTry) {
	if p.services.dns.Failed(p.now, dns.UDP, t.to) {
		p.tellResolver(t.to, "")
	}
	p.endTry(t)
}

// endTry closes the socket of a try.
func (p *Port) endTry(t *nameTry) {
	if t.fd < 0 {
		return
	}
	p.worker.Unregister(t.fd)
	_ = unix.Close(t.fd)
	p.flows.sockets.Add(-1)
	t.fd = -1
}

// nameEvent takes what a resolver has answered.
func (p *Port) nameEvent(gen, index uint32) {
	slot, i := int(index>>8), int(index&0xff)
	if slot >= len(p.names.slots) {
		return
	}
	q := &p.names.slots[slot]
	if q.query == nil || q.gen != gen || i >= len(q.tries) {
		p.counters.StaleEvents++
		return
	}
	for t := &q.tries[i]; t.fd >= 0 && p.readTry(q, t); {
	}
}

// readTry reads one message of a resolver, and reports whether there may be another one.
func (p *Port) readTry(q *nameQuery, t *nameTry) bool {
	n, err := unix.Read(t.fd, p.slow)
	switch {
	case err == unix.EINTR:
		return true
	case err == unix.EAGAIN:
		return false
	case err != nil:
		p.tryFailed(t)
		p.goOn(q)
		return false
	}
	switch dns.Classify(q.query, p.slow[:n]) {
	case dns.NoReply:
		p.counters.Strangers++
		return true
	case dns.AskNext:
		p.heard(t)
		if q.answer == nil {
			q.answer = bytes.Clone(p.slow[:n])
		}
		p.endTry(t)
		p.goOn(q)
	default:
		p.heard(t)
		p.endTry(t)
		p.finishQuery(q, bytes.Clone(p.slow[:n]))
	}
	return false
}

// heard takes note that a resolver has answered.
func (p *Port) heard(t *nameTry) {
	if p.services.dns.Answered(p.now, dns.UDP, t.to) {
		p.tellRecovered(t.to)
	}
}

// goOn asks the next resolver in the place of one that has answered by an error, or not at all.
func (p *Port) goOn(q *nameQuery) {
	switch {
	case q.over:
		p.endProbe(q)
	case !p.askNext(q):
		p.settleQuery(q)
	}
}

// endProbe ends a query whose last probe is over, unless its answer waits for room.
func (p *Port) endProbe(q *nameQuery) {
	if q.over = false; !q.owed {
		p.endQuery(q)
	}
}

// finishQuery gives the guest its answer. Resolvers that were silent meanwhile are set aside, if they are so to others too.
func (p *Port) finishQuery(q *nameQuery, answer []byte) {
	if q.over {
		p.endProbe(q)
		return
	}
	patience := int64(p.services.dns.Patience())
	for i := range q.tries {
		t := &q.tries[i]
		if t.fd >= 0 && t.probe && p.now-t.since < patience {
			q.over, q.endAt = true, t.since+patience
			continue
		}
		p.endSilent(t, patience)
	}
	q.nextAt, q.answer = 0, answer
	if !p.replyName(&q.key, q.host, answer) {
		q.owed, q.endAt = true, p.now+queryLife
		p.names.owed++
	} else if !q.over {
		p.endQuery(q)
	}
	p.names.wake(q)
}

// endSilent ends a try. Its resolver is set aside if it was silent for as long as patience.
func (p *Port) endSilent(t *nameTry, patience int64) {
	if t.fd >= 0 && p.now-t.since >= patience && p.services.dns.Silent(p.now, dns.UDP, t.to, t.since) {
		p.tellResolver(t.to, "")
	}
	p.endTry(t)
}

// endQuery frees the slot of a query.
func (p *Port) endQuery(q *nameQuery) {
	for i := range q.tries {
		p.endTry(&q.tries[i])
	}
	if q.owed {
		p.names.owed--
	}
	*q = nameQuery{}
	p.pairs.queries.give()
}

// replyName sends an answer to a host of the guest, and reports whether there was room for it. nil is none.
func (p *Port) replyName(key *flowKey, host hostID, answer []byte) bool {
	before := p.to
	defer func() { p.to = before }()
	switch {
	case answer == nil:
		return true
	case !p.sendFragments():
		return false
	case len(answer) <= p.longest(&key.guest):
		return p.send(p.udpFrame(unpackMAC(p.hosts.mac(host)), key, answer))
	case !p.rx.Available():
		return false
	}
	p.to = host
	p.cut(key, answer, 0)
	return true
}

// tendNames sends answers that waited for room, asks the next resolvers in the place of silent ones, and ends what nobody has
// answered.
func (p *Port) tendNames() {
	if p.names.wakeAt != 0 || p.names.owed > 0 {
		p.tendQueries()
	}
}

func (p *Port) tendQueries() {
	n := &p.names
	due := n.wakeAt != 0 && p.now >= n.wakeAt
	if !due && n.owed == 0 {
		return
	}
	if due {
		n.wakeAt = 0
	}
	for i := range n.slots {
		if q := &n.slots[i]; q.query != nil {
			p.tendQuery(q)
		}
	}
	if n.owed > 0 {
		p.rx.Starve()
	}
}

func (p *Port) tendQuery(q *nameQuery) {
	if q.owed && p.replyName(&q.key, q.host, q.answer) {
		q.owed = false
		p.names.owed--
		if !q.over {
			p.endQuery(q)
			return
		}
	}
	switch {
	case p.now >= q.endAt:
		if q.over {
			for i := range q.tries {
				p.endSilent(&q.tries[i], 0)
			}
		}
		p.endQuery(q)
		return
	case q.nextAt != 0 && p.now >= q.nextAt && !p.askNext(q):
		if q.nextAt = 0; q.answer != nil {
			p.finishQuery(q, q.answer)
			return
		}
	}
	p.names.wake(q)
}

// forgetNames ends all queries: the guest is gone.
func (p *Port) forgetNames() {
	for i := range p.names.slots {
		if q := &p.names.slots[i]; q.query != nil {
			p.endQuery(q)
		}
	}
}

// tellResolver tells the user that a resolver is asked last from now on.
func (p *Port) tellResolver(to netip.AddrPort, how string) {
	p.counters.ResolversLeft++
	p.warn("a resolver of the host does not answer; others are asked before it", "resolver", to.String()+how)
}

// tellRecovered tells the user that one is asked in its turn again.
func (p *Port) tellRecovered(to netip.AddrPort) {
	p.worker.Raise(netbackend.Notice{
		Level: int(slog.LevelInfo), Message: "a resolver of the host answers again", Key: "resolver", Value: to.String(),
	})
}
