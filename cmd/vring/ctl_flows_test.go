package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control"
	"github.com/vringnet/vring/internal/control/api"
)

func TestFlowsArePrintedWithTheirRates(t *testing.T) {
	start := time.Now()
	at := func(at time.Time, from, to uint64) (r flowsReport) {
		r.At = at
		r.Add("10.0.2.15", []api.Flow{{
			Proto: "tcp", Guest: "10.0.2.15:40000", Remote: "192.0.2.1:443", State: "open", FromGuest: from, ToGuest: to, AgeMillis: 4000,
		}})
		return r
	}
	before, now := at(start, 1000, 0), at(start.Add(2*time.Second), 5000, 200)
	now.Measure(&before.List)
	now.leftOut = []string{"10.0.2.15"}
	var out strings.Builder
	now.print(&out)
	require.Regexp(t, `(?m)^10\.0\.2\.15 +tcp +out +10\.0\.2\.15:40000 +192\.0\.2\.1:443 +- +- +open +5000 +200 +4s +2000 +100$`, out.String())
	require.Contains(t, out.String(), "guest 10.0.2.15 has more flows")
}

func TestAChoiceOfFlowsIsAskedForAsItWasWritten(t *testing.T) {
	require.Empty(t, (&flowChoice{}).query().Encode())
	choice := flowChoice{proto: "tcp", direction: "in", guestAddress: "10.0.2.15", remote: "tcp:[2001:db8::/32]:443", state: "open", guestPort: 22}
	require.Equal(t, "/v1/guests/tap%2F0/flows?direction=in&guest-address=10.0.2.15&guest-port=22&proto=tcp&"+
		"remote=tcp%3A%5B2001%3Adb8%3A%3A%2F32%5D%3A443&state=open", control.GuestPath("tap/0", "flows", choice.query()))
}
