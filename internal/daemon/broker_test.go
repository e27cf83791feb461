package daemon

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/services/dns"
)

// asProcess is set in the environment of a child that is to be another process instead of the tests, and inDirectory where that is to
// make its sockets.
const asProcess, inDirectory, atPort = "VRING_TEST_AS", "VRING_TEST_DIRECTORY", "VRING_TEST_PORT"

func TestMain(m *testing.M) {
	var err error
	switch os.Getenv(asProcess) {
	case "broker":
		err = broker.Run(os.Stdin)
	case "confined":
		err = changeForwardsInTheSandbox(os.Getenv(inDirectory), os.Getenv(atPort))
	default:
		os.Exit(m.Run())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func TestForwardsInASandboxAreOpenedByTheBroker(t *testing.T) {
	t.Setenv(asProcess, "broker")
	dir := shortDir(t)
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	host := porttest.FreePort(t)
	n := DefaultNAT()
	n.NoIPv6, n.Resolvers = true, dns.Plain(netip.MustParseAddrPort("127.0.0.1:9"))
	config := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(dir, "a")}}, NAT: &n}
	setForwards(t, &config, "unix:"+first+":80")
	p, events := program()
	go func() {
		for range events {
		}
	}()
	p.ChangesForwards, p.Broker = true, broker.Program(os.Args[0])
	d := open(t, config, p)
	d.broker.SetPatience(time.Minute)
	t.Cleanup(func() { require.NoError(t, d.Close()) })

	setForwards(t, &config, host.String()+":80", "unix:"+second+":80")
	_, err := d.Apply(config)
	require.NoError(t, err)
	require.NoFileExists(t, first)
	require.True(t, takes(t, "tcp4", host.String()))
	require.True(t, takes(t, "unix", second))
	before := openDescriptors(t)
	for _, c := range []struct{ text, want string }{
		{fmt.Sprintf("0.0.0.0:%d:81", host.Port()), "0.0.0.0 is not of the loopback"},
		{"127.0.0.1:53:53", "port 53 is below"},
		{"unix:/run/vring-elsewhere:80", "no forward of the start has a unix socket in this directory"},
	} {
		setForwards(t, &config, c.text, host.String()+":80", "unix:"+first+":80")
		if strings.HasPrefix(c.text, "0.") {
			setForwards(t, &config, c.text, "unix:"+first+":80")
		}
		done, err := d.Apply(config)
		require.ErrorContains(t, err, c.want)
		require.Empty(t, done.Changed)
		require.True(t, takes(t, "tcp4", host.String()))
		require.True(t, takes(t, "unix", second))
		require.NoFileExists(t, first)
		require.Eventually(t, func() bool { return openDescriptors(t) <= before }, time.Minute, time.Millisecond)
	}
	setForwards(t, &config)
	_, err = d.Apply(config)
	require.NoError(t, err)
	require.NoFileExists(t, second)
	require.False(t, takes(t, "tcp4", host.String()))
}

func TestForwardsInASandboxDoNotChangeUnlessThatWasWanted(t *testing.T) {
	t.Setenv(asProcess, "broker")
	n := DefaultNAT()
	config := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(shortDir(t), "a")}}, NAT: &n}
	p, events := program()
	go func() {
		for range events {
		}
	}()
	p.Broker = broker.Program(os.Args[0])
	d := open(t, config, p)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	setForwards(t, &config, porttest.FreePort(t).String()+":80")
	_, err := d.Apply(config)
	require.ErrorContains(t, err, "forward cannot change: at the start, nobody was asked to open sockets")
}

// The whole of it, by a process that is in its sandbox, as root and as somebody else.
func TestForwardsChangeInTheSandbox(t *testing.T) {
	for name, user := range map[string]uint32{"root": 0, "an ordinary user": 65534} {
		t.Run(name, func(t *testing.T) {
			if os.Getuid() != 0 && user == 0 {
				user = uint32(os.Getuid())
			}
			dir := shortDir(t)
			program := filepath.Join(dir, "program")
			copyFile(t, os.Args[0], program)
			require.NoError(t, os.Chmod(dir, 0o777))
			child := exec.Command(program)
			child.Env = append(os.Environ(), asProcess+"=confined", inDirectory+"="+dir, atPort+"="+porttest.FreePort(t).String())
			child.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: user, Gid: user}}
			output, err := child.CombinedOutput()
			require.NoError(t, err, string(output))
		})
	}
}

