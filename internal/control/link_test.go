package control

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
)

func TestALinkIsTakenDownAndUp(t *testing.T) {
	b := newBench(t, 2)
	events := b.follow(t, "/v1/events")
	name := b.guest()
	path := "/v1/guests/" + name + "/link"
	state := func() (link api.Link, inList string) {
		status, text := b.ask("GET", path, "")
		require.Equal(t, 200, status, text)
		require.NoError(t, json.Unmarshal([]byte(text), &link))
		return link, guestsOf(new(b.d.Published()))[0].Link
	}
	for _, want := range []string{api.LinkUp, api.LinkDown, api.LinkDown, api.LinkUp} {
		status, text := b.ask("PUT", path, `{"state": "`+want+`"}`)
		require.Equal(t, 200, status, text)
		link, inList := state()
		require.Equal(t, want, link.State)
		require.Equal(t, want, inList)
		require.Equal(t, api.LinkUp, guestsOf(new(b.d.Published()))[1].Link, "the other guest's")
		event := events.next()
		require.Equal(t, []string{api.EventLink, name, want}, []string{event.Kind, event.Guest, event.Link})
	}
	require.Contains(t, b.refuse(422, "PUT", path, `{"state": "sideways"}`).Text, `state "sideways": want up or down`)
	require.Contains(t, b.refuse(422, "PUT", path, `{}`).Text, "want up or down")
	require.Contains(t, b.refuse(404, "PUT", "/v1/guests/nobody/link", `{"state": "down"}`).Text, `there is no guest "nobody"`)
	require.Contains(t, b.refuse(404, "GET", "/v1/guests/nobody/link", "").Text, `there is no guest "nobody"`)
	b.server.pace.SetLimit(0)
	for b.server.pace.Allow() {
	}
	b.refuse(429, "PUT", path, `{"state": "down"}`)
	link, _ := state()
	require.Equal(t, api.LinkUp, link.State)
}

// Of guests that share a network each has its own link, and so has one that has a network of its own.
func TestALinkIsEmulated(t *testing.T) {
	b := newBench(t, 2)
	b.change("POST", "/v1/guests", b.guestText("later", `"stub": {}`))
	path := func(guest string) string { return "/v1/guests/" + guest + "/link/emulation" }
	is := func(guest string) (e api.Emulation) {
		status, text := b.ask("GET", path(guest), "")
		require.Equal(t, 200, status, text)
		require.NoError(t, json.Unmarshal([]byte(text), &e))
		return e
	}
	first, second := b.d.Published().Guests[0].Name, b.d.Published().Guests[1].Name
	require.Equal(t, api.Emulation{Link: "none"}, is(second))
	for _, guest := range []string{second, "later"} {
		changed := b.change("PUT", path(guest), `{"link": "lte,seed=5"}`).Changed
		require.Len(t, changed, 1)
		require.Equal(t, api.Emulation{Link: "rate=12mbit,delay=35ms,seed=5", Seed: "5"}, is(guest))
		require.Empty(t, b.change("PUT", path(guest), `{"link": "rate=12mbit,delay=35ms,seed=5"}`).Changed, "it is so")
	}
	require.Equal(t, api.Emulation{Link: "none"}, is(first))
	b.change("PUT", path(first), `{"link": "in:loss=1%"}`)
	got := is(first)
	require.Equal(t, "in:loss=1%", got.Link)
	require.NotEmpty(t, got.Seed, "it has got one")
	for _, guest := range []string{first, second, "later"} {
		b.change("PUT", path(guest), `{"link": "none"}`)
		require.Equal(t, api.Emulation{Link: "none"}, is(guest))
	}
	require.Contains(t, b.refuse(422, "PUT", path(first), `{"link": "delay=2h"}`).Text, "link delay=2h: delay=2h0m0s: want 0s to 1m0s")
	require.Contains(t, b.refuse(422, "PUT", path(first), `{"link": ""}`).Text, "an item of the link is empty")
	require.Contains(t, b.refuse(400, "PUT", path(first), `{"link": "lan", "seed": "4"}`).Text, "seed is only in answers")
	require.Contains(t, b.refuse(404, "PUT", path("nobody"), `{"link": "lan"}`).Text, `there is no guest "nobody"`)
	require.Contains(t, b.refuse(404, "GET", path("nobody"), "").Text, `there is no guest "nobody"`)
}
