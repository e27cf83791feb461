package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

func TestWhyAsksARunningVring(t *testing.T) {
	c := startControlled(t)
	const heading = "TIME  GUEST  WAY  REASON  PROTO  FROM  TO  MORE BEFORE  EXPLANATION\n"
	require.Equal(t, heading, c.requireCtl("why"))
	require.Equal(t, heading, c.requireCtl("why", "10.0.2.16", "--reason", "denied"))
	var all []guestDrop
	require.NoError(t, json.Unmarshal([]byte(c.requireCtl("why", "10.0.2.15", "-o", "json")), &all))
	require.NotNil(t, all)
	status, _, stderr := c.ctl("why", "10.0.2.99")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, `there is no guest "10.0.2.99"`)
	status, _, stderr = c.ctl("why", "--reason", "bad_luck")
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, `there is no reason "bad_luck"`)
	_, stdout, _ := runHere(t, "__complete", "ctl", "--control", c.control, "why", "")
	require.Contains(t, stdout, "10.0.2.15\n10.0.2.16\n")
	_, stdout, _ = runHere(t, "__complete", "ctl", "--control", c.control, "why", "--reason", "")
	require.Contains(t, stdout, "\ndenied\n")
}

func TestDropsAsAPersonReadsThem(t *testing.T) {
	var out strings.Builder
	whyReport{
		{"g", api.Drop{Time: "then", Reason: "denied", Meaning: "Frames to what the policy closes.", Detail: "opened by --allow-host udp:9", Proto: "udp", Src: "10.0.2.15:7", Dst: "10.0.2.2:9", LeftOut: 3}},
		{"g", api.Drop{Time: "later", Reason: "no_room", Meaning: "Replies\x1b.", ToGuest: true}},
	}.print(&out)
	require.Equal(t, "TIME   GUEST  WAY         REASON   PROTO  FROM         TO          MORE BEFORE  EXPLANATION\n"+
		"then   g      from guest  denied   udp    10.0.2.15:7  10.0.2.2:9  3            opened by --allow-host udp:9\n"+
		"later  g      to guest    no_room  -      -            -           -            \"Replies\\x1b.\"\n", out.String())
}
