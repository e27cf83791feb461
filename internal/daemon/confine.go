package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/socketfile"
	"github.com/vringnet/vring/internal/undo"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/vhostuser"
)

// duties are what the broker is for, beside what it undoes.
func (d *Daemon) duties() broker.Duties {
	duties := d.asked.duties
	duties.Mode, duties.Config = d.config.Sandbox, d.program.ConfigFile
	switch {
	case duties.Mode == sandbox.Off: // but interfaces need rights that may be gone by the end
		return broker.Duties{Mode: duties.Mode, Configs: duties.Configs}
	case d.config.FrontEnds.Client:
		duties.Dial = d.config.Sockets()
	}
	duties.Control, duties.State, duties.Learned = d.controlPath, d.program.State, d.learned
	if d.program.ChangesForwards && d.config.HasNAT() {
		duties.Bind = d.binds()
	}
	if d.mayAdd() {
		duties.Sockets = broker.SocketsBeside(d.socketFiles(), d.access(), anybodyMayMake)
		duties.Routes = d.asked.needs.Internet
		if duties.Routes && duties.Config != "" { // it reads files in any case
			duties.Read = d.shares.Usual().ResolvConf
		}
	}
	if paths := d.datagramSockets(); len(paths) > 0 {
		access := d.access()
		duties.Datagrams = &broker.Datagrams{Paths: paths, Mode: access.Mode, Group: access.Group}
	}
	duties.Pings = d.lendsPings()
	return duties
}

// datagramSockets are those of the guests that the broker makes, which alone can connect them to front ends.
func (d *Daemon) datagramSockets() (paths []string) {
	for _, path := range d.config.Sockets() {
		if path != "" && d.config.FrontEndOf(path) == FrontEndVfkit && d.config.Sandbox != sandbox.Off {
			paths = append(paths, path)
		}
	}
	return paths
}

// lendsPings reports whether guests can ping by way of the broker only, since this process becomes a user whose group may not.
func (d *Daemon) lendsPings() bool {
	u := d.program.User
	return u != nil && d.config.HasNAT() && hostcaps.CheckPing() == nil && !hostcaps.MayPing(u.GID)
}

// undoList is what was changed on the host by now and is undone by the broker: of files, all that are removed in its sandbox.
func (d *Daemon) undoList() (*undo.List, error) {
	list := new(undo.List)
	for _, c := range d.asked.changes {
		list.SetDevice(c)
	}
	if d.config.Sandbox == sandbox.Off {
		return list, nil
	}
	files := map[undo.Owner][]string{undo.OfForward: d.asked.files}
	if !d.config.FrontEnds.Client {
		theirs := d.datagramSockets() // which are there when the broker is
		files[undo.OfGuest] = slices.DeleteFunc(d.socketFiles(), func(path string) bool { return slices.Contains(theirs, path) })
	}
	for of, paths := range files {
		for _, path := range paths {
			if err := list.AddMade(path, of); err != nil {
				list.Release()
				return nil, err
			}
		}
	}
	return list, nil
}

// access tells who may connect to the guests' sockets.
func (d *Daemon) access() socketfile.Access {
	from := &d.config.FrontEnds
	return socketfile.Access{Mode: cmp.Or(from.SocketMode, socketfile.OwnerOnly().Mode), Group: from.group()}
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
	exposed := false
	for _, n := range d.config.allNAT() {
		all, exposed = append(all, n.Forwards...), exposed || n.Expose
	}
	b := bindsOf(all)
	b.Exposed = b.Exposed || exposed
	return b
}

// bindsOf is what the broker may open: what is like the forwards that there are.
func bindsOf(forwards []spec.Forward) *broker.Binds {
	b := new(broker.Binds)
	for i := range forwards {
		f := &forwards[i]
		if f.Path != "" {
			b.Dirs = append(b.Dirs, filepath.Dir(f.CleanPath()))
			continue
		}
		if name := f.Binding.Interface; name != "" && !slices.Contains(b.Interfaces, name) {
			b.Interfaces = append(b.Interfaces, name)
		}
		b.Freebind = b.Freebind || f.Binding.Freebind
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
	var err error
	if duties.Undo, err = d.undoList(); err != nil {
		return err
	}
	if duties.Empty() {
		duties.Undo.Release()
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
	needs.User, needs.StaysRoot = d.program.User, d.program.StaysRoot
	root := os.Geteuid() == 0 // in the sandbox nobody may ask
	var err error
	if d.walls, err = sandbox.Enter(needs); err != nil {
		return errors.Join(err, d.Close())
	}
	if left, why := d.walls.LeftRoot(); root && !left {
		d.tell(RunsAsRoot{cmp.Or(why, fmt.Sprintf("--sandbox=%v leaves the user alone", needs.Mode))})
	}
	return nil
}
