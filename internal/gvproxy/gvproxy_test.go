package gvproxy

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"errors"
	"flag"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/crypto/ssh"
)

func TestACommandLineOfGvproxyIsWhatVringNatIsStartedWith(t *testing.T) {
	c, err := Parse(strings.Fields("-debug -mtu 1400 --ssh-port=2300 -listen-qemu unix:///tmp/q.sock -listen unix:///tmp/a.sock -services tcp://127.0.0.1:7777 "+
		"-forward-sock /a -forward-dest /b -forward-user u -forward-identity /k -pid-file /p -log-file /l"), io.Discard)
	require.NoError(t, err)
	require.Equal(t, []string{"unix:///tmp/a.sock", "tcp://127.0.0.1:7777"}, c.Endpoint)
	require.Equal(t, []SSHForward{{"/a", "/b", "u", "/k"}}, c.Forwards)
	require.Equal(t, "/p", c.PIDFile)
	require.Equal(t, "/l", c.LogFile)
	options := strings.Join(c.Options(netip.AddrPort{}), " ")
	for _, part := range []string{
		"--socket-path=/tmp/q.sock", "--front-end=stream --one-off", "--mtu=1400", "--forward=127.0.0.1:2300:192.168.127.2:22", "--router-mac=5a:94:ef:e4:0c:dd",
		"--redirect=192.168.127.254=127.0.0.1", "--dns-name=host@docker.internal=192.168.127.254", "--log-level=debug",
	} {
		require.Contains(t, options, part)
	}
	require.NotContains(t, options, "192.168.127.1:80=", "the guest does not have the API")
	require.Contains(t, strings.Join(c.Told(), "\n"), "-guest-api gives it")

	c, err = Parse(strings.Fields("-guest-api -listen-vhost-user /tmp/v.sock"), io.Discard)
	require.NoError(t, err)
	options = strings.Join(c.Options(netip.MustParseAddrPort("127.0.0.1:4444")), " ")
	require.Contains(t, options, "--redirect=tcp:192.168.127.1:80=127.0.0.1:4444")
	require.NotContains(t, options, "--front-end")
	require.Contains(t, strings.Join(c.Told(), "\n"), "the guest may open ports of the host")
}

func TestACommandLineThatCannotBeServedIsRefused(t *testing.T) {
	const qemu = "-listen-qemu unix:///q "
	for words, part := range map[string]string{
		"":                                    "write -listen-qemu unix:///PATH",
		"-nosuch":                             "flag provided but not defined: -nosuch",
		qemu + "-ssh-port 80":                 "ssh-port value must be between 1024 and 65535",
		qemu + "-ssh-port x":                  "invalid value",
		qemu + "-listen-bess unixpacket:///b": "-listen-qemu and -listen-bess exclude each other",
		"-listen-qemu tcp://127.0.0.1:9":      "want unix:///PATH",
		"-listen-vfkit unix:///v":             "want unixgram:///PATH",
		"-listen-stdio x":                     "vring serves -listen-qemu",
		qemu + "-forward-sock /a":             "must all be specified together",
		qemu + "-listen vsock://1":            "-listen vsock://1: want unix:///PATH or tcp://ADDRESS:PORT",
		qemu + "more":                         `unexpected "more"`,
	} {
		_, err := Parse(strings.Fields(words), io.Discard)
		require.ErrorContains(t, err, part, words)
	}
	_, err := Parse([]string{"-help"}, io.Discard)
	require.ErrorIs(t, err, flag.ErrHelp)
}

func TestAZoneThatIsThereGetsNewRecordsInFront(t *testing.T) {
	read := func(text string) (z zone) {
		require.NoError(t, json.Unmarshal([]byte(text), &z))
		return z
	}
	zones := added(nil, read(`{"Name":"a.testing.","Records":[{"Name":"x","IP":"192.0.2.1"}]}`))
	before := zones[0]
	zones = added(zones, read(`{"Name":"a.testing.","Records":[{"Regexp":"^y","IP":"192.0.2.2"},{"Name":"no-address"}],"DefaultIP":"192.0.2.3"}`))
	zones = added(zones, read(`{"Name":"without-dot"}`))
	require.Len(t, zones, 2)
	require.Equal(t, []string{"/^y/@a.testing=192.0.2.2", "x@a.testing=192.0.2.1", "*@a.testing=192.0.2.3", "@a.testing"}, zones[0].names())
	require.Empty(t, zones[1].names())
	require.Len(t, before.Records, 1, "what others have does not change")
}

