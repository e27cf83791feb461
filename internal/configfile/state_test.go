package configfile

import (
	"log/slog"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/vringnet/vring/internal/daemon"
)

// golden is a state of version 1, which all later programs that know this version read as TestAStateIsWrittenAsEver says.
const golden = "testdata/state-1.yaml"

// startOfGolden and nowOfGolden are the configurations whose difference is golden.
const startOfGolden = `
guests:
  - socket-path: /run/vring/vm0.sock
  - {name: db, socket-path: /run/vring/db.sock, nat: {network: 10.1.0.0/24, forwards: ["5432:5432"]}}
  - {name: old, socket-path: /run/vring/old.sock, stub: {mode: echo}}
nat:
  forwards: ["8080:80"]
`

const nowOfGolden = `
guests:
  - socket-path: /run/vring/vm0.sock
  - {name: db, socket-path: /run/vring/db.sock, nat: {network: 10.1.0.0/24, restrict: true, rules: [{deny: "192.168.0.0/16"}]}}
  - {name: vm1, socket-path: /run/vring/vm1.sock, nat: {network: 10.2.0.0/24, forwards: ["2222:22"]}}
log-level: debug
poll-us: 0
nat:
  forwards: ["8080:80", "udp:5353:53", "unix:/run/vring/a b:22"]
  allow-host: ["tcp:5432"]
  dns: ["192.0.2.53"]
`

func parsed(t *testing.T, text string) *daemon.Config {
	f, err := Parse("f", []byte(text), nil)
	require.NoError(t, err)
	return &f.Config
}

func TestAStateIsWrittenAsEver(t *testing.T) {
	start, now := parsed(t, startOfGolden), parsed(t, nowOfGolden)
	text, err := StateOf(start, now, []string{"10.0.2.15", "vm1"}).Marshal()
	require.NoError(t, err)
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), string(text))
	s, err := ParseState("state", want)
	require.NoError(t, err)
	is, dropped := s.Apply(start)
	require.Empty(t, dropped)
	require.Empty(t, Diff(now, &is))
	require.Equal(t, []string{"10.0.2.15", "vm1"}, s.LinksDown)
	require.False(t, s.Empty())
}

// live changes what can change while guests are served.
func live(t *rapid.T, c *daemon.Config) daemon.Config {
	now := c.Clone()
	other := anyConfig(t)
	networks := func(c *daemon.Config) (all []*daemon.NAT) {
		if c.NAT != nil {
			all = append(all, c.NAT)
		}
		for i := range c.Guests {
			if c.Guests[i].NAT != nil {
				all = append(all, c.Guests[i].NAT)
			}
		}
		return all
	}
	if rapid.Bool().Draw(t, "level changes") {
		now.Log.Level, now.Threads.Poll = other.Log.Level, other.Threads.Poll
	}
	for i, n := range networks(&now) {
		if from := networks(&other); i < len(from) && rapid.Bool().Draw(t, "network changes") {
			n.Forwards, n.AllowHost, n.Rules, n.Restrict, n.Resolvers = from[i].Forwards, from[i].AllowHost, from[i].Rules, from[i].Restrict, from[i].Resolvers
			n.Redirects, n.Names = from[i].Redirects, from[i].Names
		}
	}
	if len(now.Guests) > 0 && rapid.Bool().Draw(t, "a guest goes") {
		now.Guests = now.Guests[1:]
	}
	if now.FrontEnds.FD == nil && rapid.Bool().Draw(t, "a guest comes") {
		g := daemon.Guest{SocketPath: "/new/" + anyText().Draw(t, "new socket"), Name: "new"}
		g.NAT, g.TAP, g.Switch, g.Stub = anyNetwork(t, 1)
		now.Guests = append(now.Guests, g)
	}
	return now
}

