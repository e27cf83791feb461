package daemon

import (
	"maps"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
)

// pairs is a configuration of one guest with so many queue pairs, without a sandbox.
func pairs(t *testing.T, n int) Config {
	c := DefaultNAT()
	c.Queues = n
	path := filepath.Join(shortDir(t), "s")
	return Config{FrontEnds: FrontEnds{SocketPaths: []string{path}}, Sandbox: sandbox.Off, NAT: &c}
}

// Threads that are stuck are waited for together, so that a status takes no longer than one of them.
func TestAStatusAsksAllThreadsOfAGuestAtOnce(t *testing.T) {
	p, _ := program()
	d := open(t, pairs(t, 2), p)
	defer func() { require.NoError(t, d.Close()) }()
	snapshot := d.guests[0].snapshot
	var both sync.WaitGroup
	both.Add(2)
	d.guests[0].snapshot = func(t *worker.Thread) nat.Snapshot {
		both.Done()
		both.Wait()
		return snapshot(t)
	}
	s := d.Status()
	require.NoError(t, s.Guests[0].Err)
	require.Len(t, s.Guests[0].Pairs, 2)
	require.NotEmpty(t, s.Guests[0].Pairs[1].Report.Usage)
	require.Contains(t, maps.Collect(s.Guests[0].Pairs[1].Report.All()), "frames_in")
}

// countingThreads is a guest whose queue pairs count to those values, and whose flows are asked for.
func countingThreads(t *testing.T, values ...uint64) *served {
	type frames struct {
		Frames uint64 `counter:"frames"`
	}
	g := guest{snapshot: func(*worker.Thread) nat.Snapshot { return nat.Snapshot{Usage: []nat.Usage{{Name: "flows"}}} }}
	for _, n := range values {
		g.ports = append(g.ports, stub.NewNull())
		g.counters = append(g.counters, counting.From(func() frames { return frames{n} }))
	}
	device, err := worker.New(worker.Config{Ports: g.ports, Counters: g.counters})
	require.NoError(t, err)
	return &served{guest: g, device: device}
}

// stick has the thread of a queue pair do nothing until it is released.
func stick(device *worker.Device, pair int) (release func()) {
	stuck, released := make(chan struct{}), make(chan struct{})
	go func() { _ = device.Do(pair, func(*worker.Thread) { close(stuck); <-released }) }()
	<-stuck
	return func() { close(released) }
}

// A thread that does not answer is told, and what it has counted before is shown.
func TestAStatusHasTheCountersOfAThreadThatIsStuck(t *testing.T) {
	s := countingThreads(t, 10, 20)
	require.NoError(t, s.device.Do(1, func(*worker.Thread) {})) // a turn follows
	require.Eventually(t, func() bool {
		c, err := s.device.Counters(1)
		return err == nil && c.Thread.Turns > 0
	}, time.Minute, time.Millisecond)
	release := stick(s.device, 1)
	g := s.status()
	want, err := s.device.Counters(1)
	require.NoError(t, err)
	release()
	require.NoError(t, s.device.Close())
	require.ErrorIs(t, g.Err, worker.ErrCondemned)
	require.Len(t, g.Pairs, 2)
	require.NotEmpty(t, g.Pairs[0].Report.Usage)
	require.Empty(t, g.Pairs[1].Report.Usage)
	for i, frames := range []uint64{10, 20} {
		require.Equal(t, map[string]uint64{"frames": frames}, maps.Collect(g.Pairs[i].Report.All()))
	}
	require.Positive(t, want.Thread.Turns)
	require.Equal(t, want.Thread, g.Pairs[1].Thread)
}

// The status of a network without flows wakes no thread.
func TestAStatusOfCountersAloneAsksNoThread(t *testing.T) {
	p, _ := program()
	d := open(t, stubs(filepath.Join(shortDir(t), "s")), p)
	device := d.guests[0].device
	device.SetMaxSleep(0)                                     // as if guests were served
	require.NoError(t, device.Do(0, func(*worker.Thread) {})) // a turn follows, or there may never be one
	require.Eventually(t, func() bool {                       // a thread takes a turn now and then for other reasons, but not each time
		before, err := device.Counters(0)
		d.Status()
		time.Sleep(300 * time.Millisecond) // by then a thread has published what it has done
		after := d.Status().Guests[0].Pairs[0].Thread
		return err == nil && before.Thread.Turns > 0 && after.Turns == before.Thread.Turns
	}, time.Minute, time.Millisecond, "a thread that is asked takes a turn")
	release := stick(device, 0)
	s := d.Status()
	release()
	require.NoError(t, d.Close())
	require.NoError(t, s.Guests[0].Err)
	require.Contains(t, maps.Collect(s.Guests[0].Pairs[0].Report.All()), "sent_frames")
}

// What is published is read of a thread that would not answer.
func TestWhatIsPublishedIsReadWithoutAskingAThread(t *testing.T) {
	p, _ := program()
	d := open(t, pairs(t, 1), p)
	release := stick(d.guests[0].device, 0)
	s := d.Published()
	release()
	require.NoError(t, d.Close())
	require.Len(t, s.Guests, 1)
	require.NoError(t, s.Guests[0].Err)
	require.Equal(t, d.config.FrontEnds.SocketPaths[0], s.Guests[0].Socket)
	require.Equal(t, vhostuser.NoFrontEnd, s.Guests[0].Stage)
	require.Contains(t, maps.Collect(s.Guests[0].Pairs[0].Report.Everything()), "frames_in")
}
