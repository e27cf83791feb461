package control

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/configfile"
	"github.com/vringnet/vring/internal/control/api"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend/porttest"
)

// fileOfTest is a configuration file that lies nowhere.
type fileOfTest struct {
	t    testing.TB
	d    *daemon.Daemon
	mu   sync.Mutex
	text string
	was  daemon.Config
}

func newFileOfTest(t testing.TB, d *daemon.Daemon, c *daemon.Config) *fileOfTest {
	text, err := configfile.Marshal(c, configfile.Short)
	require.NoError(t, err)
	return &fileOfTest{t: t, d: d, text: string(text), was: *c}
}

func (f *fileOfTest) source() Source {
	return Source{File: "f.yaml", Path: "/etc/f.yaml", Read: f.read, Reload: f.reload, Adopted: f.adopted, Saved: f.saved}
}

func (f *fileOfTest) adopted() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Sum([]byte(f.text))
}

func (f *fileOfTest) saved(sum string) error {
	if sum != f.adopted() {
		return errors.New("it is not what was saved")
	}
	return nil
}

func (f *fileOfTest) read() (c daemon.Config, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	file, err := configfile.Parse("f.yaml", []byte(f.text), func(string) (int, error) { return 0, errors.New("no groups") })
	if err != nil {
		return c, err
	}
	return file.Config, nil
}

func (f *fileOfTest) reload() (Reloaded, error) {
	says, err := f.read()
	if err != nil {
		return Reloaded{}, err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	done, err := Adopt(f.d, &f.was, &says)
	if err == nil {
		f.was = says
	}
	return done, err
}

// set changes the text of the file.
func (f *fileOfTest) set(from, to string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	require.Contains(f.t, f.text, from)
	f.text = strings.Replace(f.text, from, to, 1)
}

// change makes a request that changes something.
func (b *bench) change(method, path, body string) (changed api.Changed) {
	b.t.Helper()
	status, text := b.ask(method, path, body)
	require.Equal(b.t, http.StatusOK, status, text)
	require.NoError(b.t, json.Unmarshal([]byte(text), &changed))
	return changed
}

// refuse makes a request that is refused.
func (b *bench) refuse(status int, method, path, body string) (e api.Error) {
	b.t.Helper()
	got, text := b.ask(method, path, body)
	require.Equal(b.t, status, got, text)
	require.NoError(b.t, json.Unmarshal([]byte(text), &e))
	require.NotEmpty(b.t, e.Text)
	return e
}

// forwardTexts are the forwards of all guests, or of one.
func (b *bench) forwardTexts(path string) (texts []string) {
	b.t.Helper()
	status, text := b.ask(http.MethodGet, path, "")
	require.Equal(b.t, http.StatusOK, status, text)
	var all []api.Forward
	require.NoError(b.t, json.Unmarshal([]byte(text), &all))
	for _, f := range all {
		require.NotEmpty(b.t, f.Guest)
		texts = append(texts, f.Text)
	}
	return texts
}

// takes reports whether somebody listens. There is no guest, so a connection is reset.
func takes(t testing.TB, network, at string) bool {
	t.Helper()
	c, err := net.Dial(network, at)
	if err == nil {
		require.NoError(t, c.Close())
	}
	return !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT)
}

