package main

import (
	"context"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/framesocket"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// streamed is how long the frames of a stream front end are: those of an MTU of 1500.
const streamed = 1514

// streamRows are what a stream front end costs beside the Port: frames from its socket into the transmit ring, and out of the receive ring to it.
func streamRows() []row {
	return []row{
		{"stream front end out", batch, streamOut},
		{"stream front end in", batch, streamIn},
	}
}

// frontEnd is a device for whom a test's other end of a socket plays the front end, and the test the Port.
type frontEnd struct {
	t      testing.TB
	peer   int // the front end's socket
	ready  chan struct{}
	table  *guestmem.Table
	driver netbackend.Driver
	tx, rx *virtqueue.Queue
	writer netbackend.RXWriter
	buf    []byte
}

// newFrontEnd connects a front end.
func newFrontEnd(t testing.TB) *frontEnd {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatalf("make a socket: %v", err)
	}
	f := &frontEnd{t: t, peer: fds[1], ready: make(chan struct{}), buf: make([]byte, batch*(4+streamed))}
	for i := range batch {
		binary.BigEndian.PutUint32(f.buf[i*(4+streamed):], streamed)
	}
	server, err := framesocket.NewServer(framesocket.Config{Framing: framesocket.Stream, FD: fds[0], Device: f})
	if err != nil {
		t.Fatalf("serve a socket: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ctx) }()
	t.Cleanup(func() { cancel(); <-ended; _ = unix.Close(f.peer) })
	<-f.ready
	return f
}

// SetFeatures implements framesocket.Device.
func (f *frontEnd) SetFeatures(uint64) error { return nil }

// SetMemory implements framesocket.Device.
func (f *frontEnd) SetMemory(t *guestmem.Table) error { f.table = t; return nil }

// SetDriver implements framesocket.Device.
func (f *frontEnd) SetDriver(_ int, d netbackend.Driver) error { f.driver = d; return nil }

// StartRing implements framesocket.Device.
func (f *frontEnd) StartRing(i int, cfg virtqueue.Config, _ virtqueue.RingFDs) (err error) {
	if i == 0 {
		cfg.Dir = virtqueue.ToGuest
		f.rx, err = virtqueue.New(f.table, cfg)
		f.writer.Attach(f.rx, vnet.HeaderLen, true)
		return err
	}
	cfg.Dir = virtqueue.FromGuest
	f.tx, err = virtqueue.New(f.table, cfg)
	return err
}

// EnableRing implements framesocket.Device.
func (f *frontEnd) EnableRing(i int, _ bool) error {
	if i == 1 {
		close(f.ready)
	}
	return nil
}

// Failed implements framesocket.Device.
func (f *frontEnd) Failed() <-chan error { return nil }

// Reset implements framesocket.Device.
func (f *frontEnd) Reset() error { return nil }

// streamOut is a front end that has sent frames, which are read and made available.
func streamOut(t testing.TB) stage {
	f := newFrontEnd(t)
	return func(measure func(func())) {
		if n, err := unix.Write(f.peer, f.buf); err != nil || n != len(f.buf) {
			t.Fatalf("the front end's frames: %d bytes, %v", n, err)
		}
		measure(func() { f.driver.Fill(unix.EPOLLIN) })
		n := len(f.tx.Fetch(2 * batch))
		if n != batch {
			t.Fatalf("%d frames have come instead of %d", n, batch)
		}
		f.tx.UseN(n)
		f.tx.Flush()
	}
}

// streamIn is a Port that has given frames, which are sent to the front end.
func streamIn(t testing.TB) stage {
	f := newFrontEnd(t)
	frame := make([]byte, streamed)
	return func(measure func(func())) {
		f.driver.Fill(0)
		f.writer.Recheck()
		for range batch {
			if !f.writer.Write(&vnet.Header{}, frame) {
				t.Fatal("there is no room in the receive ring")
			}
		}
		f.rx.Flush()
		measure(func() { f.driver.Drain() })
		if n, err := unix.Read(f.peer, f.buf); err != nil || n != len(f.buf) {
			t.Fatalf("the front end has got %d bytes instead of %d, %v", n, len(f.buf), err)
		}
	}
}
