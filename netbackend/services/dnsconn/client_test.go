package dnsconn

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/services/dns"
)

// authority is who makes certificates.
type authority struct {
	t    *testing.T
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newAuthority(t *testing.T) *authority {
	a := &authority{t: t}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	return a
}

func (a *authority) roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// certificate makes one that alter may change.
func (a *authority) certificate(alter func(*x509.Certificate)) tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "dns.example"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		DNSNames: []string{"dns.example"}, KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if alter != nil {
		alter(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	require.NoError(a.t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// resolver is one by connections, which does what the test says.
type resolver struct {
	server      dns.Server
	connections atomic.Int32
}

// serve starts a resolver with a listener; each of its connections is handled by handle, whose end closes it.
func serve(t *testing.T, l net.Listener, server dns.Server, handle func(net.Conn)) *resolver {
	r := &resolver{server: server}
	r.server.Addr = l.Addr().(*net.TCPAddr).AddrPort()
	var all sync.WaitGroup
	var mu sync.Mutex
	var open []net.Conn
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			r.connections.Add(1)
			mu.Lock()
			open = append(open, conn)
			mu.Unlock()
			all.Go(func() {
				defer conn.Close()
				handle(conn)
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for _, conn := range open {
			_ = conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return r
}

// plain starts a resolver by TCP, secret one by TLS with a certificate.
func plain(t *testing.T, handle func(net.Conn)) *resolver {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return serve(t, l, dns.Server{}, handle)
}

func secret(t *testing.T, name string, cert tls.Certificate, handle func(net.Conn)) *resolver {
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{cert}})
	require.NoError(t, err)
	return serve(t, l, dns.Server{TLS: true, Name: name}, handle)
}

// next reads a message; nil at the end.
func next(conn net.Conn) []byte {
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil
	}
	message := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, message); err != nil {
		return nil
	}
	return message
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// answerTo answers a query by its name's length as the last number of an address.
func answerTo(query []byte) []byte {
	var q mdns.Msg
	if q.Unpack(query) != nil {
		return nil
	}
	a := new(mdns.Msg).SetReply(&q)
	a.Answer = []mdns.RR{&mdns.A{Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}, A: net.IP{192, 0, 2, byte(len(q.Question[0].Name))}}}
	b, _ := a.Pack()
	return b
}

// answerAll answers each query at once.
func answerAll(conn net.Conn) {
	for query := next(conn); query != nil; query = next(conn) {
		_, _ = conn.Write(framed(answerTo(query)))
	}
}

func ask(t *testing.T, name string, id uint16) []byte {
	m := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
	m.Id = id
	b, err := m.Pack()
	require.NoError(t, err)
	return b
}

// result is what a query has come to.
type result struct {
	answer []byte
	err    error
}

func begin(c *Client, server dns.Server, query []byte) (<-chan result, func()) {
	done := make(chan result, 2)
	cancel := c.Ask(server, query, func(answer []byte, err error) { done <- result{answer, err} })
	return done, cancel
}

func await(t *testing.T, done <-chan result) result {
	t.Helper()
	select {
	case r := <-done:
		return r
	case <-time.After(time.Minute):
		t.Fatal("nothing has become of the query")
		return result{}
	}
}

func asks(t *testing.T, c *Client, server dns.Server, query []byte) result {
	t.Helper()
	done, _ := begin(c, server, query)
	return await(t, done)
}

// clock lets a client wait for resolvers until the test says that the time is over.
type clock struct {
	mu    sync.Mutex
	waits *sync.Cond // a read has a deadline
	conns []*timedConn
}

func newClock() *clock {
	k := new(clock)
	k.waits = sync.NewCond(&k.mu)
	return k
}

// timedConn is a connection whose reads end by deadlines when its clock says so.
type timedConn struct {
	net.Conn
	clock *clock
	until time.Time // the lock of clock guards it
}

func (c *timedConn) SetReadDeadline(at time.Time) error {
	c.clock.mu.Lock()
	defer c.clock.mu.Unlock()
	c.until = at
	c.clock.waits.Broadcast()
	return nil
}

// dial is for Config.Dial.
func (k *clock) dial(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", to.String())
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	c := &timedConn{Conn: conn, clock: k}
	k.conns = append(k.conns, c)
	return c, nil
}

// expire ends the wait of all connections, each of which has waited for something, and returns until when that would have been.
func (k *clock) expire() (until time.Time) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		for c.until.IsZero() {
			k.waits.Wait()
		}
		until = c.until
		_ = c.Conn.SetReadDeadline(time.Unix(1, 0))
	}
	return until
}

func newClient(t *testing.T, cfg Config) *Client {
	c := New(cfg)
	t.Cleanup(c.Close)
	return c
}

func requireAnswer(t *testing.T, query []byte, got result) {
	t.Helper()
	require.NoError(t, got.err)
	require.Equal(t, answerTo(query), got.answer)
}

func TestAResolverWithAGoodCertificateIsAskedByTLSAndTheConnectionUsedAgain(t *testing.T) {
	a := newAuthority(t)
	r := secret(t, "dns.example", a.certificate(nil), answerAll)
	c := newClient(t, Config{Roots: a.roots()})
	for i := range uint16(5) {
		query := ask(t, "www.example.", i)
		requireAnswer(t, query, asks(t, c, r.server, query))
	}
	require.EqualValues(t, 1, r.connections.Load())

	byAddress := secret(t, "", a.certificate(func(c *x509.Certificate) { c.DNSNames, c.IPAddresses = nil, []net.IP{net.IPv4(127, 0, 0, 1)} }), answerAll)
	query := ask(t, "www.example.", 9)
	requireAnswer(t, query, asks(t, c, byAddress.server, query))
}

// Of a query nothing is said to a resolver that is not who it should be.
func TestAWrongCertificateLearnsNothing(t *testing.T) {
	a, other := newAuthority(t), newAuthority(t)
	for name, x := range map[string]struct {
		identity string
		cert     tls.Certificate
		roots    *x509.CertPool
		want     string
	}{
		"for another name":             {"dns.other", a.certificate(nil), a.roots(), "not dns.other"},
		"for a name and no address":    {"", a.certificate(nil), a.roots(), "doesn't contain any IP SANs"},
		"of another address":           {"", a.certificate(func(c *x509.Certificate) { c.IPAddresses = []net.IP{{192, 0, 2, 1}} }), a.roots(), "not 127.0.0.1"},
		"of another authority":         {"dns.example", other.certificate(nil), a.roots(), "unknown authority"},
		"of no known authority":        {"dns.example", a.certificate(nil), nil, "unknown authority"},
		"that is over":                 {"dns.example", a.certificate(func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }), a.roots(), "expired"},
		"that is to come":              {"dns.example", a.certificate(func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }), a.roots(), "not yet valid"},
		"for clients, not for servers": {"dns.example", a.certificate(func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }), a.roots(), "key usage"},
	} {
		t.Run(name, func(t *testing.T) {
			var heard atomic.Int32
			r := secret(t, x.identity, x.cert, func(conn net.Conn) {
				if next(conn) != nil {
					heard.Add(1)
				}
			})
			c := newClient(t, Config{Roots: x.roots, FirstPause: time.Hour})
			got := asks(t, c, r.server, ask(t, "secret.example.", 1))
			require.ErrorContains(t, got.err, x.want)
			require.ErrorIs(t, asks(t, c, r.server, ask(t, "secret.example.", 2)).err, errTooSoon, "it is not tried with each query")
			require.Zero(t, heard.Load())
			require.EqualValues(t, 1, r.connections.Load())
		})
	}
}

