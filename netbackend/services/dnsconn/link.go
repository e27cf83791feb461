package dnsconn

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/vringnet/vring/netbackend/services/dns"
)

const (
	headerLen = 12
	// maxStrays is how many messages a connection may bring that answer nothing. A resolver answers queries that were given up.
	maxStrays = 1000
)

// question is a query of somebody.
type question struct {
	query []byte
	id    uint16 // by which it is asked
	moved bool   // the connection has ended, and another one was tried

	mu   sync.Mutex
	done func(answer []byte, err error) // nil once it was called, or nobody wants it any more
}

// end tells what has become of q, if anybody wants to know.
func (q *question) end(answer []byte, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.done != nil {
		q.done(answer, err)
		q.done = nil
	}
}

// abandon lets nobody be told. It waits for one who is told just now.
func (q *question) abandon() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.done = nil
}

// link is what leads to one resolver: at most one connection, and the queries that it has to answer.
type link struct {
	client *Client
	server dns.Server

	mu      sync.Mutex
	conn    *connection // nil for none
	pending map[uint16]*question
	pause   time.Duration // after the next failure
	next    time.Time     // when a connection may be tried again
}

// connection is one, which may not be open yet.
type connection struct {
	wake chan struct{} // there is something to send
	send []*question   // link.mu guards it
}

// add asks q, by the connection that there is or by another one.
func (l *link) add(q *question) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(q.query) < headerLen:
		return errors.New("it is no query")
	case len(l.pending) >= maxPending:
		return errFull
	case l.conn == nil && time.Now().Before(l.next):
		return errTooSoon
	}
	q.id = l.freeID()
	l.pending[q.id] = q
	if l.conn == nil {
		l.conn = &connection{wake: make(chan struct{}, 1)}
		go l.run(l.conn)
	}
	l.conn.add(q)
	return nil
}

// freeID returns an ID that nobody can guess, and no pending query has. It requires mu.
func (l *link) freeID() uint16 {
	for {
		var b [2]byte
		_, _ = rand.Read(b[:]) // which does not fail
		id := binary.BigEndian.Uint16(b[:])
		if l.pending[id] == nil {
			return id
		}
	}
}

// add requires link.mu.
func (c *connection) add(q *question) {
	c.send = append(c.send, q)
	select {
	case c.wake <- struct{}{}:
	default: // it will wake up already
	}
}

// forget takes q from those that are awaited.
func (l *link) forget(q *question) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pending[q.id] == q {
		delete(l.pending, q.id)
	}
}

func (l *link) isIdle() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conn == nil && len(l.pending) == 0
}

// fail ends all queries.
func (l *link) fail(err error) {
	l.mu.Lock()
	all := l.takeAll()
	l.mu.Unlock()
	endAll(all, err)
}

func endAll(all []*question, err error) {
	for _, q := range all {
		q.end(nil, err)
	}
}

// takeAll requires mu.
func (l *link) takeAll() (all []*question) {
	for id, q := range l.pending {
		all = append(all, q)
		delete(l.pending, id)
	}
	return all
}

// run is a connection's life.
func (l *link) run(c *connection) {
	conn, err := l.client.connect(l.server)
	if err != nil {
		l.failedToConnect(err)
		return
	}
	stop := make(chan struct{})
	var reader sync.WaitGroup
	answered := false
	reader.Go(func() {
		answered, err = l.read(conn)
		_ = conn.Close() // whoever writes learns of it
		close(stop)
	})
	l.write(c, conn, stop)
	_ = conn.Close()
	reader.Wait()
	l.ended(answered, err)
}

// failedToConnect ends all queries: there is no other way to ask them.
func (l *link) failedToConnect(err error) {
	l.mu.Lock()
	l.pause = min(max(2*l.pause, l.client.cfg.FirstPause), mostPause)
	l.next = time.Now().Add(l.pause)
	l.conn = nil
	all := l.takeAll()
	l.mu.Unlock()
	endAll(all, err)
}

// ended takes note of the end of a connection. Queries that it was to answer are asked by another one, once, if it has answered others:
// the resolver may have closed it just when they were sent (RFC 7766 section 6.2.4).
func (l *link) ended(answered bool, err error) {
	l.mu.Lock()
	l.conn = nil
	if answered {
		l.pause = 0
	} else if !errors.Is(err, errIdle) {
		l.pause = min(max(2*l.pause, l.client.cfg.FirstPause), mostPause)
		l.next = time.Now().Add(l.pause)
	}
	all := l.takeAll()
	l.mu.Unlock()
	for _, q := range all {
		again := answered && !q.moved && !errors.Is(err, errSilent)
		q.moved = true
		if !again || l.add(q) != nil {
			q.end(nil, err)
		}
	}
}