func TestForwardsComeAndGo(t *testing.T) {
	b := newBench(t, 2)
	host, second, dir := porttest.FreePort(t), porttest.FreePort(t), filepath.Dir(b.socket)
	first := fmt.Sprintf("tcp:%s:10.0.2.15:80", host)
	changed := b.change("PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"text": "%d:80"}, {"path": "%s/f", "guest_port": 81, "guest_address": "10.0.2.16"}]}`, host.Port(), dir))
	require.Equal(t, []api.Difference{{
		Key: "forwards", Removed: []string{}, Added: []string{fmt.Sprintf("tcp:%s:80", host), "unix:" + dir + "/f:10.0.2.16:81"},
	}}, changed.Changed)
	require.Equal(t, []string{first, "unix:" + dir + "/f:10.0.2.16:81"}, b.forwardTexts("/v1/forwards"))
	require.Equal(t, []string{first}, b.forwardTexts("/v1/guests/10.0.2.15/forwards"))
	require.True(t, takes(t, "tcp4", host.String()))
	require.True(t, takes(t, "unix", dir+"/f"))

	b.change("PATCH", "/v1/guests/10.0.2.16/forwards", fmt.Sprintf(
		`{"remove": [{"text": "unix:%s//f:81"}], "add": [{"proto": "tcp", "host_port": %d, "guest_port": 22, "gate": true}]}`, dir, second.Port()))
	require.Equal(t, []string{first, fmt.Sprintf("gate:tcp:%s:10.0.2.16:22", second)}, b.forwardTexts("/v1/forwards"))
	require.False(t, takes(t, "unix", dir+"/f"))

	_, listed := b.ask("GET", "/v1/guests/10.0.2.15/forwards", "") // what is listed can be sent as it is
	require.Empty(t, b.change("PUT", "/v1/guests/10.0.2.15/forwards", listed).Changed)
	changed = b.change("PUT", "/v1/guests/10.0.2.15/forwards", fmt.Sprintf(`[{"text": "%d:81"}]`, host.Port()))
	require.Len(t, changed.Gaps, 1)
	require.Equal(t, first, changed.Gaps[0].Forward[:len("tcp:")]+host.String()+":10.0.2.15:80", "%v", changed.Gaps)
	b.change("PATCH", "/v1/forwards", fmt.Sprintf(`{"remove": [{"host_port": %d, "guest_port": 81}, {"text": "gate:%d:10.0.2.16:22"}]}`, host.Port(), second.Port()))
	require.Empty(t, b.forwardTexts("/v1/forwards"))
	require.False(t, takes(t, "tcp4", host.String()))
	require.False(t, takes(t, "tcp4", second.String()))
}

func TestOfForwardsAllChangeOrNone(t *testing.T) {
	b := newBench(t, 2)
	free, taken := porttest.FreePort(t), porttest.FreePort(t)
	other, err := net.Listen("tcp4", taken.String())
	require.NoError(t, err)
	defer other.Close()
	e := b.refuse(422, "PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"text": "%d:80"}, {"text": "%d:80"}]}`, free.Port(), taken.Port()))
	require.Contains(t, e.Text, taken.String())
	require.Len(t, e.Faults, 1)
	require.False(t, takes(t, "tcp4", free.String()))
	require.Empty(t, b.forwardTexts("/v1/forwards"))

	// The new one can be had only after the old one is closed, and then it cannot: somebody has the port at another address.
	b.change("PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"text": "%d:80"}]}`, free.Port()))
	blocker, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.9:%d", free.Port()))
	require.NoError(t, err)
	defer blocker.Close()
	e = b.refuse(422, "PUT", "/v1/forwards", fmt.Sprintf(`[{"text": "0.0.0.0:%d:80"}]`, free.Port()))
	require.Len(t, e.Gaps, 1)
	require.Empty(t, e.Lost)
	require.True(t, takes(t, "tcp4", free.String()))
}

func TestRulesByNameAreReplaced(t *testing.T) {
	b := newBench(t, 1)
	const policy = `{"rules": [{"deny_name": "x.example.org"}, {"allow_name": "@work:443"}], "restrict": true, "allow_host": [],
		"name_groups": ["work=.example.org,example.net"], "refuse_names": "nxdomain"}`
	b.change("PUT", "/v1/policy", policy)
	var p api.Policy
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/policy", nil, &p))
	require.Len(t, p.Hits, 3)
	p.Hits = nil
	require.Equal(t, api.Policy{
		Rules: []api.Rule{{DenyName: "x.example.org"}, {AllowName: "@work:443"}}, Restrict: true, AllowHost: []string{}, Redirects: []string{},
		NameGroups: []string{"work=.example.org,example.net"}, RefuseNames: "nxdomain",
	}, p)
	b.change("PUT", "/v1/policy", `{"rules": [{"allow_name": "@work:443"}], "restrict": true, "allow_host": []}`)
	require.Len(t, b.d.Config().NAT.NameGroups, 1, "what is missing stays")
	for body, want := range map[string]string{
		`{"rules": [{"allow_name": "@other"}], "restrict": true, "allow_host": []}`:                       `there is no group \"other\"`,
		`{"rules": [{"allow_name": "a.example"}], "restrict": false, "allow_host": []}`:                   "it opens nothing",
		`{"rules": [{"allow_name": "192.0.2.1"}], "restrict": true, "allow_host": []}`:                    "--allow and --deny",
		`{"rules": [], "restrict": true, "allow_host": [], "name_groups": ["work=b cher"]}`:               "the character",
		`{"rules": [], "restrict": true, "allow_host": [], "refuse_names": "never"}`:                      "want refused or nxdomain",
		`{"rules": [{"allow_name": "a.example", "deny": "1.2.3.4"}], "restrict": true, "allow_host": []}`: "rule 0 has one of",
	} {
		require.ErrorContains(t, b.client.Do(t.Context(), "PUT", "/v1/policy", json.RawMessage(body), nil), strings.ReplaceAll(want, `\`, ""), body)
	}
}

func TestThePolicyIsReplaced(t *testing.T) {
	b := newBench(t, 1)
	const policy = `{"rules": [{"allow": "192.0.2.1:443"}, {"deny": "tcp:192.0.2.0/24"}], "restrict": true, "allow_host": ["tcp:5432-5440"]}`
	var changed []string
	for _, d := range b.change("PUT", "/v1/policy", policy).Changed {
		changed = append(changed, d.Key)
	}
	require.Equal(t, []string{"allow-host", "rules", "restrict"}, changed)
	var p api.Policy
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/policy", nil, &p))
	require.Equal(t, make([]api.Hits, 3), p.Hits, "of two rules, and of what none decides")
	require.Equal(t, api.Policy{
		Hits:  p.Hits,
		Rules: []api.Rule{{Allow: "192.0.2.1/32:443"}, {Deny: "tcp:192.0.2.0/24"}}, Restrict: true, AllowHost: []string{"tcp:5432-5440"}, Redirects: []string{},
		RefuseNames: "refused",
	}, p)
	require.NoError(t, b.client.Do(t.Context(), "PUT", "/v1/policy", p, nil), "what is told can be sent as it is")
	moved := b.change("PUT", "/v1/policy?keep-established=true", `{"rules": [{"deny": "tcp:192.0.2.0/24"}, {"allow": "192.0.2.1:443"}], "restrict": true, "allow_host": ["tcp:5432-5440"]}`)
	require.Equal(t, []api.Difference{{Key: "rules", Removed: []string{}, Added: []string{}, Moved: true}}, moved.Changed)
	require.True(t, b.d.Config().NAT.Rules[1].Allow)
	require.Equal(t, "10.0.2.15", b.d.Networks()[0].NAT.Guest.String())
	require.True(t, b.d.Networks()[0].NAT.Restrict)
}

// A password is never told, and an answer can be sent back all the same: it keeps the password of the same proxy and user, and of no other.
func TestAMaskedPasswordKeepsThatOfTheSameProxyAndUser(t *testing.T) {
	b := newBench(t, 1)
	const secret = "s3cret"
	b.change("PUT", "/v1/policy", `{"rules": [{"allow_name": "example.org:443;via=http://me:`+secret+`2@192.0.2.2:8080"}, {"allow": "192.0.2.0/24:80;via=socks5://me:`+secret+`@192.0.2.1:1080"}],
		"restrict": true, "allow_host": [], "way": "via=socks5://me:`+secret+`@192.0.2.1:1080"}`)
	requireKept := func() {
		t.Helper()
		c := b.server.Daemon.Config()
		require.Equal(t, secret, c.NAT.Via.Password)
		require.Equal(t, secret+"2", c.NAT.Rules[0].Way.Via.Password)
		require.Equal(t, secret, c.NAT.Rules[1].Way.Via.Password)
	}
	requireKept()
	status, told := b.ask("GET", "/v1/policy", "")
	require.Equal(t, http.StatusOK, status)
	require.NotContains(t, told, secret)
	require.Contains(t, told, "socks5://me:***@192.0.2.1:1080")
	require.Empty(t, b.change("PUT", "/v1/policy", told).Changed, "what is told can be sent as it is")
	requireKept()
	for _, other := range []string{"socks5://me:***@192.0.2.9:1080", "socks5://me:***@192.0.2.1:1081", "socks5://you:***@192.0.2.1:1080", "http://me:***@192.0.2.1:1080"} {
		for _, body := range []string{
			`{"rules": [], "restrict": true, "allow_host": [], "way": "via=` + other + `"}`,
			`{"rules": [{"allow": "192.0.2.0/24;via=` + other + `"}], "restrict": true, "allow_host": []}`,
			`{"rules": [{"allow_name": "example.org;via=` + other + `"}], "restrict": true, "allow_host": []}`,
		} {
			status, text := b.ask("PUT", "/v1/policy", body)
			require.Equal(t, http.StatusUnprocessableEntity, status, body)
			require.NotContains(t, text, secret)
			require.Contains(t, text, "as vring prints it so that nobody reads it", body)
		}
	}
	requireKept()
	b.change("PUT", "/v1/policy", `{"rules": [{"allow": "192.0.2.0/24;via=http://me:***@192.0.2.2:8080"}], "restrict": true, "allow_host": [], "way": "via=http://me:other@192.0.2.2:8080"}`)
	b.refuse(http.StatusUnprocessableEntity, "PUT", "/v1/policy", `{"rules": [], "restrict": true, "allow_host": [], "way": "via=http://me:***@192.0.2.2:8080"}`) // which of both?
}

func TestRedirectsAreReplacedWithThePolicyOrStay(t *testing.T) {
	b := newBench(t, 1)
	const without = `"rules": [], "restrict": false, "allow_host": []`
	led := func() (p api.Policy) {
		require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/policy", nil, &p))
		return p
	}
	b.change("PUT", "/v1/policy", `{`+without+`, "redirects": ["tcp:10.0.2.100:80=127.0.0.1:8080", "10.0.2.101=127.0.0.1"]}`)
	require.Equal(t, []string{"tcp:10.0.2.100:80=127.0.0.1:8080", "10.0.2.101=127.0.0.1"}, led().Redirects)
	require.Len(t, b.d.Networks()[0].NAT.Redirects, 2)
	var x api.Explanation
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/guests/10.0.2.15/explain?to=tcp:10.0.2.100:80", nil, &x))
	require.Equal(t, "--redirect tcp:10.0.2.100:80=127.0.0.1:8080", x.By, "the engine follows it")
	require.Empty(t, b.change("PUT", "/v1/policy", `{`+without+`}`).Changed)
	require.Len(t, led().Redirects, 2, "who does not know of them does not remove them")
	e := b.refuse(422, "PUT", "/v1/policy", `{`+without+`, "redirects": ["10.0.2.100", "10.0.2.9=10.0.2.8"]}`)
	require.Contains(t, e.Text, "it does not say where the guest is led to")
	b.change("PUT", "/v1/policy", `{`+without+`, "redirects": []}`)
	require.Empty(t, led().Redirects)
}

func TestDNSNamesAreReplaced(t *testing.T) {
	b := newBench(t, 1)
	b.change("PUT", "/v1/dns-names", `{"names": ["host@vring.internal=10.0.2.2", "@empty.internal"]}`)
	_, text := b.ask("GET", "/v1/dns-names", "")
	require.JSONEq(t, `{"names": ["host@vring.internal=10.0.2.2", "@empty.internal"]}`, text)
	require.Len(t, b.d.Networks()[0].NAT.Names, 2)
	for body, part := range map[string]string{
		`{}`:                                   "names must be there",
		`{"names": ["x"]}`:                     "it has no address",
		`{"names": ["a@b=192.0.2.1", "c@d="]}`: `\"\" is not an IP address`,
	} {
		status, text := b.ask("PUT", "/v1/dns-names", body)
		require.Contains(t, []int{400, 422}, status)
		require.Contains(t, text, part)
	}
	b.change("PUT", "/v1/dns-names", `{"names": []}`)
	require.Empty(t, b.d.Config().NAT.Names)
}

func TestResolversAreReplaced(t *testing.T) {
	b := newBench(t, 1)
	b.change("PUT", "/v1/resolvers", `{"resolvers": ["192.0.2.53"], "domains": ["corp.example=10.8.0.1,10.8.0.2:5353"]}`)
	_, text := b.ask("GET", "/v1/resolvers", "")
	require.JSONEq(t, `{"resolvers": ["192.0.2.53:53"], "domains": ["corp.example=10.8.0.1:53,10.8.0.2:5353"]}`, text)
	var now api.Resolvers
	require.NoError(t, b.client.Do(t.Context(), http.MethodGet, "/v1/guests/10.0.2.15/resolvers", nil, &now))
	require.Equal(t, []api.Resolver{{Address: "192.0.2.53:53", First: true}, {Address: "10.8.0.1:53", Domain: "corp.example", First: true}, {Address: "10.8.0.2:5353", Domain: "corp.example"}}, now.Resolvers)
	for body, part := range map[string]string{
		`{"resolvers": []}`:                                           "resolvers and domains must be there",
		`{"resolvers": ["x"], "domains": []}`:                         "not a name",
		`{"resolvers": ["::1"], "domains": ["a.example"]}`:            "names no resolver",
		`{"resolvers": ["::1"], "domains": ["a.b=::1","a.b=::2"]}`:    "has resolvers already",
		`{"resolvers": ["tls://192.0.2.53"], "domains": []}`:          "were not read at the start",
		`{"resolvers": ["::1"], "domains": ["a.b=tls://192.0.2.53"]}`: "were not read at the start",
		`{"resolvers": ["::1", "tls://::1"], "domains": []}`:          "for all, or for none",
	} {
		status, text := b.ask("PUT", "/v1/resolvers", body)
		require.Contains(t, []int{400, 422}, status, body)
		require.Contains(t, text, part)
	}
	require.Len(t, b.d.Config().NAT.Split, 1)
}

func TestTheLogLevelIsSet(t *testing.T) {
	b := newBench(t, 1)
	b.change("PUT", "/v1/log-level", `{"level": "debug"}`)
	require.Equal(t, "DEBUG", b.level.Level().String())
	_, text := b.ask("GET", "/v1/log-level", "")
	require.JSONEq(t, `{"level": "debug"}`, text)
	e := b.refuse(422, "PUT", "/v1/log-level", `{"level": "loud"}`)
	require.Equal(t, `log-level "loud": want debug, info, warn or error`, e.Text)
}

func TestAReloadTellsWhatItUndoes(t *testing.T) {
	b := newBench(t, 1)
	host := porttest.FreePort(t)
	added := fmt.Sprintf("tcp:%s:80", host)
	b.change("PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"text": "%d:80"}]}`, host.Port()))
	b.change("PUT", "/v1/log-level", `{"level": "debug"}`)
	var diff api.ConfigDiff
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/config/diff", nil, &diff))
	differences := []api.Difference{
		{Key: "log-level", Removed: []string{"info"}, Added: []string{"debug"}}, {Key: "forwards", Removed: []string{}, Added: []string{added}},
	}
	require.Equal(t, api.ConfigDiff{File: "f.yaml", Path: "/etc/f.yaml", Adopted: b.file.adopted(), Differences: differences}, diff)

	b.file.set("poll-us: 0", "log-level: debug\npoll-us: 7")
	changed := b.change("POST", "/v1/reload", "")
	require.Equal(t, []api.Difference{{Key: "forwards", Removed: []string{}, Added: []string{added}}}, changed.Undone)
	require.Equal(t, []api.Difference{
		{Key: "poll-us", Removed: []string{"0"}, Added: []string{"7"}}, {Key: "forwards", Removed: []string{added}, Added: []string{}},
	}, changed.Changed)
	require.False(t, takes(t, "tcp4", host.String()))
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/config/diff", nil, &diff))
	require.Empty(t, diff.Differences)
	require.Empty(t, b.change("POST", "/v1/reload", "").Changed)

	var now Text
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/config", nil, &now))
	require.Contains(t, string(now), "poll-us: 7\n")
	require.NotContains(t, string(now), "forwards")
}

func TestAFileThatIsWrongIsToldWithItsLines(t *testing.T) {
	b := newBench(t, 1)
	before := b.d.Config()
	b.file.set("nat:", "pol-us: 3\nnat:\n  restrict: maybe")
	for _, ask := range [][2]string{{"POST", "/v1/reload"}, {"GET", "/v1/config/diff"}} {
		e := b.refuse(422, ask[0], ask[1], "")
		require.Len(t, e.Faults, 2)
		require.Equal(t, `the file has no key "pol-us"; did you mean poll-us?`, e.Faults[0].Text)
		require.Equal(t, "f.yaml", e.Faults[0].File)
		require.Positive(t, e.Faults[0].Line)
		require.Equal(t, 1, e.Faults[0].Column)
		require.Equal(t, e.Faults[0].Line+2, e.Faults[1].Line)
		require.Contains(t, e.Text, fmt.Sprintf("f.yaml:%d:1: the file has no key", e.Faults[0].Line))
	}
	require.Equal(t, before, b.d.Config())
}

func TestAVringWithoutAFileHasNothingToReload(t *testing.T) {
	b := newBench(t, 1)
	b.server.Source = Source{Read: func() (daemon.Config, error) { return b.file.was, nil }}
	require.Contains(t, b.refuse(422, "POST", "/v1/reload", "").Text, "was started with flags")
	b.change("PUT", "/v1/log-level", `{"level": "warn"}`)
	var diff api.ConfigDiff
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/config/diff", nil, &diff))
	require.Equal(t, "", diff.File)
	require.Len(t, diff.Differences, 1)
}

// Clients add forwards while the file is read again and again. Each forward that is not there in the end was told to be undone, once.
func TestAReloadLosesNoChangeThatItDoesNotTell(t *testing.T) {
	const callers, times = 4, 10
	b := newBench(t, 1)
	b.server.pace.SetLimit(rate.Inf)
	dir := filepath.Dir(b.socket)
	var mu sync.Mutex
	seen := map[string]int{}
	var clients, reloads sync.WaitGroup
	over := make(chan struct{})
	reloads.Go(func() {
		for done := false; !done; {
			select {
			case <-over:
				done = true // and once more
			default:
			}
			for _, d := range b.change("POST", "/v1/reload", "").Undone {
				mu.Lock()
				for _, text := range d.Added {
					seen[text]++
				}
				mu.Unlock()
			}
		}
	})
	for caller := range callers {
		clients.Go(func() {
			for n := range times {
				b.change("PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"path": "%s/%d-%d", "guest_port": 80}]}`, dir, caller, n))
			}
		})
	}
	clients.Wait()
	close(over)
	reloads.Wait()
	require.Empty(t, b.forwardTexts("/v1/forwards"))
	require.Len(t, seen, callers*times)
	for text, n := range seen {
		require.Equal(t, 1, n, text)
	}
}

func TestTooManyChangesAreRefused(t *testing.T) {
	b := newBench(t, 1)
	require.Equal(t, rate.Limit(changeRate), b.server.pace.Limit())
	require.Equal(t, changeBurst, b.server.pace.Burst())
	b.server.pace.SetLimit(0) // so that it does not depend on how fast this machine is
	for range changeBurst {
		b.change("PUT", "/v1/log-level", `{"level": "warn"}`)
	}
	for _, ask := range [][3]string{
		{"PUT", "/v1/log-level", `{"level": "debug"}`}, {"PUT", "/v1/forwards", "[]"}, {"POST", "/v1/reload", ""}, {"GET", "/v1/config/diff", ""},
		{"PUT", "/v1/policy", `{"rules": [], "restrict": true, "allow_host": []}`}, {"PATCH", "/v1/forwards", `{"add": [{"text": "1:2"}]}`},
	} {
		require.Contains(t, b.refuse(429, ask[0], ask[1], ask[2]).Text, "more than 200 changes in a second")
	}
	status, _ := b.ask("GET", "/v1/forwards", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "WARN", b.level.Level().String())
}

// Each request is refused with a reason, and nothing changes.
func TestRequestsThatLieAreRefused(t *testing.T) {
	b := newBench(t, 2)
	b.server.pace.SetLimit(rate.Inf)
	b.change("PATCH", "/v1/forwards", fmt.Sprintf(`{"add": [{"path": "%s/f", "guest_port": 80}]}`, filepath.Dir(b.socket)))
	there := b.forwardTexts("/v1/forwards")[0]
	before := b.d.Config()
	lines := func(n int, format string) string {
		var all []string
		for i := range n {
			all = append(all, fmt.Sprintf(format, i))
		}
		return strings.Join(all, ",")
	}
	add := func(item string) string { return `{"add": [` + item + `]}` }
	policy := func(rules, services string) string {
		return `{"rules": [` + rules + `], "restrict": false, "allow_host": [` + services + `]}`
	}
	for _, c := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"PATCH", "/v1/forwards", "", 400, "it is empty"},
		{"PUT", "/v1/forwards", "null", 400, "it is empty"},
		{"PATCH", "/v1/forwards", "{}", 400, "nothing to add or to remove"},
		{"PATCH", "/v1/forwards", "[]", 400, "cannot unmarshal array"},
		{"PUT", "/v1/forwards", "{}", 400, "cannot unmarshal object"},
		{"PATCH", "/v1/forwards", `{"add": [{"text": "1:2"}]`, 400, "it ends too early"},
		{"PATCH", "/v1/forwards", `{"add": [{"text": "1:2"}]} {}`, 400, "something follows the value"},
		{"PATCH", "/v1/forwards", `{"ad": [{"text": "1:2"}]}`, 400, `unknown field "ad"`},
		{"PATCH", "/v1/forwards", add(`{"txt": "1:2"}`), 400, `unknown field "txt"`},
		{"PATCH", "/v1/forwards", `{"add": [], "ADD": [{"text": "1:2"}]}`, 400, `"add" is given twice`},
		{"PATCH", "/v1/forwards", add(`{"text": "1:2", "text": "3:4"}`), 400, `"text" is given twice`},
		{"PATCH", "/v1/forwards", add(`{"text": 8080}`), 400, "cannot unmarshal number"},
		{"PATCH", "/v1/forwards", add(`{"host_port": "8080", "guest_port": 80}`), 400, "cannot unmarshal string"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 70000, "guest_port": 80}`), 400, "cannot unmarshal number 70000"},
		{"PATCH", "/v1/forwards", add(`{"host_port": -1, "guest_port": 80}`), 400, "cannot unmarshal number -1"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 1e999, "guest_port": 80}`), 400, "cannot unmarshal number 1e999"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 8080.5, "guest_port": 80}`), 400, "cannot unmarshal number 8080.5"},
		{"PATCH", "/v1/forwards", add("{\"text\": \"1:2\xff\"}"), 400, "no text in UTF-8"},
		{"PATCH", "/v1/forwards", strings.Repeat("[", 100000), 400, "nested too deep"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 8080}`), 422, "forward"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 65535, "guest_port": 80, "count": 2}`), 422, "its ports go beyond 65535"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 8080, "guest_port": 80, "send_proxy": 3}`), 422, "the PROXY protocol has versions 1 and 2"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 8080, "guest_port": 80, "proto": "icmp"}`), 422, "want tcp or udp"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 8080, "guest_port": 80, "host_address": "localhost"}`), 422, "want an address"},
		{"PATCH", "/v1/forwards", add(`{"host_port": 8080, "guest_port": 80, "path": "/tmp/x"}`), 422, "do not go together"},
		{"PATCH", "/v1/forwards", add(`{"path": "/tmp/x\u0000y", "guest_port": 80}`), 422, "zero byte"},
		{"PATCH", "/v1/forwards", add(`{"text": "8080"}`), 422, "a guest port is needed as well"},
		{"PATCH", "/v1/forwards", add(`{"text": "8080:80", "guest_port": 81}`), 422, "say different things"},
		{"PATCH", "/v1/forwards", add("null"), 422, "forward"},
		{"PATCH", "/v1/forwards", add(`{"text": "8080:80"}, {"host_port": 8080, "guest_port": 80}`), 422, "is there already, or comes twice"},
		{"PATCH", "/v1/forwards", add(`{"text": "` + there + `"}`), 422, "is there already"},
		{"PATCH", "/v1/forwards", `{"remove": [{"text": "8080:80"}]}`, 422, "there is no forward tcp:127.0.0.1:8080:10.0.2.15:80; there are " + there},
		{"PATCH", "/v1/forwards", `{"remove": [{"text": "` + there + `"}, {"text": "` + there + `"}]}`, 422, "there is no forward"},
		{"PATCH", "/v1/forwards", add(lines(maxItems+1, `{"text": "%d:80"}`)), 422, "a list of 4097 items"},
		{"PATCH", "/v1/forwards", add(lines(1000, `{"text": "x%d"}`)), 422, "and more of this kind"},
		{"PATCH", "/v1/guests/10.0.2.99/forwards", add(`{"text": "8080:80"}`), 404, `there is no guest "10.0.2.99"`},
		{"PUT", "/v1/guests/10.0.2.16/forwards", `[{"text": "8080:10.0.2.15:80"}]`, 422, "leads to guest 10.0.2.15"},
		{"PATCH", "/v1/guests/10.0.2.16/forwards", `{"remove": [{"text": "` + there + `"}]}`, 422, "leads to guest 10.0.2.15"},
		{"PUT", "/v1/policy", `{"rules": []}`, 400, "must all be there"},
		{"PUT", "/v1/policy?keep-established=perhaps", policy("", ""), 400, `keep-established "perhaps": want true or false`},
		{"PUT", "/v1/policy?keep-established=1&keep-established=1", policy("", ""), 400, "is there 2 times"},
		{"PUT", "/v1/policy?keep=1", policy("", ""), 400, `there is no "keep"; there is keep-established`},
		{"PUT", "/v1/policy", `{"rules": null, "restrict": true, "allow_host": []}`, 400, "must all be there"},
		{"PUT", "/v1/policy", policy(`{"allow": "1.2.3.4", "deny": "1.2.3.4"}`, ""), 422, "rule 0 has one of allow, deny, allow_name and deny_name"},
		{"PUT", "/v1/policy", policy(`{}`, ""), 422, "rule 0 has one of allow, deny, allow_name and deny_name"},
		{"PUT", "/v1/policy", policy(`{"allow": "example.org"}`, `"example.org"`), 422, "example.org"},
		{"PUT", "/v1/policy", policy(`{"deny": "10.0.2.0/25"}`, ""), 422, "that is the guest's own network"},
		{"PUT", "/v1/policy", policy(lines(maxItems+1, `{"deny": "192.0.2.%d"}`), ""), 422, "a list of 4097 items"},
		{"PUT", "/v1/policy", policy("", `"tcp:1-16384","tcp:16385"`), 422, "more than 16384 services"},
		{"PUT", "/v1/policy", policy("", `"tcp:1-65535"`+strings.Repeat(`,"tcp:1-65535"`, maxItems-1)), 422, "more than 16384 services"},
		{"PUT", "/v1/policy", policy(lines(maxItems, `{"deny": "tcp:[2001:db8:1234:5678:9abc::%x/128]:1"}`), ""), 422, "could not be kept in a file any more"},
		{"PUT", "/v1/log-level", `{}`, 422, "want debug, info, warn or error"},
		{"PUT", "/v1/log-level", `{"level": 4}`, 400, "cannot unmarshal number"},
		{"POST", "/v1/reload", `{"file": "/etc/passwd"}`, 400, "it must be empty"},
		{"DELETE", "/v1/forwards", "", 405, "use [GET PATCH PUT]"},
		{"POST", "/v1/policy", policy("", ""), 405, "use [GET PUT]"},
		{"GET", "/v1/reload", "", 405, "use [POST]"},
		{"PUT", "/v1/config", "nat:", 405, "use [GET]"},
		{"PUT", "/v1/forwards", strings.Repeat(" ", maxBody+1), 413, "more than 262144 bytes"},
	} {
		e := b.refuse(c.status, c.method, c.path, c.body)
		require.Contains(t, e.Text, c.says, "%s %s %.100s", c.method, c.path, c.body)
		require.Less(t, len(e.Text), 8000)
	}
	require.Equal(t, before, b.d.Config())
}

