package daemon

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// ownNAT is a guest with a network of its own behind the host's.
func ownNAT(dir, name, network string, forwards ...string) Guest {
	n := DefaultNAT()
	n.Network, n.NoIPv6, n.Resolvers = netip.MustParsePrefix(network), true, dns.Plain(netip.MustParseAddrPort("127.0.0.1:9"))
	for _, text := range forwards {
		f, err := spec.ParseForward(text)
		if err != nil {
			panic(err)
		}
		n.Forwards = append(n.Forwards, f)
	}
	return Guest{Name: name, SocketPath: filepath.Join(dir, name), NAT: &n}
}

func ownStub(dir, name string) Guest {
	s := DefaultStub()
	return Guest{Name: name, SocketPath: filepath.Join(dir, name), Stub: &s}
}

// servedMixed is a daemon that serves a guest that shares a NAT with nobody, and guests with networks of their own.
type servedMixed struct {
	*Daemon
	t      *testing.T
	dir    string
	events <-chan Event
}

func newServedMixed(t *testing.T, own ...func(dir string) Guest) *servedMixed {
	dir := shortDir(t)
	n := DefaultNAT()
	n.NoIPv6, n.Resolvers = true, dns.Plain(netip.MustParseAddrPort("127.0.0.1:9"))
	config := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(dir, "shared")}}, Sandbox: sandbox.Off, NAT: &n}
	for _, g := range own {
		config.Guests = append(config.Guests, g(dir))
	}
	p, _ := program()
	events := make(chan Event, 10000)
	p.Tell = func(e Event) { events <- e }
	m := &servedMixed{open(t, config, p), t, dir, events}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- m.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
		left, err := os.ReadDir(dir)
		require.NoError(t, err)
		require.Empty(t, left, "files of sockets")
	})
	for range config.Sockets() {
		nextOf[Ready](t, events)
	}
	return m
}

// add adds guests.
func (m *servedMixed) add(guests ...Guest) (Applied, error) {
	return m.Change(func(c *Config) error {
		c.Guests = append(c.Guests, guests...)
		return nil
	})
}

// names are those of the guests that are served.
func (m *servedMixed) names() (all []string) {
	for _, g := range m.Published().Guests {
		all = append(all, g.Name)
	}
	return all
}

func TestGuestsOfDifferentKindsAreServedSideBySide(t *testing.T) {
	at := porttest.FreePort(t)
	m := newServedMixed(t,
		func(dir string) Guest { return ownStub(dir, "stub") },
		func(dir string) Guest { return ownNAT(dir, "db", "10.9.0.0/24", at.String()+":5432") },
		func(dir string) Guest {
			return Guest{SocketPath: filepath.Join(dir, "unnamed"), NAT: ownNAT(dir, "", "10.8.0.0/24").NAT}
		})
	require.Equal(t, []string{"10.0.2.15", "stub", "db", "10.8.0.15"}, m.names())
	var kinds []Kind
	for _, g := range m.Status().Guests {
		require.NoError(t, g.Err)
		kinds = append(kinds, g.Kind)
	}
	require.Equal(t, []Kind{KindNAT, KindStub, KindNAT, KindNAT}, kinds)
	networks := m.Networks()
	require.Equal(t, "10.9.0.15", networks[2].NAT.Guest.String())
	require.Len(t, networks[2].NAT.Forwards, 1)
	require.Empty(t, networks[3].NAT.Forwards)
	require.True(t, takes(t, "tcp4", at.String()))
	_, _, err := m.Flows(t.Context(), "stub", nil, 1)
	require.ErrorAs(t, err, new(*NoFlowsError))
}

