package integration

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/userland"
)

// Servers of QUIC that are picky.
const (
	retryAddress = "203.0.113.37" // retry.example wants to know that its clients get what it sends (RFC 9000 section 8.1.2)
	oldAddress   = "203.0.113.38" // old.example knows version 1 only
)

// quicRules are those of a guest whose programs speak QUIC.
func quicRules() []string {
	return []string{"--restrict", "--dns", resolver,
		"--allow-name", "quic.example:443;quic=verify",
		"--allow-name", "also.example:443;quic=verify",
		"--allow-name", "retry.example:443;quic=verify",
		"--allow-name", "old.example:443;quic=verify",
		"--allow-name", "good.example:443",
	}
}

// serveQUIC serves HTTP/3 at an address of the internet.
func (e *egress) serveQUIC(address string, config *quic.Config, retries bool) {
	e.t.Helper()
	var conn net.PacketConn
	require.NoError(e.t, e.internet.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(address, "443"))
		return err
	}))
	transport := &quic.Transport{Conn: conn, VerifySourceAddress: func(net.Addr) bool { return retries }}
	l, err := transport.ListenEarly(http3.ConfigureTLSConfig(e.web.config()), config)
	require.NoError(e.t, err)
	server := &http3.Server{Handler: e.web.mux}
	go func() { _ = server.ServeListener(l) }()
	e.t.Cleanup(func() {
		_ = server.Close()
		_ = l.Close()
		_ = transport.Close()
		_ = conn.Close()
	})
}

// serveAllQUIC starts the servers of QUIC, and what they serve.
func (e *egress) serveAllQUIC() {
	e.t.Helper()
	e.serveWork()
	for name, address := range map[string]string{"also.example": quicAddress, "retry.example": retryAddress, "old.example": oldAddress} {
		e.names.address(name, 60, address)
	}
	for _, address := range []string{quicAddress, goodAddress} {
		e.serveQUIC(address, &quic.Config{}, false)
	}
	e.serveQUIC(retryAddress, &quic.Config{}, true)
	e.serveQUIC(oldAddress, &quic.Config{Versions: []quic.Version{quic.Version1}}, false)
	public, err := x509.MarshalPKIXPublicKey(&e.web.key.PublicKey)
	require.NoError(e.t, err)
	digest := sha256.Sum256(public)
	e.write("spki", base64.StdEncoding.EncodeToString(digest[:]))
}

// quicClients are programs that users have.
func quicClients() []honest {
	return []honest{
		{name: "curl, HTTP/3", userland: userland.Forky, script: `
curl -sS --http3-only --cacert $ca https://quic.example/ https://quic.example/ https://retry.example/ https://old.example/
head -c 3000000 /dev/zero >$work/large
curl -sS --http3-only --cacert $ca -T $work/large https://quic.example/sum
curl -sS --http3-only --cacert $ca -Z "https://also.example/[1-20]" | sort | uniq -c`,
			want: []string{"HTTP/3.0 quic.example\nHTTP/3.0 quic.example\nHTTP/3.0 retry.example\nHTTP/3.0 old.example\nPUT 3000000\n     20 HTTP/3.0 also.example\n"}},
		{name: "curl, HTTP/2 in place of HTTP/3", userland: userland.Forky, script: `
curl -sS --http3 --cacert $ca https://good.example/
curl -sS --http3-only --connect-timeout 20 --cacert $ca --resolve evil.example:443:203.0.113.33 https://evil.example/ && echo reached; curl -sS --http3-only --cacert $ca https://quic.example/`,
			want: []string{"HTTP/2.0 good.example\n", "\nHTTP/3.0 quic.example\n"}},
		{name: "chromium, HTTP/3", script: `
chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-component-update --disable-sync \
	--origin-to-force-quic-on=quic.example:443 --ignore-certificate-errors-spki-list=$(cat $field/spki) --disable-features=LocalNetworkAccessChecks \
	--user-data-dir=$work/profile --timeout=60000 --dump-dom https://quic.example/open 2>/dev/null`,
			want: []string{"HTTP/3.0 quic.example"}},
	}
}

