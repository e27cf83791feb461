package namerelay

import (
	"bytes"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/services/dns"
)

const (
	// queryLife is how long the last resolver that was asked may take. Then it has given the query up itself, as dnsmasq and
	// BIND do; before, to forget it would only hide that it takes a place there.
	queryLife = int64(10e9)
	// openTries is how many resolvers' answers to one query are awaited at once.
	openTries = 3
	// staleAfter is how long resolvers may take before the guest gets an answer that is over (RFC 8767 section 5).
	staleAfter = int64(1800e6)
)

// queries are the queries of one queue pair that are under way. The zero value has none.
type queries struct {
	slots  []query // a free one has no message
	gen    uint32  // of the last one that was begun
	wakeAt int64   // when one of them wants attention, 0 for never; it may be earlier
	owed   int     // answers that wait for room
}

// query is one query.
type query struct {
	gen     uint32
	relay   *dns.Relay // of whose resolvers it is asked
	version uint64     // of all resolvers, when it came
	client  Client
	message []byte // nil if the slot is free
	tries   []try
	answer  []byte // the best one until now, which may be an error
	owed    bool   // it is to be sent as soon as there is room
	told    bool   // the guest has its answer
	over    bool   // as told, and only a probe is awaited
	nextAt  int64  // when the next resolver is asked, 0 for never
	endAt   int64  // when nobody is awaited any more
	staleAt int64  // when an answer that is over is given, if resolvers are silent, 0 for never
}

// try is a query that one resolver was asked.
type try struct {
	to    dns.Server
	by    dns.Transport
	fd    int  // -1 if its answer is not awaited any more
	box   *box // where the answer comes of a resolver that is asked by a connection; nil by UDP
	since int64
	asked bool // it was asked since the guest last asked
	probe bool // it had failed before, and is asked beside another one
}

// Outcome is what has become of a query of the guest.
type Outcome uint8

const (
	Passed   Outcome = iota // it was passed on, or no resolver could be asked, which is an answer
	Repeated                // it was under way already
	Refused                 // it is no ordinary query, which was answered
	TooMany                 // there are too many, which was answered
	Cached                  // an answer that was kept has answered it
	Named                   // it was about a name of the configuration, which has answered it
	Denied                  // rules by name have answered it
)

// Ask passes a query on, or answers it. The message is the Relay's from now on.
func (r *Relay) Ask(now int64, client *Client, message []byte) Outcome {
	if v := dns.Inspect(message); v != dns.Ordinary {
		r.reply(client, dns.Refuse(message, v))
		return Refused
	}
	message = r.cfg.Judge.Plain(message)
	if q := r.queries.find(client, message); q != nil {
		r.repeat(now, q)
		client.hasNoMore()
		return Repeated
	}
	if answer := r.cfg.Guest.zones.Load().Answer(now, message); answer != nil {
		r.cfg.Judge.Note(now, message, answer)
		r.reply(client, answer)
		return Named
	}
	if answer := r.cfg.Judge.Query(now, message); answer != nil {
		r.reply(client, answer)
		return Denied
	}
	version, answer := r.lookUp(now, message)
	if answer != nil && r.reply(client, r.cfg.Judge.Answer(now, message, client.fit(message, answer))) {
		return Cached
	}
	if r.queries.count() >= r.most() || !r.cfg.Guest.queries.Take() {
		r.reply(client, dns.Fail(message))
		return TooMany
	}
	q := r.queries.begin(client, message)
	q.version = version
	q.relay, _ = r.resolvers.For(message)
	if cache := r.cfg.Guest.cache; cache != nil && cache.HasStale(now, message) {
		q.staleAt = now + staleAfter
	}
	if !r.askNext(now, q) {
		r.finish(now, q, r.orStale(now, q, dns.Fail(message)))
		return Passed
	}
	if to, due := q.relay.Probe(now); due && q.find(to) == nil {
		r.try(now, q, to).probe = true
	}
	return Passed
}

