package daemon

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-multierror"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/audit"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// guest is a guest that is to be served: its network, and what is known of it.
type guest struct {
	name     string
	network  Network
	ports    []netbackend.Port                 // one for each queue pair; their threads own them
	counters []counting.Source                 // of ports
	snapshot func(*worker.Thread) nat.Snapshot // nil for a network without flows
	natPort  *nat.Port                         // of the first queue pair, for what anybody may ask; nil for a network that is not NAT
	recorder *audit.Recorder                   // takes what it does at the border, for the audit log; nil for nobody
	uplink   *openUplink                       // nil for a guest
	lost     <-chan error                      // delivers why there is no network any more; nil for one that cannot be lost
	// traffic, if set, tells that of the first queue pair from its counters, and is metered each second.
	traffic func(counting.Values) traffic
	// latency, if set, tells what parts of the frames that were tested took at most, and the longest time.
	latency func(parts ...float64) (times []time.Duration, longest time.Duration)
}

// close closes the ports of a guest that is not served.
func (g *guest) close() error {
	var errs []error
	for _, p := range g.ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// closeAll closes the ports of guests that are not served.
func closeAll(guests []guest) error {
	var errs []error
	for i := range guests {
		errs = append(errs, guests[i].close())
	}
	return errors.Join(errs...)
}

// served is a guest that is being served.
type served struct {
	guest
	group    *group
	socket   string             // at which its front end is met; "" for one that was inherited
	only     bool               // there was no other one when it was started
	later    bool               // it was added while others were served
	cancel   context.CancelFunc // ends it; nil before it is begun
	done     chan struct{}      // is closed when it has ended
	removed  atomic.Bool        // it ends, since it was removed
	label    string             // its name in events, "" for the only one
	tell     func(Event)
	device   *worker.Device
	server   server
	frontEnd FrontEnd // of server
	since    time.Time
	// looking has room for the one who looks at flows or ends them.
	looking  chan struct{}
	captures []*Capture // that are running; guarded by Daemon.capturing

	link     atomic.Pointer[netem.Link] // that is emulated, with its seed; nil for none
	linking  sync.Mutex                 // is held while the link is taken up or down
	linkDown atomic.Bool                // as it was set last
}

// group are the guests that share a network, or one that has its own.
type group struct {
	opened
	own      string       // the socket of the guest whose own it is; "" for guests that share it
	frontEnd FrontEnd     // of the guests
	links    []netem.Link // of the guests at the start
	sockets  []string
	name     string    // of the only guest; "" for none of its own
	guests   []*served // in the order of opened.guests
}

// isComing reports whether the guest is not open yet.
func (s *served) isComing() bool { return s.ports == nil }

// all are the guests that are served, in their order. The list does not change.
func (d *Daemon) all() []*served {
	d.listing.Lock()
	defer d.listing.Unlock()
	return d.guests
}

// list adds a guest to those that are served.
func (d *Daemon) list(s *served) {
	d.listing.Lock()
	defer d.listing.Unlock()
	d.guests = append(slices.Clone(d.guests), s)
}

// openAll opens what all guests are connected to, or nothing.
func (d *Daemon) openAll(parts []planned) error {
	var errs *multierror.Error
	for _, p := range parts {
		g, err := d.openGroup(&p)
		if err != nil {
			errs = multierror.Append(errs, err)
			continue
		}
		d.groups = append(d.groups, g)
		d.asked.add(&g.opened)
	}
	if errs == nil {
		return nil
	}
	for _, g := range d.groups {
		errs = multierror.Append(errs, g.abandon())
	}
	d.groups = nil
	return errs
}

// openGroup opens what the guests of one network are connected to.
func (d *Daemon) openGroup(p *planned) (*group, error) {
	o, err := p.open(d)
	if err != nil {
		return nil, err
	}
	g := &group{opened: o, own: p.own, frontEnd: p.frontEnd, links: p.links, sockets: p.sockets, name: p.name}
	for i := range g.opened.guests {
		d.audit.own(g.opened.guests[i].recorder, p.own)
	}
	if p.name != "" {
		g.opened.guests[0].name = p.name
		d.audit.rename(g.opened.guests[0].recorder, p.name)
	}
	return g, nil
}

// abandon closes what guests that are not started are connected to.
func (g *group) abandon() error {
	err := closeAll(g.opened.guests[len(g.guests):])
	if g.close != nil {
		err = errors.Join(err, g.close())
	}
	return err
}

// start gives each guest its threads and its socket. After an error d has the guests that were started; the ports of all
// others are closed.
func (d *Daemon) start() error {
	d.makeRoom()
	only, threads := len(d.config.Sockets()) == 1, 0
	for i, g := range d.groups {
		for j, one := range g.opened.guests {
			s := &served{guest: one, group: g, socket: g.sockets[j], only: only && one.uplink == nil}
			if err := d.startOne(s, threads, d.memory.first, nil); err != nil {
				errs := []error{err, closeAll(g.opened.guests[j+1:])}
				for _, rest := range d.groups[i+1:] {
					errs = append(errs, closeAll(rest.opened.guests))
				}
				return errors.Join(errs...)
			}
			threads += len(s.ports)
			g.guests = append(g.guests, s)
			d.list(s)
		}
	}
	return nil
}

// makeRoom lets the threads of all guests run at once, and what controls them beside, even if there are fewer processors:
// which of them has one is for the kernel to decide, at finer intervals than Go's scheduler would.
func (d *Daemon) makeRoom() {
	n := 1
	for _, g := range d.groups {
		for _, one := range g.opened.guests {
			n += len(one.ports)
		}
	}
	if runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// memoryShares is what front ends of guests may have the process map: each of those that there are at first, and each that comes later.
type memoryShares struct{ first, later guestmem.Limits }

// shareMemory leaves half of what there is to guests that come later.
func shareMemory(guests int) memoryShares {
	half := guestmem.LimitsFor(2)
	of := func(n int) guestmem.Limits {
		return guestmem.Limits{Bytes: half.Bytes / uint64(max(n, 1)), Mappings: half.Mappings / max(n, 1)}
	}
	return memoryShares{first: of(guests), later: of(MaxLater)}
}

// sleepBeforeServing bounds how long threads sleep at a time until guests are served. The sandbox stops all threads some hundred
// times meanwhile: see worker.Device.SetMaxSleep.
const sleepBeforeServing = 10 * time.Millisecond

// startOne gives a guest its threads, of which the process has so many already, and its socket, which listen opens, or nil for this process. After an error
// its ports are closed.
func (d *Daemon) startOne(s *served, threads int, limits guestmem.Limits, listen func(path string) (int, error)) (err error) {
	s.tell, s.since, s.looking = d.tell, time.Now(), make(chan struct{}, 1)
	log := d.program.Log
	if !s.only {
		s.label = s.name
		log = log.With("guest", s.name)
	}
	s.device, err = worker.New(worker.Config{
		Ports: s.ports, Counters: s.counters,
		Notices: func(n netbackend.Notice) { d.tell(Notice{s.label, n}) },
		Poll:    d.now.Threads.Poll,
		CPUs:    d.config.Threads.from(threads), MaxSleep: sleepBeforeServing,
		Pressure: d.pressure, Now: d.clock,
	})
	if err != nil {
		return err
	}
	if err := s.emulate(linkAt(s.group.links, slices.Index(s.group.sockets, s.socket))); err != nil {
		return errors.Join(err, s.device.Close())
	}
	s.server, err = d.newServer(s, log, limits, listen)
	if err != nil {
		return errors.Join(cannotListen(optionSocketPath, s.socket, err), s.device.Close())
	}
	return nil
}

// cannotListen is why no socket could be had at path. What the user can write otherwise is a fault.
func cannotListen(o Option, path string, err error) error {
	wrong := []error{
		unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENOTDIR, unix.EROFS, unix.ELOOP, unix.ENAMETOOLONG, unix.EADDRINUSE, unix.EEXIST,
	}
	if path == "" || !slices.ContainsFunc(wrong, func(errno error) bool { return errors.Is(err, errno) }) {
		return err
	}
	return faultf("%s %s: %w", o, path, err)
}

// serve serves front ends until ctx ends, and releases what the guest has.
func (s *served) serve(ctx context.Context) error {
	stop := s.meterTraffic()
	defer stop()
	err := s.serveUntilLost(ctx)
	if err != nil {
		s.tell(GuestStopped{s.label, err})
	}
	if closed := s.device.Close(); closed != nil {
		return errors.Join(err, closed) // a thread may still be counting
	}
	for pair := range s.counters {
		s.tell(s.counted(pair))
	}
	s.tellTest(true)
	return err
}

// serveUntilLost serves front ends until ctx ends or the guest's network is lost.
func (s *served) serveUntilLost(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var lost error
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case reason := <-s.lost:
			if reason != nil {
				lost = &LostError{reason}
			}
			cancel()
		case <-ctx.Done():
		}
	}()
	err := s.server.Serve(ctx)
	cancel()
	<-watched
	return errors.Join(lost, err)
}

// counted is what was counted for one queue pair, whose thread has ended.
func (s *served) counted(pair int) Counted {
	counters, _ := s.device.Counters(pair) // nobody counts any more
	c := Counted{
		Guest: s.label, Pair: pair, Pairs: len(s.counters), Uptime: time.Since(s.since), Lost: s.device.Lost(),
		Report: Report{Counters: counters.Port, Returned: counters.Thread.Returned, FrontEnd: counters.Thread.FrontEnd, Link: counters.Thread.Link},
	}
	if pair == 0 {
		c.Dropped = s.device.Dropped()
	}
	return c
}
