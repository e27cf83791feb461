package control

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/internal/metrics"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// bench is a daemon that is controlled, and what a test asks it by.
type bench struct {
	t      testing.TB
	d      *daemon.Daemon
	server *Server
	path   string // of the control socket
	socket string // of the first guest
	client *Client
	level  *slog.LevelVar
	file   *fileOfTest
	stops  atomic.Int32 // how often the process was asked to end
	doc    *openapi3.T
	routes routers.Router
}

// newBench controls a daemon whose guests have a network of their own, without a sandbox: a test cannot leave it.
func newBench(t testing.TB, guests int) *bench {
	nat := daemon.DefaultNAT()
	nat.Resolvers = dns.Plain(netip.MustParseAddrPort("127.0.0.1:9"))
	return newBenchOf(t, daemon.Config{NAT: &nat}, guests)
}

// newBenchOf controls a daemon with that configuration.
func newBenchOf(t testing.TB, config daemon.Config, guests int) *bench {
	config.Sandbox, config.Log.Format = sandbox.Off, daemon.FormatText
	dir, err := os.MkdirTemp("", "vr") // testing's own may leave no room for a socket's name
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	for i := range guests {
		config.FrontEnds.SocketPaths = append(config.FrontEnds.SocketPaths, filepath.Join(dir, fmt.Sprint("g", i)))
	}
	checked, err := config.Check()
	require.NoError(t, err)
	level := new(slog.LevelVar)
	d, err := daemon.Open(checked, daemon.Program{Tell: func(daemon.Event) {}, Log: slog.New(slog.DiscardHandler), Level: level})
	require.NoError(t, err)
	b := &bench{t: t, d: d, socket: config.FrontEnds.SocketPaths[0], path: d.Control().Addr().String(), level: level, doc: described(t)}
	b.file = newFileOfTest(t, d, &config)
	b.routes, err = gorillamux.NewRouter(b.doc)
	require.NoError(t, err)
	b.server = NewServer(Config{Daemon: d, Log: slog.New(slog.DiscardHandler), Version: "v1.2.3", Source: b.file.source(), Stop: func() { b.stops.Add(1) }})
	b.server.http.ReadTimeout, b.server.http.WriteTimeout = 5*time.Minute, 5*time.Minute // a busy machine is no slow client
	b.client = NewClient(b.path)
	served := make(chan struct{})
	go func() {
		defer close(served)
		b.server.Serve(d.Control())
	}()
	t.Cleanup(func() {
		b.client.Close()
		b.server.Close()
		<-served
		require.NoError(t, d.Close())
	})
	return b
}

// ask makes a request, and returns the status and what was answered, which is as the description says.
func (b *bench) ask(method, path, body string) (status int, answer string) {
	b.t.Helper()
	return b.askWith(method, path, body, map[string]string{"Content-Type": "application/json"})
}

