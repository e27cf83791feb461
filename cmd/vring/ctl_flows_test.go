package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

// flowsAt is a report of flows that have sent and received that much so far.
func flowsAt(at time.Time, bytes map[string][2]uint64) flowsReport {
	r := flowsReport{at: at}
	for remote, n := range bytes {
		r.flows = append(r.flows, guestFlow{Guest: "10.0.2.15", Flow: api.Flow{
			Proto: "tcp", Guest: "10.0.2.15:40000", Remote: remote, State: "open", FromGuest: n[0], ToGuest: n[1],
			AgeMillis: int64(len(remote)) * 1000,
		}})
	}
	return r
}

// order returns the other ends of flows in their order.
func (r *flowsReport) order() (remotes []string) {
	for i := range r.flows {
		remotes = append(remotes, r.flows[i].Remote)
	}
	return remotes
}

func TestFlowsAreMeasuredAndSorted(t *testing.T) {
	start := time.Now()
	before := flowsAt(start, map[string][2]uint64{"fast": {1000, 0}, "finished": {9000, 9000}, "reused": {500, 500}})
	now := flowsAt(start.Add(2*time.Second), map[string][2]uint64{"fast": {5000, 200}, "finished": {9000, 9000}, "reused": {100, 100}, "new": {0, 6000}})
	before.measure(&flowsReport{})
	require.False(t, before.measured, "there is nothing to compare with")
	now.measure(&before)
	for order, want := range map[string][]string{
		"rate":  {"new", "fast", "reused", "finished"}, // 3000, 2100, 100 and 0 bytes a second
		"bytes": {"finished", "new", "fast", "reused"},
		"age":   {"finished", "reused", "fast", "new"},
	} {
		now.sort(order)
		require.Equal(t, want, now.order(), order)
	}
	now.leftOut = []string{"10.0.2.15"}
	var out strings.Builder
	now.print(&out)
	require.Regexp(t, `(?m)^10\.0\.2\.15 +tcp +out +10\.0\.2\.15:40000 +fast +- +- +open +5000 +200 +4s +2000 +100$`, out.String())
	require.Contains(t, out.String(), "guest 10.0.2.15 has more flows")
}

func TestAChoiceOfFlowsIsAskedForAsItWasWritten(t *testing.T) {
	require.Empty(t, (&flowChoice{}).query().Encode())
	choice := flowChoice{proto: "tcp", direction: "in", guestAddress: "10.0.2.15", remote: "tcp:[2001:db8::/32]:443", state: "open", guestPort: 22}
	require.Equal(t, "/v1/guests/tap%2F0/flows?direction=in&guest-address=10.0.2.15&guest-port=22&proto=tcp&"+
		"remote=tcp%3A%5B2001%3Adb8%3A%3A%2F32%5D%3A443&state=open", flowsPath("tap/0", choice.query()))
}