// What changes for one guest is no matter of another.
func TestANetworkOfAGuestsOwnChangesByItself(t *testing.T) {
	at := porttest.FreePort(t)
	m := newServedMixed(t, func(dir string) Guest { return ownNAT(dir, "db", "10.9.0.0/24") }, func(dir string) Guest { return ownStub(dir, "stub") })
	done, err := m.Change(func(c *Config) error {
		n := c.NATOf(filepath.Join(m.dir, "db"))
		n.Restrict = true
		f, err := spec.ParseForward(at.String() + ":80")
		n.Forwards = []spec.Forward{f}
		return err
	})
	require.NoError(t, err)
	require.Equal(t, []string{"NAT.Forwards", "NAT.Restrict"}, pathsOf(done.Changed))
	require.True(t, takes(t, "tcp4", at.String()))
	networks := m.Networks()
	require.Equal(t, []bool{false, true}, []bool{networks[0].NAT.Restrict, networks[1].NAT.Restrict})
	require.Len(t, m.all()[1].engine().Forwards(), 1)
	require.Empty(t, m.all()[0].engine().Forwards())

	before := m.Config()
	for want, change := range map[string]func(*Guest){
		"mtu of the guest with " + filepath.Join(m.dir, "db"):     func(g *Guest) { g.NAT.MTU = 1400 },
		"guests stay with their network":                          func(g *Guest) { g.NAT, g.Stub = nil, &Stub{Mode: StubNull, Size: 60} },
		"the name of the guest with " + filepath.Join(m.dir, "d"): func(g *Guest) { g.Name = "other" },
		"that is the guest's own network":                         func(g *Guest) { g.NAT.Rules = []spec.Rule{{Prefix: netip.MustParsePrefix("10.9.0.0/25")}} },
	} {
		_, err := m.Change(func(c *Config) error {
			change(&c.Guests[0])
			return nil
		})
		require.ErrorContains(t, err, want)
		require.Equal(t, before, m.Config())
	}
}

func TestGuestsComeAndGoWhileOthersAreServed(t *testing.T) {
	at, path := porttest.FreePort(t), filepath.Join(shortDir(t), "forward")
	m := newServedMixed(t)
	for range 3 { // the same place again
		done, err := m.add(ownNAT(m.dir, "later", "10.9.0.0/24", at.String()+":80", "unix:"+path+":80"), ownStub(m.dir, "echo"))
		require.NoError(t, err)
		require.Equal(t, []string{"later", "echo"}, done.Added)
		require.Equal(t, GuestAdded{"later", filepath.Join(m.dir, "later")}, nextOf[GuestAdded](t, m.events))
		require.Equal(t, []string{"10.0.2.15", "later", "echo"}, m.names())
		require.True(t, takes(t, "tcp4", at.String()))
		require.True(t, takes(t, "unix", path))
		capture, err := m.Capture("later", CaptureOptions{SnapLen: 100})
		require.NoError(t, err)
		ended := make(chan error, 1)
		go func() { ended <- capture.Run(t.Context(), func([]byte) error { return nil }) }()
		c, err := net.Dial("unix", filepath.Join(m.dir, "later"))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return m.Published().Guests[1].Stage != 0 }, time.Minute, time.Millisecond, "a front end is served")

		done, err = m.Change(func(c *Config) error {
			c.Guests = nil
			return nil
		})
		require.NoError(t, err)
		require.Equal(t, []string{"later", "echo"}, done.Removed)
		require.Empty(t, done.Waiting)
		require.Equal(t, GuestRemoved{"later"}, nextOf[GuestRemoved](t, m.events))
		require.NoError(t, c.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err = c.Read(make([]byte, 1))
		require.ErrorContains(t, err, "EOF", "the front end sees the end of its session")
		require.NoError(t, c.Close())
		select {
		case err := <-ended:
			require.NoError(t, err)
		case <-time.After(time.Minute):
			require.Fail(t, "a capture goes on")
		}
		require.Equal(t, []string{"10.0.2.15"}, m.names())
		require.False(t, takes(t, "tcp4", at.String()))
		for _, gone := range []string{path, filepath.Join(m.dir, "later"), filepath.Join(m.dir, "echo")} {
			require.NoFileExists(t, gone)
		}
		require.ErrorAs(t, m.SetLink("later", false), new(*NoGuestError))
	}
}