// askWith is ask with headers, among which Host is.
func (b *bench) askWith(method, path, body string, headers map[string]string) (status int, answer string) {
	b.t.Helper()
	r, err := http.NewRequestWithContext(b.t.Context(), method, "http://vring"+path, strings.NewReader(body))
	require.NoError(b.t, err)
	for name, value := range headers {
		r.Header.Set(name, value)
		if name == "Host" {
			r.Host = value
		}
	}
	response, err := b.client.http.Do(r)
	require.NoError(b.t, err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	require.NoError(b.t, err)
	b.requireDescribed(r, response, text)
	return response.StatusCode, string(text)
}

// requireDescribed compares an answer with the description, if that has the request.
func (b *bench) requireDescribed(r *http.Request, response *http.Response, text []byte) {
	b.t.Helper()
	route, params, err := b.routes.FindRoute(r)
	if err != nil {
		return
	}
	openapi3filter.RegisterBodyDecoder("application/yaml", openapi3filter.FileBodyDecoder)
	require.NoError(b.t, openapi3filter.ValidateResponse(b.t.Context(), &openapi3filter.ResponseValidationInput{
		RequestValidationInput: &openapi3filter.RequestValidationInput{Request: r, PathParams: params, Route: route},
		Status:                 response.StatusCode, Header: response.Header, Body: io.NopCloser(bytes.NewReader(text)),
		Options: &openapi3filter.Options{IncludeResponseStatus: true},
	}), "%s %s: %s", r.Method, r.URL.Path, text)
}

func TestAStatusIsAnswered(t *testing.T) {
	b := newBench(t, 2)
	var s api.Status
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/status", nil, &s))
	require.Equal(t, "v1.2.3", s.Version)
	require.Positive(t, s.Process.HeapBytes)
	require.Equal(t, 1, s.Control.Connections)
	require.Len(t, s.Guests, 2)
	require.Equal(t, "10.0.2.15", s.Guests[0].Name)
	require.Equal(t, b.socket, s.Guests[0].Socket)
	require.Equal(t, "waiting", s.Guests[0].FrontEnd)
	require.Len(t, s.Guests[0].Pairs, 1)
	require.Nil(t, s.Guests[0].Pairs[0].CPU)
	for _, path := range []string{"/v1/status", "/v1/guests", "/v1/guests/10.0.2.16", "/v1/counters", "/v1/openapi.yaml"} {
		status, text := b.ask(http.MethodGet, path, "")
		require.Equal(t, http.StatusOK, status, text)
	}
	_, text := b.ask(http.MethodGet, "/v1/guests/10.0.2.16", "")
	require.Contains(t, text, `"name": "10.0.2.16"`)
	var counters []api.Counters
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/counters", nil, &counters))
	require.Len(t, counters, 2)
	require.Equal(t, "10.0.2.16", counters[1].Guest)
	require.Contains(t, counters[1].Counters, "frames_in")
}

func TestTheProcessIsAskedToEnd(t *testing.T) {
	b := newBench(t, 1)
	require.Contains(t, b.refuse(http.StatusBadRequest, http.MethodPost, "/v1/stop", `{"now": true}`).Text, "it must be empty")
	require.Zero(t, b.stops.Load())
	status, text := b.ask(http.MethodPost, "/v1/stop", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, `"stopping": true`)
	require.Eventually(t, func() bool { return b.stops.Load() == 1 }, time.Minute, time.Millisecond, "the answer comes first")

	stopping := b.server.Config
	stopping.Stop = func() { runtime.Goexit() } // the connection is closed, as by the end of the process
	c, err := net.Dial("unix", b.listenElsewhere(NewServer(stopping)))
	require.NoError(t, err)
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "POST /v1/stop HTTP/1.1\r\nHost: vring\r\n\r\n")
	require.NoError(t, err)
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	whole, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, text, string(whole))
}

func TestMetricsAreAnsweredInThePrometheusFormat(t *testing.T) {
	b := newBench(t, 2)
	status, text := b.ask(http.MethodGet, "/v1/metrics", "")
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, "# TYPE vring_nat_frames_in_total counter\n")
	require.Contains(t, text, `vring_nat_frames_in_total{guest="10.0.2.16",pair="0"} 0`)
	response, err := b.client.http.Get("http://vring/v1/metrics")
	require.NoError(t, err)
	require.NoError(t, response.Body.Close())
	require.Equal(t, metrics.ContentType, response.Header.Get("Content-Type"))
}

func TestWhatCannotBeAskedIsTold(t *testing.T) {
	b := newBench(t, 1)
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/v1/nothing", "", 404, "there is no \\\"/v1/nothing\\\"; GET /v1/openapi.yaml tells what there is"},
		{"GET", "/", "", 404, "GET /v1/openapi.yaml"},
		{"DELETE", "/v1/status", "", 405, "there is no such method here; use [GET]"},
		{"GET", "/v1/guests/10.0.2.99", "", 404, "there are [\\\"10.0.2.15\\\"]"},
		{"GET", "/v1/status", strings.Repeat(" ", maxBody+1), 413, "more than 262144 bytes"},
	} {
		status, text := b.ask(c.method, c.path, c.body)
		require.Equal(t, c.status, status, "%s %s", c.method, c.path)
		require.Contains(t, text, c.says)
	}
	_, err := b.client.send(t.Context(), "GET", "/v1/status", make(chan int))
	require.Error(t, err)
	err = b.client.Do(t.Context(), "GET", "/v1/nothing", nil, nil)
	refused := new(RefusedError)
	require.ErrorAs(t, err, &refused)
	require.Equal(t, http.StatusNotFound, refused.Status)
}

