package lab

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/vringnet/vring/bench/machine"
	"github.com/vringnet/vring/bench/measure"
	"github.com/vringnet/vring/bench/stream"
)

// Loopback is the host's own loopback: what the same two ends reach with nothing in between. The MTU of a guest does not
// matter to it.
type Loopback struct{}

// Name implements Subject.
func (Loopback) Name() string { return "loopback" }

// Start implements Subject.
func (Loopback) Start(context.Context, int) (Path, error) {
	l, err := listen()
	if err != nil {
		return nil, err
	}
	return &loopbackPath{l}, nil
}

type loopbackPath struct{ listener *net.TCPListener }

func (p *loopbackPath) Version() string { return "" }

func (p *loopbackPath) Close() error { return p.listener.Close() }

func (p *loopbackPath) Transfer(ctx context.Context, _ Direction, d time.Duration) (measure.Sample, error) {
	ctx, cancel := context.WithTimeout(ctx, d+2*patience)
	defer cancel()
	sender, err := dial(ctx, portOf(p.listener), d)
	if err != nil {
		return measure.Sample{}, err
	}
	defer sender.Close()
	done := make(chan ending, 1)
	go p.receive(ctx, d, done)
	sample, err := sendOn(sender, ownUsage, d)
	if err != nil {
		return sample, err
	}
	there := <-done
	return sample, sameBytes(sample.Bytes, there.bytes, there.err)
}

// ending is how a stream has ended.
type ending struct {
	bytes int64
	err   error
}

func (p *loopbackPath) receive(ctx context.Context, d time.Duration, done chan<- ending) {
	conn, err := accept(ctx, p.listener, d)
	if err != nil {
		done <- ending{0, err}
		return
	}
	defer conn.Close()
	if err := stream.SayGo(conn); err != nil {
		done <- ending{0, err}
		return
	}
	n, err := stream.Receive(conn)
	done <- ending{n, err}
}

// ownUsage is the meter of a path without other processes.
func ownUsage() (measure.Usage, error) {
	own, err := machine.OwnCPU()
	return measure.Usage{Host: own}, err
}

// sameBytes compares what the two ends of a stream have counted; err is that of the other end.
func sameBytes(here, there int64, err error) error {
	if err != nil {
		return err
	}
	if here != there {
		return fmt.Errorf("the host has counted %d bytes, the other end %d", here, there)
	}
	return nil
}