// A guest of the start goes as one that came later, and the port of its forward is free for one that comes with the same change.
func TestAGuestTakesThePlaceOfAnother(t *testing.T) {
	at := porttest.FreePort(t)
	m := newServedMixed(t, func(dir string) Guest { return ownNAT(dir, "first", "10.9.0.0/24", at.String()+":80") })
	_, err := m.Change(func(c *Config) error {
		c.Guests = []Guest{ownNAT(m.dir, "second", "10.9.0.0/24", at.String()+":81")}
		return nil
	})
	require.NoError(t, err)
	require.Equal(t, []string{"10.0.2.15", "second"}, m.names())
	require.Equal(t, uint16(81), m.all()[1].engine().Forwards()[0].Guest.Port())
	require.NoFileExists(t, filepath.Join(m.dir, "first"))
}

// If something of a change cannot be had, all is as before.
func TestGuestsComeAllOrNone(t *testing.T) {
	at := porttest.FreePort(t)
	m := newServedMixed(t, func(dir string) Guest { return ownNAT(dir, "first", "10.9.0.0/24", at.String()+":80") })
	taken, err := net.Listen("tcp4", porttest.FreePort(t).String())
	require.NoError(t, err)
	defer taken.Close()
	inTheWay := shortDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(m.dir, "file"), nil, 0o600))
	defer os.Remove(filepath.Join(m.dir, "file"))
	before, names, files := m.Config(), m.names(), openDescriptors(t)
	fine := func() Guest { return ownStub(m.dir, "fine") }
	bad := map[string]struct {
		guests []Guest
		want   string
	}{
		"a file in its place":   {[]Guest{fine(), ownStub(m.dir, "file")}, "is not a socket"},
		"a port that is taken":  {[]Guest{fine(), ownNAT(m.dir, "b", "10.7.0.0/24", taken.Addr().String()+":80")}, "the port"},
		"a port of another":     {[]Guest{fine(), ownNAT(m.dir, "b", "10.7.0.0/24", at.String()+":80")}, "the port"},
		"a socket twice":        {[]Guest{fine(), fine()}, "is given twice"},
		"the socket of its own": {[]Guest{{Name: "b", SocketPath: m.dir + "/first", Stub: fine().Stub}}, "is given twice"},
		"the socket of another": {[]Guest{ownStub(m.dir, "shared")}, "is given twice"},
		"a name twice":          {[]Guest{ownStub(m.dir, "a"), {Name: "a", SocketPath: m.dir + "/b", Stub: fine().Stub}}, "two guests are called a"},
		"the name of another":   {[]Guest{{Name: "first", SocketPath: m.dir + "/b", Stub: fine().Stub}}, "two guests are called first"},
		"an address twice":      {[]Guest{{SocketPath: m.dir + "/b", NAT: ownNAT("", "", "10.0.2.0/24").NAT}}, "two guests are called 10.0.2.15"},
		"a name with a slash":   {[]Guest{{Name: "a/b", SocketPath: m.dir + "/b", Stub: fine().Stub}}, "letters, digits"},
		"a name of points":      {[]Guest{{Name: "..", SocketPath: m.dir + "/b", Stub: fine().Stub}}, "letters, digits"},
		"a long name":           {[]Guest{{Name: strings.Repeat("a", 65), SocketPath: m.dir + "/b", Stub: fine().Stub}}, "64 letters"},
		"no socket":             {[]Guest{{Stub: fine().Stub}}, "the value is empty"},
		"a long socket":         {[]Guest{{Name: "b", SocketPath: filepath.Join(m.dir, strings.Repeat("a", 100)), Stub: fine().Stub}}, "unix sockets allow 107"},
		"another directory":     {[]Guest{fine(), ownStub(inTheWay, "s")}, "no guest has its socket in"},
		"a directory below":     {[]Guest{{Name: "b", SocketPath: m.dir + "/b/../../x", Stub: fine().Stub}}, "write it as"},
		"a TAP device":          {[]Guest{{SocketPath: m.dir + "/b", TAP: &TAP{Devices: []string{"t"}, Queues: 1}}}, "cannot have a TAP device"},
		"multicast":             {[]Guest{{SocketPath: m.dir + "/b", NAT: &NAT{Network: before.NAT.Network, MTU: 1500, Queues: 1, Multicast: []string{"lo"}}}}, "multicast: a guest that is added"},
		"no network":            {[]Guest{{SocketPath: m.dir + "/b"}}, "connected to one network, not to 0"},
		"two networks":          {[]Guest{{SocketPath: m.dir + "/b", Stub: fine().Stub, NAT: ownNAT("", "", "10.7.0.0/24").NAT}}, "not to 2"},
		"a wrong network":       {[]Guest{{SocketPath: m.dir + "/b", NAT: &NAT{Network: before.NAT.Network, MTU: 9, Queues: 1}}}, "mtu 9: want 576"},
		"a forward elsewhere":   {[]Guest{ownNAT(m.dir, "b", "10.7.0.0/24", "8080:10.0.2.15:80")}, "10.0.2.15"},
	}
	for name, c := range bad {
		t.Run(name, func(t *testing.T) {
			done, err := m.add(c.guests...)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, done.Added)
			require.Equal(t, before, m.Config())
			require.Equal(t, names, m.names())
			require.NoFileExists(t, filepath.Join(m.dir, "fine"))
			require.True(t, takes(t, "tcp4", at.String()), "what was there is")
		})
	}
	require.Eventually(t, func() bool { return openDescriptors(t) <= files }, time.Minute, 10*time.Millisecond, "nothing is left open")
}