// A resolver without TLS is not asked in clear text.
func TestThereIsNoWayBackToClearText(t *testing.T) {
	var heard atomic.Bool
	r := plain(t, func(conn net.Conn) {
		var b [1024]byte
		n, _ := conn.Read(b[:])
		heard.Store(containsName(b[:n], "secret"))
		_, _ = conn.Write(framed(answerTo(ask(t, "secret.example.", 1))))
	})
	server := r.server
	server.TLS, server.Name = true, "dns.example"
	require.Error(t, asks(t, newClient(t, Config{}), server, ask(t, "secret.example.", 1)).err)
	require.False(t, heard.Load())
}

func containsName(b []byte, label string) bool {
	for i := range b {
		if i+len(label) <= len(b) && string(b[i:i+len(label)]) == label {
			return true
		}
	}
	return false
}

func TestAnswersMayComeInAnyOrder(t *testing.T) {
	const n = 20
	r := plain(t, func(conn net.Conn) {
		var queries [][]byte
		for len(queries) < n {
			query := next(conn)
			if query == nil {
				return
			}
			queries = append(queries, query)
		}
		for i := range queries {
			_, _ = conn.Write(framed(answerTo(queries[n-1-i])))
		}
		next(conn)
	})
	c := newClient(t, Config{})
	var queries [][]byte
	var all []<-chan result
	for i := range n {
		queries = append(queries, ask(t, fmt.Sprintf("%0*d.example.", i+1, i), 7)) // all have the same ID
		done, _ := begin(c, r.server, queries[i])
		all = append(all, done)
	}
	for i, done := range all {
		requireAnswer(t, queries[i], await(t, done))
	}
	require.EqualValues(t, 1, r.connections.Load())
}

