package virtqueue_test

import (
	"testing"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// The benchmarks run driver and device in turns on one thread. The driver adds the same chains again and again, which is
// cheap: what is reported is nearly the device alone.

func BenchmarkTransmitOneDescriptor(b *testing.B) {
	benchmarkTurns(b, virtqueue.FromGuest, vqtest.Options{Size: 256}, 64, vqtest.Buf{Len: 12 + 60})
}

func BenchmarkTransmitHeaderApart(b *testing.B) {
	benchmarkTurns(b, virtqueue.FromGuest, vqtest.Options{Size: 256}, 64, vqtest.Buf{Len: 12}, vqtest.Buf{Len: 1500})
}

func BenchmarkTransmitIndirect64KiB(b *testing.B) {
	bufs := []vqtest.Buf{{Len: 12}}
	for range 16 {
		bufs = append(bufs, vqtest.Buf{Len: 4096})
	}
	benchmarkTurns(b, virtqueue.FromGuest, vqtest.Options{Size: 256, Indirect: true}, 64, bufs...)
}

func BenchmarkReceiveOneDescriptor(b *testing.B) {
	benchmarkTurns(b, virtqueue.ToGuest, vqtest.Options{Size: 256, EventIdx: true}, 64, vqtest.Buf{Len: 1526, Write: true})
}

func BenchmarkTransmitOneAtATime(b *testing.B) {
	benchmarkTurns(b, virtqueue.FromGuest, vqtest.Options{Size: 256, EventIdx: true}, 1, vqtest.Buf{Len: 12 + 60})
}

func benchmarkTurns(b *testing.B, dir virtqueue.Direction, opt vqtest.Options, batch int, bufs ...vqtest.Buf) {
	m := vqtest.NewMemory(16<<20, vqtest.Memfd)
	defer m.Close()
	d := vqtest.NewDriver(m, opt)
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(m.Table(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	for i := range bufs {
		bufs[i].GPA = m.Alloc(int(bufs[i].Len), 64)
	}
	heads := make([]uint16, batch)
	for i := range heads {
		if opt.Indirect {
			heads[i], _ = d.AddIndirect(bufs...)
		} else {
			heads[i], _ = d.Add(bufs...)
		}
	}
	d.Publish()
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		chains := q.Fetch(batch)
		if len(chains) != batch || len(chains[0].Iov) == 0 {
			b.Fatal(len(chains))
		}
		q.UseN(batch)
		q.Flush()
		for _, h := range heads { // the same chains again: descriptors stay as they are
			d.AddHead(h)
		}
		d.Publish()
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*batch), "ns/frame")
}
