package control

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/vhostuser"
)

// follower is a client that follows events.
type follower struct {
	t      *testing.T
	events chan api.Event
	ended  chan error
	cancel context.CancelFunc
}

// follow follows events at a path, and waits until the server knows.
func (b *bench) follow(t *testing.T, path string) *follower {
	before := b.following()
	f := b.beginFollowing(t, path)
	require.Eventually(t, func() bool { return b.following() == before+1 }, time.Minute, time.Millisecond)
	return f
}

// beginFollowing is follow without waiting.
func (b *bench) beginFollowing(t *testing.T, path string) *follower {
	ctx, cancel := context.WithCancel(t.Context())
	f := &follower{t: t, events: make(chan api.Event, 10000), ended: make(chan error, 1), cancel: cancel}
	go func() {
		f.ended <- b.client.Follow(ctx, path, func(e *api.Event) error {
			f.events <- *e
			return nil
		})
	}()
	t.Cleanup(cancel)
	return f
}

// following is how many clients follow events.
func (b *bench) following() int {
	b.server.streams.mu.Lock()
	defer b.server.streams.mu.Unlock()
	return len(b.server.streams.all)
}

// next is the next event.
func (f *follower) next() api.Event {
	f.t.Helper()
	select {
	case e := <-f.events:
		return e
	case err := <-f.ended:
		f.ended <- err
		if len(f.events) > 0 {
			return <-f.events
		}
		require.Fail(f.t, "the events have ended", "%v", err)
	case <-time.After(time.Minute):
		require.Fail(f.t, "there is no event")
	}
	return api.Event{}
}

// note tells of a notice of a guest.
func (b *bench) note(guest, value string) {
	b.server.Events.Tell(daemon.Notice{Guest: guest, Notice: netbackend.Notice{
		Level: int(slog.LevelWarn), Message: "denied", Key: "what", Value: value, More: 3,
	}})
}

func TestEventsAreToldAsTheyHappen(t *testing.T) {
	b := newBench(t, 2)
	f := b.follow(t, "/v1/events")
	b.note("10.0.2.16", "tcp:192.0.2.1:80")
	e := f.next()
	require.NotEmpty(t, e.Time)
	e.Time = ""
	require.Equal(t, api.Event{
		ID: 1, Kind: api.EventNotice, Guest: "10.0.2.16", Level: "warn", Text: "denied", Key: "what", Value: "tcp:192.0.2.1:80", More: 3,
	}, e)
	b.server.Events.Tell(daemon.StageChanged{Guest: "10.0.2.15", Stage: vhostuser.DriverUp})
	e = f.next()
	require.Equal(t, []any{uint64(2), "frontend", "10.0.2.15", "up"}, []any{e.ID, e.Kind, e.Guest, e.FrontEnd})
	b.change(http.MethodPut, "/v1/log-level", `{"level": "debug"}`)
	b.change(http.MethodPut, "/v1/log-level", `{"level": "debug"}`) // changes nothing, and is no event
	e = f.next()
	require.Equal(t, api.EventChanged, e.Kind)
	require.Equal(t, []api.Difference{{Key: "log-level", Removed: []string{"info"}, Added: []string{"debug"}}}, e.Changed)
	b.server.Events.Tell(daemon.GuestStopped{Guest: "10.0.2.15", Err: errors.New("its device has gone")})
	e = f.next()
	require.Equal(t, []any{uint64(4), "guest-stopped", "its device has gone"}, []any{e.ID, e.Kind, e.Text})
}