// What a resolver says that was not asked is left out.
func TestAnAnswerToSomethingElseIsNone(t *testing.T) {
	query := ask(t, "www.example.", 1)
	for name, lie := range map[string]func(b []byte) []byte{
		"another ID":        func(b []byte) []byte { b[1]++; return b },
		"a query":           func(b []byte) []byte { b[2] &^= 0x80; return b },
		"another name":      func(b []byte) []byte { b[13] = 'x'; return b },
		"another type":      func(b []byte) []byte { b[len(query)-3] = 28; return b },
		"two questions":     func(b []byte) []byte { b[5] = 2; return b },
		"no question":       func(b []byte) []byte { b[5] = 0; return b },
		"half a question":   func(b []byte) []byte { return b[:20] },
		"a header only":     func(b []byte) []byte { return b[:headerLen] },
		"another answer to": func(b []byte) []byte { return answerTo(append(b[:2:2], ask(t, "other.example.", 0)[2:]...)) },
	} {
		t.Run(name, func(t *testing.T) {
			r := plain(t, func(conn net.Conn) {
				asked := next(conn)
				if asked == nil {
					return
				}
				_, _ = conn.Write(framed(lie(answerTo(asked))))
				_, _ = conn.Write(framed(answerTo(asked)))
				next(conn)
			})
			requireAnswer(t, query, asks(t, newClient(t, Config{}), r.server, query))
		})
	}
	t.Run("an error may leave out the question, and the case of a name may change", func(t *testing.T) {
		a := newAuthority(t)
		r := secret(t, "dns.example", a.certificate(nil), func(conn net.Conn) {
			asked := next(conn)
			_, _ = conn.Write(framed(append(asked[:2:2], 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0)))
			answer := answerTo(next(conn))
			answer[13] ^= 0x20
			_, _ = conn.Write(framed(answer))
			next(conn)
		})
		c := newClient(t, Config{Roots: a.roots()})
		got := asks(t, c, r.server, query)
		require.NoError(t, got.err)
		require.Equal(t, append(query[:2:2], 0x81, 0x82, 0, 0, 0, 0, 0, 0, 0, 0), got.answer)
		require.NoError(t, asks(t, c, r.server, query).err)
	})
}