func TestClientsOfQUICWorkUnderRulesByName(t *testing.T) {
	t.Parallel()
	e := newEgress(t)
	e.serveAllQUIC()
	e.start(quicRules()...)
	for _, c := range quicClients() {
		t.Run(c.name, func(t *testing.T) {
			out := e.inGuest(t, c)
			for _, want := range c.want {
				require.Contains(t, out, want)
			}
			require.NotContains(t, out, "reached")
		})
	}
	for name, c := range map[string]struct {
		address, name string
		config        quic.Config
	}{
		"version 1":                    {quicAddress, "quic.example", quic.Config{Versions: []quic.Version{quic.Version1}}},
		"version 2":                    {quicAddress, "quic.example", quic.Config{Versions: []quic.Version{quic.Version2}}},
		"a server that asks again":     {retryAddress, "retry.example", quic.Config{}},
		"a server of an older version": {oldAddress, "old.example", quic.Config{Versions: []quic.Version{quic.Version2, quic.Version1}}},
	} {
		t.Run("quic-go, "+name, func(t *testing.T) { e.fetchByQUIC(t, c.address, c.name, &c.config) })
	}
	t.Run("quic-go, a name that no rule has", func(t *testing.T) {
		(&escape{egress: e, t: t}).lookUp("quic.example")
		_, err := e.dialQUIC(t, e.quicSocket(t), quicAddress, "evil.example", &quic.Config{HandshakeIdleTimeout: 2 * time.Second})
		require.Error(t, err)
	})
	t.Run("quic-go, connections behind each other on one port", func(t *testing.T) {
		socket := e.quicSocket(t)
		first, err := e.dialQUIC(t, socket, quicAddress, "quic.example", &quic.Config{})
		require.NoError(t, err)
		second, err := e.dialQUIC(t, socket, quicAddress, "quic.example", &quic.Config{})
		require.NoError(t, err)
		_, err = e.dialQUIC(t, socket, quicAddress, "also.example", &quic.Config{HandshakeIdleTimeout: 2 * time.Second})
		require.Error(t, err, "which a rule has, too: one association has one name")
		for _, c := range []*quic.Conn{first, second} {
			post(t, c, "quic.example")
		}
	})
}

// quicSocket is a port of the guest for QUIC.
func (e *egress) quicSocket(t *testing.T) *quic.Transport {
	t.Helper()
	var conn net.PacketConn
	require.NoError(t, e.guest.Do(func() (err error) {
		conn, err = net.ListenPacket("udp4", "10.0.2.15:0")
		return err
	}))
	transport := &quic.Transport{Conn: conn}
	t.Cleanup(func() { _, _ = transport.Close(), conn.Close() })
	return transport
}

// dialQUIC connects to a server by QUIC, for a name that the guest has asked for.
func (e *egress) dialQUIC(t *testing.T, from *quic.Transport, address, name string, config *quic.Config) (*quic.Conn, error) {
	t.Helper()
	x := &escape{egress: e, t: t}
	x.lookUp(name)
	ctx, cancel := context.WithTimeout(e.ctx, patience)
	defer cancel()
	return from.Dial(ctx, net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr(address), 443)), http3.ConfigureTLSConfig(e.web.client(name)), config)
}

// fetchByQUIC fetches a page by HTTP/3.
func (e *egress) fetchByQUIC(t *testing.T, address, name string, config *quic.Config) {
	t.Helper()
	c, err := e.dialQUIC(t, e.quicSocket(t), address, name, config)
	require.NoError(t, err)
	post(t, c, name)
}

// post sends more than a few packets over a connection of QUIC, and reads the answer.
func post(t *testing.T, c *quic.Conn, name string) {
	t.Helper()
	client := (&http3.Transport{}).NewClientConn(c)
	r, err := http.NewRequestWithContext(c.Context(), http.MethodPost, "https://"+name+"/sum", bytes.NewReader(make([]byte, 300000)))
	require.NoError(t, err)
	answer, err := client.RoundTrip(r)
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, "POST 300000\n", string(text))
	require.Equal(t, tls.VersionTLS13, int(answer.TLS.Version))
	fmt.Fprintln(io.Discard, answer.Proto)
}
