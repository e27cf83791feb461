package control

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/porttest"
)

// guestText is a guest with a network of its own as JSON, whose socket lies beside those of the bench.
func (b *bench) guestText(name, network string) string {
	return fmt.Sprintf(`{"name": %q, "socket-path": %q, %s}`, name, filepath.Join(filepath.Dir(b.socket), name), network)
}

func (b *bench) guestNames() (names []string) {
	var all []api.Guest
	require.NoError(b.t, b.client.Do(b.t.Context(), http.MethodGet, "/v1/guests", nil, &all))
	for _, g := range all {
		names = append(names, g.Name)
	}
	return names
}

func TestAGuestIsAddedUsedAndRemoved(t *testing.T) {
	b := newBench(t, 2)
	port := porttest.FreePort(t).Port()
	const nat = `"nat": {"network": "10.9.0.0/24", "dns": ["127.0.0.1:9"]}`
	for range 2 {
		changed := b.change(http.MethodPost, "/v1/guests", b.guestText("db", nat))
		require.Equal(t, []api.Difference{{Key: "guests", Removed: []string{}, Added: []string{"db"}}}, changed.Changed)
		require.Equal(t, []string{"10.0.2.15", "10.0.2.16", "db"}, b.guestNames())
		b.change(http.MethodPatch, "/v1/guests/db/forwards", fmt.Sprintf(`{"add": [{"text": "%d:5432"}]}`, port))
		var forwards []api.Forward
		require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/forwards", nil, &forwards))
		require.Len(t, forwards, 1)
		require.Equal(t, []string{"db", "10.9.0.15"}, []string{forwards[0].Guest, forwards[0].GuestAddress})
		b.change(http.MethodPut, "/v1/guests/db/policy", `{"rules": [{"deny": "192.0.2.0/24"}], "restrict": false, "allow_host": []}`)
		var shared, own api.Policy
		require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/policy", nil, &shared))
		require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/db/policy", nil, &own))
		require.Empty(t, shared.Rules)
		require.Len(t, own.Rules, 1)
		var diff api.ConfigDiff
		require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/config/diff", nil, &diff))
		require.Equal(t, []api.Difference{{Key: "guests", Removed: []string{}, Added: []string{"db"}}}, diff.Differences)
		requireWritable(t, b.d.Config())

		changed = b.change(http.MethodDelete, "/v1/guests/db", "")
		require.Equal(t, []api.Difference{{Key: "guests", Removed: []string{"db"}, Added: []string{}}}, changed.Changed)
		require.Equal(t, []string{"10.0.2.15", "10.0.2.16"}, b.guestNames())
		status, _ := b.ask(http.MethodGet, "/v1/guests/db", "")
		require.Equal(t, http.StatusNotFound, status)
	}
	b.change(http.MethodPost, "/v1/guests", b.guestText("echo", `"stub": {"mode": "echo"}`))
	done, err := b.file.reload()
	require.NoError(t, err)
	require.Equal(t, "echo", done.Undone[0].Added[0], "a reload tells what it drops")
	require.Equal(t, []string{"10.0.2.15", "10.0.2.16"}, b.guestNames())
}