func copyFile(t *testing.T, from, to string) {
	in, err := os.Open(from)
	require.NoError(t, err)
	defer in.Close()
	out, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY, 0o755)
	require.NoError(t, err)
	_, err = io.Copy(out, in)
	require.NoError(t, errors.Join(err, out.Close()))
}

// changeForwardsInTheSandbox is the life of a process that serves one guest in a sandbox, and changes its forwards.
func changeForwardsInTheSandbox(dir, host string) error {
	if err := os.Setenv(asProcess, "broker"); err != nil {
		return err
	}
	program := os.Args[0]
	n := DefaultNAT()
	n.NoIPv6, n.Queues = true, 2
	at, path := netip.MustParseAddrPort(host), filepath.Join(dir, "s")
	everywhere := netip.AddrPortFrom(netip.IPv4Unspecified(), at.Port())
	loopback := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.7"), at.Port())
	to := netip.AddrPortFrom(netip.Addr{}, 80)
	n.Forwards = []spec.Forward{
		{Proto: unix.IPPROTO_TCP, Host: everywhere, Guest: to, Count: 1}, {Proto: unix.IPPROTO_TCP, Path: path, Guest: to, Count: 1},
	}
	config := Config{FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(dir, "a")}}, NAT: &n}
	checked, err := config.Check()
	if err != nil {
		return err
	}
	d, err := Open(checked, Program{
		Tell: func(Event) {}, Log: slog.New(slog.DiscardHandler), ChangesForwards: true, Broker: broker.Program(program),
	})
	if err != nil {
		return err
	}
	d.broker.SetPatience(time.Minute)
	if err := d.Confine(); err != nil {
		return err
	}
	if _, err := os.ReadFile(program); !errors.Is(err, unix.EACCES) {
		return fmt.Errorf("a process in its sandbox reads files: %w", err)
	}
	return applyAll(d, config, [][]spec.Forward{
		{{Proto: unix.IPPROTO_TCP, Host: loopback, Guest: to, Count: 1}, {Proto: unix.IPPROTO_UDP, Host: everywhere, Guest: to, Count: 1}},
		{{Proto: unix.IPPROTO_TCP, Host: everywhere, Guest: to, Count: 1, Gate: true}, {Proto: unix.IPPROTO_TCP, Path: path, Guest: to, Count: 1}},
		{{Proto: unix.IPPROTO_TCP, Host: loopback, Guest: to, Count: 1}},
	}, loopback)
}

// applyAll applies forwards while the daemon serves, and looks at a port of the last ones.
func applyAll(d *Daemon, config Config, all [][]spec.Forward, last netip.AddrPort) error {
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error)
	go func() { served <- d.Serve(ctx) }()
	var err error
	for _, config.NAT.Forwards = range all {
		if _, err = d.Apply(config); err != nil {
			break
		}
	}
	if err == nil {
		var c net.Conn
		if c, err = net.Dial("tcp4", last.String()); err == nil || errors.Is(err, unix.ECONNRESET) {
			err = nil
		}
		if c != nil {
			_ = c.Close()
		}
	}
	cancel()
	return errors.Join(err, <-served)
}

func TestNetworksAreThoseOfNow(t *testing.T) {
	d, config := openedNAT(t, 1)
	setForwards(t, &config, porttest.FreePort(t).String()+":80", porttest.FreePort(t).String()+":10.0.2.16:80")
	config.NAT.Restrict = true
	config.NAT.AllowHost = []spec.HostService{{Proto: unix.IPPROTO_TCP, Port: 5432}}
	config.NAT.Rules = []spec.Rule{{Prefix: netip.MustParsePrefix("192.0.2.0/24"), Allow: true}}
	_, err := d.Apply(config)
	require.NoError(t, err)
	for i, n := range d.Networks() {
		require.Equal(t, config.NAT.Forwards[i:i+1], n.NAT.Forwards)
		require.Equal(t, config.NAT.AllowHost, n.NAT.AllowHost)
		require.Equal(t, config.NAT.Rules, n.NAT.Rules)
		require.True(t, n.NAT.Restrict)
		n.NAT.Rules[0].Allow = false
	}
	require.True(t, d.Networks()[0].NAT.Rules[0].Allow, "they are the caller's own")
}