// Silent resolvers are waited for; what others have said is no answer at once.
func TestAResolverThatDoesNotEndItsAnswerHasNone(t *testing.T) {
	query := ask(t, "www.example.", 1)
	silent := func(said func(conn net.Conn, asked []byte)) func(chan<- bool) func(net.Conn) {
		return func(came chan<- bool) func(net.Conn) {
			return func(conn net.Conn) {
				said(conn, next(conn))
				came <- true
				_, _ = io.Copy(io.Discard, conn)
			}
		}
	}
	for name, handle := range map[string]func(chan<- bool) func(net.Conn){
		"silence":        silent(func(net.Conn, []byte) {}),
		"half a length":  silent(func(conn net.Conn, _ []byte) { _, _ = conn.Write([]byte{0}) }),
		"half an answer": silent(func(conn net.Conn, asked []byte) { _, _ = conn.Write(framed(answerTo(asked))[:20]) }),
	} {
		t.Run(name, func(t *testing.T) {
			came, k := make(chan bool, 1), newClock()
			r := plain(t, handle(came))
			c := newClient(t, Config{Dial: k.dial, FirstPause: time.Hour})
			before := time.Now()
			done, _ := begin(c, r.server, query)
			<-came
			until := k.expire()
			require.False(t, until.Before(before.Add(silence)) || until.After(time.Now().Add(silence)), "it has ten seconds")
			require.ErrorIs(t, await(t, done).err, errSilent)
			require.ErrorIs(t, asks(t, c, r.server, query).err, errTooSoon)
			require.EqualValues(t, 1, r.connections.Load())
		})
	}
	for name, handle := range map[string]func(conn net.Conn){
		"too short": func(conn net.Conn) {
			next(conn)
			_, _ = conn.Write([]byte{0, 3, 1, 2, 3})
			_, _ = io.Copy(io.Discard, conn)
		},
		"no length":       func(conn net.Conn) { next(conn); _, _ = conn.Write([]byte{0, 0}); _, _ = io.Copy(io.Discard, conn) },
		"an end":          func(conn net.Conn) { next(conn) },
		"half and an end": func(conn net.Conn) { _, _ = conn.Write(framed(answerTo(next(conn)))[:20]) },
	} {
		t.Run(name, func(t *testing.T) {
			r := plain(t, handle)
			c := newClient(t, Config{FirstPause: time.Hour, Silence: time.Hour})
			require.Error(t, asks(t, c, r.server, query).err)
			require.ErrorIs(t, asks(t, c, r.server, query).err, errTooSoon)
			require.EqualValues(t, 1, r.connections.Load())
		})
	}
}

// A resolver may answer queries that were given up, and no more than that.
func TestMessagesThatNobodyHasAskedForAreBounded(t *testing.T) {
	query := ask(t, "www.example.", 1)
	for strays, isAnswered := range map[int]bool{maxStrays: true, maxStrays + 1: false} {
		r := plain(t, func(conn net.Conn) {
			asked := next(conn)
			for range strays {
				_, _ = conn.Write(framed(make([]byte, headerLen)))
			}
			_, _ = conn.Write(framed(answerTo(asked)))
			next(conn)
		})
		got := asks(t, newClient(t, Config{Silence: time.Hour}), r.server, query)
		if isAnswered {
			requireAnswer(t, query, got)
		} else {
			require.ErrorContains(t, got.err, "nobody has asked")
		}
	}
}

// A resolver may close a connection at any time. A query that was sent meanwhile is asked again, once.
func TestAQueryMovesToAnotherConnection(t *testing.T) {
	query := ask(t, "www.example.", 1)
	a := newAuthority(t)
	r := secret(t, "dns.example", a.certificate(nil), func(conn net.Conn) {
		_, _ = conn.Write(framed(answerTo(next(conn))))
		next(conn) // the second query of a connection is its end
	})
	c := newClient(t, Config{Roots: a.roots()})
	for range 6 {
		requireAnswer(t, query, asks(t, c, r.server, query))
	}
	require.EqualValues(t, 6, r.connections.Load())
}

func TestAConnectionThatNobodyUsesEnds(t *testing.T) {
	ended := make(chan bool, 2)
	a, k := newAuthority(t), newClock()
	r := secret(t, "dns.example", a.certificate(nil), func(conn net.Conn) {
		answerAll(conn)
		ended <- true
	})
	c := newClient(t, Config{Roots: a.roots(), Dial: k.dial})
	query := ask(t, "www.example.", 1)
	requireAnswer(t, query, asks(t, c, r.server, query))
	require.Empty(t, ended)
	k.expire()
	<-ended
	requireAnswer(t, query, asks(t, c, r.server, query))
	require.EqualValues(t, 2, r.connections.Load(), "and another one is begun")
}

