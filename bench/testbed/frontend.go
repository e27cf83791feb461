package testbed

import (
	"context"
	"os/exec"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/uml"
)

// FrontEnd runs the guest's program.
type FrontEnd interface {
	// Name is short and unique in a run.
	Name() string
	// start starts it in a directory with short paths. The computer ends with ctx at the latest.
	start(ctx context.Context, dir string, a Attachment) (computer, error)
}

// computer is what the guest's program runs on.
type computer interface {
	// talk returns the guest's console.
	talk() *guest.Console
	// times returns the processor time of the guest, and what the front end has used beside it, which is for its network.
	times() (guest, network measure.Times, err error)
	Kill() error
	Output() string
}

// UML is User-mode Linux: a kernel at near native speed, with one processor.
type UML struct {
	Image func() (string, error) // path of an initramfs with the program of BuildGuest
}

// Name implements FrontEnd.
func (UML) Name() string { return "UML" }

func (u UML) start(ctx context.Context, dir string, a Attachment) (computer, error) {
	image, err := u.Image()
	if err != nil {
		return nil, err
	}
	m, err := uml.Start(ctx, uml.Options{Dir: dir, Initrd: image, Socket: a.Socket, Pinned: true})
	if err != nil {
		return nil, err
	}
	return umlComputer{m}, nil
}

type umlComputer struct{ *uml.Machine }

func (c umlComputer) talk() *guest.Console { return c.Console }

func (c umlComputer) times() (guest, network measure.Times, err error) {
	guest, err = machine.GroupTimes(c.PID())
	return guest, measure.Times{}, err
}

// TCG is QEMU with an emulated processor.
type TCG struct {
	Image func() (string, error) // path of an initramfs with the program of BuildGuest
}

// Name implements FrontEnd.
func (TCG) Name() string { return "QEMU TCG" }

func (q TCG) start(ctx context.Context, dir string, a Attachment) (computer, error) {
	image, err := q.Image()
	if err != nil {
		return nil, err
	}
	m, err := qemu.Start(ctx, qemu.Options{Dir: dir, Initrd: image, Socket: a.Socket, Netdev: a.Netdev})
	if err != nil {
		return nil, err
	}
	return tcgComputer{m}, nil
}

type tcgComputer struct{ *qemu.Machine }

func (c tcgComputer) talk() *guest.Console { return c.Console }

// times takes the threads of the guest's processors for the guest, and the rest of QEMU for the network.
func (c tcgComputer) times() (guest, network measure.Times, err error) {
	threads, err := c.QMP.ProcessorThreads()
	if err != nil {
		return guest, network, err
	}
	for _, thread := range threads {
		used, err := machine.ThreadTimes(c.PID(), thread)
		if err != nil {
			return guest, network, err
		}
		guest = guest.Add(used)
	}
	all, err := machine.GroupTimes(c.PID())
	return guest, all.Sub(guest), err
}

// Bare is no guest: the guest's program runs on the host, and reaches the other end by the host's loopback.
type Bare struct {
	Program func() (string, error) // path of the program that BuildGuest has made
}

// Name implements FrontEnd.
func (Bare) Name() string { return "none" }

func (b Bare) start(ctx context.Context, _ string, _ Attachment) (computer, error) {
	path, err := b.Program()
	if err != nil {
		return nil, err
	}
	p, in, out, err := process.StartInteractive(ctx, exec.Command(path), process.Options{})
	if err != nil {
		return nil, err
	}
	return bareComputer{p, guest.NewConsole(out, in, p.Output)}, nil
}

type bareComputer struct {
	*process.Process
	console *guest.Console
}

func (c bareComputer) talk() *guest.Console { return c.console }

func (c bareComputer) times() (guest, network measure.Times, err error) {
	guest, err = machine.GroupTimes(c.PID())
	return guest, measure.Times{}, err
}
