package configfile

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/internal/daemon"
)

func TestAGuestIsReadByItself(t *testing.T) {
	for _, text := range []string{
		"name: db\nsocket-path: /run/db\nnat:\n  mtu: 9000\n  forwards:\n    - 5432:5432\n",
		`{"name": "db", "socket-path": "/run/db", "nat": {"mtu": 9000, "forwards": ["5432:5432"]}}`,
	} {
		g, err := ParseGuest("g", []byte(text))
		require.NoError(t, err, text)
		require.Equal(t, []string{"db", "/run/db"}, []string{g.Name, g.SocketPath})
		require.Equal(t, 9000, g.NAT.MTU)
		require.Len(t, g.NAT.Forwards, 1)
	}
	g, err := ParseGuest("g", []byte(`{"socket-path": "/run/t", "tap": "tap0"}`))
	require.NoError(t, err)
	require.Equal(t, []string{"tap0"}, g.TAP.Devices)
	g, err = ParseGuest("g", []byte(`{"socket-path": "/run/t", "tap": {"device": "tap1", "bridge": "br0"}}`))
	require.NoError(t, err)
	require.Equal(t, daemon.TAP{Devices: []string{"tap1"}, Bridge: "br0", Queues: 1}, *g.TAP)
}

func TestWhatIsWrongWithAGuestIsTold(t *testing.T) {
	for text, want := range map[string]string{
		"":                      "has no network of its own",
		"null":                  "has no network of its own",
		"[]":                    "want keys with values",
		`{"socket-path": "/a"}`: "has no network of its own",
		`{"nat": {}}`:           "has a socket-path",
		`{"socket-path": "/a", "nat": {}, "stub": {}}`:           "one of nat, tap, switch and stub",
		`{"socket-path": "/a", "stub": {"mode": "loud"}}`:        "want null, echo, reflect, sink or source",
		`{"socket-path": "/a", "stub": {}, "sandbox": "off"}`:    `a guest has no key "sandbox"`,
		`{"socket-path": "", "stub": {}}`:                        "the value is empty",
		`{"socket-path": "/a", "socket-path": "/b", "stub": {}}`: "is given twice",
		"stub: &a {}":                  "anchors",
		strings.Repeat("[", 100):       "nested too deep",
		strings.Repeat("a", MaxFile+1): "too long",
		"\xff":                         "UTF-8",
	} {
		_, err := ParseGuest("g", []byte(text))
		require.ErrorContains(t, err, want, "%.50s", text)
	}
}

func TestDifferencesOfGuestsOfTheirOwnAreTold(t *testing.T) {
	parse := func(guests string) *daemon.Config {
		f, err := Parse("f", []byte("guests:\n  - socket-path: /a\n"+guests+"stub:\n"), nil)
		require.NoError(t, err)
		return &f.Config
	}
	before := parse("  - {name: db, socket-path: /b, nat: {forwards: [\"1:1\"]}}\n  - {socket-path: /c, stub: {}}\n")
	after := parse("  - {name: db, socket-path: /b, nat: {forwards: [\"2:2\"], restrict: true}}\n  - {socket-path: /d, tap: t}\n")
	require.Equal(t, []Difference{
		{Key: "guests", Removed: []string{"/c"}, Added: []string{"/d"}},
		{Key: "db: forwards", Removed: []string{"tcp:127.0.0.1:1:1"}, Added: []string{"tcp:127.0.0.1:2:2"}},
		{Key: "db: restrict", Removed: []string{"false"}, Added: []string{"true"}},
	}, Diff(before, after))
	require.Equal(t, []Difference{
		{Key: "guests", Removed: []string{"/c"}, Added: []string{"/d"}},
		{Key: "db: forwards", Removed: []string{"tcp:127.0.0.1:1:1"}, Added: []string{"tcp:127.0.0.1:2:2"}},
		{Key: "db: restrict", Removed: []string{"false"}, Added: []string{"true"}},
	}, Undone(before, after, before), "a reload drops all of it")
	require.Empty(t, Diff(after, after))
}

// A guest that is read by itself is the one that a whole file has.
func TestAGuestOfAFileIsAGuestByItself(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyConfig(t)
		for i := range c.Guests {
			one := daemon.Config{Guests: c.Guests[i : i+1]}
			text, err := Marshal(&one, Short)
			if err != nil {
				t.Fatal(err)
			}
			_, own, _ := strings.Cut(string(text), "  - ")
			own, _, _ = strings.Cut(own, "\npoll-us")
			g, err := ParseGuest("g", []byte(strings.ReplaceAll(own, "\n    ", "\n")))
			if err != nil {
				t.Fatalf("%v\n%s", err, own)
			}
			if differ := Diff(&one, &daemon.Config{Guests: []daemon.Guest{g}}); len(differ) > 0 {
				t.Fatalf("%v\n%s", differ, own)
			}
		}
	})
}