// A resolver without TLS is one of the host, which has few connections for all.
func TestAConnectionWithoutTLSEndsWithTheLastAnswerThatIsAwaited(t *testing.T) {
	ended, release := make(chan bool, 2), make(chan bool)
	r := plain(t, func(conn net.Conn) {
		first, second := next(conn), next(conn)
		_, _ = conn.Write(framed(answerTo(first)))
		<-release
		_, _ = conn.Write(framed(answerTo(second)))
		next(conn)
		ended <- true
	})
	c := newClient(t, Config{Silence: time.Hour})
	queries := [][]byte{ask(t, "www.example.", 1), ask(t, "other.example.", 2)}
	first, _ := begin(c, r.server, queries[0])
	second, _ := begin(c, r.server, queries[1])
	requireAnswer(t, queries[0], await(t, first))
	require.Empty(t, ended)
	close(release)
	requireAnswer(t, queries[1], await(t, second))
	<-ended
	require.EqualValues(t, 1, r.connections.Load())
}

func TestNobodyIsToldOfAQueryThatWasGivenUp(t *testing.T) {
	came, answer := make(chan bool), make(chan bool)
	r := plain(t, func(conn net.Conn) {
		first := next(conn)
		came <- true
		<-answer
		_, _ = conn.Write(framed(answerTo(first)))
		answerAll(conn)
	})
	c := newClient(t, Config{})
	done, cancel := begin(c, r.server, ask(t, "www.example.", 1))
	<-came
	cancel()
	close(answer)
	query := ask(t, "other.example.", 2)
	requireAnswer(t, query, asks(t, c, r.server, query))
	require.Empty(t, done)
}

func TestBounds(t *testing.T) {
	block := make(chan struct{})
	c := newClient(t, Config{Dial: func(ctx context.Context, _ netip.AddrPort) (net.Conn, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return nil, errors.New("no way")
	}})
	server := func(i int) dns.Server {
		return dns.Server{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 53)}
	}
	var all []<-chan result
	for i := range maxPending {
		done, _ := begin(c, server(0), ask(t, "www.example.", uint16(i)))
		all = append(all, done)
	}
	require.ErrorIs(t, asks(t, c, server(0), ask(t, "www.example.", 1)).err, errFull)
	for i := 1; i < maxLinks; i++ {
		done, _ := begin(c, server(i), ask(t, "www.example.", 1))
		all = append(all, done)
	}
	require.ErrorIs(t, asks(t, c, server(maxLinks), ask(t, "www.example.", 1)).err, errFull)
	require.ErrorContains(t, asks(t, c, server(1), []byte{1, 2}).err, "no query")
	close(block)
	for _, done := range all {
		require.ErrorContains(t, await(t, done).err, "no way")
	}
	require.Eventually(t, func() bool { return !errors.Is(asks(t, c, server(maxLinks), ask(t, "www.example.", 1)).err, errFull) }, time.Minute, time.Millisecond)
}

func TestAClientThatIsClosedEndsAllQueries(t *testing.T) {
	came := make(chan bool)
	r := plain(t, func(conn net.Conn) {
		next(conn)
		came <- true
		next(conn)
	})
	c := New(Config{})
	done, _ := begin(c, r.server, ask(t, "www.example.", 1))
	<-came
	c.Close()
	require.Error(t, await(t, done).err)
	require.ErrorIs(t, asks(t, c, r.server, ask(t, "www.example.", 1)).err, ErrClosed)
}

func FuzzAnswers(f *testing.F) {
	query, _ := new(mdns.Msg).SetQuestion("www.example.", mdns.TypeA).Pack()
	f.Add(query, answerTo(query))
	f.Add(query, query)
	f.Fuzz(func(t *testing.T, query, message []byte) {
		if len(query) < headerLen || len(message) < headerLen || !answers(message, query) {
			return
		}
		var q, a mdns.Msg
		if q.Unpack(query) == nil && a.Unpack(message) == nil && len(a.Question) > 0 && len(q.Question) > 0 && a.Question[0].Qtype != q.Question[0].Qtype {
			t.Fatalf("%x is taken for an answer to %x", message, query)
		}
	})
}
