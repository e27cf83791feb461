package daemon

import (
	"cmp"
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/vhostuser"
)

// duties are what the broker is for.
func (d *Daemon) duties() broker.Duties {
	duties := d.asked.duties
	duties.Mode, duties.Config = d.config.Sandbox, d.program.ConfigFile
	switch {
	case duties.Mode == sandbox.Off: // but interfaces need rights that may be gone by the end
		return broker.Duties{Mode: duties.Mode, Configs: duties.Configs, Changes: duties.Changes}
	case d.config.FrontEnds.Client:
		duties.Dial = d.config.Sockets()
	default:
		duties.Remove = slices.Concat(duties.Remove, d.socketFiles())
	}
	duties.Control = d.controlPath
	if d.program.ChangesForwards && d.config.HasNAT() {
		duties.Bind = d.binds()
	}
	if d.mayAdd() {
		from := &d.config.FrontEnds
		access := socketfile.Access{Mode: cmp.Or(from.SocketMode, socketfile.OwnerOnly().Mode), Group: from.group()}
		duties.Sockets = broker.SocketsBeside(d.socketFiles(), access, anybodyMayMake)
		duties.Routes = d.asked.needs.Internet
		if duties.Routes && duties.Config != "" { // it reads files in any case
			duties.Read = d.shares.Usual().ResolvConf
		}
	}
	return duties
}

// mayAdd reports whether guests can be added while others are served.
func (d *Daemon) mayAdd() bool { return d.program.ChangesForwards && d.config.listens() }

// anybodyMayMake reports whether users other than this one and its group may make files in a directory.
func anybodyMayMake(dir string) bool {
	const others = 0o002
	info, err := os.Stat(dir)
	return err != nil || info.Mode()&others != 0
}

// socketFiles are the files of the guests' sockets.
func (d *Daemon) socketFiles() (all []string) {
	for _, path := range d.config.Sockets() {
		if path != "" {
			all = append(all, path)
		}
	}
	return all
}

// binds are what the broker may open for forwards: what is like those of all guests.
func (d *Daemon) binds() *broker.Binds {
	var all []spec.Forward
	for _, n := range d.config.allNAT() {
		all = append(all, n.Forwards...)
	}
	return bindsOf(all)
}

// bindsOf is what the broker may open: what is like the forwards that there are.
func bindsOf(forwards []spec.Forward) *broker.Binds {
	b := new(broker.Binds)
	for i := range forwards {
		f := &forwards[i]
		if f.Path != "" {
			b.Files = append(b.Files, f.CleanPath())
			b.Dirs = append(b.Dirs, filepath.Dir(f.CleanPath()))
			continue
		}
		b.Exposed = b.Exposed || !f.Host.Addr().IsLoopback()
		if b.LeastPort == 0 || f.Host.Port() < b.LeastPort {
			b.LeastPort = f.Host.Port()
		}
	}
	slices.Sort(b.Dirs)
	b.Dirs = slices.Compact(b.Dirs)
	return b
}

// startBroker starts the process that does what this one will not be able to do in its sandbox, if there is anything.
func (d *Daemon) startBroker() error {
	duties := d.duties()
	if duties.Empty() {
		return nil
	}
	return d.broker.Start(d.program.Broker, duties)
}

// dial connects to a front end that listens.
func (d *Daemon) dial(ctx context.Context, path string) (*net.UnixConn, error) {
	if d.broker.Dials(path) {
		return d.broker.Dial(path)
	}
	return vhostuser.Dial(ctx, path)
}

// Confine gives up the rights of this process that are not needed to serve what is open. After an error the daemon is
// closed, and some rights may be gone.
func (d *Daemon) Confine() error {
	needs := d.asked.needs
	needs.Mode, needs.Log, needs.Notify = d.config.Sandbox, d.program.Log, d.manager.FD()
	needs.Accept = d.metrics != nil || d.socks != nil
	needs.Pin = len(d.config.Threads.CPUs) > 0 && d.mayAdd()
	needs.EmptyRoot, needs.Shares = d.program.OwnMounts, d.program.Shares
	if os.Geteuid() == 0 {
		d.tell(RunsAsRoot{})
	}
	var err error
	if d.walls, err = sandbox.Enter(needs); err != nil {
		return errors.Join(err, d.Close())
	}
	return nil
}
