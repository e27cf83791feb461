package ownrings

import (
	"context"
	"fmt"
	"time"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Device is the data path that has the rings, with one queue pair: ring 0 is the receive queue and ring 1 the transmit queue.
// worker.Device is one. See vhostuser.Device for the calls.
type Device interface {
	SetFeatures(features uint64) error
	SetMemory(t *guestmem.Table) error
	SetDriver(pair int, d netbackend.Driver) error
	StartRing(i int, r virtqueue.Config, fds virtqueue.RingFDs) error
	EnableRing(i int, on bool) error
	Failed() <-chan error
	Reset() error
}

// Attach gives a device the rings and their driver, which acknowledges features, and starts them. After an error, Release takes away what it has.
func (r *Rings) Attach(dev Device, features uint64, d netbackend.Driver) error {
	steps := []func() error{
		func() error { return dev.SetFeatures(features) },
		func() error { return dev.SetMemory(r.table) },
		func() error { return dev.SetDriver(0, d) },
	}
	for i := range 2 {
		steps = append(steps, func() error {
			return dev.StartRing(i, r.Ring(i), virtqueue.RingFDs{Kick: -1, Call: -1, Err: -1})
		})
	}
	for i := range 2 {
		steps = append(steps, func() error { return dev.EnableRing(i, true) })
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// Release takes everything away from the device. It does not return before the device has let go, unless ctx ends: the rings, and what their
// driver has open, are left to it then, and the error tells so.
func Release(ctx context.Context, dev Device) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		err := dev.Reset()
		if err == nil {
			err = dev.SetDriver(0, nil)
		}
		if err == nil {
			return nil
		}
		if !pause(ctx, wait) {
			return fmt.Errorf("device still uses the rings: %w", err)
		}
	}
}

// pause reports false if ctx ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
