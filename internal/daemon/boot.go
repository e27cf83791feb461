package daemon

import (
	"net/netip"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/bootroot"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
)

// setBootRoot gives c the directory of boot files, from which guests get those that are named without a server.
func (n *NAT) setBootRoot(c *nat.Config) error {
	if n.BootRoot == "" {
		return nil
	}
	if len(n.BootServers) == 0 && len(n.BootFiles) > 0 {
		c.Hosts.BootServers = routersOf(c)
	}
	root, err := bootroot.Open(n.BootRoot)
	if err != nil {
		return faultf("%s %s: want a directory with what guests boot from: %w", optionBootRoot, n.BootRoot, err)
	}
	if err := root.Close(); err != nil {
		return err
	}
	if c.BootRoot, err = filepath.Abs(n.BootRoot); err != nil {
		return faultf("%s %s: %w", optionBootRoot, n.BootRoot, err)
	}
	return nil
}

// routersOf are the guest's routers, one for each version of IP that it has.
func routersOf(c *nat.Config) []netip.Addr {
	if !c.Prefix6.IsValid() {
		return []netip.Addr{c.Gateway}
	}
	return []netip.Addr{c.Gateway, c.Gateway6}
}

// bootFiles returns what opens the files of a directory, as nat.Config.BootFile does: the broker, where there is a sandbox.
func (d *Daemon) bootFiles(directory string) func(name string) (int, error) {
	if d.config.Sandbox != sandbox.Off {
		return func(name string) (int, error) { return d.broker.OpenBootFile(directory, name) }
	}
	return func(name string) (int, error) {
		root, err := bootroot.Open(directory)
		if err != nil {
			return -1, err
		}
		fd, err := root.OpenFile(name)
		if failed := root.Close(); failed != nil && err == nil {
			_ = unix.Close(fd)
			return -1, failed
		}
		return fd, err
	}
}

// checkBootRoot returns why a guest that comes cannot have its directory of boot files.
func (d *Daemon) checkBootRoot(c *nat.Config) error {
	if c.BootRoot == "" || d.broker.HasBootRoot(c.BootRoot) || d.config.Sandbox == sandbox.Off {
		return nil
	}
	return faultf("%s %s: no guest has had that directory at the start, and the sandbox reaches no other; start vring again", optionBootRoot, c.BootRoot)
}
