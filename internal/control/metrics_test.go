package control

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/metrics"
	"github.com/vringnet/vring/internal/sandbox"
)

// metricsBench is a MetricsServer at an address of its own.
type metricsBench struct {
	t      *testing.T
	server *MetricsServer
	at     string
}

func newMetricsBench(t *testing.T) *metricsBench {
	dir, err := os.MkdirTemp("", "vr") // testing's own may leave no room for a socket's name
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	nat, pid := daemon.DefaultNAT(), os.Getpid()
	own := netip.AddrFrom4([4]byte{127, byte(128 + pid>>16&63), byte(pid >> 8), byte(pid&127 + 1)}) // that no other test of this moment has
	config := daemon.Config{
		Sandbox: sandbox.Off, NAT: &nat, Control: daemon.Control{Off: true}, Metrics: netip.AddrPortFrom(own, 9100),
		FrontEnds: daemon.FrontEnds{SocketPaths: []string{filepath.Join(dir, "g")}},
	}
	checked, err := config.Check()
	require.NoError(t, err)
	d, err := daemon.Open(checked, daemon.Program{Tell: func(daemon.Event) {}, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	b := &metricsBench{t, NewMetricsServer(d, slog.New(slog.DiscardHandler)), config.Metrics.String()}
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.server.Serve()
	}()
	t.Cleanup(func() {
		b.server.Close()
		<-served
		_ = d.Close() // the listener was closed by the server
	})
	return b
}

// dial connects to the server.
func (b *metricsBench) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("tcp", b.at)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = c.Close() })
	require.NoError(b.t, c.SetDeadline(time.Now().Add(5*time.Minute)))
	return c
}

// ask sends a request as it is, and reads the answer.
func (b *metricsBench) ask(c net.Conn, request string) (status int, header http.Header, text string) {
	b.t.Helper()
	_, err := io.WriteString(c, request)
	require.NoError(b.t, err)
	method, _, _ := strings.Cut(request, " ")
	response, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: method})
	require.NoError(b.t, err)
	body, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	return response.StatusCode, response.Header, string(body)
}

const scrape = "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1:9100\r\n\r\n"

func TestPrometheusIsAnsweredAndNobodyElse(t *testing.T) {
	b := newMetricsBench(t)
	status, header, text := b.ask(b.dial(), scrape)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, metrics.ContentType, header.Get("Content-Type"))
	require.Contains(t, text, `vring_nat_frames_in_total{guest="10.0.2.15",pair="0"} 0`)
	for request, want := range map[string]int{
		"GET /metrics?a=b|127.0.0.1":                http.StatusOK,
		"GET /metrics|localhost:9100":               http.StatusOK,
		"GET /metrics|[::1]:9100":                   http.StatusOK,
		"GET /metrics|::1":                          http.StatusOK,
		"GET /metrics|evil.example":                 http.StatusForbidden,
		"GET /metrics|evil.example:9100":            http.StatusForbidden,
		"GET /metrics|127.0.0.1.evil":               http.StatusForbidden,
		"GET /metrics|":                             http.StatusForbidden,
		"GET /metrics/|127.0.0.1":                   http.StatusNotFound,
		"GET //metrics|127.0.0.1":                   http.StatusNotFound,
		"GET /v1/status|127.0.0.1":                  http.StatusNotFound,
		"GET /debug/pprof/|127.0.0.1":               http.StatusNotFound,
		"POST /metrics|127.0.0.1":                   http.StatusMethodNotAllowed,
		"HEAD /metrics|127.0.0.1":                   http.StatusMethodNotAllowed,
		"DELETE /metrics|127.0.0.1":                 http.StatusMethodNotAllowed,
		"CONNECT 192.0.2.1:80|127.0.0.1":            http.StatusNotFound,
		"GET http://evil.example/metrics|127.0.0.1": http.StatusForbidden,
	} {
		line, host, _ := strings.Cut(request, "|")
		status, _, text := b.ask(b.dial(), fmt.Sprintf("%s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", line, host))
		require.Equal(t, want, status, "%s: %s", request, text)
	}
	long := strings.Repeat("x", 2*maxHeader)
	status, _, _ = b.ask(b.dial(), "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nX: "+long+"\r\n\r\n")
	require.Equal(t, http.StatusRequestHeaderFieldsTooLarge, status)
}

// At another address than the loopback's, Prometheus may know this host by a name.
func TestAHostThatIsReachedByOthersMayHaveAName(t *testing.T) {
	b := newMetricsBench(t)
	b.server.loopback = false // before anybody connects
	status, _, _ := b.ask(b.dial(), "GET /metrics HTTP/1.1\r\nHost: server.example\r\n\r\n")
	require.Equal(t, http.StatusOK, status)
}

// Clients that hang make room for one that asks.
func TestClientsThatHangDoNotKeepPrometheusOut(t *testing.T) {
	for name, say := range map[string]string{"nothing": "", "half a header": "GET /metrics HTTP/1.1\r\nHost: 12"} {
		t.Run(name, func(t *testing.T) {
			b := newMetricsBench(t)
			first := b.dial()
			for range 2 * maxMetrics {
				_, err := io.WriteString(b.dial(), say)
				require.NoError(t, err)
			}
			_, err := io.ReadAll(first)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the first is closed")
			status, _, _ := b.ask(b.dial(), scrape)
			require.Equal(t, http.StatusOK, status)
			require.LessOrEqual(t, b.server.conns.count(), maxMetrics+1)
		})
	}
}

// However many ask, so many pages are made in a second, and so many connections are accepted: who is faster waits.
func TestPagesAndConnectionsHaveTheirPace(t *testing.T) {
	b := newMetricsBench(t)
	const more, moreConnections = 5, 100
	begin, c := time.Now(), b.dial()
	for range pageBurst + more {
		status, _, _ := b.ask(c, scrape)
		require.Equal(t, http.StatusOK, status)
	}
	require.GreaterOrEqual(t, time.Since(begin), (more-1)*time.Second/pageRate)
	begin = time.Now()
	for range acceptBurst + moreConnections {
		c := b.dial()
		status, _, _ := b.ask(c, "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
		require.Equal(t, http.StatusNotFound, status)
		require.NoError(t, c.Close())
	}
	const early = 10 // the server was ready for one before, and clocks are rounded
	require.GreaterOrEqual(t, time.Since(begin), (moreConnections-early)*time.Second/acceptRate)
}
