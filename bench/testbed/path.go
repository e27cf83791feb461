package testbed

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/traffic"
	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
)

const (
	// bootLimit is generous: the slowest guest is up within some seconds.
	bootLimit = time.Minute
	// patience is how much longer than planned a run may take before it counts as broken.
	patience = 30 * time.Second
	// slowest is the rate that bounds the time for a number of bytes, in bytes per second.
	slowest = 2 << 20
)

// path is a subject that runs. Fields that are not set yet are nil.
type path struct {
	dir      string
	version  string
	server   *traffic.Server // the host's, for traffic out of the guest
	hostAt   string          // where the guest finds it
	guestAt  string          // where the guest's server listens
	forward  netip.AddrPort  // where the host finds that
	backEnd  *process.Process
	computer computer
}

func startPath(ctx context.Context, s Subject, mtu int) (Path, error) {
	dir, err := os.MkdirTemp("", "vring-bench") // short: a socket's path has little room
	if err != nil {
		return nil, err
	}
	p := &path{dir: dir, version: s.BackEnd.Version()}
	if err := p.start(ctx, s, mtu); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *path) start(ctx context.Context, s Subject, mtu int) (err error) {
	n := networkOf(s.BackEnd)
	loopback := netip.AddrPortFrom(n.loopback, 0)
	if p.server, err = traffic.Listen(loopback); err != nil {
		return err
	}
	forward, err := freePort(loopback)
	if err != nil {
		return err
	}
	p.forward = netip.AddrPortFrom(loopback.Addr(), uint16(forward))
	attached, err := s.BackEnd.Start(ctx, Job{
		Socket: filepath.Join(p.dir, "net.sock"), MTU: mtu, HostPort: p.server.Port(), ForwardPort: forward,
	})
	if err != nil {
		return err
	}
	p.backEnd = attached.Process
	if p.computer, err = s.FrontEnd.start(ctx, p.dir, attached); err != nil {
		return err
	}
	return p.boot(ctx, n, mtu)
}

// freePort returns a number that is free for both protocols, for a back end to open.
func freePort(at netip.AddrPort) (int, error) {
	s, err := traffic.Listen(at)
	if err != nil {
		return 0, err
	}
	return s.Port(), s.Close()
}

// boot waits until the guest's program runs, and gives it a network.
func (p *path) boot(ctx context.Context, n network, mtu int) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	hello, err := p.computer.talk().WaitBoot(ctx)
	if err != nil {
		return errors.Join(err, errors.New(lastLine(p.computer.Output())))
	}
	if _, bare := p.computer.(bareComputer); bare {
		p.hostAt, p.guestAt = local(p.server.Port()), p.forward.String()
		return nil
	}
	p.hostAt = netip.AddrPortFrom(n.router, uint16(p.server.Port())).String()
	p.guestAt = netip.AddrPortFrom(n.guest, guestPort).String()
	p.version = strings.TrimSpace(p.version + " guest " + hello.Kernel)
	return p.computer.talk().Do(ctx, nil, "configure", netip.PrefixFrom(n.guest, n.bits), n.router, mtu)
}

func (p *path) Version() string { return p.version }

func (p *path) Close() error {
	var errs []error
	if p.computer != nil {
		errs = append(errs, p.computer.Kill())
	}
	if p.backEnd != nil {
		errs = append(errs, p.backEnd.Kill())
	}
	if p.server != nil {
		errs = append(errs, p.server.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

func (p *path) Run(ctx context.Context, plan traffic.Plan, dir Direction) (measure.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, plan.Length+time.Duration(plan.Bytes/slowest)*time.Second+patience)
	defer cancel()
	run := p.runIn
	if dir == Out {
		run = p.runOut
	}
	m := &meter{read: p.usage}
	client, server, err := run(ctx, plan, m)
	if err == nil {
		err = plan.Test.Check(client, server)
	}
	if err != nil {
		return measure.Sample{}, fmt.Errorf("%w%s", err, p.lastWords())
	}
	return newSample(plan.Test.Kind, client, server, m), nil
}

// runOut runs the client in the guest.
func (p *path) runOut(ctx context.Context, plan traffic.Plan, m *meter) (client, server traffic.Counts, err error) {
	serving, cancel := context.WithCancel(ctx)
	defer cancel()
	call := p.call("ask", p.hostAt, plan)
	go func() { // a client that fails would leave the server waiting
		if call.Wait(serving, nil) != nil {
			cancel()
		}
	}()
	server, err = p.server.Serve(serving, plan, m)
	// Why the client has failed says more than that the server was left.
	if there := call.Wait(ctx, &client); there != nil {
		err = there
	}
	return client, server, err
}

// runIn runs the server in the guest.
func (p *path) runIn(ctx context.Context, plan traffic.Plan, m *meter) (client, server traffic.Counts, err error) {
	call := p.call("serve", p.guestAt, plan)
	if err := call.Event(ctx, nil); err != nil {
		return client, server, err
	}
	if client, err = traffic.Run(ctx, p.forward, plan, m); err != nil {
		return client, server, err
	}
	err = call.Wait(ctx, &server)
	return client, server, err
}

// call starts the guest's end of a run.
func (p *path) call(command, address string, plan traffic.Plan) *guest.Call {
	return p.computer.talk().Start(command, address, plan.Test.Name, plan.Length, plan.Bytes)
}

// lastWords tells what the back end has printed last, for an error.
func (p *path) lastWords() string {
	if p.backEnd == nil {
		return ""
	}
	return "; the back end's last words: " + lastLine(p.backEnd.Output())
}

// usage reads how much processor time was used so far.
func (p *path) usage() (u measure.Usage, err error) {
	var network measure.Times
	if u.Guest, network, err = p.computer.times(); err != nil {
		return u, fmt.Errorf("guest: %w", err)
	}
	if p.backEnd != nil {
		if u.BackEnd, err = machine.GroupTimes(p.backEnd.PID()); err != nil {
			return u, fmt.Errorf("back end: %w", err)
		}
	}
	u.BackEnd = u.BackEnd.Add(network)
	u.Host, err = machine.OwnCPU()
	return u, err
}

// meter implements traffic.Meter.
type meter struct {
	read    func() (measure.Usage, error)
	before  measure.Usage
	start   time.Time
	elapsed time.Duration
	used    measure.Usage
}

func (m *meter) Begin() (err error) {
	m.before, err = m.read()
	m.start = time.Now()
	return err
}

func (m *meter) End(at time.Time) error {
	m.elapsed = at.Sub(m.start)
	after, err := m.read()
	m.used = after.Sub(m.before)
	return err
}

// newSample tells what has come of a run.
func newSample(kind traffic.Kind, client, server traffic.Counts, m *meter) measure.Sample {
	s := measure.Sample{Sent: client.Sent, Elapsed: m.elapsed, CPU: m.used, P50: client.P50, P99: client.P99}
	switch kind {
	case traffic.Bytes: // some streams go both ways
		s.Sent += server.Sent
		s.Count = client.Received + server.Received
	case traffic.Datagrams: // those that have waited somewhere came after the last was sent
		s.Count = server.Received
		s.Elapsed = max(s.Elapsed, server.Took)
	default:
		s.Count = client.Received
	}
	return s
}
