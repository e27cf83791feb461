package daemon

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/internal/servicemanager"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/tap"
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
	// State is the file in which WriteState keeps what was changed; nil for none.
	State *broker.StateFile
	// AuditStart is the file of the audit log that the file or the flags name; "" for that of the configuration, which may be one that was kept.
	AuditStart string
	// OwnMounts is that this process has a namespace of mounts of its own, and Shares why not; see sandbox.Config.
	OwnMounts bool
	Shares    string
	// User is whom this process becomes in its sandbox, nil to stay whose it is, and StaysRoot why it stays root's; see sandbox.Config.
	User      *sandbox.User
	StaysRoot string
	// QueuesHint says how a user gives a guest more queue pairs; see vhostuser.Config.
	QueuesHint string
}

// Daemon serves guests. Its life is Open, Confine, Serve, on one goroutine. Status, Config and Change may be called meanwhile by
// others.
type Daemon struct {
	config      Config // of Open; it does not change
	program     Program
	shares      *nat.Shares
	memory      memoryShares
	pressure    *worker.CPUPressure // of the machine; nil if it cannot be known
	roots       *x509.CertPool      // whom certificates of resolvers come from; nil if they were not read
	switches    switches            // that guests have named; guarded by applying, after Open
	groups      []*group            // of Open: that of the guests that share a network first
	asked       asked               // what they need beside what the daemon does itself
	broker      *broker.Client
	controlPath string                 // of the control socket, "" for none
	control     net.Listener           // that socket's; nil for none
	metrics     net.Listener           // at the address of metrics; nil for none
	socks       net.Listener           // at the address of SOCKS; nil for none
	audit       *auditor               // nil for no audit log, and nothing to learn
	learned     *broker.StateFile      // of what is learned; nil for none
	learner     *learner               // writes it; nil for none
	manager     servicemanager.Manager // of Program.Manager nil
	walls       sandbox.State
	since       time.Time

	listing sync.Mutex // guards what follows; the list itself does not change
	guests  []*served

	lives    sync.WaitGroup // of guests that are being served
	alive    atomic.Int64   // how many they are
	failures []error        // of those that have ended by themselves, or with the daemon; guarded by listing

	applying sync.Mutex         // guards what follows, and is held while it is changed
	serving  context.Context    // ends with Serve; nil before
	noneLeft context.CancelFunc // ends serving, since no guest is left
	now      Config             // config with what Change has changed
	drain    *draining          // nil if what is new may begin
	ending   bool               // guests are not served any more

	lookers sync.WaitGroup // those who look whether a drain is over

	capturing sync.Mutex // guards the captures of all guests
}

// network is what guests are connected to, as it was configured.
type network interface {
	// check returns what is to be opened for guests, or all that is wrong.
	check(p places) (plan, error)
}

// plan is a network that was found to be right.
type plan interface {
	// names are those of its guests.
	names() []string
	// open opens what each of its guests is connected to. After an error nothing is left open.
	open(d *Daemon) (opened, error)
}

// asked is what guests of the start need.
type asked struct {
	needs  sandbox.Config // that they still do in the sandbox
	duties broker.Duties  // that the broker does for them
	changed
}

// changed is what was changed on the host and is undone in the end.
type changed struct {
	files   []string      // unix sockets of forwards
	changes []tap.Changes // of TAP devices
}

// add adds what those of one network need.
func (a *asked) add(o *opened) {
	a.needs.Internet, a.needs.Multicast = a.needs.Internet || o.needs.Internet, a.needs.Multicast || o.needs.Multicast
	a.needs.Devices, a.needs.Sources = a.needs.Devices || o.needs.Devices, a.needs.Sources || o.needs.Sources
	a.needs.Reconnects = a.needs.Reconnects || o.needs.Reconnects
	a.needs.TAP, a.needs.Reopen = a.needs.TAP || o.needs.TAP, a.needs.Reopen || o.needs.Reopen
	a.duties.Read = cmp.Or(a.duties.Read, o.duties.Read)
	for _, root := range o.duties.BootRoots {
		if !slices.Contains(a.duties.BootRoots, root) {
			a.duties.BootRoots = append(a.duties.BootRoots, root)
		}
	}
	a.duties.Configs, a.changes = append(a.duties.Configs, o.duties.Configs...), append(a.changes, o.changes...)
	a.files = append(a.files, o.files...)
}

// opened is what the guests of a network are connected to, open.
type opened struct {
	guests  []guest
	engines []nat.Config   // of guests behind NAT, as they were opened
	needs   sandbox.Config // what of it is still done in the sandbox
	duties  broker.Duties  // what the broker does for it
	changed
	close func() error // is called when no guest of it is served any more; nil for nothing
}