// dial connects to the control socket.
func (b *bench) dial() net.Conn {
	b.t.Helper()
	c, err := net.Dial("unix", b.path)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = c.Close() })
	require.NoError(b.t, c.SetDeadline(time.Now().Add(time.Minute)))
	return c
}

// Clients that say nothing, or half of a request, or read no answer, make room for those who do: the one that has waited longest is
// closed.
func TestClientsThatHangMakeRoom(t *testing.T) {
	const answers = "GET /v1/counters HTTP/1.1\r\nHost: vring\r\n\r\n"
	for name, say := range map[string]string{
		"nothing":         "",
		"half a header":   "GET /v1/status HTTP/1.1\r\nHost: vr",
		"half a body":     "GET /v1/status HTTP/1.1\r\nHost: vring\r\nContent-Length: 100\r\n\r\n{",
		"reads no answer": strings.Repeat(answers, 200),
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, 1)
			first := b.dial()
			for range 2 * roomy {
				c := b.dial()
				_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // the last one's buffer is full
				_, _ = io.WriteString(c, say)
			}
			_, err := io.ReadAll(first)
			require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the first is closed")
			status, _ := b.ask(http.MethodGet, "/v1/status", "")
			require.Equal(t, http.StatusOK, status)
			require.LessOrEqual(t, b.server.conns.count(), roomy+1)
		})
	}
}

func TestAGuestWithoutFlowsHasNone(t *testing.T) {
	b := newBench(t, 2)
	var flows api.Flows
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/10.0.2.16/flows", nil, &flows))
	require.Equal(t, api.Flows{Flows: []api.Flow{}}, flows)
	status, text := b.ask(http.MethodGet, "/v1/guests/10.0.2.16/flows?proto=tcp&direction=in&guest-port=22&remote=10.0.2.0/24&state=open&limit=1", "")
	require.Equal(t, http.StatusOK, status, text)
	status, text = b.ask(http.MethodDelete, "/v1/guests/10.0.2.16/flows?all=true", "")
	require.Equal(t, http.StatusOK, status, text)
	require.Contains(t, text, `"ended": 0`)
}

func TestQuestionsAboutFlowsThatAreWrongAreTold(t *testing.T) {
	b := newBench(t, 1)
	const at = "/v1/guests/10.0.2.15/flows"
	for _, c := range []struct {
		method, path string
		status       int
		says         string
	}{
		{"GET", "/v1/guests/10.0.2.99/flows", 404, "there are [\\\"10.0.2.15\\\"]"},
		{"DELETE", "/v1/guests/10.0.2.99/flows?all=1", 404, "there are [\\\"10.0.2.15\\\"]"},
		{"GET", at + "?port=1", 400, "there is no \\\"port\\\"; there are [\\\"proto\\\""},
		{"GET", at + "?proto=tcp&proto=udp", 400, "proto is there 2 times; write it once"},
		{"GET", at + "?proto=sctp", 400, "proto \\\"sctp\\\": want tcp, udp or icmp"},
		{"GET", at + "?direction=up", 400, "want in, for what the host began by a forward, or out"},
		{"GET", at + "?guest-port=0", 400, "want a port from 1 to 65535"},
		{"GET", at + "?guest-port=65536", 400, "want a port from 1 to 65535"},
		{"GET", at + "?guest-address=here", 400, "guest-address \\\"here\\\""},
		{"GET", at + "?remote=nowhere", 400, "remote \\\"nowhere\\\""},
		{"GET", at + "?state=opne", 400, "there is no state \\\"opne\\\""},
		{"GET", at + "?limit=0", 400, "want 1 to 65536"},
		{"GET", at + "?limit=99999999999999999999", 400, "limit \\\"99999999999999999999\\\""},
		{"GET", at + "?%zz", 400, "invalid URL escape"},
		{"DELETE", at, 400, "no flows are chosen"},
		{"DELETE", at + "?all=false", 400, "no flows are chosen"},
		{"DELETE", at + "?all=perhaps", 400, "all \\\"perhaps\\\""},
		{"DELETE", at + "?all=true&proto=tcp", 400, "exclude each other"},
		{"DELETE", at + "?proto=tcp&limit=3", 400, "all that are chosen end"},
		{"POST", at, 405, "use [GET DELETE]"},
		{"GET", "/v1/guests/10.0.2.15/explain", 400, "to: \\\"\\\": it begins with no protocol; want tcp:ADDRESS:PORT"},
		{"GET", "/v1/guests/10.0.2.15/explain?to=tcp:224.0.0.1:80", 400, "it is a group"},
		{"GET", "/v1/guests/10.0.2.99/explain?to=icmp:192.0.2.1", 404, "there are [\\\"10.0.2.15\\\"]"},
	} {
		status, text := b.ask(c.method, c.path, "")
		require.Equal(t, c.status, status, "%s %s", c.method, c.path)
		require.Contains(t, text, c.says, "%s %s", c.method, c.path)
	}
}