// Decline is Ask for a query for which the guest has no budget. By UDP the guest asks again, and gets no answer.
func (r *Relay) Decline(client *Client, message []byte) {
	if client.Stream != nil {
		r.reply(client, dns.Fail(message))
	}
}

// lookUp returns the answer to a query that is kept, nil if there is none, and the version of the resolvers.
func (r *Relay) lookUp(now int64, message []byte) (version uint64, answer []byte) {
	cache := r.cfg.Guest.cache
	if cache == nil {
		return 0, nil
	}
	version = r.resolvers.Version(now)
	return version, cache.Get(now, version, message)
}

// orStale returns an answer that is over in the place of an error that says that no resolver knows better, and else the error.
func (r *Relay) orStale(now int64, q *query, failure []byte) []byte {
	if q.staleAt == 0 {
		return failure
	}
	q.staleAt = 0
	answer := r.cfg.Guest.cache.GetStale(now, q.version, q.message)
	if answer == nil {
		return failure
	}
	r.cfg.Stale()
	return q.client.fit(q.message, answer)
}

// answerStale answers a query of which resolvers take their time by an answer that is over. Their answer is awaited still, and kept.
func (r *Relay) answerStale(now int64, q *query) {
	if answer := r.orStale(now, q, nil); answer != nil && r.reply(&q.client, r.cfg.Judge.Answer(now, q.message, answer)) {
		q.told, q.over, q.nextAt, q.answer = true, true, 0, nil
	}
}

// keep keeps the answer to a query, if answers are kept.
func (r *Relay) keep(now int64, q *query, answer []byte) {
	if cache := r.cfg.Guest.cache; cache != nil {
		cache.Put(now, q.version, q.message, answer)
	}
}

// most is how many queries may be under way.
func (r *Relay) most() int { return max(r.cfg.Sockets()/(2*openTries), 1) }

// find returns the query that message repeats, nil if it is a new one.
func (n *queries) find(client *Client, message []byte) *query {
	for i := range n.slots {
		q := &n.slots[i]
		if q.message != nil && !q.over && q.client.Key == client.Key && q.client.Stream == client.Stream && bytes.Equal(q.message, message) {
			return q
		}
	}
	return nil
}

// count returns how many queries there are.
func (n *queries) count() (used int) {
	for i := range n.slots {
		if n.slots[i].message != nil {
			used++
		}
	}
	return used
}

// begin takes a slot for a query. Pointers to others are of no use any more.
func (n *queries) begin(client *Client, message []byte) *query {
	i := slices.IndexFunc(n.slots, func(q query) bool { return q.message == nil })
	if i < 0 {
		i = len(n.slots)
		n.slots = append(n.slots, query{})
	}
	n.gen = (n.gen + 1) & flowtable.GenerationMask
	n.slots[i] = query{gen: n.gen, client: *client, message: message}
	return &n.slots[i]
}

// askNext asks the next resolver, and reports whether there was one.
func (r *Relay) askNext(now int64, q *query) bool {
	for to, ok := q.relay.Next(now, dns.UDP, q.asked()); ok; to, ok = q.relay.Next(now, dns.UDP, q.asked()) {
		if r.try(now, q, to).fd >= 0 {
			q.nextAt, q.endAt = now+int64(q.relay.Patience()), now+queryLife
			r.queries.wake(q)
			return true
		}
	}
	return false
}

// repeat handles a query that the guest has sent again. A resolver is asked that was not; if there is none, all of them are
// once more.
func (r *Relay) repeat(now int64, q *query) {
	if q.owed || r.askNext(now, q) {
		return
	}
	for i := range q.tries {
		q.tries[i].asked = false
	}
	if !r.askNext(now, q) {
		r.settle(now, q)
	}
}

// settle ends a query for which nobody else can be asked, unless an answer is awaited.
func (r *Relay) settle(now int64, q *query) {
	awaited, probes := q.awaits()
	switch {
	case awaited+probes == 0 || awaited == 0 && q.answer != nil:
		if q.answer == nil {
			q.answer = dns.Fail(q.message)
		}
		r.finish(now, q, r.orStale(now, q, q.answer))
	case q.answer != nil:
		q.nextAt = now + int64(q.relay.Patience()) // so long for a better one
		r.queries.wake(q)
	default:
		q.nextAt = 0
	}
}

