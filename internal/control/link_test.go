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