func TestFlowsOfAGuestThatIsNotBehindNATAreUnknown(t *testing.T) {
	b := newBenchOf(t, daemon.Config{Stub: &daemon.Stub{Mode: daemon.StubNull}}, 1)
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		status, text := b.ask(method, "/v1/guests/"+url.PathEscape(b.guest())+"/flows?proto=tcp", "")
		require.Equal(t, http.StatusUnprocessableEntity, status)
		require.Contains(t, text, "is not behind NAT: its network knows no flows")
	}
}

// guest returns the name of the first guest.
func (b *bench) guest() string { return b.d.Published().Guests[0].Name }

func TestLeasesAndResolversAreTold(t *testing.T) {
	b := newBench(t, 1)
	status, text := b.ask(http.MethodGet, "/v1/guests/10.0.2.15/leases", "")
	require.Equal(t, http.StatusOK, status, text)
	require.Equal(t, "[]\n", text, "nobody has asked for one")
	var resolvers api.Resolvers
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/10.0.2.15/resolvers", nil, &resolvers))
	require.Equal(t, api.Resolvers{PatienceMillis: 1500, Resolvers: []api.Resolver{{Address: "127.0.0.1:9", First: true}}}, resolvers)
	for _, what := range []string{"leases", "resolvers"} {
		require.Contains(t, b.refuse(http.StatusNotFound, http.MethodGet, "/v1/guests/10.0.2.99/"+what, "").Text, "there are")
	}
	lease := leaseOf(&nat.Lease{Addr: netip.MustParseAddr("10.0.2.200"), MAC: [6]byte{2, 0, 0, 0, 0, 1}, Name: "a\xffb", Left: 90500 * time.Millisecond})
	left := int64(90)
	require.Equal(t, api.Lease{Address: "10.0.2.200", MAC: "02:00:00:00:00:01", Name: "a?b", LeftSeconds: &left}, lease)
}

func TestAnswersOfResolversThatAreKeptAreToldAndForgotten(t *testing.T) {
	for _, kept := range []bool{true, false} {
		n := daemon.DefaultNAT()
		n.DNSCache = kept
		b := newBenchOf(t, daemon.Config{NAT: &n}, 1)
		var cache api.NameCache
		require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/10.0.2.15/dns-cache", nil, &cache))
		require.Equal(t, api.NameCache{On: kept, Names: []api.CachedName{}}, cache)
		status, text := b.ask(http.MethodDelete, "/v1/guests/10.0.2.15/dns-cache", "")
		require.Equal(t, http.StatusOK, status)
		require.Contains(t, text, `"forgotten": 0`)
		for _, method := range []string{http.MethodGet, http.MethodDelete} {
			require.Contains(t, b.refuse(http.StatusNotFound, method, "/v1/guests/10.0.2.99/dns-cache", "").Text, "there are")
		}
	}
}

func TestADestinationIsExplained(t *testing.T) {
	b := newBench(t, 1)
	var x api.Explanation
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/10.0.2.15/explain?to=tcp:10.0.2.2:22", nil, &x))
	require.Equal(t, api.Explanation{
		Why: "it is a service of the host, which is closed unless it is opened", OpenBy: "--allow-host tcp:22", Owner: "the host's loopback",
	}, x)
	status, text := b.ask(http.MethodGet, "/v1/guests/10.0.2.15/explain?to=udp:10.0.2.3:53", "")
	require.Equal(t, http.StatusOK, status)
	require.Contains(t, text, "it is the name server")
	x = api.Explanation{}
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/10.0.2.15/explain?to=tcp:Example.ORG.:443", nil, &x))
	require.True(t, x.Allowed)
	require.Equal(t, &api.NameExplained{MayAsk: true, Why: "the name server answers, for no rule is about the name", Addresses: []api.AddressExplained{}}, x.Name)
}
