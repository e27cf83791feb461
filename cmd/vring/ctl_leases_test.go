package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

func TestLeasesAndResolversOfARunningVringAreListed(t *testing.T) {
	c := startControlled(t, "--dns", "192.0.2.53", "--lease", "52:54:00:12:34:56=10.0.2.50")
	require.Regexp(t, `^GUEST +ADDRESS +MAC +NAME +LEFT\n10\.0\.2\.15 +10\.0\.2\.50 +52:54:00:12:34:56 +- +fixed\n`, c.requireCtl("leases"))
	require.Equal(t, "GUEST      RESOLVER       FROM           ASKED  ANSWERED  UDP    TCP\n"+
		"10.0.2.16  192.0.2.53:53  configuration  first  never     works  works\n", c.requireCtl("resolvers", "10.0.2.16"))
	var leases []guestLease
	require.NoError(t, json.Unmarshal([]byte(c.requireCtl("leases", "10.0.2.15", "-o", "json")), &leases))
	require.Equal(t, []guestLease{{"10.0.2.15", api.Lease{Address: "10.0.2.50", MAC: "52:54:00:12:34:56", Fixed: true}}}, leases)
	for _, verb := range []string{"leases", "resolvers"} {
		status, _, stderr := c.ctl(verb, "10.0.2.99")
		require.Equal(t, exitUsage, status)
		require.Contains(t, stderr, `there is no guest "10.0.2.99"`)
		_, stdout, _ := runHere(t, "__complete", "ctl", "--control", c.control, verb, "")
		require.Contains(t, stdout, "10.0.2.15\n10.0.2.16\n")
	}
}

func TestLeasesAndResolversAsAPersonReadsThem(t *testing.T) {
	left, answered := int64(7200), int64(61499)
	var out strings.Builder
	leasesReport{{"g", api.Lease{Address: "10.0.2.16", MAC: "m", Name: "\x1b[2J", LeftSeconds: &left}}, {"g", api.Lease{Address: "10.0.2.15", MAC: "n", Name: "web"}}}.print(&out)
	require.Equal(t, "GUEST  ADDRESS    MAC  NAME       LEFT\ng      10.0.2.16  m    \"\\x1b[2J\"  2h0m0s\ng      10.0.2.15  n    web        kept\n", out.String())
	out.Reset()
	resolversReport{{"g", api.Resolvers{File: "/etc/resolv.conf", Resolvers: []api.Resolver{
		{Address: "a", First: true, AnsweredMS: &answered, TCP: &api.ResolverFailure{AgoMillis: 1000}}, {Address: "b", UDP: &api.ResolverFailure{AgoMillis: 3000, AgainMillis: 7000}},
	}}}, {"h", api.Resolvers{}}}.print(&out)
	require.Equal(t, "GUEST  RESOLVER    FROM              ASKED  ANSWERED  UDP                         TCP\n"+
		"g      a           /etc/resolv.conf  first  1m1s ago  works                       failed 1s ago, again with the next query\n"+
		"g      b           /etc/resolv.conf  later  never     failed 3s ago, again in 7s  works\n"+
		"h      none known  configuration     -      -         -                           -\n", out.String())
}
