package integration

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
)

// fileOf returns the configuration file that arguments of vring nat mean, by vring itself.
func fileOf(t *testing.T, d *daemon, args ...string) string {
	all := append([]string{"config", "from-flags", "nat", "--socket-path", d.Socket}, args...)
	text, err := exec.Command(built.vring, all...).Output()
	require.NoError(t, err)
	return string(text)
}

// reload gives d another configuration file, and waits until it has said so often what became of it.
func (d *daemon) reload(path, file, said string, times int) {
	require.NoError(d.t, os.WriteFile(path+".new", []byte(file), 0o600))
	require.NoError(d.t, os.Rename(path+".new", path))
	require.NoError(d.t, d.Signal(syscall.SIGHUP))
	d.waitLog(said, times)
}

// A guest whose connection is busy follows the file: what it may reach changes, and a file that is refused changes nothing. Then it
// follows vring ctl, which also captures its frames. The connection goes on all the time.
func TestAServedGuestFollowsTheConfigurationFile(t *testing.T) {
	t.Parallel()
	onAll(t, testFollowing, onUML(userland.Bookworm), onUML(userland.Forky))
}

func testFollowing(t *testing.T, kind kind) {
	const endless, some = 1 << 50, 1000 // the first is more than the test could send
	busy, service := serveTCP(t, endless), serveTCP(t, some)
	var path, file string
	l := newLabWith(t, kind, func(t *testing.T, _ string, args ...string) *daemon {
		d := &daemon{t: t, Socket: filepath.Join(shortDir(t), "vring.sock")}
		path, file = filepath.Join(filepath.Dir(d.Socket), "vring.yaml"), fileOf(t, d, args...)
		require.NoError(t, os.WriteFile(path, []byte(file), 0o600))
		d.args = []string{"serve", path}
		d.start()
		t.Cleanup(d.terminate)
		return d
	}, "--allow-host", fmt.Sprintf("tcp:%d", busy.Port), "--dns", "192.0.2.53")
	load := l.guest.Start("tcp-dial", viaGateway(busy.Port), endless, guestSeed)
	dial := func() error { return l.guest.Do(l.ctx, nil, "tcp-dial", viaGateway(service.Port), some, guestSeed) }
	require.ErrorContains(t, dial(), "connection refused")

	open := strings.Replace(file, "  allow-host:\n", fmt.Sprintf("  allow-host:\n    - tcp:%d\n", service.Port), 1)
	l.vring.reload(path, "poll-us: 0\nlog-level: debug\n"+open, `changed="poll-us log-level allow-host"`, 1)
	require.NoError(t, dial())
	l.waitReceived(64 << 10)

	l.vring.reload(path, strings.Replace(file, "nat:\n", "nat:\n  mtu: 1400\n", 1), "mtu cannot change while guests are served", 1)
	require.NoError(t, dial(), "nothing of it was adopted")
	l.vring.reload(path, file+"  restrct: true\n", "has no key", 1)
	require.NoError(t, dial())

	l.vring.reload(path, file, "is adopted", 2)
	require.ErrorContains(t, dial(), "connection refused")
	l.waitReceived(64 << 10)
	l.requireForwardsByCtl()
	l.requirePolicyByCtl(busy.Port)
	l.requireCapture()
	l.vring.ctl("policy", "replace", "--allow-host", fmt.Sprint("tcp:", busy.Port), "--allow-host", fmt.Sprint("tcp:", service.Port))
	l.requireDrainByCtl(dial)
	l.vring.ctl("reload")
	l.waitReceived(64 << 10)
	require.False(t, ended(load), "the connection goes on")
	l.requireLinkByCtl()
	l.requireEmulationByCtl()
	l.requireTop(busy.Port)
	require.Error(t, load.Wait(l.ctx, nil))
	require.Contains(t, l.vring.ctl("config", "diff"), "it is as "+path+" says")
	l.requireNetwork()
}

// requireLinkByCtl takes the link down, and up again.
func (l *lab) requireLinkByCtl() {
	l.t.Helper()
	const guest, router = "10.0.2.15", "10.0.2.2"
	answered := func() int {
		var echoes proto.Echoes
		l.do(&echoes, "ping", router, 1)
		return echoes.Answered
	}
	require.Equal(l.t, 1, answered())
	l.vring.ctl("link", guest, "down")
	require.Zero(l.t, answered())
	l.vring.ctl("link", guest, "up")
	require.Equal(l.t, 1, answered())
	l.waitReceived(64 << 10) // a connection goes on
}

