package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// guest is a guest that is to be served: its network, and what is known of it.
type guest struct {
	name   string                           // in the log, if there are several
	ports  []netbackend.Port                // one for each queue pair
	report func(pair int, now int64) report // may be called where that port's methods may, and after its Close
	lost   <-chan error                     // delivers why there is no network any more; nil for one that cannot be lost
	cure   string                           // what would have helped against that
	// traffic, if set, is printed each second; it may be called where the first port's methods may.
	traffic func() traffic
}

// close closes the ports of a guest that is not served.
func (g *guest) close() error {
	var errs []error
	for _, p := range g.ports {
		errs = append(errs, p.Close())
	}
	return errors.Join(errs...)
}

// served is a guest that is being served.
type served struct {
	guest
	log    *slog.Logger
	device *worker.Device
	server *vhostuser.Server
	since  time.Time
}

// serve serves the guests, one for each of f.sockets, until ctx ends. It owns their ports. When all is open, describe logs
// what was opened: until then an error is all that is printed.
func (f *serveFlags) serve(ctx context.Context, log *slog.Logger, stderr io.Writer, guests []guest, describe func()) error {
	status := make(chan os.Signal, 1)
	signal.Notify(status, unix.SIGUSR1)
	defer signal.Stop(status)

	askedQEMU := f.startAsking(len(guests[0].ports)) // from within the sandbox no program can be run
	all, err := f.start(log, guests)
	hint := askedQEMU()
	var walls sandbox.State
	if err == nil {
		err = f.startBroker()
	}
	manager := f.connectManager(log)
	if err == nil {
		log.Info("vring starts", "version", programVersion())
		describe()
		walls, err = f.confine(log, &manager)
	}
	if err != nil {
		return errors.Join(err, closeServed(all), f.broker.Undo())
	}
	out := f.console(stderr)
	hint.print(out)
	f.sayReady(log)
	manager.tell(stateReady)
	stop := printOnSignal(status, out, all, walls)
	defer stop()
	stopRates := printRates(out, all)
	defer stopRates()
	err = serveAll(ctx, all)
	manager.tell(stateStopping)
	return errors.Join(err, f.broker.Undo())
}

// connectManager connects to the service manager. That it cannot be reached keeps nobody from being served.
func (f *serveFlags) connectManager(log *slog.Logger) serviceManager {
	m, err := connectManager()
	if err != nil {
		log.Warn("the service manager cannot be told that vring is ready", "err", err)
	}
	return m
}

// closeServed releases guests that were started and are not served. The error that is the cause is all there is to say.
func closeServed(all []*served) error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, s := range all {
		s.log = slog.New(slog.DiscardHandler)
	}
	return serveAll(ended, all)
}

// start gives each guest its thread and its socket. After an error the guests that were started are returned as well;
// the ports of all others are closed.
func (f *serveFlags) start(log *slog.Logger, guests []guest) ([]*served, error) {
	makeRoom(guests)
	var all []*served
	var failed error
	limits := guestmem.LimitsFor(len(guests))
	for i, g := range guests {
		if failed != nil {
			failed = errors.Join(failed, g.close())
			continue
		}
		s, err := f.startOne(log, g, i, len(guests) > 1, limits)
		if err != nil {
			failed = err
			continue
		}
		all = append(all, s)
	}
	return all, failed
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

// startOne starts guest i.
func (f *serveFlags) startOne(log *slog.Logger, g guest, i int, named bool, limits guestmem.Limits) (*served, error) {
	if named {
		log = log.With("guest", g.name)
	}
	device, err := worker.New(worker.Config{
		Ports:   g.ports,
		Notices: func(n netbackend.Notice) { logNotice(log, n) },
		Poll:    f.threads.bound(),
		CPUs:    f.threads.from(i * len(g.ports)),
	})
	if err != nil {
		return nil, err
	}
	server, err := vhostuser.NewServer(vhostuser.Config{
		Dial: f.dial, KeepFile: f.broker.Removes,
		SocketPath: f.sockets()[i], Client: f.client, FD: f.fd, Device: device, Log: log,
		SocketMode: f.access.mode(), SocketGroup: f.access.groupID(), Memory: limits, QueuesHint: f.queuesHint,
	})
	if err != nil {
		return nil, errors.Join(cannotListen(f.sockets()[i], err), device.Close())
	}
	return &served{guest: g, log: log, device: device, server: server, since: time.Now()}, nil
}

// cannotListen is why no socket could be had at path. What the user can write otherwise is a wrong use.
func cannotListen(path string, err error) error {
	wrong := []error{
		unix.EACCES, unix.EPERM, unix.ENOENT, unix.ENOTDIR, unix.EROFS, unix.ELOOP, unix.ENAMETOOLONG, unix.EADDRINUSE, unix.EEXIST,
	}
	if path == "" || !slices.ContainsFunc(wrong, func(errno error) bool { return errors.Is(err, errno) }) {
		return err
	}
	return wrongUse(fmt.Errorf("--socket-path %s: %w", path, err))
}

// serveAll serves each guest until ctx ends, whatever happens to the others, and releases what it has.
func serveAll(ctx context.Context, all []*served) error {
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, s := range all {
		wg.Go(func() { errs[i] = s.serve(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (s *served) serve(ctx context.Context) error {
	err := s.serveUntilLost(ctx)
	if err != nil {
		s.log.Error("guest service stopped", "err", err)
	}
	if closed := s.device.Close(); closed != nil {
		return errors.Join(err, closed) // a thread may still be counting
	}
	for pair := range s.ports {
		s.logCounters(pair)
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
		case lost = <-s.lost:
			if lost != nil && s.cure != "" {
				lost = fmt.Errorf("%w; %s", lost, s.cure)
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

// logCounters logs what was counted for one queue pair, whose port is closed.
func (s *served) logCounters(pair int) {
	args := []any{"uptime", time.Since(s.since).Round(time.Second)}
	if len(s.ports) > 1 {
		args = append(args, "pair", pair)
	}
	counters := s.reportOf(pair, 0)
	args = append(args, nonZero(counters.all())...)
	if n := s.device.Dropped(); n != 0 && pair == 0 {
		args = append(args, "dropped_while_disabled", n)
	}
	if n := s.device.Lost(); n != 0 {
		args = append(args, "log_lines_lost", n)
	}
	s.log.Info("counters", args...)
}

func logNotice(log *slog.Logger, n netbackend.Notice) {
	var args []any
	if n.Key != "" {
		args = append(args, n.Key, n.Value)
	}
	if n.More > 0 {
		args = append(args, "more_like_this", n.More)
	}
	log.Log(context.Background(), slog.Level(n.Level), n.Message, args...)
}

// sayReady says that front ends may come.
func (f *serveFlags) sayReady(log *slog.Logger) {
	if len(f.socketPaths) == 0 {
		log.Info("ready", "fd", f.fd)
		return
	}
	for _, path := range f.socketPaths {
		log.Info("ready", "socket", path)
	}
}