// fakeGuest stands for a vring whose guest is a server of SSH.
type fakeGuest struct {
	t     *testing.T
	dials int
	last  net.Conn
	key   ssh.Signer
}

func (g *fakeGuest) Do(context.Context, string, string, any, any) error {
	return errors.New("nobody is asked")
}

func (g *fakeGuest) dial(_ context.Context, to string) (net.Conn, error) {
	require.Equal(g.t, "192.168.127.2:22", to)
	g.dials++
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(g.t, err)
	defer l.Close()
	here, err := net.Dial("tcp", l.Addr().String())
	require.NoError(g.t, err)
	there, err := l.Accept()
	require.NoError(g.t, err)
	g.last = there
	go g.serve(there)
	return here, nil
}

// serve takes sockets of the guest that are dialled by SSH: each sends back what it gets, behind its own path.
func (g *fakeGuest) serve(conn net.Conn) {
	config := &ssh.ServerConfig{PublicKeyCallback: func(c ssh.ConnMetadata, _ ssh.PublicKey) (*ssh.Permissions, error) {
		if c.User() != "core" {
			return nil, errors.New("another user")
		}
		return nil, nil
	}}
	config.AddHostKey(g.key)
	_, channels, requests, err := ssh.NewServerConn(conn, config)
	if err != nil {
		return
	}
	go ssh.DiscardRequests(requests)
	for c := range channels {
		var to struct {
			Path, Reserved string
			Zero           uint32
		}
		if c.ChannelType() != "direct-streamlocal@openssh.com" || ssh.Unmarshal(c.ExtraData(), &to) != nil {
			_ = c.Reject(ssh.UnknownChannelType, "no")
			continue
		}
		channel, more, err := c.Accept()
		if err != nil {
			return
		}
		go ssh.DiscardRequests(more)
		go func() {
			_, _ = io.WriteString(channel, to.Path+":")
			_, _ = io.Copy(channel, channel)
			_ = channel.Close()
		}()
	}
}

func TestASocketLeadsToOneOfTheGuestOverSSHAlsoAfterTheGuestHasBooted(t *testing.T) {
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	signer, err := ssh.NewSignerFromKey(private)
	require.NoError(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	require.NoError(t, err)
	dir, err := os.MkdirTemp("", "gv")
	require.NoError(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	key, local := filepath.Join(dir, "key"), filepath.Join(dir, "s")
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(block), 0o600))

	g := &fakeGuest{t: t, key: signer}
	f := forwards{ask: g, ssh: newSSH(g).dial}
	uri := url.URL{Scheme: "ssh-tunnel", User: url.User("core"), Host: "192.168.127.2:22", Path: "/run/podman.sock", RawQuery: url.Values{"key": {key}}.Encode()}
	require.NoError(t, f.expose(t.Context(), "unix", local, uri.String()))
	t.Cleanup(f.closeAll)
	ask := func() string {
		c, err := net.Dial("unix", local)
		require.NoError(t, err)
		defer c.Close()
		require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
		_, err = io.WriteString(c, "ping")
		require.NoError(t, err)
		require.NoError(t, c.(*net.UnixConn).CloseWrite())
		answer, err := io.ReadAll(c)
		require.NoError(t, err)
		return string(answer)
	}
	require.Equal(t, "/run/podman.sock:ping", ask())
	require.Equal(t, "/run/podman.sock:ping", ask())
	require.Equal(t, 1, g.dials, "one connection carries all")
	require.NoError(t, g.last.Close())
	require.Equal(t, "/run/podman.sock:ping", ask())
	require.Equal(t, 2, g.dials)
	require.NoError(t, f.unexpose(t.Context(), "unix", local))
	_, err = net.Dial("unix", local)
	require.Error(t, err)
}

func FuzzParse(f *testing.F) {
	f.Add("-listen-qemu unix:///q -ssh-port 2222 -forward-sock a -forward-dest b -forward-user c -forward-identity d")
	f.Add("-listen-vhost-user /q -listen tcp://[::1]:9")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := Parse(strings.Split(text, " "), io.Discard)
		if err == nil && !c.Version {
			require.NotEmpty(t, c.Options(netip.AddrPort{}))
		}
	})
}
