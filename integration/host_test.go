package integration

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"

	"github.com/vringnet/vring/integration/lab/guest/proto"
)

// The seeds of the test data: what the host sends, and what the guest sends.
const (
	hostSeed  = 1
	guestSeed = 2
)

// transferred is a TCP connection of the host that has ended.
type transferred struct {
	got proto.Transfer
	err error
}

// exchange sends n bytes of test data over conn, at the same time reads to the end, and closes.
func exchange(conn io.ReadWriteCloser, n int64) transferred {
	defer conn.Close()
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, proto.Pattern(hostSeed, n))
		sent <- errors.Join(err, conn.(interface{ CloseWrite() error }).CloseWrite())
	}()
	got := proto.Sum(conn)
	return transferred{got, <-sent}
}

// tcpService is a TCP server on the host's loopback that exchanges test data with everyone.
type tcpService struct {
	Port int
	Done chan transferred // a value for each connection, in the order of their ends
}

// serveTCP starts a server that sends n bytes on each connection.
func serveTCP(t *testing.T, n int64) *tcpService { return serveTCPAt(t, "127.0.0.1", n) }

// serveTCPAt is serveTCP at an address of the host.
func serveTCPAt(t *testing.T, address string, n int64) *tcpService {
	s := &tcpService{Done: make(chan transferred, 64)}
	s.Port = acceptAllAt(t, address, func(conn net.Conn) { s.Done <- exchange(conn, n) })
	return s
}

// next returns the next connection that has ended.
func (s *tcpService) next(ctx context.Context, t *testing.T) proto.Transfer {
	select {
	case d := <-s.Done:
		require.NoError(t, d.err)
		return d.got
	case <-ctx.Done():
		require.NoError(t, ctx.Err(), "no connection has ended at the host's server")
		return proto.Transfer{}
	}
}

// acceptAll listens on a free port of the loopback and serves every connection on a goroutine of its own.
func acceptAll(t *testing.T, serve func(net.Conn)) (port int) {
	return acceptAllAt(t, "127.0.0.1", serve)
}

// acceptAllAt is acceptAll at an address.
func acceptAllAt(t *testing.T, address string, serve func(net.Conn)) (port int) {
	listener, err := net.Listen("tcp", net.JoinHostPort(address, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go serve(conn)
		}
	}()
	return listener.Addr().(*net.TCPAddr).Port
}

// serveUDPEcho starts a UDP echo server on the host's loopback.
func serveUDPEcho(t *testing.T) (port int) { return echoDatagrams(t, "127.0.0.1", func(net.Addr) {}) }

// echoDatagrams starts a UDP echo server at an address of the host, and tells of each datagram who has sent it.
func echoDatagrams(t *testing.T, address string, from func(net.Addr)) (port int) {
	conn, err := net.ListenPacket("udp", net.JoinHostPort(address, "0"))
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 65536)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			from(peer)
			_, _ = conn.WriteTo(buf[:n], peer)
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).Port
}

// serveDNS starts a resolver on the host's loopback that knows one name.
func serveDNS(t *testing.T, name string, address netip.Addr) (port int) {
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	require.NoError(t, err)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		_ = w.WriteMsg(answer(q, name, address))
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return conn.LocalAddr().(*net.UDPAddr).Port
}

func answer(q *dns.Msg, name string, address netip.Addr) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	switch question := q.Question[0]; {
	case question.Name != dns.Fqdn(name):
		m.Rcode = dns.RcodeNameError
	case question.Qtype == dns.TypeA:
		header := dns.RR_Header{Name: question.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
		m.Answer = []dns.RR{&dns.A{Hdr: header, A: address.AsSlice()}}
	}
	return m
}

// freePort returns a port of the loopback that is free for both TCP and UDP, for vring to open.
func freePort(t *testing.T) int { return int(porttest.FreePort(t).Port()) }

// local returns a port of the host's loopback as an address.
func local(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// viaGateway returns a port of the host as the guest addresses it.
func viaGateway(port int) string { return net.JoinHostPort("10.0.2.2", strconv.Itoa(port)) }

// dial connects to a port of the host's loopback.
func dial(ctx context.Context, t *testing.T, network string, port int) net.Conn {
	return dialAt(ctx, t, network, local(port))
}

// dialAt connects to an address of the host.
func dialAt(ctx context.Context, t *testing.T, network, address string) net.Conn {
	conn, err := (&net.Dialer{Timeout: soon}).DialContext(ctx, network, address)
	require.NoError(t, err)
	return conn
}

// echoed sends a datagram until it comes back.
func echoed(conn net.Conn, payload []byte) bool {
	const tries, wait = 30, 2 * time.Second
	buf := make([]byte, 65536)
	for range tries {
		if _, err := conn.Write(payload); err != nil {
			continue
		}
		_ = conn.SetReadDeadline(time.Now().Add(wait))
		for {
			n, err := conn.Read(buf)
			if err != nil {
				break
			}
			if string(buf[:n]) == string(payload) {
				return true
			}
		}
	}
	return false
}