// Network is what one guest is connected to: one of NAT, TAP and a switch, or none of them.
type Network struct {
	Guest string // its name
	Own   string // the socket of the guest, if no other one shares its network; see Config.NATOf
	NAT   *nat.Config
	TAP   *TAPDevice
	// Switch is what was said of the guest's port, and of the switch.
	Switch *Switch
	// Uplink is where an uplink of Switch leads, which is served as a guest is; nil for a guest.
	Uplink *Uplink
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
	d.shares, d.memory = c.shares, shareMemory(len(d.config.Sockets()))
	d.pressure, _ = worker.OpenCPUPressure() // without it, threads do not poll
	err := d.readRoots()
	if err == nil {
		err = d.openAudit()
	}
	if err == nil {
		d.learned, err = d.learnedFile()
	}
	if err == nil {
		d.switches, err = newSwitches(d.config.Switches, d.config.parts())
	}
	if err == nil {
		err = d.openAll(c.parts)
	}
	if err == nil {
		err = d.openUplinks()
	}
	d.placeControl()
	if err == nil {
		err = d.start()
	}
	if err == nil {
		err = d.openMetrics()
	}
	if err == nil {
		err = d.openSOCKS()
	}
	if err == nil {
		err = d.startBroker()
	}
	if err == nil {
		err = d.openState()
	}
	if err == nil {
		err = d.openLearn()
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

// clock is that of all threads, in nanoseconds: what guests share has times of several.
func (d *Daemon) clock() int64 { return int64(time.Since(d.since)) }

// tell tells of an event.
func (d *Daemon) tell(e Event) { d.program.Tell(e) }

// Networks are what the guests are connected to, in order, with what Change has changed. They are the caller's own. Any goroutine may
// call it.
func (d *Daemon) Networks() (all []Network) {
	d.applying.Lock()
	defer d.applying.Unlock()
	forwards := map[*group][][]spec.Forward{}
	for _, s := range d.all() {
		n := clone(s.network)
		n.Guest, n.Own = s.name, s.group.own
		if now := d.now.NATOf(s.group.own); now != nil && n.NAT != nil {
			if forwards[s.group] == nil {
				forwards[s.group] = nat.ForwardsByGuest(s.group.engines, now.Forwards)
			}
			own := clone(*now)
			n.NAT.AllowHost, n.NAT.Rules, n.NAT.Restrict, n.NAT.Resolvers = own.AllowHost, own.Rules, own.Restrict, own.Resolvers
			n.NAT.Redirects, n.NAT.Names, n.NAT.Split = own.Redirects, own.Names, own.Split
			n.NAT.NameGroups, n.NAT.RefuseNames = own.NameGroups, own.RefuseNames
			n.NAT.Way = own.Way()
			n.NAT.Forwards = clone(forwards[s.group][slices.Index(s.group.guests, s)])
		}
		all = append(all, n)
	}
	return all
}

// Close releases a daemon that does not serve. Nothing is told.
func (d *Daemon) Close() error {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	var errs []error
	for _, s := range d.all() {
		s.tell = func(Event) {}
		errs = append(errs, s.serve(ended))
	}
	return d.end(errors.Join(errs...))
}

// end undoes what was changed on the host, when no guest is served any more.
func (d *Daemon) end(err error) error {
	d.learner.close(d.audit)
	err = errors.Join(err, closeListener(d.metrics), closeListener(d.socks), d.closeControl(), d.broker.Undo())
	for _, g := range d.groups {
		if g.close != nil {
			err = errors.Join(err, g.close())
		}
	}
	err = errors.Join(err, d.audit.close())
	if d.pressure != nil {
		err = errors.Join(err, d.pressure.Close())
	}
	return err
}

// Serve serves the guests until ctx ends, or none is served any more that should be, and releases all. The error is why guests could not
// be served, or what is left behind.
func (d *Daemon) Serve(ctx context.Context) error {
	for _, s := range d.all() {
		s.device.SetMaxSleep(0)
		if s.uplink == nil {
			d.tell(d.ready(s))
		}
	}
	d.program.Manager(servicemanager.Ready)
	defer context.AfterFunc(ctx, func() { d.tell(Stopping{}) })()
	err := d.serveAll(ctx)
	d.endDrain()
	d.program.Manager(servicemanager.Stopping)
	return d.end(err)
}

// ready is that the front end of a guest may come.
func (d *Daemon) ready(s *served) Ready {
	if f := d.config.FrontEnds.FD; f != nil {
		return Ready{FD: *f}
	}
	return Ready{Socket: s.socket}
}