// Whatever has changed, the next start has it.
func TestAStateIsReadAsItWasWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := anyConfig(t)
		now := live(t, &start)
		links := rapid.SliceOfN(anyText(), 0, 3).Draw(t, "links")
		text, err := StateOf(&start, &now, links).Marshal()
		if err != nil {
			t.Fatal(err)
		}
		s, err := ParseState("state", text)
		if err != nil {
			t.Fatalf("%v\n%s", err, text)
		}
		is, dropped := s.Apply(&start)
		if differ, _ := daemon.Compare(&now, &is); len(differ)+len(dropped) > 0 || strings.Join(links, "\n") != strings.Join(s.LinksDown, "\n") {
			t.Fatalf("%v %v\n%s", differ, dropped, text)
		}
		if written, err := StateOf(&start, &is, s.LinksDown).Marshal(); err != nil || string(written) != string(text) {
			t.Fatalf("%v\n%s\n%s", err, text, written)
		}
		again, dropped := s.Apply(&now)
		if differ := Diff(&now, &again); len(differ)+len(dropped) > 0 {
			t.Fatalf("what the file has by now is changed again: %v %v\n%s", differ, dropped, text)
		}
	})
}

// A file that was edited wins where it was edited, and only there.
func TestWhatWasEditedMeanwhileDropsWhatWasChanged(t *testing.T) {
	start, now := parsed(t, startOfGolden), parsed(t, nowOfGolden)
	s := StateOf(start, now, nil)
	of := func(dropped []Dropped) (all []string) {
		for _, d := range dropped {
			all = append(all, d.Key+" "+strings.Join(append(d.Removed, d.Added...), " ")+": "+d.Why)
		}
		return all
	}
	const edited = "it is not any more what it was changed from"
	for name, c := range map[string]struct {
		from, to string
		want     []string
	}{
		"nothing":          {"", "", nil},
		"another key":      {"nat:\n", "nat:\n  mtu: 1400\n", nil},
		"a forward":        {`["8080:80"]`, `["8081:80"]`, []string{"forwards udp:127.0.0.1:5353:53 unix:/run/vring/a b:22: " + edited}},
		"a guest's rule":   {`["5432:5432"]`, `[]`, nil},
		"another forward":  {`["5432:5432"]`, `["5433:5432"]`, []string{"db: forwards tcp:127.0.0.1:5432:5432: " + edited}},
		"the guest's rule": {`forwards: ["5432:5432"]`, `forwards: ["5432:5432"], rules: [{deny: "10.0.0.0/8"}]`, []string{"db: rules deny: 192.168.0.0/16: " + edited}},
		"no guest": {"  - {name: db, socket-path: /run/vring/db.sock, nat: {network: 10.1.0.0/24, forwards: [\"5432:5432\"]}}\n", "", []string{
			"/run/vring/db.sock: forwards tcp:127.0.0.1:5432:5432: the guest is not there any more",
			"/run/vring/db.sock: rules deny: 192.168.0.0/16: the guest is not there any more",
			"/run/vring/db.sock: restrict false true: the guest is not there any more",
		}},
		"the guest that went":     {"mode: echo", "mode: null", []string{"guests old: the guest is another one by now"}},
		"a guest in the place":    {"/run/vring/vm0.sock", "/run/vring/vm1.sock", []string{"guests vm1: there is another guest with its socket by now"}},
		"its own, in the place":   {"name: old, socket-path: /run/vring/old.sock", "name: vm1, socket-path: /run/vring/vm1.sock", []string{"guests vm1: there is another guest with its socket by now"}},
		"no network that is NAT":  {"nat:\n  forwards: [\"8080:80\"]\n", "stub:\n", nil},
		"what it is by now":       {`["8080:80"]`, `["8080:80", "udp:5353:53", "unix:/run/vring/a b:22"]`, nil},
		"the guest, called other": {"name: old", "name: new", []string{"guests old: the guest is another one by now"}},
	} {
		t.Run(name, func(t *testing.T) {
			require.Contains(t, startOfGolden, c.from)
			base := parsed(t, strings.Replace(startOfGolden, c.from, c.to, 1))
			is, dropped := s.Apply(base)
			if name != "no network that is NAT" {
				require.Equal(t, c.want, of(dropped))
			} else {
				require.Len(t, dropped, 3)
				require.Equal(t, "there is no network behind NAT any more", dropped[0].Why)
			}
			require.Equal(t, slog.LevelDebug, is.Log.Level, "what is beside it counts")
			_, err := daemon.Compare(base, &is)
			require.NoError(t, err)
		})
	}
}

