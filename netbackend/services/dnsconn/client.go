package dnsconn

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/vringnet/vring/netbackend/services/dns"
)

const (
	connectTime = 5 * time.Second  // for TCP's and TLS' handshakes together
	silence     = 10 * time.Second // after which a connection on which nothing comes is given up, or closed if nothing is awaited
	writeTime   = 5 * time.Second
	// firstPause and mostPause are for how long a resolver is left alone that could not be connected to; each time it is twice as long.
	firstPause = 250 * time.Millisecond
	mostPause  = 5 * time.Second
	// maxPending is how many answers of one resolver are awaited at once.
	maxPending = 128
	// maxLinks is how many resolvers have a connection at once.
	maxLinks = 64
)

// Errors of queries.
var (
	ErrClosed  = errors.New("the client is closed")
	errFull    = errors.New("too many answers are awaited")
	errSilent  = errors.New("the resolver is silent")
	errTooSoon = errors.New("the resolver could not be reached a moment ago")
)

// Config is what a Client needs.
type Config struct {
	// Roots are whom certificates must come from. With nil no certificate is good.
	Roots *x509.CertPool
	// Dial opens a connection; nil stands for one of package net.
	Dial func(ctx context.Context, to netip.AddrPort) (net.Conn, error)
	// Silence is how long nothing may come; 0 stands for 10 s.
	Silence time.Duration
	// FirstPause is how long a resolver is left alone first; 0 stands for 250 ms.
	FirstPause time.Duration
}

// Client asks resolvers. It is safe for use by several threads.
type Client struct {
	cfg    Config
	ctx    context.Context
	cancel context.CancelFunc

	mu    sync.Mutex
	links map[dns.Server]*link
}

// New returns a Client without connections.
func New(cfg Config) *Client {
	if cfg.Roots == nil {
		cfg.Roots = x509.NewCertPool()
	}
	if cfg.Dial == nil {
		cfg.Dial = func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			d := net.Dialer{KeepAlive: -1}
			return d.DialContext(ctx, "tcp", to.String())
		}
	}
	if cfg.Silence == 0 {
		cfg.Silence = silence
	}
	if cfg.FirstPause == 0 {
		cfg.FirstPause = firstPause
	}
	c := &Client{cfg: cfg, links: map[dns.Server]*link{}}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	return c
}

// Close ends all connections, and all queries by ErrClosed. It does not wait.
func (c *Client) Close() {
	c.cancel()
	c.mu.Lock()
	links := c.links
	c.links = map[dns.Server]*link{}
	c.mu.Unlock()
	for _, l := range links {
		l.fail(ErrClosed)
	}
}

// Ask asks a resolver, and calls done with its answer, which has the query's ID, or with why there is none. done is called once, on another
// goroutine or before Ask returns, and not after the function was called that Ask returns, or while it is. query is the Client's until then. Ask does not wait.
func (c *Client) Ask(server dns.Server, query []byte, done func(answer []byte, err error)) (cancel func()) {
	q := &question{query: query, done: done}
	l, err := c.link(server)
	if err == nil {
		err = l.add(q)
	}
	if err != nil {
		q.end(nil, err)
	}
	return func() {
		q.abandon()
		if l != nil {
			l.forget(q)
		}
	}
}

// link returns what leads to a resolver, which is made if need be.
func (c *Client) link(server dns.Server) (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ctx.Err() != nil {
		return nil, ErrClosed
	}
	if l := c.links[server]; l != nil {
		return l, nil
	}
	if len(c.links) >= maxLinks && !c.dropIdle() {
		return nil, errFull
	}
	l := &link{client: c, server: server, pending: map[uint16]*question{}}
	c.links[server] = l
	return l, nil
}

// dropIdle forgets a resolver of which nothing is awaited, and reports whether there was one. It requires mu.
func (c *Client) dropIdle() bool {
	for k, l := range c.links {
		if l.isIdle() {
			delete(c.links, k)
			return true
		}
	}
	return false
}

// connect opens a connection to a resolver. By TLS the certificate was found good.
func (c *Client) connect(server dns.Server) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(c.ctx, connectTime)
	defer cancel()
	conn, err := c.cfg.Dial(ctx, server.Addr)
	if err != nil || !server.TLS {
		return conn, err
	}
	secret := tls.Client(conn, &tls.Config{RootCAs: c.cfg.Roots, ServerName: server.Identity(), MinVersion: tls.VersionTLS12})
	if err := secret.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS: %w", err)
	}
	return secret, nil
}