func TestWhatIsWrongWithGuestsThatComeAndGoIsTold(t *testing.T) {
	b := newBench(t, 2)
	b.change(http.MethodPost, "/v1/guests", b.guestText("echo", `"stub": {}`))
	const stub = `"stub": {}`
	named := func(name string) string {
		return strings.Replace(b.guestText("other", stub), `"other"`, `"`+name+`"`, 1)
	}
	for name, c := range map[string]struct {
		method, path, body string
		status             int
		want               string
	}{
		"nothing":             {"POST", "/v1/guests", "", 400, "no JSON"},
		"no object":           {"POST", "/v1/guests", "[]", 422, "want keys with values"},
		"null":                {"POST", "/v1/guests", "null", 422, "no network of its own"},
		"half":                {"POST", "/v1/guests", `{"name": "a`, 400, "ends too early"},
		"two":                 {"POST", "/v1/guests", "{} {}", 400, "something follows"},
		"twice":               {"POST", "/v1/guests", `{"name": "a", "NAME": "b"}`, 400, "given twice"},
		"no UTF-8":            {"POST", "/v1/guests", "\"\xff\"", 400, "UTF-8"},
		"an unknown key":      {"POST", "/v1/guests", b.guestText("a", `"stub": {}, "sandbox": "off"`), 422, "a guest has no key"},
		"a name with a slash": {"POST", "/v1/guests", named("a/b"), 422, "letters, digits"},
		"a name of points":    {"POST", "/v1/guests", named(".."), 422, "letters, digits"},
		"a name twice":        {"POST", "/v1/guests", strings.Replace(b.guestText("echo", stub), "/echo", "/other", 1), 422, "two guests are called echo"},
		"a socket twice":      {"POST", "/v1/guests", b.guestText("echo", stub), 422, "is given twice"},
		"a path outside":      {"POST", "/v1/guests", `{"name": "a", "socket-path": "/etc/a", "stub": {}}`, 422, "no guest has its socket in /etc"},
		"a path by points":    {"POST", "/v1/guests", b.guestText("../etc/a", stub), 422, "no guest has its socket in"},
		"a TAP device":        {"POST", "/v1/guests", b.guestText("a", `"tap": "tap0"`), 422, "cannot have a TAP device"},
		"a shared one":        {"DELETE", "/v1/guests/10.0.2.15", "", 422, "shares its network"},
		"one that is not":     {"DELETE", "/v1/guests/none", "", 404, "there is no guest"},
		"a body":              {"DELETE", "/v1/guests/echo", "{}", 400, "it must be empty"},
		"a stub's policy":     {"GET", "/v1/guests/echo/policy", "", 422, "has no policy"},
		"a stub's forwards":   {"GET", "/v1/guests/echo/forwards", "", 422, "has no forwards"},
		"a shared policy":     {"PUT", "/v1/guests/10.0.2.15/policy", `{"rules": [], "restrict": false, "allow_host": []}`, 422, "2 guests share this policy"},
		"a policy of nobody":  {"GET", "/v1/guests/none/policy", "", 404, "there is no guest"},
	} {
		t.Run(name, func(t *testing.T) {
			before := b.d.Config()
			status, answer := b.ask(c.method, c.path, c.body)
			require.Equal(t, c.status, status, answer)
			require.Contains(t, answer, c.want)
			require.Equal(t, before, b.d.Config())
			require.Equal(t, []string{"10.0.2.15", "10.0.2.16", "echo"}, b.guestNames())
		})
	}
}

// Each guest has forwards of its own, and nobody shares any: a request must name one.
func TestForwardsOfGuestsThatShareNothingNeedAName(t *testing.T) {
	nat := daemon.DefaultNAT()
	other := daemon.DefaultNAT()
	dir, err := os.MkdirTemp("", "vr")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	b := newBenchOf(t, daemon.Config{Stub: &daemon.Stub{Mode: daemon.StubNull, Size: 60}, Guests: []daemon.Guest{
		{Name: "a", SocketPath: filepath.Join(dir, "a"), NAT: &nat}, {Name: "b", SocketPath: filepath.Join(dir, "b"), NAT: &other},
	}}, 1)
	status, answer := b.ask(http.MethodPatch, "/v1/forwards", `{"add": [{"text": "8080:80"}]}`)
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, answer, "name one, as in /v1/guests/a/forwards")
	status, answer = b.ask(http.MethodGet, "/v1/policy", "")
	require.Equal(t, http.StatusUnprocessableEntity, status)
	require.Contains(t, answer, "name a guest")
	status, answer = b.ask(http.MethodGet, "/v1/forwards", "")
	require.Equal(t, http.StatusOK, status, answer)
}

// Ten thousand requests to add guests cost a clear answer each, and no more guests than there may be.
func TestManyRequestsToAddGuestsAreAnswered(t *testing.T) {
	b := newBench(t, 1)
	times := 300
	if isLong() {
		times = 10000
	}
	added, late, most := 0, 0, -1
	for i := range times {
		status, answer := b.ask(http.MethodPost, "/v1/guests", b.guestText(fmt.Sprint("later", i), `"stub": {}`))
		switch status {
		case http.StatusOK:
			added++
		case http.StatusTooManyRequests:
			late++
		default:
			require.Equal(t, http.StatusUnprocessableEntity, status, answer)
			_, rest, found := strings.Cut(answer, "guests would have been added while others are served, and there may be ")
			require.True(t, found, answer)
			_, err := fmt.Sscan(rest, &most)
			require.NoError(t, err, answer)
		}
	}
	require.LessOrEqual(t, most, daemon.MaxLater)
	require.Equal(t, most, added, "as many as there may be")
	require.Len(t, b.guestNames(), 1+added)
	require.Less(t, added+late, times)
}