// write sends queries until the connection ends.
func (l *link) write(c *connection, conn net.Conn, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-l.client.ctx.Done():
			return
		case <-c.wake:
		}
		if frames := l.frames(c); len(frames) > 0 {
			_ = conn.SetWriteDeadline(time.Now().Add(writeTime))
			if _, err := conn.Write(frames); err != nil {
				return
			}
		}
	}
}

// frames returns what is to be sent now: in one piece, which may then be one segment (RFC 7766 section 8).
func (l *link) frames(c *connection) (b []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range c.send {
		if l.pending[q.id] != q {
			continue // nobody wants it any more
		}
		b = binary.BigEndian.AppendUint16(b, uint16(len(q.query)))
		b = binary.BigEndian.AppendUint16(b, q.id)
		b = append(b, q.query[2:]...)
	}
	c.send = nil
	return b
}

// errIdle ends a connection that nobody needs.
var errIdle = errors.New("nothing is awaited")

// read takes answers until the connection ends. It reports whether there were any.
func (l *link) read(conn net.Conn) (answered bool, err error) {
	strays := 0
	from := bufio.NewReader(conn)
	for {
		message, err := l.message(conn, from)
		if err != nil {
			return answered, err
		}
		switch {
		case l.answer(message):
			answered = true
			if !l.server.TLS && l.awaitsNothing() {
				return answered, errIdle
			}
		case strays == maxStrays:
			return answered, errors.New("the resolver answers what nobody has asked")
		default:
			strays++
		}
	}
}

// message returns the next message.
func (l *link) message(conn net.Conn, from *bufio.Reader) ([]byte, error) {
	_ = conn.SetReadDeadline(time.Now().Add(l.client.cfg.Silence))
	var length [2]byte
	if _, err := io.ReadFull(from, length[:]); err != nil {
		return nil, l.whyNone(err)
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	if len(message) < headerLen {
		return nil, errors.New("the resolver's message is shorter than a header")
	}
	if _, err := io.ReadFull(from, message); err != nil {
		return nil, l.whyNone(err)
	}
	return message, nil
}

// whyNone says why there is no message.
func (l *link) whyNone(err error) error {
	switch {
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return err
	case l.awaitsNothing():
		return errIdle
	}
	return errSilent
}

func (l *link) awaitsNothing() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.pending) == 0
}

// answer gives a message to who has asked, and reports whether anybody has.
func (l *link) answer(message []byte) bool {
	id := binary.BigEndian.Uint16(message)
	l.mu.Lock()
	q := l.pending[id]
	if q == nil || !answers(message, q.query) {
		l.mu.Unlock()
		return false
	}
	delete(l.pending, id)
	l.mu.Unlock()
	copy(message, q.query[:2])
	q.end(message, nil)
	return true
}

// answers reports whether message is an answer to a query, whatever their IDs. One that has an error may leave out the question.
func answers(message, query []byte) bool {
	if message[2]&0x80 == 0 {
		return false
	}
	questions := binary.BigEndian.Uint16(message[4:])
	if questions == 0 {
		return message[3]&0xf != 0 || binary.BigEndian.Uint16(query[4:]) == 0
	}
	end := endOfQuestion(query)
	return questions == 1 && end > 0 && len(message) >= end && equalFold(message[headerLen:end-4], query[headerLen:end-4]) &&
		bytes.Equal(message[end-4:end], query[end-4:end])
}

// equalFold reports whether names are the same but for the case of letters. Lengths of labels are below that of any letter.
func equalFold(a, b []byte) bool {
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// endOfQuestion returns where the first question of a query ends, 0 if it does not. Its name is not compressed.
func endOfQuestion(query []byte) int {
	const longest = 63
	for at := headerLen; at < len(query); at += 1 + int(query[at]) {
		switch {
		case query[at] > longest:
			return 0
		case query[at] == 0 && at+5 <= len(query):
			return at + 5
		case query[at] == 0:
			return 0
		}
	}
	return 0
}
