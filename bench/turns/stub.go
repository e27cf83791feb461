package main

import (
	"testing"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

const (
	batch     = 16 // frames in a turn of a stub
	smallest  = 64 // bytes of a frame
	ringSize  = 256
	bufferLen = 2048
)

// stubRows are the modes of "vring stub" with the smallest frames.
func stubRows() []row {
	source := func() (netbackend.Port, error) { return stub.NewSource(stub.SourceConfig{Size: smallest}) }
	return []row{
		{"stub null", batch, stubStage(true, false, func() (netbackend.Port, error) { return stub.NewNull(), nil })},
		{"stub source", batch, stubStage(false, true, source)},
		{"stub echo", batch, stubStage(true, true, func() (netbackend.Port, error) { return stub.NewEcho(), nil })},
	}
}

// stubStage has a queue pair in which the same chains are made available for each turn.
func stubStage(sends, receives bool, open func() (netbackend.Port, error)) func(testing.TB) stage {
	return func(t testing.TB) stage {
		port, err := open()
		if err != nil {
			t.Fatalf("open the Port: %v", err)
		}
		m := vqtest.NewMemory(1<<20, vqtest.Memfd)
		t.Cleanup(m.Close)
		p := pair{port: port, sends: sends}
		out, in := newRing(t, m, virtqueue.FromGuest), newRing(t, m, virtqueue.ToGuest)
		p.tx, p.rx = out.queue, in.queue
		p.writer.Attach(p.rx, vnet.HeaderLen, true)
		if err := port.Start(vnet.FeatureVersion1|vnet.FeatureMrgRxBuf, nil); err != nil {
			t.Fatalf("start the Port: %v", err)
		}
		return func(measure func(func())) {
			if sends {
				out.publish()
			}
			if receives {
				in.publish()
			}
			measure(p.guarded)
			p.check(t, receives)
		}
	}
}

// pair is a queue pair with its Port.
type pair struct {
	port   netbackend.Port
	tx, rx *virtqueue.Queue
	writer netbackend.RXWriter
	sends  bool
	turns  uint64
	err    error
}

// guarded is a turn as a worker does it.
func (p *pair) guarded() { p.err = guestmem.Guard(p.turn) }

func (p *pair) turn() {
	var chains []virtqueue.Chain
	if p.sends {
		chains = p.tx.Fetch(batch)
	}
	done, _ := p.port.Turn(0, chains, nil, &p.writer)
	p.tx.UseN(done)
	p.tx.Flush()
	p.rx.Flush()
}

// check makes sure that the turn has carried what it was to carry.
func (p *pair) check(t testing.TB, receives bool) {
	p.turns++
	var sent, received uint64
	if p.sends {
		sent = p.turns * batch
	}
	if receives {
		received = p.turns * batch
	}
	if p.err != nil || p.tx.Stats().Chains != sent || p.rx.Stats().Chains != received {
		t.Fatalf("turn %d: %v; chains sent %d, received %d", p.turns, p.err, p.tx.Stats().Chains, p.rx.Stats().Chains)
	}
}

// ring is a virtqueue with a batch of chains of one descriptor each.
type ring struct {
	queue  *virtqueue.Queue
	driver *vqtest.Driver
	heads  []uint16
}

func newRing(t testing.TB, m *vqtest.Memory, dir virtqueue.Direction) *ring {
	d := vqtest.NewDriver(m, vqtest.Options{Size: ringSize})
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(m.Table(), cfg)
	if err != nil {
		t.Fatalf("make a ring: %v", err)
	}
	r := &ring{q, d, d.Take(batch)}
	for _, head := range r.heads {
		desc := vqtest.Desc{Addr: uint64(m.Alloc(bufferLen, 64)), Len: vnet.HeaderLen + smallest}
		if dir == virtqueue.ToGuest {
			desc.Flags = vqtest.Write
		}
		d.RawDesc(head, desc)
	}
	return r
}

// publish makes all chains available again.
func (r *ring) publish() {
	for _, head := range r.heads {
		r.driver.AddHead(head)
	}
	r.driver.Publish()
}
