package worker

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
)

// Each operation on all threads asks them together: any number that is stuck cost the patience for one.
func TestStuckThreadsAreWaitedForTogether(t *testing.T) {
	const pairs = 64
	for name, operation := range map[string]func(d *Device) error{
		"reset":    func(d *Device) error { return d.Reset() },
		"memory":   func(d *Device) error { return d.SetMemory(nil) },
		"features": func(d *Device) error { return d.SetFeatures(0) },
		"close":    func(d *Device) error { return d.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			release := make(chan struct{})
			var ports []netbackend.Port
			for range pairs {
				ports = append(ports, &port{})
			}
			d, err := New(Config{Ports: ports})
			require.NoError(t, err)
			for i := range pairs {
				entered := make(chan struct{})
				go func() { _ = d.Do(i, func(*Thread) { close(entered); <-release }) }()
				<-entered
			}
			start := time.Now()
			err = operation(d)
			took := time.Since(start)
			require.ErrorIs(t, err, ErrCondemned)
			require.Less(t, took, pairs*ReleaseTimeout, "one after the other")
			close(release)
			if name == "close" {
				d.wg.Wait()
				return
			}
			require.Eventually(t, func() bool { return d.Reset() == nil }, generous, time.Millisecond)
			require.NoError(t, d.Close())
		})
	}
}

func TestTheErrorsOfAllThreadsAreTold(t *testing.T) {
	d, err := New(Config{Ports: []netbackend.Port{&port{}, &port{}, &port{}}})
	require.NoError(t, err)
	defer d.Close()
	first, last := errors.New("first"), errors.New("last")
	err = d.each(func(l *loop) error {
		switch l {
		case d.loops[0]:
			return first
		case d.loops[2]:
			return last
		}
		return nil
	})
	require.ErrorIs(t, err, first)
	require.ErrorIs(t, err, last)
	require.Equal(t, "first\nlast", err.Error())
}
