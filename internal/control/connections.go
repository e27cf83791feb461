package control

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/vringnet/vring/internal/broker"
)

// roomy is how many connections may wait for their clients. broker.MaxControl is how many there can be, and whoever comes then is
// refused: so the one that has waited longest is closed before.
const roomy = broker.MaxControl * 3 / 4

// connections are those of a server.
type connections struct {
	most  int // that may wait for their clients
	mu    sync.Mutex
	all   map[net.Conn]*connection
	clock uint64 // counts what happens, so that it is known what was first
}

// connection is what is known of one.
type connection struct {
	since uint64 // by the clock: when the client was begun to be waited for
	held  bool   // a request is being carried out
}

func newConnections(most int) *connections {
	return &connections{most: most, all: map[net.Conn]*connection{}}
}

// count is how many there are.
func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.all)
}

// changed follows a connection. It is http.Server.ConnState.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		if last := c.add(conn); last != nil {
			_ = last.Close()
		}
	case http.StateClosed, http.StateHijacked:
		c.mu.Lock()
		delete(c.all, conn)
		c.mu.Unlock()
	}
}

// add adds a connection. If there are too many, it returns the one that is to be closed.
func (c *connections) add(conn net.Conn) (last net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clock++
	c.all[conn] = &connection{since: c.clock}
	if len(c.all) <= c.most {
		return nil
	}
	oldest := c.clock // that of conn itself
	for other, is := range c.all {
		if !is.held && is.since < oldest {
			last, oldest = other, is.since
		}
	}
	delete(c.all, last) // so that it is not chosen again before its end is told
	return last
}

// hold keeps the connection of a request open until release is called, however many there are.
func (c *connections) hold(ctx context.Context) (release func()) {
	conn := ctx.Value(connKey{}).(net.Conn)
	c.set(conn, true)
	return func() { c.set(conn, false) }
}

func (c *connections) set(conn net.Conn, held bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if is, found := c.all[conn]; found {
		c.clock++
		is.held, is.since = held, c.clock
	}
}
