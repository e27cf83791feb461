package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/integration/guest"
	"github.com/vringnet/vring/integration/guest/proto"
	"github.com/vringnet/vring/integration/process"
	"github.com/vringnet/vring/integration/uml"
)

// bootLimit is generous: the guest is up within a second.
const bootLimit = time.Minute

// Guest is a User-mode Linux guest behind a back end.
type Guest struct {
	BackEnd BackEnd
	Image   func() (string, error) // path of an initramfs that BuildImage has made
}

// Name implements Subject.
func (g Guest) Name() string { return g.BackEnd.Name() }

// Start implements Subject.
func (g Guest) Start(ctx context.Context, mtu int) (Path, error) {
	image, err := g.Image()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "vring-bench") // short: a socket's path has little room
	if err != nil {
		return nil, err
	}
	p := &guestPath{dir: dir, version: g.BackEnd.Version()}
	if err := p.start(ctx, g.BackEnd, image, mtu); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// guestPath is a guest that runs. Fields that are not set yet are nil.
type guestPath struct {
	dir      string
	version  string
	listener *net.TCPListener // the host's end for streams out of the guest
	forward  int              // port that leads to the guest's receiver
	backEnd  *process.Process
	machine  *uml.Machine
}

func (p *guestPath) start(ctx context.Context, b BackEnd, image string, mtu int) (err error) {
	if p.listener, err = listen(); err != nil {
		return err
	}
	if p.forward, err = freePort(); err != nil {
		return err
	}
	job := Job{
		Socket: filepath.Join(p.dir, "net.sock"), MTU: mtu, HostPort: portOf(p.listener), ForwardPort: p.forward,
	}
	if p.backEnd, err = b.Start(ctx, job); err != nil {
		return err
	}
	if p.machine, err = uml.Start(ctx, uml.Options{Dir: p.dir, Initrd: image, Socket: job.Socket}); err != nil {
		return err
	}
	return p.boot(ctx, mtu)
}

// boot waits until the guest runs, and configures it.
func (p *guestPath) boot(ctx context.Context, mtu int) error {
	ctx, cancel := context.WithTimeout(ctx, bootLimit)
	defer cancel()
	hello, err := p.machine.Console.WaitBoot(ctx)
	if err != nil {
		return errors.Join(err, errors.New(lastLine(p.machine.Output())))
	}
	p.version += " guest " + hello.Kernel
	return p.machine.Console.Do(ctx, nil, "configure", guestPrefix, router, mtu)
}

func (p *guestPath) Version() string { return p.version }

func (p *guestPath) Close() error {
	var errs []error
	if p.machine != nil {
		errs = append(errs, p.machine.Kill())
	}
	if p.backEnd != nil {
		errs = append(errs, p.backEnd.Kill())
	}
	if p.listener != nil {
		errs = append(errs, p.listener.Close())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

func (p *guestPath) Transfer(ctx context.Context, dir Direction, d time.Duration) (measure.Sample, error) {
	// For the guest's own calls, which guard does not bound.
	ctx, cancel := context.WithTimeout(ctx, d+2*patience)
	defer cancel()
	transfer := p.transferIn
	if dir == Out {
		transfer = p.transferOut
	}
	sample, err := transfer(ctx, d)
	if err != nil {
		err = fmt.Errorf("%w; the back end's last words: %s", err, lastLine(p.backEnd.Output()))
	}
	return sample, err
}

func (p *guestPath) transferOut(ctx context.Context, d time.Duration) (measure.Sample, error) {
	host := net.JoinHostPort(router, strconv.Itoa(portOf(p.listener)))
	call := p.machine.Console.Start("send", host, d)
	conn, err := accept(ctx, p.listener, d)
	if err != nil {
		return measure.Sample{}, fmt.Errorf("no connection from the guest: %w", err)
	}
	sample, err := receiveOn(conn, p.usage)
	// The guest's sender waits for this.
	if err := errors.Join(err, conn.Close()); err != nil {
		return sample, err
	}
	return sample, agree(ctx, sample, call)
}

func (p *guestPath) transferIn(ctx context.Context, d time.Duration) (measure.Sample, error) {
	call := p.machine.Console.Start("receive", guestPort)
	if err := call.Event(ctx, nil); err != nil {
		return measure.Sample{}, err
	}
	conn, err := dial(ctx, p.forward, d)
	if err != nil {
		return measure.Sample{}, err
	}
	defer conn.Close()
	sample, err := sendOn(conn, p.usage, d)
	if err != nil {
		return sample, err
	}
	return sample, agree(ctx, sample, call)
}

// agree checks that the guest has counted what the host has.
func agree(ctx context.Context, sample measure.Sample, call *guest.Call) error {
	var there proto.Transfer
	err := call.Wait(ctx, &there)
	return sameBytes(sample.Bytes, there.Bytes, err)
}

// usage is the meter of the path.
func (p *guestPath) usage() (measure.Usage, error) {
	backEnd, err := machine.GroupTimes(p.backEnd.PID())
	if err != nil {
		return measure.Usage{}, fmt.Errorf("back end: %w", err)
	}
	guest, err := machine.GroupTimes(p.machine.PID())
	if err != nil {
		return measure.Usage{}, fmt.Errorf("guest: %w", err)
	}
	own, err := machine.OwnCPU()
	return measure.Usage{BackEnd: backEnd, Guest: guest, Host: own}, err
}
