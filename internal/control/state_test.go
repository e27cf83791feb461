package control

import (
	"errors"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/netbackend/porttest"
)

// keeperOfTest keeps nothing, and counts how often it was asked to.
type keeperOfTest struct {
	asked int
	fails error
}

func (k *keeperOfTest) Keep(time.Duration) error {
	k.asked++
	return k.fails
}

func (k *keeperOfTest) File() (string, error) { return "/var/lib/vring/state", k.fails }

// Each change is kept before it is answered, and what is refused or changes nothing is not.
func TestChangesAreKeptBeforeTheyAreAnswered(t *testing.T) {
	b := newBench(t, 1)
	k := new(keeperOfTest)
	b.server.Keeper = k
	port := porttest.FreePort(t).Port()
	for i, c := range []struct{ method, path, body string }{
		{"PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"text": "%d:80"}]}`, port)},
		{"PUT", "/v1/policy", `{"rules": [], "restrict": true, "allow_host": []}`},
		{"PUT", "/v1/log-level", `{"level": "debug"}`},
		{"PUT", "/v1/guests/10.0.2.15/link", `{"state": "down"}`},
		{"POST", "/v1/guests", b.guestText("later", `"stub": {}`)},
		{"DELETE", "/v1/guests/later", ""},
		{"POST", "/v1/reload", ""},
		{"POST", "/v1/config/saved", `{"sha256": "` + b.file.adopted() + `"}`},
	} {
		status, answer := b.ask(c.method, c.path, c.body)
		require.Equal(t, http.StatusOK, status, answer)
		require.NotContains(t, answer, "not_kept")
		require.Equal(t, i+1, k.asked, "%s %s", c.method, c.path)
	}
	before := k.asked
	b.change("PUT", "/v1/log-level", `{"level": "info"}`) // it is so
	b.refuse(http.StatusUnprocessableEntity, "PUT", "/v1/log-level", `{"level": "loud"}`)
	b.refuse(http.StatusBadRequest, "PUT", "/v1/guests/10.0.2.15/link", `{"state": "up", "not_kept": "x"}`)
	require.Equal(t, before, k.asked)
}

// A change that cannot be kept is made, and the answer says what it is worth.
func TestAChangeThatIsNotKeptIsToldSo(t *testing.T) {
	b := newBench(t, 1)
	k := &keeperOfTest{fails: errors.New("the disk is full")}
	b.server.Keeper = k
	require.Equal(t, "the disk is full", b.change("PUT", "/v1/log-level", `{"level": "debug"}`).NotKept)
	require.Equal(t, "the disk is full", b.change("POST", "/v1/reload", "").NotKept)
	var link api.Link
	require.NoError(t, b.client.Do(t.Context(), http.MethodPut, "/v1/guests/10.0.2.15/link", api.Link{State: api.LinkDown}, &link))
	require.Equal(t, api.Link{State: api.LinkDown, NotKept: "the disk is full"}, link)
	var status api.Status
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/status", nil, &status))
	require.Equal(t, &api.State{Path: "/var/lib/vring/state", Error: "the disk is full"}, status.State)
	var diff api.ConfigDiff
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/config/diff", nil, &diff))
	require.Equal(t, "/var/lib/vring/state", diff.State)
}
