package broker

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// Binds is which sockets of forwards the broker opens while guests are served. Ports of the host's loopback that need no right are
// always among them. The rest is what forwards of the start had, too: a process in a guest's hands opens nothing to other machines,
// takes no port of the host's system services and makes no file, unless the user has wanted such a forward.
type Binds struct {
	Exposed bool // at addresses that are not of the loopback
	// LeastPort is the least port that a forward of the start has, 0 for none. If that needs a right, others that do may be had, too.
	LeastPort uint16
	Dirs      []string // of unix sockets
	// Interfaces are those that forwards of the start are bound to, and Freebind is that one of them is bound to an address that the host need not have.
	Interfaces []string
	Freebind   bool
}

// place is where a forward's socket is to be.
type place struct {
	Proto uint8          `json:",omitempty"` // unix.IPPROTO_TCP or unix.IPPROTO_UDP
	Host  netip.AddrPort `json:",omitzero"`  // of a port
	Path  string         `json:",omitempty"` // of a unix socket

	Interface string `json:",omitempty"` // of a port; "" for any
	Freebind  bool   `json:",omitempty"`
}

const (
	// bindBurst is how many sockets may be opened at once, and bindRate how many each second in the long run. What is open is bounded by
	// the descriptors that the server may have.
	bindBurst = 8192
	bindRate  = 1000
	// maxFiles is how many unix sockets there may be.
	maxFiles = 1024
	// usualLeastPort is the least port that needs no right (ip(7), ip_unprivileged_port_start).
	usualLeastPort = 1024
)

// binder opens sockets of forwards.
type binder struct {
	Binds
	unprivileged uint16 // the least port that needs no right
	pace         *rate.Limiter
}

func newBinder(b Binds) binder {
	unprivileged := uint16(usualLeastPort)
	if text, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 16); err == nil {
			unprivileged = uint16(n)
		}
	}
	return binder{Binds: b, unprivileged: unprivileged, pace: rate.NewLimiter(bindRate, bindBurst)}
}

// privileged reports whether ports that need a right may be had.
func (b *binder) privileged() bool { return b.LeastPort != 0 && b.LeastPort < b.unprivileged }

// check returns why a socket must not be opened.
func (b *binder) check(p *place) error {
	switch {
	case p.Proto != unix.IPPROTO_TCP && p.Proto != unix.IPPROTO_UDP:
		return fmt.Errorf("protocol %d: a forward has TCP or UDP", p.Proto)
	case p.Path != "" && p.Host.IsValid():
		return errors.New("a forward has a port or a path, not both")
	case p.Path != "":
		return b.checkPath(p)
	}
	if err := b.checkBinding(p); err != nil {
		return err
	}
	return b.checkPort(p.Host)
}

// checkBinding returns why a port must not be bound so.
func (b *binder) checkBinding(p *place) error {
	switch {
	case p.Interface != "" && !slices.Contains(b.Interfaces, p.Interface):
		return fmt.Errorf("%q: no forward of the start is bound to this interface; start vring again with it", p.Interface)
	case p.Freebind && !b.Freebind:
		return errors.New("no forward of the start is bound to an address that the host need not have; start vring again with it")
	}
	return nil
}

func (b *binder) checkPort(host netip.AddrPort) error {
	a := host.Addr()
	switch {
	case !host.IsValid() || host.Port() == 0 || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("%s: want an address and a port of this host", host)
	case !a.IsLoopback() && !b.Exposed:
		return fmt.Errorf("%s is not of the loopback: without a forward of the start that other machines can reach, no other one can have "+
			"such an address; start vring again with it", a)
	case host.Port() < b.unprivileged && !b.privileged():
		return fmt.Errorf("port %d is below %d: without a forward of the start that has such a port, no other one can have it; "+
			"start vring again with it", host.Port(), b.unprivileged)
	}
	return nil
}

func (b *binder) checkPath(p *place) error {
	switch {
	case p.Proto != unix.IPPROTO_TCP:
		return errors.New("a forward of a unix socket has TCP")
	case strings.ContainsRune(p.Path, 0) || strings.HasPrefix(p.Path, "@") || filepath.Clean(p.Path) != p.Path:
		return fmt.Errorf("%q: want the path of a file, without what does not change it", p.Path)
	case !slices.Contains(b.Dirs, filepath.Dir(p.Path)):
		return fmt.Errorf("%s: no forward of the start has a unix socket in this directory; start vring again with it", p.Path)
	}
	return socketfile.CheckLength(p.Path)
}

// admit takes note that a socket is to be opened now, and reports whether that is not too often.
func (b *binder) admit(now time.Time) bool { return b.pace.AllowN(now, 1) }

// Check returns why the socket of a forward must not be opened.
func (b *Binds) Check(f *spec.Forward) error {
	all, at := newBinder(*b), placeOf(f)
	if err := all.check(&at); err != nil {
		return fmt.Errorf("forward %s: %w", f, err)
	}
	return nil
}

// placeOf is where the socket of a forward is, the first one of several ports.
func placeOf(f *spec.Forward) place {
	if f.Path != "" {
		return place{Proto: f.Proto, Path: f.CleanPath(), Interface: f.Binding.Interface, Freebind: f.Binding.Freebind}
	}
	return place{Proto: f.Proto, Host: f.Host, Interface: f.Binding.Interface, Freebind: f.Binding.Freebind}
}

// bind opens a socket and passes it on.
func (p *process) bind(to *net.UnixConn, at *place) error {
	if err := p.binder.check(at); err != nil {
		return reply(to, nil, err)
	}
	if !p.binder.admit(time.Now()) {
		return reply(to, nil, fmt.Errorf("more than %d sockets of forwards in a second; try again later", bindRate))
	}
	if at.Path != "" && !p.list.Has(at.Path) && p.list.Len() >= maxFiles {
		return reply(to, nil, fmt.Errorf("there are %d unix sockets already, which is the most there may be", maxFiles))
	}
	fd, file, err := forward.ListenAtOnce(&spec.Forward{Proto: at.Proto, Host: at.Host, Path: at.Path, Count: 1,
		Binding: spec.Binding{Interface: at.Interface, Freebind: at.Freebind}})
	if err != nil {
		return reply(to, nil, err)
	}
	defer unix.Close(fd)
	if at.Path != "" {
		if err := p.list.AddFile(file, undo.OfForward); err != nil {
			return reply(to, nil, errors.Join(err, file.Remove()))
		}
	}
	return pass(to, fd)
}

// unbind removes the file of a unix socket of a forward.
func (p *process) unbind(to *net.UnixConn, at *place) error {
	return reply(to, nil, p.list.Remove(at.Path, undo.OfForward))
}