// find returns what q asked a resolver, nil if nothing.
func (q *query) find(to dns.Server) *try {
	for i := range q.tries {
		if q.tries[i].to == to {
			return &q.tries[i]
		}
	}
	return nil
}

// asked returns the resolvers that were asked since the guest last asked.
func (q *query) asked() (list []dns.Server) {
	for i := range q.tries {
		if q.tries[i].asked {
			list = append(list, q.tries[i].to)
		}
	}
	return list
}

// awaits returns how many answers are awaited, those of probes apart.
func (q *query) awaits() (n, probes int) {
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
func (n *queries) wake(q *query) {
	n.wakeAt = netbackend.Earlier(netbackend.Earlier(n.wakeAt, q.staleAt), netbackend.Earlier(q.nextAt, q.endAt))
}

// try asks one resolver. Its fd is negative if that failed.
func (r *Relay) try(now int64, q *query, to dns.Server) *try {
	attempt := q.find(to)
	if attempt == nil {
		q.tries = append(q.tries, try{to: to, fd: -1})
		attempt = &q.tries[len(q.tries)-1]
	}
	attempt.asked, attempt.probe, attempt.since = true, false, now
	if attempt.fd >= 0 {
		if attempt.box != nil || sent(attempt.fd, q.message) {
			return attempt
		}
		r.endTry(attempt) // the host's address, which the socket has, may be another one now
	}
	if attempt.by = dns.UDP; to.TLS {
		attempt.by = dns.TLS
	}
	r.begin(now, q, attempt)
	return attempt
}

// begin opens the socket of a try, and asks by it.
func (r *Relay) begin(now int64, q *query, attempt *try) {
	if !r.openTry(now, q, attempt) {
		return
	}
	if attempt.by != dns.UDP {
		attempt.box = &box{fd: attempt.fd}
		attempt.box.cancel = r.cfg.Guest.conns.Ask(attempt.to, q.message, attempt.box.put)
	} else if !sent(attempt.fd, q.message) {
		r.tryFailed(now, q, attempt)
	}
}

// askWhole asks a resolver by TCP whose answer by UDP was cut short (RFC 2181 section 9), for a guest that asks by TCP for it as a whole.
func (r *Relay) askWhole(now int64, q *query, attempt *try) {
	r.answered(now, q.relay, dns.UDP, attempt.to)
	r.endTry(attempt)
	attempt.by, attempt.since = dns.TCP, now
	if r.begin(now, q, attempt); attempt.fd < 0 {
		r.goOn(now, q)
		return
	}
	q.nextAt, q.endAt = now+int64(q.relay.Patience()), now+queryLife
	r.queries.wake(q)
}

// sent sends a query, and reports whether there was no error but those that are nobody's fault.
func sent(fd int, message []byte) bool {
	_, err := unix.Write(fd, message)
	return err == nil || IsShortage(err)
}

// openTry opens the socket of a try.
func (r *Relay) openTry(now int64, q *query, attempt *try) bool {
	r.limitTries(q)
	gen, index := r.queries.name(q, attempt)
	fd, err := r.cfg.Open(attempt.to.Addr, attempt.by, gen, index)
	switch {
	case err == nil:
		attempt.fd = fd
	case !IsShortage(err):
		r.tryFailed(now, q, attempt)
	}
	return err == nil
}

// limitTries ends the try that waits longest if there are as many as there may be.
func (r *Relay) limitTries(q *query) {
	if n, probes := q.awaits(); n+probes < openTries {
		return
	}
	var oldest *try
	for i := range q.tries {
		if t := &q.tries[i]; t.fd >= 0 && (oldest == nil || t.since < oldest.since) {
			oldest = t
		}
	}
	r.endTry(oldest)
}

// name names a try in events.
func (n *queries) name(q *query, attempt *try) (gen, index uint32) {
	slot := slices.IndexFunc(n.slots, func(other query) bool { return other.gen == q.gen && other.message != nil })
	i := slices.IndexFunc(q.tries, func(other try) bool { return other.to == attempt.to })
	return q.gen, uint32(slot<<8 | i)
}

// tryFailed ends a try whose resolver cannot be reached.
func (r *Relay) tryFailed(now int64, q *query, attempt *try) {
	r.failed(now, q.relay, attempt.by, attempt.to)
	r.endTry(attempt)
}

// endTry closes the socket of a try.
func (r *Relay) endTry(attempt *try) {
	if attempt.box != nil {
		attempt.box.close()
		attempt.box = nil
	}
	if attempt.fd >= 0 {
		r.cfg.Close(attempt.fd)
		attempt.fd = -1
	}
}

// Event takes what a resolver has answered by the socket that was opened with gen and index. It returns how many messages answered no
// query; !ok tells that the socket is closed.
func (r *Relay) Event(now int64, gen, index uint32) (strays int, ok bool) {
	slot, i := int(index>>8), int(index&0xff)
	if slot >= len(r.queries.slots) {
		return 0, false
	}
	q := &r.queries.slots[slot]
	if q.message == nil || q.gen != gen || i >= len(q.tries) {
		return 0, false
	}
	for attempt := &q.tries[i]; attempt.fd >= 0; {
		more, stray := r.read(now, q, attempt)
		if stray {
			strays++
		}
		if !more {
			break
		}
	}
	return strays, true
}

// read reads one message of a resolver. It reports whether there may be another one, and whether this one answers something else.
func (r *Relay) read(now int64, q *query, attempt *try) (more, stray bool) {
	message, err := r.receive(attempt)
	switch {
	case err == unix.EINTR:
		return true, false
	case err == unix.EAGAIN:
		return false, false
	case err != nil:
		r.tryFailed(now, q, attempt)
		r.goOn(now, q)
		return false, false
	}
	switch dns.Classify(q.message, message) {
	case dns.NoReply:
		return true, true
	case dns.AskNext:
		r.answered(now, q.relay, attempt.by, attempt.to)
		if q.answer == nil {
			q.answer = bytes.Clone(message)
		}
		r.endTry(attempt)
		r.goOn(now, q)
	default:
		if attempt.by == dns.UDP && q.client.Stream != nil && !q.over && dns.IsCut(message) {
			r.askWhole(now, q, attempt)
			return false, false
		}
		r.answered(now, q.relay, attempt.by, attempt.to)
		r.endTry(attempt)
		r.keep(now, q, message)
		if message = bytes.Clone(message); attempt.by != dns.UDP {
			message = q.client.fit(q.message, message)
		}
		r.finish(now, q, message)
	}
	return false, false
}

// receive returns a message of a resolver, which is good until the next call.
func (r *Relay) receive(attempt *try) ([]byte, error) {
	if attempt.box != nil {
		return attempt.box.take()
	}
	n, err := unix.Read(attempt.fd, r.cfg.Buffer)
	return r.cfg.Buffer[:max(n, 0)], err
}

// fit returns an answer that was had by a connection, or is kept, as it goes to who has asked: by UDP, cut to what they take.
func (c *Client) fit(query, answer []byte) []byte {
	if c.Stream != nil {
		return answer
	}
	return dns.Fit(query, answer)
}

// goOn asks the next resolver in the place of one that has answered by an error, or not at all.
func (r *Relay) goOn(now int64, q *query) {
	switch {
	case q.over:
		r.endProbe(q)
	case !r.askNext(now, q):
		r.settle(now, q)
	}
}

// endProbe ends a query whose last probe is over, unless its answer waits for room.
func (r *Relay) endProbe(q *query) {
	if q.over = false; !q.owed {
		r.end(q)
	}
}

// finish gives the guest its answer. Resolvers that were silent meanwhile are set aside, if they are so to others too.
func (r *Relay) finish(now int64, q *query, answer []byte) {
	if q.over {
		r.endProbe(q)
		return
	}
	patience := int64(q.relay.Patience())
	for i := range q.tries {
		attempt := &q.tries[i]
		if attempt.fd >= 0 && attempt.probe && now-attempt.since < patience {
			q.over, q.endAt = true, attempt.since+patience
			continue
		}
		r.endSilent(now, q, attempt, patience)
	}
	q.nextAt, q.answer = 0, r.cfg.Judge.Answer(now, q.message, answer)
	if q.told = r.reply(&q.client, q.answer); !q.told {
		q.owed, q.endAt = true, now+queryLife
		r.queries.owed++
	} else if !q.over {
		r.end(q)
	}
	r.queries.wake(q)
}

// reply sends an answer, if there is one, and reports whether there was room for it. nil is none.
func (r *Relay) reply(to *Client, answer []byte) bool {
	if to.Stream != nil {
		to.Stream.answer(answer)
		r.cfg.Wake(to.Stream)
		return true
	}
	return answer == nil || r.cfg.Reply(to, answer)
}

// hasNoMore takes note that a question has no answer of its own.
func (c *Client) hasNoMore() {
	if c.Stream != nil {
		c.Stream.answer(nil)
	}
}

// endSilent ends a try. Its resolver is set aside if it was silent for as long as patience.
func (r *Relay) endSilent(now int64, q *query, attempt *try, patience int64) {
	if attempt.fd >= 0 && now-attempt.since >= patience && q.relay.Silent(now, attempt.by, attempt.to, attempt.since) {
		r.cfg.Left(attempt.to, attempt.by)
	}
	r.endTry(attempt)
}

// end frees the slot of a query. Who has asked by TCP does not ask again, and is told at least that there is no answer.
func (r *Relay) end(q *query) {
	for i := range q.tries {
		r.endTry(&q.tries[i])
	}
	if q.owed {
		r.queries.owed--
	}
	if q.client.Stream != nil && !q.told {
		r.reply(&q.client, dns.Fail(q.message))
	}
	*q = query{}
	r.cfg.Guest.queries.Give()
}

// TendQueries sends answers that waited for room, asks the next resolvers in the place of silent ones, and ends what nobody has
// answered. It reports whether answers wait for room still.
func (r *Relay) TendQueries(now int64) (starves bool) {
	if r.queries.wakeAt == 0 && r.queries.owed == 0 {
		return false
	}
	return r.tendQueries(now)
}

func (r *Relay) tendQueries(now int64) (starves bool) {
	n := &r.queries
	due := n.wakeAt != 0 && now >= n.wakeAt
	if !due && n.owed == 0 {
		return false
	}
	if due {
		n.wakeAt = 0
	}
	for i := range n.slots {
		if q := &n.slots[i]; q.message != nil {
			r.tend(now, q)
		}
	}
	return n.owed > 0
}

func (r *Relay) tend(now int64, q *query) {
	if q.owed && r.reply(&q.client, q.answer) {
		q.owed, q.told = false, true
		r.queries.owed--
		if !q.over {
			r.end(q)
			return
		}
	}
	switch {
	case now >= q.endAt:
		if q.over {
			for i := range q.tries {
				r.endSilent(now, q, &q.tries[i], 0)
			}
		}
		r.end(q)
		return
	case q.nextAt != 0 && now >= q.nextAt && !r.askNext(now, q):
		if q.nextAt = 0; q.answer != nil {
			r.finish(now, q, r.orStale(now, q, q.answer))
			return
		}
	}
	if q.staleAt != 0 && now >= q.staleAt {
		r.answerStale(now, q)
	}
	r.queries.wake(q)
}

// Forget ends all queries, and forgets what was answered: the guest is gone.
func (r *Relay) Forget() {
	r.cfg.Guest.forgetAnswers()
	for i := range r.queries.slots {
		if q := &r.queries.slots[i]; q.message != nil {
			r.end(q)
		}
	}
}
