package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
)

// Guests with a network of their own come and go while others are served. What belongs to one is opened by the functions that open it at the
// start; its socket, and those of its forwards, come from the broker. A guest that comes is opened whole, or nothing of it is; it is begun
// when nothing else of the change can fail. One that goes is taken from the list, and its session, threads, flows, captures and files end.

// removePatience is how long a change waits for the end of a guest that goes. Its threads end later if one of them is stuck.
const removePatience = 5 * time.Second

// listChange is the change of which guests there are, with the forwards that come and go with them.
type listChange struct{ guests, forwards *change }

func (d *Daemon) listChange() *listChange {
	p := &guestsPlan{daemon: d}
	return &listChange{
		guests: &change{
			check:   p.check,
			prepare: func(*Applied) error { return p.open() },
			undo:    p.abandon,
			apply:   func(_ *Config, done *Applied) { p.adopt(done) },
		},
		forwards: d.forwardsChange(p),
	}
}

// guestsPlan is a change of which guests there are.
type guestsPlan struct {
	daemon  *Daemon
	coming  []*coming
	removed []*served
}

// coming is a guest that is to be served.
type coming struct {
	planned
	group *group // with the guest alone
}

// groups are those of all guests that there are behind the change.
func (p *guestsPlan) groups() (all []*group) {
	for _, s := range p.daemon.all() {
		if !slices.Contains(all, s.group) && !slices.Contains(p.removed, s) {
			all = append(all, s.group)
		}
	}
	for _, c := range p.coming {
		all = append(all, c.group)
	}
	return all
}

// check finds out who comes and goes, and returns why that cannot be.
func (p *guestsPlan) check(after *Config) error {
	d := p.daemon
	if d.ending {
		return errEnding
	}
	var errs *multierror.Error
	names, sockets := []string{}, slices.Clone(after.FrontEnds.SocketPaths)
	later := 0
	for _, s := range d.all() {
		if s.group.own != "" && after.guest(s.socket) == nil {
			p.removed = append(p.removed, s)
			continue
		}
		names = append(names, s.name)
		if s.group.own != "" {
			sockets = append(sockets, s.socket)
		}
		if s.later {
			later++
		}
	}
	lans := p.lans()
	for i := range after.Guests {
		g := &after.Guests[i]
		if d.now.guest(g.SocketPath) != nil {
			continue
		}
		c, name, err := p.plan(g, sockets, lans)
		errs = multierror.Append(errs, err)
		sockets = append(sockets, g.SocketPath)
		if err == nil {
			p.coming, names = append(p.coming, c), append(names, name)
			later++
		}
	}
	if most := d.shares.Later(); len(p.coming) > 0 && later > most {
		errs = multierror.Append(errs, faultf("%d guests would have been added while others are served, and there may be %d, by how many files the process may open "+
			"(ulimit -n, or LimitNOFILE= of the systemd unit); remove some, or start vring again with them", later, most))
	}
	return multierror.Append(errs, checkNames(names)).ErrorOrNil()
}

// lans are the networks of switches, with the guests that stay.
func (p *guestsPlan) lans() lans {
	all := lans{}
	for _, s := range p.daemon.all() {
		if s.network.NAT == nil || s.network.Switch == nil || slices.Contains(p.removed, s) {
			continue
		}
		l := all.of(&part{lan: s.network.Switch})
		l.first = cmp.Or(l.first, s.network.NAT)
		l.configs = append(l.configs, s.network.NAT)
	}
	return all
}

// plan returns what is to be opened for a guest that comes. Its forwards are opened apart.
func (p *guestsPlan) plan(g *Guest, sockets []string, lans lans) (*coming, string, error) {
	own := clone(*g)
	if own.NAT != nil {
		own.NAT.Forwards = nil // which the host would be looked at for
	}
	part := own.part(p.daemon.config.FrontEnds.Kind)
	if err := own.check(sockets); err != nil {
		return nil, "", err
	}
	plan, err := part.plan(p.daemon.shares, lans.taken(&part), true)
	if err != nil {
		return nil, "", err
	}
	errs := multierror.Append(nil, lans.add(&part, plan))
	c := &coming{planned: planned{part, plan}}
	c.group = &group{own: part.own, frontEnd: part.frontEnd, links: part.links, sockets: part.sockets, name: part.name}
	if n, isNAT := plan.(*natPlan); isNAT {
		engines := n.configs
		c.group.engines = engines
		errs = multierror.Append(errs, p.daemon.checkResolvers(&engines[0]), p.daemon.checkRoots(&engines[0]), p.daemon.checkBootRoot(&engines[0]), p.daemon.config.checkOpen(own.NAT))
	}
	c.group.guests = []*served{{group: c.group, socket: g.SocketPath, later: true}}
	return c, part.names(plan)[0], errs.ErrorOrNil()
}

// checkResolvers returns why a guest that comes cannot have the host's own resolvers.
func (d *Daemon) checkResolvers(c *nat.Config) error {
	if !readsResolvConf(c) || d.broker.Reads() || d.config.Sandbox == sandbox.Off {
		return nil
	}
	return faultf("%s: the host's resolvers were not asked at the start, and cannot be from now on; name resolvers, or start vring again", optionDNS)
}