func TestRequestsOfOthersThanProgramsAreRefused(t *testing.T) {
	b := newBench(t, 1)
	const body = `{"level": "debug"}`
	for _, c := range []struct {
		header, value string
		status        int
		says          string
	}{
		{"Content-Type", "text/plain", 415, "send JSON"},
		{"Content-Type", "application/x-www-form-urlencoded", 415, "send JSON"},
		{"Content-Type", "", 415, "send JSON"},
		{"Content-Type", "application/json; charset=latin1", 415, "send JSON"},
		{"Content-Encoding", "gzip", 415, "send the body as it is"},
		{"Origin", "http://example.org", 403, "from a web page"},
		{"Origin", "null", 403, "from a web page"},
		{"Sec-Fetch-Site", "same-origin", 403, "from a web page"},
		{"Host", "example.org", 403, "a unix socket is no host of the network"},
		{"Host", "127.0.0.1:8080", 403, "a unix socket is no host of the network"},
	} {
		headers := map[string]string{"Content-Type": "application/json", c.header: c.value}
		status, text := b.askWith("PUT", "/v1/log-level", body, headers)
		require.Equal(t, c.status, status, "%s: %s", c.header, c.value)
		require.Contains(t, text, c.says)
		if c.status == 403 {
			status, _ = b.askWith("GET", "/v1/config", "", headers)
			require.Equal(t, 403, status, "nor are they told anything")
		}
	}
	require.Equal(t, "INFO", b.level.Level().String())
	for _, host := range []string{"vring", "localhost", "localhost:9100"} {
		status, text := b.askWith("PUT", "/v1/log-level", body, map[string]string{"Content-Type": "application/json; charset=UTF-8", "Host": host})
		require.Equal(t, 200, status, text)
	}
}