// requireEmulationByCtl makes the link one with a rate and a delay, one that loses all, and again none, under the load of a connection.
func (l *lab) requireEmulationByCtl() {
	l.t.Helper()
	const guest, router, rate = "10.0.2.15", "10.0.2.2", 10_000_000
	ping := func() (answered int, took time.Duration) {
		var echoes proto.Echoes
		begin := time.Now()
		l.do(&echoes, "ping", router, 1)
		return echoes.Answered, time.Since(begin)
	}
	received := func() uint64 {
		var link proto.Link
		l.do(&link, "link", card)
		return link.ReceivedBytes
	}
	l.vring.ctl("link", guest, "delay=40ms,rate=10mbit,seed=5")
	require.Contains(l.t, l.vring.ctl("link", guest), "emulates rate=10mbit,delay=40ms,seed=5")
	begin := time.Now()
	before := received()
	l.waitReceived(1 << 20)
	bits := 8 * float64(received()-before)
	require.LessOrEqual(l.t, bits, 2*rate*time.Since(begin).Seconds(), "the thread may have been held up, but not for long")

	l.vring.ctl("link", guest, "delay=40ms")
	answered, took := ping()
	require.Equal(l.t, 1, answered)
	require.GreaterOrEqual(l.t, took, 80*time.Millisecond)

	l.vring.ctl("link", guest, "in:loss=100%")
	answered, _ = ping()
	require.Zero(l.t, answered)
	l.vring.ctl("link", guest, "none")
	answered, _ = ping()
	require.Equal(l.t, 1, answered)
	l.waitReceived(64 << 10) // a connection goes on
	require.Eventually(l.t, func() bool { return strings.Contains(l.vring.ctl("counters"), "link_in_lost") }, soon, 10*time.Millisecond)
}

// requireForwardsByCtl adds a forward, uses it, and removes it.
func (l *lab) requireForwardsByCtl() {
	l.t.Helper()
	port := freePort(l.t)
	refused := func() bool {
		conn, err := net.Dial("tcp4", local(port))
		if err == nil {
			_ = conn.Close()
		}
		return errors.Is(err, syscall.ECONNREFUSED)
	}
	require.True(l.t, refused())
	forward := fmt.Sprintf("%d:%d", port, guestTCPPort)
	l.vring.ctl("forward", "add", forward)
	l.transferBy("tcp4", local(port))
	l.vring.ctl("forward", "remove", forward)
	require.True(l.t, refused())
}

// requirePolicyByCtl opens a service of the host, and closes it while a connection of the guest is busy with it. A connection to the port
// busy stays open.
func (l *lab) requirePolicyByCtl(busy int) {
	l.t.Helper()
	const endless = 1 << 50
	accepted := make(chan struct{}, 1)
	closed := acceptAll(l.t, func(conn net.Conn) {
		accepted <- struct{}{}
		exchange(conn, endless)
	})
	stays := []string{"policy", "replace"}
	for _, service := range []string{fmt.Sprint("tcp:", l.tcp.Port), fmt.Sprint("udp:", l.udpEcho), fmt.Sprint("tcp:", busy)} {
		stays = append(stays, "--allow-host", service)
	}
	l.vring.ctl(append(slices.Clone(stays), "--allow-host", fmt.Sprint("tcp:", closed))...)
	doomed := l.guest.Start("tcp-dial", viaGateway(closed), endless, guestSeed)
	select {
	case <-accepted:
	case <-l.ctx.Done():
		require.Fail(l.t, "the guest's connection does not come")
	}
	l.waitReceived(64 << 10)
	removed := fmt.Sprint("- allow-host: tcp:", closed)
	require.Contains(l.t, l.vring.ctl(append(slices.Clone(stays), "--keep-established")...), removed)
	require.Contains(l.t, l.vring.ctl("flows", "10.0.2.15", "--remote", viaGateway(closed), "--state", "open"), viaGateway(closed), "it goes on")
	l.vring.ctl(append(slices.Clone(stays), "--allow-host", fmt.Sprint("tcp:", closed))...)
	require.Contains(l.t, l.vring.ctl(stays...), removed)
	reset := doomed.Wait(l.ctx, nil)
	require.Error(l.t, reset)
	require.Regexp(l.t, "connection reset|broken pipe", reset.Error(), "one of those that read and write learns of the reset first")
}

// requireDrainByCtl lets nothing new begin, and takes that back.
func (l *lab) requireDrainByCtl(dial func() error) {
	l.t.Helper()
	port := freePort(l.t)
	l.vring.ctl("forward", "add", fmt.Sprintf("%d:%d", port, guestTCPPort))
	require.NoError(l.t, dial())
	require.Contains(l.t, l.vring.ctl("drain", "--timeout", "1h"), "draining: nothing new begins")
	_, err := net.Dial("tcp4", local(port))
	require.ErrorIs(l.t, err, syscall.ECONNREFUSED)
	require.ErrorContains(l.t, dial(), "connection refused")
	l.waitReceived(64 << 10)
	require.Contains(l.t, l.vring.ctl("drain", "--cancel"), "not draining")
	require.NoError(l.t, dial())
	l.transferBy("tcp4", local(port))
}
