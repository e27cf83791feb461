package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/servicemanager"
	"github.com/vringnet/vring/netbackend/nat"
)

// Program is what a daemon gets from the program that it is part of.
type Program struct {
	// Tell is called with each event, and must not wait long.
	Tell func(Event)
	// Log gets what front ends do, and how the sandbox stands.
	Log *slog.Logger
	// Level is the lowest level of what Log passes on, which the daemon sets; nil for a log whose level does not change.
	Level *slog.LevelVar
	// Broker starts the broker, if there is something to do for it: Open calls it once at most, and fails if it is nil.
	Broker broker.Starter
	// ChangesForwards is that Change is called for forwards. In a sandbox, the broker then opens sockets for them: of kinds that forwards of
	// the start have, and on ports of the loopback.
	ChangesForwards bool
	// Manager tells the service manager how the daemon is; nil is that the daemon connects to the manager itself.
	Manager func(servicemanager.State)
	// ConfigFile is the absolute path of the file that ReadConfigFile reads, "" for none.
	ConfigFile string
	// OwnMounts is that this process has a namespace of mounts of its own, and Shares why not; see sandbox.Config.
	OwnMounts bool
	Shares    string
	// QueuesHint says how a user gives a guest more queue pairs; see vhostuser.Config.
	QueuesHint string
}

// Daemon serves guests. Its life is Open, Confine, Serve, on one goroutine. Status, Config and Change may be called meanwhile by
// others.
type Daemon struct {
	config      Config // of Open; it does not change
	program     Program
	opened      opened
	guests      []*served
	broker      *broker.Client
	controlPath string                 // of the control socket, "" for none
	control     net.Listener           // that socket's; nil for none
	metrics     net.Listener           // at the address of metrics; nil for none
	socks       net.Listener           // at the address of SOCKS; nil for none
	manager     servicemanager.Manager // of Program.Manager nil
	walls       sandbox.State
	since       time.Time

	applying sync.Mutex // guards what follows, and is held while it is changed
	now      Config     // config with what Change has changed
	drain    *draining  // nil if what is new may begin
	ending   bool       // guests are not served any more

	lookers sync.WaitGroup // those who look whether a drain is over

	capturing sync.Mutex // guards the captures of all guests
}

// network is what guests are connected to, as it was configured.
type network interface {
	// check returns what is to be opened for so many guests, or all that is wrong.
	check(guests int) (plan, error)
}

// plan is a network that was found to be right.
type plan interface {
	// open opens what each guest of the daemon is connected to. After an error nothing is left open.
	open(d *Daemon) (opened, error)
}

// opened is what guests are connected to, open.
type opened struct {
	guests []guest
	needs  sandbox.Config // what of it is still done in the sandbox
	duties broker.Duties  // what the broker does for it
	close  func() error   // is called when no guest is served any more; nil for nothing
}

// Network is what one guest is connected to: one of its fields, or none.
type Network struct {
	NAT *nat.Config
	TAP *TAPDevice
}

// TAPDevice is a TAP device that is open.
type TAPDevice struct {
	Name, Bridge string // Bridge is "" for none
	MTU          int    // bytes
	Queues       int
}

// Open opens all that the configuration names: networks, threads and sockets of guests, the broker. Nobody is served yet.
// A Fault is that it must be written otherwise. After an error nothing is open.
func Open(c *Checked, program Program) (*Daemon, error) {
	d := &Daemon{config: clone(c.config), now: clone(c.config), program: program, since: time.Now()}
	d.setLogLevel(c.config.Log.Level)
	d.broker = broker.NewClient(broker.Observer{
		Ended:  func(duties broker.Duties) { d.tell(BrokerEnded{duties}) },
		Unread: func(reason string) { d.tell(ResolversUnreadable{reason}) },
	})
	var err error
	if d.opened, err = c.plan.open(d); err != nil {
		return nil, err
	}
	d.placeControl()
	if err = d.start(); err == nil {
		err = d.openMetrics()
	}
	if err == nil {
		err = d.openSOCKS()
	}
	if err == nil {
		err = d.startBroker()
	}
	if err == nil {
		err = d.openControl()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if d.program.Manager == nil {
		d.connectManager()
	}
	return d, nil
}

// connectManager connects to the service manager, if there is one. Guests are served without it, too.
func (d *Daemon) connectManager() {
	var err error
	if d.manager, err = servicemanager.Connect(); err != nil {
		d.tell(ManagerUnreachable{err})
	}
	d.program.Manager = d.manager.Tell
}

func (d *Daemon) setLogLevel(l slog.Level) {
	if d.program.Level != nil {
		d.program.Level.Set(l)
	}
}

// tell tells of an event.
func (d *Daemon) tell(e Event) { d.program.Tell(e) }

// Networks are what the guests are connected to, in order, with what Change has changed. They are the caller's own. Any goroutine may
// call it.
func (d *Daemon) Networks() (all []Network) {
	d.applying.Lock()
	defer d.applying.Unlock()
	for i := range d.opened.guests {
		all = append(all, clone(d.opened.guests[i].network))
	}
	if d.now.NAT != nil {
		d.showChanges(all)
	}
	return all
}

// showChanges puts what Change has changed into the networks of all guests.
func (d *Daemon) showChanges(all []Network) {
	for i, forwards := range nat.ForwardsByGuest(d.engineConfigs(), d.now.NAT.Forwards) {
		n, now := all[i].NAT, clone(*d.now.NAT)
		n.AllowHost, n.Rules, n.Restrict, n.Resolvers = now.AllowHost, now.Rules, now.Restrict, now.Resolvers
		n.Forwards = forwards
	}
}

// Close releases a daemon that does not serve. Nothing is told.
func (d *Daemon) Close() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, s := range d.guests {
		s.tell = func(Event) {}
	}
	return d.end(d.serveAll(ended))
}

// end undoes what was changed on the host, when no guest is served any more.
func (d *Daemon) end(err error) error {
	err = errors.Join(err, closeListener(d.metrics), closeListener(d.socks), d.closeControl(), d.broker.Undo())
	if d.opened.close != nil {
		err = errors.Join(err, d.opened.close())
	}
	return err
}

// Serve serves the guests until ctx ends, and releases all. The error is why guests could not be served, or what is left
// behind.
func (d *Daemon) Serve(ctx context.Context) error {
	for i, s := range d.guests {
		s.device.SetMaxSleep(0)
		d.tell(d.ready(i))
	}
	d.program.Manager(servicemanager.Ready)
	stop := d.meterTraffic()
	defer context.AfterFunc(ctx, func() { d.tell(Stopping{}) })()
	err := d.serveAll(ctx)
	d.endDrain()
	d.program.Manager(servicemanager.Stopping)
	err = d.end(err)
	stop()
	return err
}

// ready is that the front end of a guest may come.
func (d *Daemon) ready(guest int) Ready {
	if f := d.config.FrontEnds.FD; f != nil {
		return Ready{FD: *f}
	}
	return Ready{Socket: d.config.FrontEnds.socket(guest)}
}

// serveAll serves each guest until ctx ends, whatever happens to the others, and releases what it has.
func (d *Daemon) serveAll(ctx context.Context) error {
	errs := make([]error, len(d.guests))
	var wg sync.WaitGroup
	for i, s := range d.guests {
		wg.Go(func() { errs[i] = s.serve(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
