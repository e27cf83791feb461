package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
)

// harmless lets forwards be applied only if they are few ports of the loopback: what a fuzzer thinks of must not be open to other
// machines, and make no file.
func harmless(d *daemon.Daemon) func(func(*daemon.Config) error) (daemon.Applied, error) {
	const most = 16
	return func(alter func(*daemon.Config) error) (daemon.Applied, error) {
		return d.Change(func(c *daemon.Config) error {
			if err := alter(c); err != nil {
				return err
			}
			ports := 0
			for _, n := range append([]*daemon.NAT{c.NAT}, ownNAT(c)...) {
				for _, f := range n.Forwards {
					ports += int(f.Count)
					if f.Path != "" || !f.Host.Addr().IsLoopback() || f.Host.Port() < 1024 || ports > most {
						return errors.New("not in a test")
					}
				}
				if n.Queues > 2 {
					return errors.New("not in a test")
				}
			}
			if len(c.Guests) > 4 {
				return errors.New("not in a test")
			}
			return nil
		})
	}
}

// ownNAT are the networks behind the host's that guests have for themselves.
func ownNAT(c *daemon.Config) (all []*daemon.NAT) {
	for i := range c.Guests {
		if n := c.Guests[i].NAT; n != nil {
			all = append(all, n)
		}
	}
	return all
}

// FuzzRequests sends requests with any body. Each is answered as the API promises, with an error that says why or with what it is for; and
// what runs is then still a configuration that a file can say.
func FuzzRequests(f *testing.F) {
	b := newBench(f, 2)
	b.server.pace.SetLimit(rate.Inf)
	b.server.apply = harmless(b.d)
	handler := b.server.handler()
	conn, other := net.Pipe()
	f.Cleanup(func() { _, _ = conn.Close(), other.Close() })
	all := routes()
	for i := range all {
		for _, body := range []string{
			"", `{"add": [{"text": "18080:80"}], "remove": [{"host_port": 18080, "guest_port": 80}]}`, `[{"text": "udp:18080-18083:10.0.2.16:80-83"}]`,
			`[{"proto": "udp", "host_address": "::1", "host_port": 18085, "guest_address": "fd00:10:0:2::15", "guest_port": 1, "count": 2}]`,
			`[{"text": "unix:/tmp/x:80"}, {"text": "gate:send-proxy-v2:[::1]:18081:80"}]`,
			`{"rules": [{"allow": "192.0.2.1:443"}, {"deny": "tcp:[2001:db8::/32]:1-2"}], "restrict": true, "allow_host": ["tcp:5432", "icmp:192.0.2.1"]}`,
			"filter=tcp+port+80&snaplen=128&gso=cut&count=5&duration=1s", "filter=%28ip%5B0%5D&snaplen=99999999999999999999", "count=1&count=2&duration=1e9h&%zz", `{"state": "down"}`, `{"name": "10.0.2.16x", "socket-path": "` + b.socket + `x", "stub": {"mode": "echo"}}`,
			`{"name": "db", "socket-path": "` + b.socket + `y", "nat": {"network": "10.9.0.0/24", "forwards": ["18090:80"], "rules": [{"deny": "192.0.2.0/24"}]}}`,
			`{"socket-path": "/a/b", "tap": {"device": "tap0"}}`, `{"level": "debug"}`, `{"level": 3, "level": null}`, `[[[[{"a": 1e999}]]]]`,
		} {
			f.Add(uint8(i), "10.0.2.16", []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, i uint8, guest string, body []byte) {
		route := all[int(i)%len(all)]
		ctx, cancel := context.WithCancel(context.WithValue(t.Context(), connKey{}, conn))
		defer cancel()
		if route.path == "/v1/events" || strings.HasSuffix(route.path, "/capture") {
			cancel() // its answer goes on until then
		}
		r := httptest.NewRequestWithContext(ctx, route.method, "http://vring/", bytes.NewReader(body))
		r.URL.Path = strings.Replace(route.path, "{name}", guest, 1)
		if strings.HasSuffix(route.path, "/capture") {
			r.URL.RawQuery = string(body)
		}
		r.Header.Set("Content-Type", "application/json")
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, r)
		requireAnswer(t, answer)
		requireWritable(t, b.d.Config())
	})
}

// requireAnswer checks that an answer is an error with its reason, or what was asked for.
func requireAnswer(t *testing.T, answer *httptest.ResponseRecorder) {
	switch {
	case answer.Code >= http.StatusInternalServerError:
		require.Fail(t, "an error of the server's own", "%d %s", answer.Code, answer.Body)
	case answer.Code >= http.StatusBadRequest:
		var e api.Error
		d := json.NewDecoder(answer.Body)
		d.DisallowUnknownFields()
		require.NoError(t, d.Decode(&e))
		require.NotEmpty(t, e.Text)
	case answer.Code >= http.StatusMultipleChoices: // a path that is written otherwise leads elsewhere
		require.NotEmpty(t, answer.Header().Get("Location"))
	case answer.Header().Get("Content-Type") == "application/json":
		require.True(t, json.Valid(answer.Body.Bytes()))
	}
}

// requireWritable checks that a configuration is one that a file says.
func requireWritable(t *testing.T, c daemon.Config) {
	text, err := configfile.Marshal(&c, configfile.Short)
	require.NoError(t, err)
	f, err := configfile.Parse("f", text, func(string) (int, error) { return 0, errors.New("no groups") })
	require.NoError(t, err, "%s", text)
	require.Empty(t, configfile.Diff(&c, &f.Config))
}
