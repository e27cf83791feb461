package broker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// forwardAt is a forward of one port, or of a path.
func forwardAt(t *testing.T, text string) *spec.Forward {
	f, err := spec.ParseForward(text)
	require.NoError(t, err)
	return &f
}

// isListening reports whether somebody listens at an address. A connection that waits to be accepted is reset when the socket is
// closed.
func isListening(t *testing.T, network, at string) bool {
	c, err := net.Dial(network, at)
	if errors.Is(err, unix.ECONNRESET) {
		return true
	}
	if err != nil {
		require.True(t, strings.Contains(err.Error(), "refused") || strings.Contains(err.Error(), "no such file"), err)
		return false
	}
	require.NoError(t, c.Close())
	return true
}

func TestTheBrokerOpensSocketsOfForwards(t *testing.T) {
	dir, at := shortDir(t), porttest.FreePort(t)
	c := startBroker(t, Duties{Bind: &Binds{Dirs: []string{dir}}})
	require.True(t, c.Binds())
	for range 100 { // none of them stays open in the broker
		s, err := c.Bind(forwardAt(t, at.String()+":80"))
		require.NoError(t, err)
		require.True(t, isListening(t, "tcp4", at.String()))
		s.Close()
		require.Eventually(t, func() bool { return !isListening(t, "tcp4", at.String()) }, time.Minute, time.Millisecond)
	}
	udp, err := c.Bind(forwardAt(t, "udp:"+at.String()+":80"))
	require.NoError(t, err)
	defer udp.Close()
	kind, err := unix.GetsockoptInt(int(udp.FD), unix.SOL_SOCKET, unix.SO_TYPE)
	require.NoError(t, err)
	require.Equal(t, unix.SOCK_DGRAM, kind)
	_, err = c.Bind(forwardAt(t, "udp:"+at.String()+":81"))
	require.ErrorContains(t, err, "another program has the port")

	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for _, path := range []string{first, second, first} { // the last one takes the place of one on which nobody listens
		s, err := c.Bind(forwardAt(t, "unix:"+path+":80"))
		require.NoError(t, err)
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.EqualValues(t, 0o600, info.Mode().Perm())
		require.True(t, isListening(t, "unix", path))
		s.Close()
	}
	require.NoError(t, c.Unbind(first))
	require.NoFileExists(t, first)
	require.ErrorContains(t, c.Unbind(first), "is not the socket of a forward")
	require.FileExists(t, second)
	require.NoError(t, c.Undo())
	require.NoFileExists(t, second)
}

// What a server in a guest's hands asks for is refused, and the broker goes on.
func TestTheBrokerOpensNothingThatTheStartDidNotAllow(t *testing.T) {
	dir := shortDir(t)
	frontEnd := filepath.Join(dir, "front-end")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: frontEnd, Net: "unix"})
	require.NoError(t, err)
	l.SetUnlinkOnClose(false)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o600))
	require.NoError(t, os.Mkdir(filepath.Join(dir, "below"), 0o700))
	c := startBroker(t, Duties{Undo: listOf(t, undo.OfGuest, frontEnd), Bind: &Binds{Dirs: []string{dir}, LeastPort: 8080}})
	const tcp, udp = unix.IPPROTO_TCP, unix.IPPROTO_UDP
	port := netip.MustParseAddrPort
	for name, lie := range map[string]struct {
		at   *place
		want string
	}{
		"nothing":                   {nil, "nothing like that was named"},
		"no place":                  {&place{Proto: tcp}, "want an address and a port"},
		"another protocol":          {&place{Proto: unix.IPPROTO_SCTP, Host: port("127.0.0.1:8080")}, "a forward has TCP or UDP"},
		"all addresses":             {&place{Proto: tcp, Host: port("0.0.0.0:8080")}, "is not of the loopback"},
		"all addresses of IPv6":     {&place{Proto: udp, Host: port("[::]:8080")}, "is not of the loopback"},
		"another address":           {&place{Proto: tcp, Host: port("192.0.2.1:8080")}, "is not of the loopback"},
		"a mapped address":          {&place{Proto: tcp, Host: port("[::ffff:127.0.0.1]:8080")}, "want an address and a port"},
		"an address with a zone":    {&place{Proto: tcp, Host: port("[fe80::1%lo]:8080")}, "want an address and a port"},
		"a port of the system":      {&place{Proto: udp, Host: port("127.0.0.1:53")}, "port 53 is below"},
		"any port":                  {&place{Proto: tcp, Host: port("127.0.0.1:0")}, "want an address and a port"},
		"a port and a path":         {&place{Proto: tcp, Host: port("127.0.0.1:8080"), Path: dir + "/s"}, "not both"},
		"datagrams of a path":       {&place{Proto: udp, Path: dir + "/s"}, "has TCP"},
		"another directory":         {&place{Proto: tcp, Path: "/tmp/vring-elsewhere"}, "no forward of the start has a unix socket in this directory"},
		"a directory below":         {&place{Proto: tcp, Path: dir + "/below/s"}, "no forward of the start"},
		"a way out":                 {&place{Proto: tcp, Path: dir + "/below/../../s"}, "want the path of a file"},
		"an abstract socket":        {&place{Proto: tcp, Path: "@s"}, "want the path of a file"},
		"a path that ends earlier":  {&place{Proto: tcp, Path: dir + "/s\x00/x"}, "want the path of a file"},
		"a path that is too long":   {&place{Proto: tcp, Path: dir + "/" + strings.Repeat("s", 200)}, "unix sockets allow 107"},
		"a file":                    {&place{Proto: tcp, Path: dir + "/file"}, "is not a socket"},
		"a socket that others have": {&place{Proto: tcp, Path: frontEnd}, "in use"},
	} {
		_, err := c.ask(request{Verb: verbBind, Place: lie.at})
		require.ErrorContains(t, err, lie.want, name)
	}
	for _, path := range []string{frontEnd, filepath.Join(dir, "file"), "/etc/hostname", ""} {
		require.ErrorContains(t, c.Unbind(path), "is not the socket of a forward")
	}
	require.FileExists(t, frontEnd)
	require.NoFileExists(t, "/tmp/vring-elsewhere")
	s, err := c.Bind(forwardAt(t, porttest.FreePort(t).String()+":80"))
	require.NoError(t, err, "it goes on")
	s.Close()
	require.NoError(t, l.Close())

	c = startBroker(t, Duties{Read: "/etc/hostname"})
	_, err = c.ask(request{Verb: verbBind, Place: &place{Proto: tcp, Host: porttest.FreePort(t)}})
	require.ErrorContains(t, err, "nothing like that was named", "a broker without the duty")
}

