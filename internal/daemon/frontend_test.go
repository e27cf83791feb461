package daemon

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/vhostuser"
)

func TestKindsOfFrontEndsAreReadAndWritten(t *testing.T) {
	for _, name := range FrontEndNames() {
		f, err := ParseFrontEnd(name)
		require.NoError(t, err)
		require.Equal(t, name, f.String())
		require.Equal(t, name == vhostUser, f.SharesMemory())
		require.Equal(t, f == FrontEndVhostUser, f.SharesMemory())
	}
	for _, name := range []string{"", "Stream", "qemu"} {
		_, err := ParseFrontEnd(name)
		require.EqualError(t, err, `front-end "`+name+`": want vhost-user, stream, vfkit or bess`)
	}
}

func TestWhatAKindOfFrontEndsCannotGoWith(t *testing.T) {
	fd := 3
	nat := DefaultNAT()
	nat.Queues = 2
	for fault, c := range map[string]Config{
		"client and front-end vfkit exclude each other: it is the front end that connects":             {FrontEnds: FrontEnds{Kind: FrontEndVfkit, SocketPaths: []string{"s"}, Client: true}},
		"client and front-end bess exclude each other: it is the front end that connects":              {FrontEnds: FrontEnds{Kind: FrontEndBess, Client: true}},
		"queues 2 and front-end stream exclude each other: there is one queue pair without vhost-user": {FrontEnds: FrontEnds{Kind: FrontEndStream}, NAT: &nat},
		`front-end "x": want vhost-user, stream, vfkit or bess`:                                        {FrontEnds: FrontEnds{Kind: "x"}},
	} {
		require.EqualError(t, c.checkKinds(), fault)
	}
	for _, c := range []Config{
		{FrontEnds: FrontEnds{Kind: FrontEndVfkit, FD: &fd}},
		{FrontEnds: FrontEnds{Kind: FrontEndVfkit, SocketPaths: []string{"s"}}},
		{FrontEnds: FrontEnds{Kind: FrontEndStream, Client: true}},
		{NAT: &nat},
	} {
		require.NoError(t, c.checkKinds())
	}
}

func kindOf(f FrontEnd) *FrontEnd { return &f }

// A guest with a network of its own has a kind of its own, which is checked with its own network, and comes and goes like others.
func TestAGuestHasAFrontEndOfItsOwn(t *testing.T) {
	nat, stub := DefaultNAT(), DefaultStub()
	nat.Queues = 2
	own := Config{
		FrontEnds: FrontEnds{Kind: FrontEndStream, SocketPaths: []string{"/a"}}, Stub: &stub,
		Guests: []Guest{{SocketPath: "/b", NAT: &nat, FrontEnd: kindOf(FrontEndVhostUser)}, {SocketPath: "/c", Stub: &stub}},
	}
	require.NoError(t, own.checkKinds())
	require.Equal(t, FrontEndStream, own.FrontEndOf("/a"))
	require.Equal(t, FrontEndVhostUser, own.FrontEndOf("/b"))
	require.Equal(t, FrontEndStream, own.FrontEndOf("/c"))
	own.Guests[0].FrontEnd = kindOf(FrontEndBess)
	require.EqualError(t, own.checkKinds(), "queues 2 and front-end bess exclude each other: there is one queue pair without vhost-user")
	own.Guests[0].FrontEnd = kindOf("x")
	require.EqualError(t, own.checkKinds(), `front-end "x": want vhost-user, stream, vfkit or bess`)

	m := newServedMixed(t)
	bess, stream := ownStub(m.dir, "bess"), ownStub(m.dir, "stream")
	bess.FrontEnd, stream.FrontEnd = kindOf(FrontEndBess), kindOf(FrontEndStream)
	_, err := m.add(bess, stream)
	require.NoError(t, err)
	for i, network := range []string{"unixpacket", "unix"} {
		g := m.Published().Guests[1+i]
		require.Equal(t, *[]Guest{bess, stream}[i].FrontEnd, g.FrontEnd)
		c, err := net.Dial(network, filepath.Join(m.dir, g.Name))
		require.NoError(t, err)
		require.NoError(t, c.Close())
	}
	_, err = m.Change(func(c *Config) error {
		c.Guests[0].FrontEnd = nil
		return nil
	})
	require.ErrorContains(t, err, "nor how its front end passes frames")
	_, err = m.Change(func(c *Config) error { c.Guests = nil; return nil })
	require.NoError(t, err)
}

func TestWhatAKindOfFrontEndsCannotGoWithLater(t *testing.T) {
	nat, stub := DefaultNAT(), DefaultStub()
	nat.Queues = 2
	for fault, c := range map[string]struct {
		kind  FrontEnd
		added Guest
	}{
		"a guest cannot be added with front-end vfkit: only the start makes such sockets":              {FrontEndVfkit, Guest{Stub: &stub}},
		`front-end "x": want vhost-user, stream, vfkit or bess`:                                        {FrontEndBess, Guest{Stub: &stub, FrontEnd: kindOf("x")}},
		"queues 2 and front-end stream exclude each other: there is one queue pair without vhost-user": {FrontEndStream, Guest{NAT: &nat}},
		"": {FrontEndVfkit, Guest{Stub: &stub, FrontEnd: kindOf(FrontEndBess)}},
	} {
		c.added.SocketPath = "/run/v/b"
		served := Config{FrontEnds: FrontEnds{Kind: c.kind, SocketPaths: []string{"/run/v/a"}}, NAT: &nat}
		if err := served.checkLater(&c.added); fault == "" {
			require.NoError(t, err)
		} else {
			require.EqualError(t, err, fault)
		}
	}
}

// A guest's front end is met as it was configured, its status tells, and one-off ends the guest with it.
func TestAGuestIsServedByAStream(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	c := stubs(path)
	c.Stub.Mode = StubEcho
	c.FrontEnds.Kind, c.FrontEnds.OneOff = FrontEndStream, true
	p, events := program()
	d := open(t, c, p)
	served := make(chan error, 1)
	go func() { served <- d.Serve(t.Context()) }()
	require.Equal(t, path, nextOf[Ready](t, events).Socket)
	g := d.Status().Guests[0]
	require.Equal(t, FrontEndStream, g.FrontEnd)
	require.Equal(t, vhostuser.NoFrontEnd, g.Stage)

	front, err := net.Dial("unix", path)
	require.NoError(t, err)
	require.NoError(t, front.SetDeadline(time.Now().Add(time.Minute)))
	require.Equal(t, vhostuser.DriverUp, nextOf[StageChanged](t, events).Stage)
	frame := append([]byte{0, 0, 0, 60}, make([]byte, 60)...)
	for _, part := range [][]byte{{0, 0, 0, 1, 9}, frame} { // one that is too short is counted
		_, err := front.Write(part)
		require.NoError(t, err)
	}
	_, err = io.ReadFull(front, frame)
	require.NoError(t, err)
	require.Equal(t, vhostuser.DriverUp, d.Status().Guests[0].Stage)
	require.NoError(t, front.Close())
	require.Equal(t, vhostuser.NoFrontEnd, nextOf[StageChanged](t, events).Stage)
	require.EqualValues(t, 1, nextOf[Counted](t, events).Report.FrontEnd.FrontEndShort)
	require.NoError(t, <-served)
}
