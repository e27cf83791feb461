package daemon

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/go-multierror"

	"github.com/vringnet/vring/netbackend/nat/spec"
)

// change is how a field of a configuration is changed while guests are served. Fields that change together have the same one.
type change struct {
	check func(after *Config) error // what is wrong with its new value, and what is in the way
	// prepare does what can fail, when all checks have found nothing. After an error it has undone what it did. It is nil for nothing.
	// undo undoes it, if what comes after it has failed. Nobody has it whose changes are made after all others.
	prepare func(done *Applied) error
	undo    func()
	rank    int                                // of a lower one are those that prepare before others, and apply behind them
	apply   func(after *Config, done *Applied) // cannot fail, and takes effect without a guest's help
}

// Applied is what became of a configuration that was applied.
type Applied struct {
	// Changed are the fields that differ from what was, in the order of Fields. There may be none.
	Changed []Field
	// Gaps are ports and sockets that nobody could connect to for a moment, in which one forward took the place of another. There
	// may be some after an error, too: then the forward of before is back, unless it is one of Lost.
	Gaps []Gap
	// Lost are forwards that had to make room for others, which could not be had, and could not be opened again. They are no part of
	// the configuration any more.
	Lost []spec.Forward
	// Added and Removed are the guests that have come and gone, by their names.
	Added, Removed []string
	// Waiting are the guests one of whose threads did not answer. It makes the change before it handles a frame again, and what it may
	// be using stays open until then.
	Waiting []string
}

// Gap is that a forward was closed.
type Gap struct {
	Forward spec.Forward // of one port, or a unix socket
	For     time.Duration
}

// changes are those that a daemon can make, by the path of the field.
type changes map[string]*change

// changes are those of all fields but those of guests' own networks.
func (d *Daemon) changes(keepFlows bool, lists *listChange) changes {
	all := changes{
		"Log.Level": {
			check: func(after *Config) error { return after.Log.check() },
			apply: func(after *Config, _ *Applied) { d.setLogLevel(after.Log.Level) },
		},
		"Threads.Poll": {
			check: func(after *Config) error { return after.Threads.checkPoll() },
			apply: func(after *Config, _ *Applied) {
				for _, s := range d.all() {
					s.device.SetPoll(after.Threads.Poll)
				}
			},
		},
		"AuditLog": d.auditChange(),
		"AuditOff": d.auditOffChange(),
		guestsPath: lists.guests,
	}
	d.addOwnChanges(all, "", keepFlows, lists)
	return all
}

// addOwnChanges adds those of the links and the network of the guests that share one, or of the guest with a socket that has its own.
func (d *Daemon) addOwnChanges(to changes, own string, keepFlows bool, lists *listChange) {
	to[linksPath] = d.linksChange(own)
	d.addNATChanges(to, own, keepFlows, lists)
}

// addNATChanges adds those of the network that guests share, or that the guest with a socket has for itself.
func (d *Daemon) addNATChanges(to changes, own string, keepFlows bool, lists *listChange) {
	if d.now.NATOf(own) == nil {
		return
	}
	to["NAT.Forwards"] = lists.forwards
	policy := d.policyChange(own, keepFlows)
	for _, path := range policyFields() {
		to[path] = policy
	}
}

// Config returns the configuration as it is now: that of Open, and what Change has changed. It is the caller's own. Any goroutine may
// call it; who wants to change what it returns calls Change.
func (d *Daemon) Config() Config {
	d.applying.Lock()
	defer d.applying.Unlock()
	return clone(d.now)
}

// Change lets change alter a copy of the configuration as it is now, and makes what it has become that of the daemon, while guests
// are served, between Open and the end of Serve. Nobody else changes anything in between, so of several callers none undoes what another
// has done without having seen it. change must not wait for long, and not call the daemon; its error is returned, and nothing changes.
//
// All changes are made, or none. The error tells of each field that cannot change, with the reason, of each value that is wrong, and of
// each port that cannot be had. Then nothing has changed, but see Applied.
//
// Any goroutine may call it.
func (d *Daemon) Change(change func(*Config) error) (Applied, error) { return d.change(change, false) }

// ChangeKeepingFlows is Change, but flows that guests have begun go on where a new policy closes them to others. A later policy judges
// them again.
func (d *Daemon) ChangeKeepingFlows(change func(*Config) error) (Applied, error) {
	return d.change(change, true)
}

func (d *Daemon) change(change func(*Config) error, keepFlows bool) (Applied, error) {
	d.applying.Lock()
	defer d.applying.Unlock()
	after := clone(d.now)
	if err := change(&after); err != nil {
		return Applied{}, err
	}
	return d.apply(clone(after), keepFlows) // change may keep parts of it
}

// Apply is Change to a configuration that does not depend on what there is. The daemon keeps a copy of it.
func (d *Daemon) Apply(after Config) (Applied, error) {
	return d.Change(func(c *Config) error {
		*c = after
		return nil
	})
}

// apply makes a configuration that of the daemon, which keeps it. The caller has d.applying.
func (d *Daemon) apply(after Config, keepFlows bool) (Applied, error) {
	lists := d.listChange()
	known, needed := map[string]changes{"": d.changes(keepFlows, lists)}, []*change{}
	forwards, unlisted := false, false
	need := func(c *change) error {
		if c == lists.forwards {
			forwards = true // it is checked when it is known which guests come and go
			return nil
		}
		if c == nil || slices.Contains(needed, c) {
			return nil
		}
		needed = append(needed, c)
		err := c.check(&after)
		unlisted = unlisted || c == lists.guests && err != nil
		return err
	}
	var done Applied
	var errs *multierror.Error
	for _, f := range differences(&d.now, &after) {
		if known[f.own] == nil {
			known[f.own] = changes{}
			d.addOwnChanges(known[f.own], f.own, keepFlows, lists)
		}
		c, fault := known[f.own].of(&f, &d.now)
		done.Changed, errs = append(done.Changed, f.Field), multierror.Append(errs, fault, need(c))
	}
	if !unlisted && (forwards || slices.Contains(needed, lists.guests)) { // guests that come and go have some
		needed, errs = append(needed, lists.forwards), multierror.Append(errs, lists.forwards.check(&after))
	}
	if d.drain != nil && slices.ContainsFunc(done.Changed, func(f Field) bool { return strings.HasPrefix(f.Path, "NAT.") || f.Path == guestsPath }) {
		errs = multierror.Append(errs, errDraining)
	}
	if err := errs.ErrorOrNil(); err != nil {
		return Applied{}, err
	}
	if err := d.make(needed, &after, &done); err != nil {
		return Applied{Gaps: done.Gaps, Lost: done.Lost}, err
	}
	d.now = after
	return done, nil
}

// make makes changes that were checked, or none.
func (d *Daemon) make(changes []*change, after *Config, done *Applied) error {
	slices.SortStableFunc(changes, func(a, b *change) int { return cmp.Compare(a.rank, b.rank) })
	for i, c := range changes {
		if c.prepare == nil {
			continue
		}
		if err := c.prepare(done); err != nil {
			for _, before := range slices.Backward(changes[:i]) {
				if before.undo != nil {
					before.undo()
				}
			}
			return err
		}
	}
	for _, c := range slices.Backward(changes) { // a guest that goes is not served any more when its forwards are closed
		c.apply(after, done)
	}
	return nil
}

// of returns how a field is changed, or why it cannot be.
func (c changes) of(f *difference, before *Config) (*change, error) {
	if fault := f.fault(before); fault != nil {
		return nil, fault
	}
	return c[f.Path], nil // all fields that are live have one
}
