package daemon

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// guest is a guest that is to be served: its network, and what is known of it.
type guest struct {
	name     string
	network  Network
	ports    []netbackend.Port                 // one for each queue pair; their threads own them
	counters []counting.Source                 // of ports
	snapshot func(*worker.Thread) nat.Snapshot // nil for a network without flows
	lost     <-chan error                      // delivers why there is no network any more; nil for one that cannot be lost
	// traffic, if set, tells that of the first queue pair from its counters, and is metered each second.
	traffic func(counting.Values) traffic
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
	label  string // its name in events, "" for the only one
	tell   func(Event)
	device *worker.Device
	server *vhostuser.Server
	since  time.Time
	// looking has room for the one who looks at flows or ends them.
	looking  chan struct{}
	captures []*Capture // that are running; guarded by Daemon.capturing

	linking  sync.Mutex  // is held while the link is taken up or down
	linkDown atomic.Bool // as it was set last
}

// start gives each guest its threads and its socket. After an error d has the guests that were started; the ports of all
// others are closed.
func (d *Daemon) start() error {
	guests := d.opened.guests
	makeRoom(guests)
	limits := guestmem.LimitsFor(len(guests))
	for i, g := range guests {
		s, err := d.startOne(g, i, limits)
		if err != nil {
			return errors.Join(err, closeAll(guests[i+1:]))
		}
		d.guests = append(d.guests, s)
	}
	return nil
}

// makeRoom lets the threads of all guests run at once, and what controls them beside, even if there are fewer processors:
// which of them has one is for the kernel to decide, at finer intervals than Go's scheduler would.
func makeRoom(guests []guest) {
	n := 1
	for _, g := range guests {
		n += len(g.ports)
	}
	if runtime.GOMAXPROCS(0) < n {
		runtime.GOMAXPROCS(n)
	}
}

// sleepBeforeServing bounds how long threads sleep at a time until guests are served. The sandbox stops all threads some hundred
// times meanwhile: see worker.Device.SetMaxSleep.
const sleepBeforeServing = 10 * time.Millisecond

// startOne starts guest i.
func (d *Daemon) startOne(g guest, i int, limits guestmem.Limits) (*served, error) {
	s := &served{guest: g, tell: d.tell, since: time.Now(), looking: make(chan struct{}, 1)}
	log := d.program.Log
	if len(d.opened.guests) > 1 {
		s.label = g.name
		log = log.With("guest", g.name)
	}
	var err error
	s.device, err = worker.New(worker.Config{
		Ports: g.ports, Counters: g.counters,
		Notices: func(n netbackend.Notice) { d.tell(Notice{s.label, n}) },
		Poll:    d.config.Threads.Poll,
		CPUs:    d.config.Threads.from(i * len(g.ports)), MaxSleep: sleepBeforeServing,
	})
	if err != nil {
		return nil, err
	}
	s.server, err = d.newServer(i, s, log, limits)
	if err != nil {
		return nil, errors.Join(cannotListen(optionSocketPath, d.config.FrontEnds.socket(i), err), s.device.Close())
	}
	return s, nil
}

// newServer opens where the front ends of guest i come from.
func (d *Daemon) newServer(i int, s *served, log *slog.Logger, limits guestmem.Limits) (*vhostuser.Server, error) {
	from := &d.config.FrontEnds
	c := vhostuser.Config{
		SocketPath: from.socket(i), Client: from.Client, SocketMode: from.SocketMode, SocketGroup: from.group(),
		Dial: d.dial, KeepFile: d.broker.Removes, Device: s.device, Log: log, Memory: limits, QueuesHint: d.program.QueuesHint,
		Staged: func(now vhostuser.Stage) { d.tell(StageChanged{s.label, now}) },
	}
	if from.FD != nil {
		c.FD = *from.FD
	}
	return vhostuser.NewServer(c)
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

func (s *served) serve(ctx context.Context) error {
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
		Report: Report{Counters: counters.Port, Returned: counters.Thread.Returned},
	}
	if pair == 0 {
		c.Dropped = s.device.Dropped()
	}
	return c
}
