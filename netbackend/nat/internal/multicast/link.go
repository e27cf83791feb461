package multicast

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// link is a network of the host in which the guest may look for services.
type link struct {
	name string
	state
	members [groups][versions]int // sockets, -1 where there is none
}

func newLink(name string) *link {
	l := &link{name: name}
	for g := range l.members {
		l.members[g] = [versions]int{-1, -1}
	}
	return l
}

// check returns why nobody can be found by an interface that is to be used from the start.
func (l *link) check() error {
	switch {
	case l.index == 0:
		return fmt.Errorf("--multicast %s: the host has no such interface; \"ip link\" lists those that it has", l.name)
	case l.flags&unix.IFF_LOOPBACK != 0:
		return fmt.Errorf("--multicast %s: this is the host's loopback; want an interface to a network", l.name)
	case l.flags&unix.IFF_MULTICAST == 0:
		return fmt.Errorf("--multicast %s: the interface has no multicast; \"ip link set %s multicast on\" permits it", l.name, l.name)
	}
	return nil
}

// open makes the sockets of the link that are missing, and tells each new one to watch. Where the interface, or the host, has no
// IPv6, there are none of IPv6.
func (l *link) open(cfg *Config, watch func(fd int) error) error {
	for g := range groups {
		for version := range versions {
			if l.members[g][version] >= 0 || version == v6 && !cfg.IPv6 {
				continue
			}
			fd, err := openMember(g, version, l.index, cfg.Loop)
			if err == nil {
				if err = watch(fd); err != nil {
					_ = unix.Close(fd)
				}
			}
			switch {
			case err == nil:
				l.members[g][version] = fd
			case version == v4:
				return l.fault(g, err)
			}
		}
	}
	return nil
}

// setLoop sets whether programs of the host hear what is sent by the link's sockets.
func (l *link) setLoop(loop bool) {
	for g := range l.members {
		for version, fd := range l.members[g] {
			if s := looped(version, loop); fd >= 0 {
				_ = unix.SetsockoptInt(fd, s.level, s.name, s.value) // which took it before
			}
		}
	}
}

// fault says what is to be done about an error of openMember.
func (l *link) fault(g Group, err error) error {
	if errors.Is(err, unix.EADDRINUSE) {
		return fmt.Errorf("--multicast %s: a program of the host has UDP port %d for itself alone; have it share the port "+
			"(SO_REUSEADDR), or stop it", l.name, g.Port())
	}
	return fmt.Errorf("--multicast %s: join %s: %w", l.name, g.Address(false), err)
}

// close closes the sockets of the link.
func (l *link) close() {
	for g := range l.members {
		for version, fd := range l.members[g] {
			if fd >= 0 {
				_ = unix.Close(fd)
			}
			l.members[g][version] = -1
		}
	}
}
