package nat

import (
	"context"
	"path/filepath"
	"slices"
	"sync"

	"github.com/vringnet/vring/bench/testbed"
	"github.com/vringnet/vring/integration/lab/guest"
	"github.com/vringnet/vring/integration/lab/userland"
)

// peers returns the back ends of others.
func peers() []testbed.BackEnd {
	return []testbed.BackEnd{testbed.Passt{}, testbed.PasstStream{}, testbed.QEMUUser{}}
}

// subjects returns what is compared: the loopback, and behind each kind of guest the builds of vring and the peers.
func (b benchmark) subjects(ctx context.Context) ([]subject, error) {
	backEnds, err := b.builds(ctx)
	if err != nil {
		return nil, err
	}
	for _, build := range slices.Clone(backEnds) {
		v := build.(testbed.Vring)
		v.Label, v.Stream = v.Label+" stream", true
		backEnds = append(backEnds, v)
	}
	if b.ipv6 {
		for _, build := range slices.Clone(backEnds) {
			v := build.(testbed.Vring)
			v.Label, v.IPv6 = v.Label+", IPv6", true
			backEnds = append(backEnds, v)
		}
	}
	if b.peers {
		backEnds = append(backEnds, peers()...)
	}
	program := sync.OnceValues(func() (string, error) { return testbed.BuildGuest(ctx, b.dir) })
	subjects := []subject{testbed.Subject{FrontEnd: testbed.Bare{Program: program}, BackEnd: testbed.Loopback{}}}
	for _, kind := range b.guests {
		frontEnd := b.frontEnd(kind, program)
		for _, backEnd := range backEnds {
			if s := (testbed.Subject{FrontEnd: frontEnd, BackEnd: backEnd}); s.Possible() {
				subjects = append(subjects, s)
			}
		}
	}
	return subjects, nil
}

// builds returns the builds of vring: those that were asked for, or that of the source tree.
func (b benchmark) builds(ctx context.Context) ([]testbed.BackEnd, error) {
	var backEnds []testbed.BackEnd
	for _, build := range b.vring {
		backEnds = append(backEnds, build)
	}
	if len(backEnds) > 0 {
		return backEnds, nil
	}
	b.say("building vring")
	own := testbed.Vring{Label: "vring", Path: filepath.Join(b.dir, "vring")}
	return []testbed.BackEnd{own}, testbed.Build(ctx, "./cmd/vring", own.Path)
}

// frontEnd returns the front end of a kind of guest.
func (b benchmark) frontEnd(kind string, program func() (string, error)) testbed.FrontEnd {
	modules := func() ([]string, error) {
		return guest.UMLModules(userland.Bookworm, guest.IPv6Modules(userland.Bookworm)...)
	}
	if kind == guestTCG {
		modules = func() ([]string, error) { return guest.KernelModules(userland.Bookworm) }
	}
	image := sync.OnceValues(func() (string, error) {
		file, err := program()
		if err != nil {
			return "", err
		}
		drivers, err := modules()
		if err != nil {
			return "", err
		}
		image := filepath.Join(b.dir, kind+".cpio")
		return image, guest.Image{Init: file, Modules: drivers}.Write(image)
	})
	if kind == guestTCG {
		return testbed.TCG{Image: image}
	}
	return testbed.UML{Image: image}
}
