package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

func TestTheNamesOfARunningVringAreListedAndForgotten(t *testing.T) {
	c := startControlled(t, "--dns", "192.0.2.53", "--dns-cache")
	require.Equal(t, "GUEST      RESOLVER       FROM           ASKED  ANSWERED  UDP    TCP\n"+
		"10.0.2.16  192.0.2.53:53  configuration  first  never     works  works\n", c.requireCtl("dns", "10.0.2.16"))
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

func TestNamesAsAPersonReadsThem(t *testing.T) {
	var out strings.Builder
	dnsReport{Resolvers: resolversReport{}, Caches: []guestCache{
		{"g", api.NameCache{On: true, Names: []api.CachedName{{Name: "www.example.org.", Type: "A", Code: "NOERROR", LeftSeconds: 61}, {Name: "\x1b", Type: "A", Code: "NXDOMAIN"}}}},
		{"h", api.NameCache{}},
	}}.print(&out)
	require.Contains(t, out.String(), "guest h: answers are not kept; --dns-cache keeps them\n")
	require.Contains(t, out.String(), "GUEST  NAME              TYPE  ANSWER    LEFT\ng      www.example.org.  A     NOERROR   1m1s\ng      \"\\x1b\"            A     NXDOMAIN  0s\n")
}
