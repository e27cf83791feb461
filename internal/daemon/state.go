package daemon

import (
	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
)

// openState opens the file of the state in this process, if there is one and no broker that keeps it.
func (d *Daemon) openState() error {
	if d.program.State == nil || d.broker.KeepsState() {
		return nil
	}
	return d.broker.OpenState(*d.program.State)
}

// WriteState keeps what was changed in the file Program.State, by the broker where there is a sandbox, and returns when the disk has it. Any
// goroutine may call it between Open and the end of Serve.
func (d *Daemon) WriteState(text []byte) error { return d.broker.WriteState(text) }

// LinksDown are the guests whose link is down, by their names.
func (d *Daemon) LinksDown() (names []string) {
	for _, s := range d.all() {
		if s.linkDown.Load() {
			names = append(names, s.name)
		}
	}
	return names
}

// CheckKept returns why a process that began with a configuration cannot have come to another one while it served guests. What was kept by a process
// that is in a guest's hands can have anything in it: the next one must not open what that one could not.
func (c *Config) CheckKept(now *Config) error {
	_, err := Compare(c, now)
	errs := multierror.Append(nil, err)
	if err != nil || c.Sandbox == sandbox.Off {
		return errs.ErrorOrNil()
	}
	if c.AuditLog != now.AuditLog {
		errs = multierror.Append(errs, checkAuditFile(c.AuditLog, now.AuditLog))
	}
	start := &Daemon{config: *c}
	binds := start.binds()
	for _, n := range now.allNAT() {
		for i := range n.Forwards {
			errs = multierror.Append(errs, binds.Check(&n.Forwards[i]))
		}
	}
	sockets := broker.SocketsBeside(start.socketFiles(), start.access(), anybodyMayMake)
	added := 0
	for i := range now.Guests {
		if g := &now.Guests[i]; c.guest(g.SocketPath) == nil {
			added++
			errs = multierror.Append(errs, sockets.Check(g.SocketPath))
		}
	}
	if added > MaxLater {
		errs = multierror.Append(errs, faultf("%d guests were added, and there may be %d", added, MaxLater))
	}
	return errs.ErrorOrNil()
}