func TestSoManyGuestsComeAndNoMore(t *testing.T) {
	m := newServedMixed(t)
	most := m.shares.Later()
	require.Positive(t, most)
	var all []Guest
	for i := range most {
		all = append(all, ownStub(m.dir, "g"+string(rune('a'+i/26))+string(rune('a'+i%26))))
	}
	_, err := m.add(append(all, ownStub(m.dir, "one-more"))...)
	require.ErrorContains(t, err, "guests would have been added while others are served")
	_, err = m.add(all...)
	require.NoError(t, err)
	_, err = m.add(ownStub(m.dir, "one-more"))
	require.ErrorContains(t, err, "remove some")
	_, err = m.Change(func(c *Config) error {
		c.Guests = append(c.Guests[1:], ownStub(m.dir, "one-more"))
		return nil
	})
	require.NoError(t, err, "one for another")
}

func TestNobodyComesWhileItDrains(t *testing.T) {
	m := newServedMixed(t)
	_, err := m.StartDrain(0, func() {})
	require.NoError(t, err)
	_, err = m.add(ownStub(m.dir, "later"))
	require.ErrorContains(t, err, "it is draining")
}

func TestWhatIsWrongWithGuestsOfTheirOwnIsTold(t *testing.T) {
	dir := shortDir(t)
	config := stubs(filepath.Join(dir, "a"))
	twice := ownStub(dir, "b")
	config.Guests = []Guest{twice, {Name: "b", SocketPath: filepath.Join(dir, "c"), TAP: &TAP{Devices: []string{"t"}, Queues: 1}},
		{SocketPath: filepath.Join(dir, "a"), TAP: &TAP{Devices: []string{"t"}, Queues: 1}}, {SocketPath: filepath.Join(dir, "no", "d")}}
	_, err := config.Check()
	for _, want := range []string{
		"two guests are called b", "tap t is given twice", "a is given twice", "connected to one network, not to 0", "there is no directory",
	} {
		require.ErrorContains(t, err, want)
	}
	config = Config{Sandbox: sandbox.Off, Guests: []Guest{ownStub(dir, "a")}, Stub: twice.Stub}
	_, err = config.Check()
	require.ErrorContains(t, err, "no guest shares the network")
	config.Stub = nil
	checked, err := config.Check()
	require.NoError(t, err, "guests of their own alone")
	require.Equal(t, []string{filepath.Join(dir, "a")}, config.Sockets())
	p, _ := program()
	d, err := Open(checked, p)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "a")+ControlSuffix, d.controlPath)
	require.NoError(t, d.Close())
}
