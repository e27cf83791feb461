package main

import (
	"context"
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/vhostuser/frontend"
)

// output is what a verb prints while it goes on.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// follow runs vring ctl events until ctx ends, and returns what it prints and its status when it has ended.
func (c *controlled) follow(ctx context.Context, args ...string) (printed *output, status <-chan int) {
	printed, ended := new(output), make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"ctl", "--control", c.control, "events"}, args...), printed, printed)
	}()
	return printed, ended
}

// says waits until something is printed.
func (o *output) says(t *testing.T, what string) {
	t.Helper()
	require.Eventually(t, func() bool { return strings.Contains(o.String(), what) }, time.Minute, time.Millisecond, "%q", what)
}

// What happens is told over the real socket, out of the sandbox: a front end, a change, and the end.
func TestEventsOfARunningVringAreTold(t *testing.T) {
	c := startControlled(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all, ended := c.follow(ctx, "--recent")
	some, interrupted := c.follow(ctx, "--recent", "-o", "json", "--kind", "changed", "--guest", c.socket)
	fe, err := frontend.Dial(c.socket)
	require.NoError(t, err)
	all.says(t, "  10.0.2.15         frontend       a front end, and no driver\n")
	require.NoError(t, fe.Close())
	all.says(t, "  10.0.2.15         frontend       no front end\n")
	status, _, stderr := c.ctl("log-level", "warn")
	require.Equal(t, exitOK, status, stderr)
	all.says(t, "  -                 changed        - log-level: info; + log-level: warn\n")
	some.says(t, "\n")
	var e api.Event
	require.NoError(t, json.Unmarshal([]byte(some.String()), &e), "one line, of that kind")
	require.Equal(t, api.EventChanged, e.Kind)
	cancel()
	require.Equal(t, exitOK, <-ended)
	require.Equal(t, exitOK, <-interrupted)
}

func TestTheEndOfAVringIsAnEvent(t *testing.T) {
	var printed *output
	var ended <-chan int
	t.Run("until it ends", func(t *testing.T) {
		c := startControlled(t)
		printed, ended = c.follow(context.Background())
		status := 0
		require.Eventually(t, func() bool { // it follows
			var text string
			_, text, _ = c.ctl("log-level", []string{"debug", "info"}[status%2])
			status++
			return text != "" && strings.Contains(printed.String(), "changed")
		}, time.Minute, 10*time.Millisecond)
	})
	require.Equal(t, exitOK, <-ended)
	require.Regexp(t, `stopping +\n$`, printed.String())
}

func TestWhatIsWrongWithEventsIsTold(t *testing.T) {
	for args, want := range map[string]string{
		"--watch":       "--watch: events are told as they happen; leave it out",
		"--kind drops":  `--kind "drops": want one of ["frontend" "notice"`,
		"--output yaml": `--output "yaml": want table or json`,
		"10.0.2.15":     `unexpected "10.0.2.15"`,
	} {
		status, _, stderr := runHere(t, append([]string{"ctl", "--control", "/nothing", "events"}, strings.Fields(args)...)...)
		require.Equal(t, exitUsage, status, args)
		require.Contains(t, stderr, want)
	}
}

// A guest has a say in some texts, and must not write to the terminal of whoever looks.
func TestATextOfAGuestIsShownOnly(t *testing.T) {
	require.Equal(t, `denied host="\x1b[2Jx"; 2 more like it`, eventText(&api.Event{Text: "denied", Key: "host", Value: "\x1b[2Jx", More: 2}))
	require.Equal(t, "the guest's driver is up", eventText(&api.Event{FrontEnd: "up"}))
	require.Equal(t, "7 events were not read in time", eventText(&api.Event{Kind: api.EventLost, Lost: 7}))
	require.Equal(t, "undone + forwards: 8080:80; and 3 more; closed for 1ms: 1:2; lost: 3:4", eventText(&api.Event{
		Undone: []api.Difference{{Key: "forwards", Added: []string{"8080:80"}}}, ValuesLeftOut: 3,
		Gaps: []api.Gap{{Forward: "1:2", Micros: 1000}}, LostForwards: []string{"3:4"},
	}))
}