// The description has all kinds of events, and each event is as it says.
func TestEachKindOfEventIsDescribed(t *testing.T) {
	b := newBench(t, 1)
	events := b.server.Events
	events.Tell(daemon.StageChanged{Stage: vhostuser.Connected})
	b.note("", "v")
	events.Tell(daemon.GuestAdded{Guest: "vm1", Socket: "/run/vm1"})
	events.Tell(daemon.GuestRemoved{Guest: "vm1"})
	events.Tell(daemon.GuestStopped{Err: errors.New("why")})
	events.Tell(daemon.BrokerEnded{})
	events.Tell(daemon.ResolversUnreadable{Reason: "why"})
	b.change(http.MethodPatch, "/v1/forwards", `{"add": [{"text": "unix:`+b.socket+`x:80"}]}`)
	done, err := b.file.reload()
	require.NoError(t, err)
	events.Reloaded(&done, nil)
	events.Reloaded(&Reloaded{Applied: daemon.Applied{Gaps: []daemon.Gap{{}}}}, errors.New("wrong"))
	events.Tell(daemon.DrainChanged{Draining: true, Until: time.Now()})
	events.Tell(daemon.DrainChanged{})
	events.Tell(daemon.AuditTrouble{Path: "/audit", Err: errors.New("the disk is full")})
	events.Tell(daemon.AuditTrouble{Path: "/audit"})
	status, text := b.ask(http.MethodPut, "/v1/guests/"+b.guest()+"/link", `{"state": "down"}`)
	require.Equal(t, http.StatusOK, status, text)
	events.Tell(daemon.Stopping{})
	kept, _, _, _ := events.next(0, "", maxKeptBytes)
	for range maxKept {
		events.Tell(daemon.BrokerEnded{})
	}
	lost, _, _, _ := events.next(0, "", maxWrite)

	schema := b.doc.Components.Schemas["Event"].Value
	seen := map[string]bool{}
	requireEvents(t, schema, kept, seen)
	requireEvents(t, schema, lost, seen)
	var described []string
	for _, kind := range schema.Properties["kind"].Value.Enum {
		described = append(described, kind.(string))
	}
	require.ElementsMatch(t, api.EventKinds(), described)
	require.ElementsMatch(t, api.EventKinds(), slices.Collect(maps.Keys(seen)))
}

// requireEvents checks events as they are sent, and notes their kinds.
func requireEvents(t *testing.T, schema *openapi3.Schema, text []byte, seen map[string]bool) {
	for line := range strings.Lines(string(text)) {
		data, found := strings.CutPrefix(line, "data: ")
		if !found {
			continue
		}
		var value map[string]any
		require.NoError(t, json.Unmarshal([]byte(data), &value))
		require.NoError(t, schema.VisitJSON(value), "%s", data)
		seen[value["kind"].(string)] = true
	}
}

func TestOnlyOneGuestIsFollowed(t *testing.T) {
	b := newBench(t, 2)
	f := b.follow(t, "/v1/events?guest=10.0.2.16")
	b.note("10.0.2.15", "not this one")
	b.note("10.0.2.16", "this one")
	b.server.Events.Tell(daemon.BrokerEnded{})
	require.Equal(t, "this one", f.next().Value)
	require.Equal(t, api.EventBrokerEnded, f.next().Kind)
}

func TestAnEventOfTheOnlyGuestHasItsName(t *testing.T) {
	b := newBench(t, 1)
	f := b.follow(t, "/v1/events")
	b.note("", "x")
	require.Equal(t, "10.0.2.15", f.next().Guest)
}

func TestAClientThatComesBackGetsWhatItHasMissed(t *testing.T) {
	b := newBench(t, 1)
	for i := range 5 {
		b.note("", fmt.Sprint(i))
	}
	for path, first := range map[string]string{"/v1/events?after=3": "3", "/v1/events?after=0": "0", "/v1/events?after=900": "0"} {
		f := b.follow(t, path)
		require.Equal(t, first, f.next().Value, path)
	}
}

func TestWhatIsWrongWithAWishForEventsIsTold(t *testing.T) {
	b := newBench(t, 1)
	for path, want := range map[string]string{
		"?guest=10.0.2.99":            "there is no guest \\\"10.0.2.99\\\"; there are [\\\"10.0.2.15\\\"]",
		"?after=-1":                   "after \\\"-1\\\": want the ID of an event",
		"?after=1&after=2":            "after is there 2 times",
		"?before=1":                   "there is no \\\"before\\\"; there are guest and after",
		"?guest=a&guest=b":            "guest is there 2 times",
		"?after=99999999999999999999": "want the ID of an event",
	} {
		_, text := b.ask(http.MethodGet, "/v1/events"+path, "")
		require.Contains(t, text, want)
	}
	require.Zero(t, b.following())
}

// startFollowing makes a request for events, and reads nothing.
func (b *bench) startFollowing(t *testing.T) io.ReadCloser {
	before := b.following()
	c := b.dial()
	_, err := io.WriteString(c, "GET /v1/events HTTP/1.1\r\nHost: vring\r\n\r\n")
	require.NoError(t, err)
	require.Eventually(t, func() bool { return b.following() == before+1 }, time.Minute, time.Millisecond)
	return c
}

// flood tells of events that fill a client's buffers many times.
func (b *bench) flood(events int) {
	text := strings.Repeat("x", maxEventText)
	for range events {
		b.note("", text)
	}
}

