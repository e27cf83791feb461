package taps

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/integration/lab/uml"
)

// nameBridge is the kernel's bridge. gvproxy takes only one guest with User-mode Linux, so it has no part.
const nameBridge = "vring tap and a bridge"

// pair is two guests with User-mode Linux, and what connects them.
type pair struct {
	label string
	image string
	// connect starts what connects the guests, and returns its processes.
	connect func(a *arena, sockets [2]string) ([]*process.Process, error)
}

func (p pair) name() string { return p.label }

// pairSubjects returns who takes part: the builds of vring first.
func pairSubjects(builds []build, image string) (all []subject) {
	for _, b := range builds {
		all = append(all, pair{b.label, image, b.connectBySwitch})
	}
	return append(all, pair{nameBridge, image, builds[0].connectByBridge})
}

// connectBySwitch connects the guests by a switch in one process.
func (b build) connectBySwitch(a *arena, sockets [2]string) ([]*process.Process, error) {
	n, err := a.namespace()
	if err != nil {
		return nil, err
	}
	p, err := b.run(a, n, b.path, "switch", "--socket-path", sockets[0], "--socket-path", sockets[1])
	return []*process.Process{p}, err
}

// connectByBridge connects the guests by a bridge of the kernel, to which a process leads for each.
func (b build) connectByBridge(a *arena, sockets [2]string) (all []*process.Process, err error) {
	n, err := a.namespace()
	if err != nil {
		return nil, err
	}
	if err := run(n, "ip link add br0 type bridge", "ip link set br0 up"); err != nil {
		return nil, err
	}
	for i, socket := range sockets {
		p, err := b.run(a, n, b.path, "tap", "--socket-path", socket, "--tap", []string{"tap0", "tap1"}[i], "--bridge", "br0")
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// take implements subject.
func (p pair) take(a *arena, l load, length time.Duration) (sample, error) {
	sockets := [2]string{filepath.Join(a.dir, "s"), filepath.Join(a.dir, "t")}
	backEnds, err := p.connect(a, sockets)
	if err != nil {
		return sample{}, err
	}
	var guests [2]*uml.Machine
	for i, address := range []string{peerAddress, hostAddress} {
		m, err := uml.Start(a.ctx, uml.Options{Dir: a.dir, Initrd: p.image, Socket: sockets[i]})
		if err != nil {
			return sample{}, err
		}
		a.later(m.Kill)
		guests[i] = m
		if err := boot(a, m.Console, m.Process, address); err != nil {
			return sample{}, err
		}
	}
	read := func() (used usage, err error) {
		for _, b := range backEnds {
			t, errTimes := machine.GroupTimes(b.PID())
			used.backEnd, err = used.backEnd.Add(t), errors.Join(err, errTimes)
		}
		t, errTimes := machine.GroupTimes(guests[0].PID())
		used.guest = t
		return used, errors.Join(err, errTimes)
	}
	return stream(a, inOther(a, guests[1].Console), l, length, inGuest(a, guests[0].Console), read)
}

// inOther is a server in the second guest.
func inOther(a *arena, console *guest.Console) server {
	return server{
		listen: func() error {
			console.Start("run", "iperf3", "-s")
			return nil
		},
		count: func() (sent, received uint64, err error) {
			var l proto.Link
			err = console.Do(a.ctx, &l, "link", card)
			return l.SentBytes, l.ReceivedBytes, err
		},
	}
}
