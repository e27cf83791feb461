package stub_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/stub"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// BenchmarkTurns is the whole way of 64-byte frames through a queue pair, on one thread. The driver adds the same chains
// again and again, which is cheap, so what is reported is nearly the device alone.
func BenchmarkTurns(b *testing.B) {
	source, err := stub.NewSource(stub.SourceConfig{Size: 64})
	require.NoError(b, err)
	for _, c := range []struct {
		name   string
		port   netbackend.Port
		tx, rx bool
	}{
		{"null", stub.NewNull(), true, false},
		{"source", source, false, true},
		{"echo", stub.NewEcho(), true, true},
	} {
		b.Run(c.name, func(b *testing.B) { benchmarkTurns(b, c.port, c.tx, c.rx) })
	}
}

func benchmarkTurns(b *testing.B, port netbackend.Port, sends, receives bool) {
	const batch = 64
	m := vqtest.NewMemory(1<<20, vqtest.Memfd)
	defer m.Close()
	tx, outs := benchmarkRing(b, m, virtqueue.FromGuest, batch)
	rx, ins := benchmarkRing(b, m, virtqueue.ToGuest, batch)
	writer := new(netbackend.RXWriter)
	writer.Attach(rx, vnet.HeaderLen, true)
	require.NoError(b, port.Start(vnet.FeatureVersion1|vnet.FeatureMrgRxBuf, nil))
	turn := func() {
		var chains []virtqueue.Chain
		if sends {
			chains = tx.Fetch(batch)
		}
		done, _ := port.Turn(0, chains, nil, writer)
		tx.UseN(done)
		tx.Flush()
		rx.Flush()
	}
	for b.Loop() {
		if sends {
			outs()
		}
		if receives {
			ins()
		}
		if err := guestmem.Guard(turn); err != nil {
			b.Fatal(err)
		}
	}
	require.EqualValues(b, map[bool]int{true: b.N * batch}[sends], tx.Stats().Chains)
	require.EqualValues(b, map[bool]int{true: b.N * batch}[receives], rx.Stats().Chains)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/frame")
}

// benchmarkRing makes a ring with a batch of chains in descriptors, and a function that makes all of them available.
func benchmarkRing(b *testing.B, m *vqtest.Memory, dir virtqueue.Direction, batch int) (*virtqueue.Queue, func()) {
	d := vqtest.NewDriver(m, vqtest.Options{Size: 256})
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(m.Table(), cfg)
	require.NoError(b, err)
	heads := d.Take(batch)
	for _, head := range heads {
		desc := vqtest.Desc{Addr: uint64(m.Alloc(2048, 64)), Len: vnet.HeaderLen + 64}
		if dir == virtqueue.ToGuest {
			desc.Flags = vqtest.Write
		}
		d.RawDesc(head, desc)
	}
	return q, func() {
		for _, head := range heads {
			d.AddHead(head)
		}
		d.Publish()
	}
}
