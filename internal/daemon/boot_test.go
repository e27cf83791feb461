package daemon

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/services/hostconf"
)

func TestBootFilesAreTheRoutersUnlessAServerIsNamed(t *testing.T) {
	dir := t.TempDir()
	file := hostconf.BootFile{Name: "pxelinux.0"}
	for name, c := range map[string]struct {
		change func(n *NAT)
		want   []netip.Addr
	}{
		"files":          {func(n *NAT) { n.BootRoot, n.BootFiles = dir, []hostconf.BootFile{file} }, addrs("10.0.2.2", "fd00:10:0:2::2")},
		"another router": {func(n *NAT) { n.BootRoot, n.BootFiles, n.Routers = dir, []hostconf.BootFile{file}, addrs("10.0.2.1") }, addrs("10.0.2.1", "fd00:10:0:2::2")},
		"no IPv6":        {func(n *NAT) { n.BootRoot, n.BootFiles, n.NoIPv6 = dir, []hostconf.BootFile{file}, true }, addrs("10.0.2.2")},
		"a server": {func(n *NAT) {
			n.BootRoot, n.BootFiles, n.BootServers = dir, []hostconf.BootFile{file}, addrs("192.0.2.1")
		}, addrs("192.0.2.1")},
		"no file":         {func(n *NAT) { n.BootRoot = dir }, nil},
		"another's files": {func(n *NAT) { n.BootFiles, n.BootServers = []hostconf.BootFile{file}, addrs("192.0.2.1") }, addrs("192.0.2.1")},
	} {
		t.Run(name, func(t *testing.T) {
			e, err := engineWith(c.change)
			require.NoError(t, err)
			require.Equal(t, c.want, e.Hosts.BootServers)
		})
	}
	_, err := engineWith(func(n *NAT) { n.BootRoot = filepath.Join(dir, "none") })
	require.ErrorContains(t, err, "want a directory with what guests boot from")
}

func TestADirectoryOfBootFilesMayBeNamedByARelativePath(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	e, err := engineWith(func(n *NAT) { n.BootRoot = "." })
	require.NoError(t, err)
	require.Equal(t, dir, e.BootRoot)
}

func TestAGuestThatComesHasADirectoryOfTheStart(t *testing.T) {
	d := &Daemon{broker: broker.NewClient(broker.Observer{})}
	require.NoError(t, d.checkBootRoot(&nat.Config{}))
	require.ErrorContains(t, d.checkBootRoot(&nat.Config{BootRoot: "/srv/tftp"}), "no guest has had that directory at the start")
	d.config.Sandbox = sandbox.Off
	require.NoError(t, d.checkBootRoot(&nat.Config{BootRoot: "/srv/tftp"}))
}

func TestWithoutASandboxBootFilesAreOpenedHere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "kernel"), nil, 0o600))
	d := &Daemon{}
	d.config.Sandbox = sandbox.Off
	fd, err := d.bootFiles(dir)("kernel")
	require.NoError(t, err)
	require.NoError(t, os.NewFile(uintptr(fd), "kernel").Close())
	_, err = d.bootFiles(dir)("none")
	require.ErrorIs(t, err, os.ErrNotExist)
}