func TestAStateThatIsNotWholeOrNotKnownIsNotRead(t *testing.T) {
	whole, err := os.ReadFile(golden)
	require.NoError(t, err)
	for n := range len(whole) - 1 { // but the last line's end
		_, err := ParseState("state", whole[:n])
		require.Error(t, err, "%d bytes of it", n)
	}
	with := func(from, to string) string { return strings.Replace(string(whole), from, to, 1) }
	_, err = ParseState("state", []byte("version: 2\nfuture: {}\nwhole: true"))
	require.NotContains(t, err.Error(), "future", "its keys are another version's")
	for text, want := range map[string]string{
		"":                                             "it has no version",
		"{}":                                           "it has no version",
		"version: 2\nfuture: {}\nwhole: true":          "version 2: this vring reads version 1",
		"version: 1":                                   "its end is missing",
		"version: 1\nwhole: false":                     "its end is missing",
		"version: x\nwhole: true":                      "want a whole number",
		with("key: forwards", "key: mtu"):              "\"mtu\" is no key that can change",
		with("key: allow-host", "key: forwards"):       "forwards is changed twice",
		with("was: info", "wis: info"):                 "a change has no key",
		with("is: debug", "is: loud"):                  "want debug, info, warn or error",
		with("is: debug", "is: [debug]"):               "want one value",
		with("mode: echo", "mode: loud"):               "want null, echo, reflect, sink or source",
		with("    stub:\n      mode: echo\n", ""):      "the guest has no network of its own",
		with("/run/vring/vm1.sock", "*alias"):          "anchors",
		with("links-down:", "links-up:"):               "a state has no key",
		strings.Repeat("a", maxState+1):                "too long",
		strings.Repeat("- a\n", maxStateItems+1):       "too many keys",
		"version: 1\nadded: [{stub: {}}]\nwhole: true": "has a socket-path",
		"version: 1\nchanged: [{guest: /a, key: log-level, was: info, is: debug}]\nwhole: true":      "no key that can change",
		"version: 1\nadded: [{socket-path: /a, stub: {}}, {socket-path: /a, stub: {}}]\nwhole: true": "is there twice",
		"version: 1\nadded: [{socket-path: /a, stub: {}, fd: 3}]\nwhole: true":                       "fd is for a guest",
	} {
		_, err := ParseState("state", []byte(text))
		require.ErrorContains(t, err, want, "%.200s", text)
	}
	empty, err := ParseState("state", []byte("version: 1\nwhole: true\n"))
	require.NoError(t, err)
	require.True(t, empty.Empty())
}

// A state that is too long for its bound is not written, so one that is kept is read.
func TestAStateThatIsTooLongIsNotWritten(t *testing.T) {
	s := &State{LinksDown: []string{strings.Repeat("x", maxState)}}
	_, err := s.Marshal()
	require.ErrorContains(t, err, "too long")
}

// FuzzParseState reads anything as a state. What is read is written, and read again as the same, and changes only what can change.
func FuzzParseState(f *testing.F) {
	whole, err := os.ReadFile(golden)
	require.NoError(f, err)
	f.Add(whole)
	f.Add([]byte("version: 1\nchanged: [{key: rules, was: [], is: [{deny: 10.0.0.0/8}]}]\nwhole: true"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseState("state", text)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		again, err := s.Marshal()
		require.NoError(t, err)
		same, err := ParseState("state", again)
		require.NoError(t, err, "%s", again)
		third, err := same.Marshal()
		require.NoError(t, err)
		require.Equal(t, string(again), string(third))
		n := daemon.DefaultNAT()
		start := daemon.Config{FrontEnds: daemon.FrontEnds{SocketPaths: []string{"/run/vring/vm0.sock"}}, NAT: &n}
		now, _ := s.Apply(&start)
		for _, d := range StateOf(&start, &now, nil).Changed {
			require.True(t, sameValue(&d.key, &now, d.is))
		}
		changed, _ := daemon.Compare(&start, &now)
		for _, field := range changed {
			require.True(t, field.Live, field)
		}
	})
}

// Each field that can change while guests are served is kept: by a key of its own, or as a guest.
func TestEachFieldThatIsLiveIsKept(t *testing.T) {
	kept := map[string]bool{}
	for _, k := range liveKeys(false) {
		for _, path := range k.fields {
			kept[path] = true
		}
	}
	for _, f := range daemon.Fields() {
		require.Equal(t, f.Live && f.Path != "Guests", kept[f.Path], f.Path)
	}
}