// A client that does not read is not waited for, and costs no memory for each event. When it reads, it learns how many it has lost.
func TestAClientThatDoesNotReadIsToldHowManyEventsItHasLost(t *testing.T) {
	b := newBench(t, 1)
	c := b.startFollowing(t)
	const told = 20000
	b.flood(told)
	require.LessOrEqual(t, b.server.Events.bytes, maxKeptBytes)
	require.LessOrEqual(t, len(b.server.Events.kept), maxKept)
	status, _ := b.ask(http.MethodGet, "/v1/status", "")
	require.Equal(t, http.StatusOK, status)

	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	require.NoError(t, err)
	lines := bufio.NewScanner(response.Body)
	var last, lost uint64
	for last < told && lines.Scan() {
		data, found := strings.CutPrefix(lines.Text(), "data: ")
		if !found {
			continue
		}
		var e api.Event
		require.NoError(t, json.Unmarshal([]byte(data), &e))
		require.Equal(t, last+1+e.Lost, e.ID+min(e.Lost, 1), "no gap but for what is told")
		last, lost = e.ID, lost+e.Lost
	}
	require.EqualValues(t, told, last)
	require.Positive(t, lost)
}

func TestSoManyClientsFollowEventsAtMost(t *testing.T) {
	b := newBench(t, 1)
	var all []io.Closer
	for range maxStreams {
		all = append(all, b.startFollowing(t))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	refused := new(RefusedError)
	require.ErrorAs(t, b.client.Follow(ctx, "/v1/events", nil), &refused)
	require.Equal(t, http.StatusServiceUnavailable, refused.Status)
	require.Contains(t, refused.Error(), "16 clients follow events already; end one of them")
	require.NoError(t, all[3].Close())
	require.Eventually(t, func() bool { return b.following() == maxStreams-1 }, time.Minute, time.Millisecond, "its end is noticed")
	b.follow(t, "/v1/events")
	require.Equal(t, maxStreams, b.following())
}

func TestAClientThatReadsNoEventsMakesRoomForAnother(t *testing.T) {
	b := newBench(t, 1)
	b.server.streams.stuck = 0
	for range maxStreams {
		b.startFollowing(t)
	}
	waiting := func() bool {
		b.server.streams.mu.Lock()
		defer b.server.streams.mu.Unlock()
		for s := range b.server.streams.all {
			if s.writing.IsZero() {
				return false
			}
		}
		return true
	}
	require.Eventually(t, func() bool {
		b.flood(100)
		return waiting()
	}, time.Minute, 10*time.Millisecond)
	f := b.beginFollowing(t, "/v1/events?after=0")
	require.Equal(t, api.EventLost, f.next().Kind)
	require.Equal(t, maxStreams, b.following())
}

// A guest can load its driver again and again. What is told of that is little, and the last of it is how it is now.
func TestADriverThatComesAndGoesIsToldNowAndThen(t *testing.T) {
	b := newBench(t, 1)
	f := b.follow(t, "/v1/events")
	const changes = 100001
	for i := range changes {
		b.server.Events.Tell(daemon.StageChanged{Stage: []vhostuser.Stage{vhostuser.DriverUp, vhostuser.Connected}[i%2]})
	}
	var told, all uint64
	for all < changes {
		e := f.next()
		told, all = told+1, all+1+e.More
		if all == changes {
			require.Equal(t, "up", e.FrontEnd)
		}
	}
	require.Less(t, told, uint64(changes/10))
}

func TestTheLastEventsAreToldWhenTheServerCloses(t *testing.T) {
	b := newBench(t, 1)
	f := b.follow(t, "/v1/events")
	b.server.Events.Tell(daemon.Stopping{})
	b.server.Close()
	require.Equal(t, api.EventStopping, f.next().Kind)
	require.ErrorIs(t, <-f.ended, io.EOF)
	b.note("", "too late")
	require.EqualValues(t, 1, b.server.Events.end())
}

func TestOfManyValuesSomeAreTold(t *testing.T) {
	b := newBench(t, 1)
	f := b.follow(t, "/v1/events")
	var rules []string
	for i := range 30 {
		rules = append(rules, fmt.Sprintf(`{"deny": "192.0.2.%d"}`, i))
	}
	b.change(http.MethodPut, "/v1/policy", `{"restrict": true, "allow_host": [], "rules": [`+strings.Join(rules, ",")+`]}`)
	e := f.next()
	require.Equal(t, api.MaxEventValues, valuesOf(e.Changed))
	require.Equal(t, 30+2-api.MaxEventValues, e.ValuesLeftOut, "restrict is false before and true after")
}
