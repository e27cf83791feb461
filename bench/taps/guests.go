package taps

import (
	"errors"
	"fmt"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/integration/lab/netns"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/qemu"
	"github.com/vringnet/vring/integration/lab/uml"
)

const (
	nameQEMU = "QEMU -netdev tap"
	nameVeth = "veth pair"
)

// umlGuest is User-mode Linux behind vring.
type umlGuest struct {
	build build
	image string
}

func (u umlGuest) name() string { return u.build.label }

// take implements subject.
func (u umlGuest) take(a *arena, l load, length time.Duration) (sample, error) {
	n, err := a.namespace()
	if err != nil {
		return sample{}, err
	}
	backEnd, err := u.build.start(a, n)
	if err != nil {
		return sample{}, err
	}
	m, err := uml.Start(a.ctx, uml.Options{Dir: a.dir, Initrd: u.image, Socket: a.socket(), Pinned: true})
	if err != nil {
		return sample{}, err
	}
	a.later(m.Kill)
	if err := errors.Join(boot(a, m.Console, m.Process, peerAddress), address(n)); err != nil {
		return sample{}, err
	}
	read := func() (used usage, err error) {
		var errBackEnd, errGuest error
		used.backEnd, errBackEnd = machine.GroupTimes(backEnd.PID())
		used.guest, errGuest = machine.GroupTimes(m.PID())
		return used, errors.Join(errBackEnd, errGuest)
	}
	return stream(a, inHost(a, n), l, length, inGuest(a, m.Console), read)
}

// address gives the TAP device its address.
func address(n *netns.Namespace) error {
	return run(n, "ip address replace "+hostAddress+prefix+" dev "+device, "ip link set "+device+" up")
}

// veth is a pair of namespaces that a veth pair connects. There is neither a guest nor a back end.
type veth struct{}

func (veth) name() string { return nameVeth }

// take implements subject.
func (veth) take(a *arena, l load, length time.Duration) (sample, error) {
	n, err := a.namespace()
	if err != nil {
		return sample{}, err
	}
	far, err := a.namespace()
	if err != nil {
		return sample{}, err
	}
	err = errors.Join(
		run(n, "ip link add "+device+" type veth peer name "+device+" netns "+far.Path()),
		address(n),
		run(far, "ip address add "+peerAddress+prefix+" dev "+device, "ip link set "+device+" up"))
	if err != nil {
		return sample{}, err
	}
	return stream(a, inHost(a, n), l, length, inNamespace(far), func() (usage, error) { return usage{}, nil })
}

// qemuGuest is a guest under QEMU: behind vring, or with a TAP device of QEMU's own if there is no build.
type qemuGuest struct {
	build *build
	image string
}

func (q qemuGuest) name() string {
	if q.build == nil {
		return nameQEMU
	}
	return q.build.label
}

// take implements subject.
func (q qemuGuest) take(a *arena, l load, length time.Duration) (sample, error) {
	n, err := a.namespace()
	if err != nil {
		return sample{}, err
	}
	options := qemu.Options{Dir: a.dir, Initrd: q.image, Thread: n.Enter}
	var backEnd *process.Process
	if q.build != nil {
		options.Socket = a.socket()
		backEnd, err = q.build.start(a, n)
	} else {
		options.TAP = device
		err = run(n, "ip tuntap add dev "+device+" mode tap vnet_hdr")
	}
	if err != nil {
		return sample{}, err
	}
	m, err := qemu.Start(a.ctx, options)
	if err != nil {
		return sample{}, err
	}
	a.later(m.Kill)
	if err := errors.Join(boot(a, m.Console, m.Process, peerAddress), address(n)); err != nil {
		return sample{}, err
	}
	return stream(a, inHost(a, n), l, length, inGuest(a, m.Console), func() (usage, error) { return qemuUsage(m.Process, backEnd) })
}

// qemuUsage reads the times of QEMU and of a back end, which is QEMU's main loop if there is no process of its own.
func qemuUsage(m, backEnd *process.Process) (usage, error) {
	all, err := machine.GroupTimes(m.PID())
	if err != nil {
		return usage{}, err
	}
	mainLoop, err := machine.ThreadTimes(m.PID(), m.PID()) // the main thread
	if err != nil {
		return usage{}, fmt.Errorf("QEMU's main loop: %w", err)
	}
	used := usage{guest: all.Sub(mainLoop), mainLoop: mainLoop, backEnd: mainLoop}
	if backEnd != nil {
		used.backEnd, err = machine.GroupTimes(backEnd.PID())
	}
	return used, err
}