// What forwards of the start have, others may have, too. The namespace has no service in it.
func TestTheBrokerOpensWhatIsLikeForwardsOfTheStart(t *testing.T) {
	inNamespace(t)
	c := startBroker(t, Duties{Bind: &Binds{Exposed: true, LeastPort: 80}})
	for _, text := range []string{"0.0.0.0:81:80", "[::]:443:[fd00:10:0:2::15]:443", "udp:0.0.0.0:5353:53"} {
		s, err := c.Bind(forwardAt(t, text))
		require.NoError(t, err, text)
		defer s.Close()
	}
	c = startBroker(t, Duties{Bind: &Binds{Exposed: true, LeastPort: 8080}})
	_, err := c.Bind(forwardAt(t, "0.0.0.0:82:80"))
	require.ErrorContains(t, err, "port 82 is below 1024")
}

// How a port is bound may be chosen only as forwards of the start have it.
func TestTheBrokerBindsPortsAsForwardsOfTheStartAre(t *testing.T) {
	inNamespace(t)
	bindings := []string{"127.0.0.1%lo:8080:80", "freebind:192.0.2.9:8081:80"}
	c := startBroker(t, Duties{Bind: &Binds{Exposed: true}})
	for _, text := range bindings {
		_, err := c.Bind(forwardAt(t, text))
		require.ErrorContains(t, err, "no forward of the start is bound", text)
	}
	c = startBroker(t, Duties{Bind: &Binds{Exposed: true, Interfaces: []string{"lo"}, Freebind: true}})
	for _, text := range bindings {
		s, err := c.Bind(forwardAt(t, text))
		require.NoError(t, err, text)
		defer s.Close()
	}
	_, err := c.Bind(forwardAt(t, "127.0.0.1%eth0:8082:80"))
	require.ErrorContains(t, err, "no forward of the start is bound to this interface")
}

func TestSocketsAreOpenedAtABoundedRate(t *testing.T) {
	b := newBinder(Binds{})
	now := time.Now()
	for range bindBurst {
		require.True(t, b.admit(now))
	}
	require.False(t, b.admit(now))
	now = now.Add(time.Second)
	for range bindRate {
		require.True(t, b.admit(now))
	}
	require.False(t, b.admit(now))
	require.True(t, b.admit(now.Add(time.Hour)))
}

func TestARequestForASocketFitsItsBound(t *testing.T) {
	dir := "/" + strings.Repeat("d", 50)
	c := startBroker(t, Duties{Bind: &Binds{Dirs: []string{dir}}})
	_, err := c.Bind(&spec.Forward{Proto: unix.IPPROTO_TCP, Path: dir + "/" + strings.Repeat("<", 107-52), Count: 1})
	require.ErrorContains(t, err, "no such file or directory", "each of its characters takes six in JSON")
	_, err = c.Bind(forwardAt(t, fmt.Sprintf("%s:80", porttest.FreePort(t))))
	require.NoError(t, err)
}