// open opens all that comes, or nothing.
func (p *guestsPlan) open() error {
	var errs *multierror.Error
	for i, c := range p.coming {
		if err := p.daemon.openLater(c); err != nil {
			errs = multierror.Append(errs, err)
			p.coming[i].group.guests[0].device = nil
		}
	}
	if errs != nil {
		p.abandon()
	}
	return errs.ErrorOrNil()
}

// openLater opens what belongs to a guest, and gives it its threads and its socket. After an error nothing is open.
func (d *Daemon) openLater(c *coming) error {
	opened, err := d.openGroup(&c.planned)
	if err != nil {
		return err
	}
	s := c.group.guests[0]
	c.group.opened, s.guest = opened.opened, opened.opened.guests[0]
	d.makeRoomFor(len(s.ports))
	var listen func(string) (int, error)
	if d.broker.Listens() {
		listen = func(path string) (int, error) { return d.broker.Listen(path, c.frontEnd == FrontEndBess) }
	}
	if err := d.startOne(s, d.threads(), d.memory.later, listen); err != nil {
		return errors.Join(fmt.Errorf("guest %s: %w", s.name, err), d.closeGroup(c.group))
	}
	return nil
}

// threads is how many threads guests have.
func (d *Daemon) threads() (n int) {
	for _, s := range d.all() {
		n += len(s.ports)
	}
	return n
}

// makeRoomFor lets so many more threads run at once; see makeRoom.
func (d *Daemon) makeRoomFor(threads int) {
	if n := 1 + d.threads() + threads; runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// closeGroup undoes what was done on the host for a network whose guest is not served any more.
func (d *Daemon) closeGroup(g *group) error {
	if g.close == nil {
		return nil
	}
	return g.close()
}

// abandon closes what was opened.
func (p *guestsPlan) abandon() {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range p.coming {
		s := c.group.guests[0]
		if s.device == nil {
			continue
		}
		s.tell = func(Event) {}
		_ = errors.Join(s.serve(ended), p.daemon.closeSocket(s), p.daemon.closeGroup(c.group)) // nobody was served
	}
}

// adopt lets front ends come to guests that come, and ends those that go.
func (p *guestsPlan) adopt(done *Applied) {
	d := p.daemon
	for _, s := range p.removed {
		d.unlist(s)
	}
	for _, s := range p.removed {
		if !d.remove(s) {
			done.Waiting = append(done.Waiting, s.name)
		} else {
			d.audit.remove(s.recorder)
		}
		done.Removed = append(done.Removed, s.name)
		d.tell(GuestRemoved{s.name})
	}
	for _, c := range p.coming {
		s := c.group.guests[0]
		s.device.SetMaxSleep(0)
		d.list(s)
		done.Added = append(done.Added, s.name)
		d.tell(GuestAdded{s.name, s.socket})
		if d.serving != nil {
			d.begin(s)
		}
	}
}

// remove ends a guest, and reports whether it has ended already.
func (d *Daemon) remove(s *served) bool {
	d.endCaptures(s)
	if s.cancel == nil { // it was not begun
		ended, cancel := context.WithCancel(context.Background())
		cancel()
		s.removed.Store(true)
		_ = s.serve(ended)
		_ = errors.Join(d.closeSocket(s), d.closeGroup(s.group))
		return true
	}
	s.removed.Store(true)
	s.cancel()
	timer := time.NewTimer(removePatience)
	defer timer.Stop()
	select {
	case <-s.done:
		return true
	case <-timer.C:
		return false
	}
}

// unlist takes a guest from those that are served.
func (d *Daemon) unlist(s *served) {
	d.listing.Lock()
	defer d.listing.Unlock()
	d.guests = slices.DeleteFunc(slices.Clone(d.guests), func(other *served) bool { return other == s })
}

// begin serves a guest on a goroutine of its own, until d.serving ends or it is removed. It requires applying.
func (d *Daemon) begin(s *served) {
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(d.serving)
	s.done = make(chan struct{})
	if s.uplink == nil {
		d.alive.Add(1)
	}
	d.lives.Go(func() {
		defer close(s.done)
		defer s.cancel()
		err := s.serve(ctx)
		if s.uplink != nil {
			d.addFailure(err)
			return
		}
		left := d.alive.Add(-1)
		if s.removed.Load() {
			_ = errors.Join(d.closeSocket(s), d.closeGroup(s.group)) // what is left is undone in the end
			return
		}
		d.addFailure(err)
		if left == 0 {
			d.noneLeft()
		}
	})
}

// addFailure notes why a guest is not served any more.
func (d *Daemon) addFailure(err error) {
	d.listing.Lock()
	defer d.listing.Unlock()
	d.failures = append(d.failures, err)
}

// serveAll serves each guest until ctx ends, whatever happens to the others, and releases what it has. It ends as well if none is left
// that could be served.
func (d *Daemon) serveAll(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	d.applying.Lock()
	d.serving, d.noneLeft = ctx, cancel
	for _, s := range d.all() {
		d.begin(s)
	}
	d.applying.Unlock()
	<-ctx.Done()
	d.applying.Lock()
	d.ending = true
	d.applying.Unlock()
	d.lives.Wait()
	return errors.Join(d.failures...)
}

// closeSocket removes the file of a guest's socket that the broker has made, or removes.
func (d *Daemon) closeSocket(s *served) error {
	if s.socket == "" || !d.broker.Listens() {
		return nil
	}
	return d.broker.Unlisten(s.socket)
}
