package daemon

import (
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/forward"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

// forwardsChange replaces the forwards of all guests, of those that come and go with guests, too. Those that are the same before and after
// are not touched.
func (d *Daemon) forwardsChange(guests *guestsPlan) *change {
	var next *forwardsPlan
	return &change{
		rank: 1, // it can close some for a moment
		check: func(after *Config) (err error) {
			next, err = d.planForwardsWith(after, guests)
			return err
		},
		prepare: func(done *Applied) error { return next.open(done) },
		apply:   func(_ *Config, done *Applied) { next.adopt(done) },
	}
}

// forwardOf is a forward of one port, or of a unix socket, of one guest.
type forwardOf struct {
	guest *served
	spec.Forward
	overlaps bool // it wants something of the host that one on the other side of the change has
}

// forwardsPlan is a change of forwards. New ones are opened first, and those that are in their way closed before.
type forwardsPlan struct {
	daemon *Daemon
	quit   []*forwardOf
	add    []*forwardOf
	opened map[*served][]nat.BoundForward // of add
}

// planForwards compares what is with what is to be. The error tells all that is wrong.
func (d *Daemon) planForwards(after *Config) (*forwardsPlan, error) {
	return d.planForwardsWith(after, &guestsPlan{daemon: d})
}

// planForwardsWith is planForwards, where guests come and go, too.
func (d *Daemon) planForwardsWith(after *Config, guests *guestsPlan) (*forwardsPlan, error) {
	p := &forwardsPlan{daemon: d, opened: map[*served][]nat.BoundForward{}}
	var errs *multierror.Error
	for _, g := range guests.groups() {
		if n := after.NATOf(g.own); len(g.engines) > 0 && n != nil { // none is another fault
			errs = multierror.Append(errs, p.compareGroup(g, n))
		}
	}
	for _, s := range guests.removed {
		if s.network.NAT != nil {
			p.compare(s, nil)
		}
	}
	if len(p.add)+len(p.quit) > 0 && d.config.Sandbox != sandbox.Off && !d.broker.Binds() {
		errs = multierror.Append(errs, faultf("%s cannot change: at the start, nobody was asked to open sockets for it beside the sandbox; "+
			"start vring again with it", optionForward))
	}
	if err := errs.ErrorOrNil(); err != nil {
		return nil, err
	}
	p.findOverlaps()
	return p, nil
}

// compareGroup compares the forwards of guests that share a network with those of n.
func (p *forwardsPlan) compareGroup(g *group, n *NAT) error {
	if err := nat.CheckForwards(g.engines, n.Forwards); err != nil {
		return err
	}
	for i, forwards := range nat.ForwardsByGuest(g.engines, n.Forwards) {
		p.compare(g.guests[i], forwards)
	}
	return nil
}

// compare finds out what of a guest's forwards is to be closed and opened.
func (p *forwardsPlan) compare(guest *served, want []spec.Forward) {
	has := map[spec.Forward]bool{}
	if !guest.isComing() {
		for _, f := range guest.engine().Forwards() {
			has[f] = true
		}
	}
	for _, f := range want {
		for one := range f.Ports() {
			if !has[one] {
				p.add = append(p.add, &forwardOf{guest: guest, Forward: one})
			}
			delete(has, one)
		}
	}
	for f := range has {
		p.quit = append(p.quit, &forwardOf{guest: guest, Forward: f})
	}
}

// findOverlaps marks what must be closed before something else can be opened.
func (p *forwardsPlan) findOverlaps() {
	quit := map[spec.HostSide][]*forwardOf{}
	for _, f := range p.quit {
		quit[f.Side()] = append(quit[f.Side()], f)
	}
	for _, f := range p.add {
		for _, q := range quit[f.Side()] {
			if f.Overlap(&q.Forward) != "" {
				f.overlaps, q.overlaps = true, true
			}
		}
	}
}

// open opens what is new. If something cannot be had, all is as before.
func (p *forwardsPlan) open(done *Applied) error {
	free, blocked := apart(p.add)
	err := p.bind(free)
	_, inTheWay := apart(p.quit)
	if err == nil && len(inTheWay) > 0 {
		err = p.swap(inTheWay, blocked, done)
	}
	if err != nil {
		p.drop()
	}
	return err
}

// swap closes forwards and opens others in their place, or opens the old ones again.
func (p *forwardsPlan) swap(quit, add []*forwardOf, done *Applied) error {
	begun := time.Now()
	if err := p.release(quit); err != nil {
		for guest := range byGuest(quit) {
			guest.engine().ReviveForwards(guest.wake)
		}
		return err
	}
	err := p.bind(add)
	if err != nil {
		p.drop()
		p.restore(quit, done)
	}
	for _, f := range quit {
		if !slices.Contains(done.Lost, f.Forward) {
			done.Gaps = append(done.Gaps, Gap{f.Forward, time.Since(begun)})
		}
	}
	return err
}

// release takes forwards from their guests and closes them. An error is that one may still be in use.
func (p *forwardsPlan) release(quit []*forwardOf) error {
	var errs []error
	for guest, forwards := range byGuest(quit) {
		errs = append(errs, guest.engine().ChangeForwards(forwards, nil, guest.wake))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	for _, f := range quit {
		p.daemon.removeFile(&f.Forward)
	}
	return nil
}

// restore opens forwards again that had to make room. What cannot be had is lost.
func (p *forwardsPlan) restore(quit []*forwardOf, done *Applied) {
	for _, f := range quit {
		if p.bind([]*forwardOf{f}) != nil {
			done.Lost = append(done.Lost, f.Forward)
		}
	}
	for guest, bound := range p.opened {
		_ = guest.engine().ChangeForwards(nil, bound, guest.wake) // nothing quits
	}
	clear(p.opened)
	for _, n := range p.daemon.now.allNAT() {
		n.Forwards = without(n.Forwards, done.Lost)
	}
}

// adopt lets what is open lead to the guests, and closes the rest of what is to quit.
func (p *forwardsPlan) adopt(done *Applied) {
	rest, _ := apart(p.quit)
	quit := byGuest(rest)
	for s := range p.changed(quit) {
		if s.engine().ChangeForwards(quit[s], p.opened[s], s.wake) != nil {
			done.Waiting = append(done.Waiting, s.name)
		}
	}
	for _, f := range rest {
		p.daemon.removeFile(&f.Forward)
	}
}

// changed are the guests whose forwards change, when some quit.
func (p *forwardsPlan) changed(quit map[*served][]spec.Forward) map[*served]bool {
	all := map[*served]bool{}
	for s := range quit {
		all[s] = true
	}
	for s := range p.opened {
		all[s] = true
	}
	return all
}

// bind opens forwards. After an error those that could be had are open. The error tells of each that could not.
func (p *forwardsPlan) bind(add []*forwardOf) error {
	var errs *multierror.Error
	for _, f := range add {
		socket, err := p.daemon.bind(&f.Forward)
		if f.Binding.IfFree && err != nil {
			continue
		}
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		p.opened[f.guest] = append(p.opened[f.guest], nat.BoundForward{Forward: f.Forward, Socket: socket})
	}
	return errs.ErrorOrNil()
}

// bind opens a forward of one port.
func (d *Daemon) bind(f *spec.Forward) (forward.Socket, error) {
	if d.broker.Binds() {
		return d.broker.Bind(f)
	}
	return forward.Listen(f, 0, nil)
}

// removeFile removes the file of a forward that is closed, if it has one, and if it is not removed with its socket.
func (d *Daemon) removeFile(f *spec.Forward) {
	if f.Path != "" && d.broker.Binds() {
		_ = d.broker.Unbind(f.CleanPath()) // otherwise it is removed in the end
	}
}

// drop closes what was opened.
func (p *forwardsPlan) drop() {
	for bound := range maps.Values(p.opened) {
		for i := range bound {
			bound[i].Socket.Close()
			p.daemon.removeFile(&bound[i].Forward)
		}
	}
	clear(p.opened)
}

// apart divides forwards into those that are in nobody's way and those that are.
func apart(all []*forwardOf) (free, inTheWay []*forwardOf) {
	for _, f := range all {
		if f.overlaps {
			inTheWay = append(inTheWay, f)
		} else {
			free = append(free, f)
		}
	}
	return free, inTheWay
}

// byGuest are forwards by their guests.
func byGuest(all []*forwardOf) map[*served][]spec.Forward {
	of := map[*served][]spec.Forward{}
	for _, f := range all {
		of[f.guest] = append(of[f.guest], f.Forward)
	}
	return of
}

// without returns forwards less some of their ports.
func without(all, lost []spec.Forward) (rest []spec.Forward) {
	for _, f := range all {
		var ports []spec.Forward
		for one := range f.Ports() {
			if !slices.Contains(lost, one) {
				ports = append(ports, one)
			}
		}
		if len(ports) == int(f.Count) {
			ports = []spec.Forward{f}
		}
		rest = append(rest, ports...)
	}
	return rest
}
