package main

import (
	"encoding/json"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

func TestTheNamesOfARunningVringAreListedAndForgotten(t *testing.T) {
	c := startControlled(t, "--dns", "192.0.2.53", "--dns-cache")
	require.Equal(t, "GUEST      RESOLVER       FROM           ASKED  ANSWERED  UDP    TCP\n"+
		"10.0.2.16  192.0.2.53:53  configuration  first  never     works  works\n"+
		"guest 10.0.2.16: 0 answers kept (0 KiB); 0 hits, 0 misses (0 of them for answers that were over), 0 answered by one that was over\n", c.requireCtl("dns", "10.0.2.16"))
	require.Equal(t, "0 answers forgotten\n", c.requireCtl("dns", "flush"))
	require.Contains(t, c.requireCtl("dns", "10.0.2.15", "-o", "json"), `"on": true`)
	for _, args := range []string{"dns 10.0.2.99", "dns flush 10.0.2.99"} {
		status, _, stderr := c.ctl(strings.Fields(args)...)
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, `there is no guest "10.0.2.99"`)
	}
	status, _, stderr := c.ctl("dns", "flush", "--watch")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "--watch is for what is looked at")
}

// Answers are forgotten of each guest, and counted together.
func TestAnswersOfAllGuestsAreForgotten(t *testing.T) {
	path := filepath.Join(shortDir(t), "s.ctl")
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	var asked []string
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := any([]api.Guest{{Name: "a"}, {Name: "b"}})
		if r.URL.Path != "/v1/guests" {
			asked, answer = append(asked, r.Method+" "+r.URL.Path), api.ForgottenNames{Forgotten: 3}
		}
		require.NoError(t, json.NewEncoder(w).Encode(answer))
	}))
	server.Listener = l
	server.Start()
	defer server.Close()
	c := &controlled{t: t, control: path}
	require.Equal(t, "6 answers forgotten\n", c.requireCtl("dns", "flush"))
	require.Equal(t, []string{"DELETE /v1/guests/a/dns-cache", "DELETE /v1/guests/b/dns-cache"}, asked)
}

func TestNamesAsAPersonReadsThem(t *testing.T) {
	var out strings.Builder
	dnsReport{Resolvers: resolversReport{}, Caches: []guestCache{
		{"g", api.NameCache{On: true, Names: []api.CachedName{{Name: "www.example.org.", Type: "A", Code: "NOERROR", LeftSeconds: 61}, {Name: "\x1b", Type: "A", Code: "NXDOMAIN"}}}},
		{"h", api.NameCache{}},
	}}.print(&out)
	require.Contains(t, out.String(), "guest h: answers are not kept; --dns-cache keeps them\n")
	require.Contains(t, out.String(), "GUEST  NAME              TYPE  ANSWER    LEFT\ng      www.example.org.  A     NOERROR   1m1s\ng      \"\\x1b\"            A     NXDOMAIN  0s\n")
}