func TestAFileThatWasSavedIsNoted(t *testing.T) {
	b := newBench(t, 1)
	var diff api.ConfigDiff
	require.NoError(t, b.client.Do(t.Context(), "GET", "/v1/config/diff", nil, &diff))
	require.Equal(t, "/etc/f.yaml", diff.Path)
	require.NoError(t, b.client.Do(t.Context(), "POST", "/v1/config/saved", api.ConfigSaved{SHA256: diff.Adopted}, nil))
	require.Contains(t, b.refuse(422, "POST", "/v1/config/saved", `{"sha256": "0"}`).Text, "not what was saved")
	require.Contains(t, b.refuse(400, "POST", "/v1/config/saved", `{"sha256": "0", "path": "/etc/passwd"}`).Text, "unknown field")
}

func TestHalfARequestChangesNothing(t *testing.T) {
	b := newBench(t, 1)
	c := b.dial()
	_, err := c.Write([]byte("PUT /v1/log-level HTTP/1.1\r\nHost: vring\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"level\": \"debug\"}"))
	require.NoError(t, err)
	require.NoError(t, c.(*net.UnixConn).CloseWrite())
	answer := make([]byte, 1000)
	n, err := c.Read(answer)
	require.NoError(t, err)
	require.Contains(t, string(answer[:n]), "400 Bad Request")
	require.Contains(t, string(answer[:n]), "ends too early")
	require.Equal(t, "INFO", b.level.Level().String())
}

func TestGuestsWithoutANATHaveNoForwards(t *testing.T) {
	stub := daemon.DefaultStub()
	b := newBenchOf(t, daemon.Config{Stub: &stub}, 1)
	for _, ask := range [][3]string{
		{"GET", "/v1/forwards", ""}, {"PUT", "/v1/forwards", "[]"}, {"PATCH", "/v1/forwards", `{"add": [{"text": "1:2"}]}`}, {"GET", "/v1/policy", ""},
		{"PUT", "/v1/policy", `{"rules": [], "restrict": true, "allow_host": []}`},
	} {
		require.Contains(t, b.refuse(422, ask[0], ask[1], ask[2]).Text, "only those behind a NAT")
	}
	b.change("PUT", "/v1/log-level", `{"level": "debug"}`)
}
