package daemon

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/vringnet/vring/internal/broker"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
)

// Program is what a daemon gets from the program that it is part of.
type Program struct {
	// Tell is called with each event, and must not wait long.
	Tell func(Event)
	// Log gets what front ends do, and how the sandbox stands.
	Log *slog.Logger
	// Broker is a program, with its arguments, that calls broker.Run.
	Broker []string
	// QueuesHint says how a user gives a guest more queue pairs; see vhostuser.Config.
	QueuesHint string
}

// Daemon serves guests. Its life is Open, Confine, Serve, on one goroutine. Status may be called meanwhile by another one.
type Daemon struct {
	config  Config
	program Program
	opened  opened
	guests  []*served
	broker  *broker.Client
	manager serviceManager
	walls   sandbox.State
	since   time.Time
}

// network is what guests are connected to.
type network interface {
	// check returns all that is wrong, for so many guests.
	check(guests int) error
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
func Open(config Config, program Program) (*Daemon, error) {
	d := &Daemon{config: config, program: program, since: time.Now()}
	d.broker = broker.NewClient(broker.Observer{
		Ended:  func(duties broker.Duties) { d.tell(BrokerEnded{duties}) },
		Unread: func(reason string) { d.tell(ResolversUnreadable{reason}) },
	})
	n, err := config.network()
	if err != nil {
		return nil, err
	}
	if d.opened, err = n.open(d); err != nil {
		return nil, err
	}
	if err = d.start(); err == nil {
		err = d.startBroker()
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	if d.manager, err = connectManager(); err != nil {
		d.tell(ManagerUnreachable{err})
	}
	return d, nil
}

// tell tells of an event.
func (d *Daemon) tell(e Event) { d.program.Tell(e) }

// Networks are what the guests are connected to, in order.
func (d *Daemon) Networks() (all []Network) {
	for i := range d.opened.guests {
		all = append(all, d.opened.guests[i].network)
	}
	return all
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
	err = errors.Join(err, d.broker.Undo())
	if d.opened.close != nil {
		err = errors.Join(err, d.opened.close())
	}
	return err
}

// Serve serves the guests until ctx ends, and releases all. The error is why guests could not be served, or what is left
// behind.
func (d *Daemon) Serve(ctx context.Context) error {
	for i := range d.guests {
		d.tell(d.ready(i))
	}
	d.manager.tell(stateReady)
	stop := d.meterTraffic()
	err := d.serveAll(ctx)
	d.manager.tell(stateStopping)
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
