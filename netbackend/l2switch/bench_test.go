package l2switch

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/fdb"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// BenchmarkForward is the whole way of frames from one guest's ring to another's, on one thread. The drivers are cheap: what is
// reported is nearly the switch and the rings alone.
func BenchmarkForward(b *testing.B) {
	for _, size := range []int{60, 1514} {
		for _, batch := range []int{1, 32} {
			b.Run(fmt.Sprintf("%d bytes, %d at once", size, batch), func(b *testing.B) { benchmarkForward(b, size, batch) })
		}
	}
}

func benchmarkForward(b *testing.B, size, batch int) {
	sw, err := New(Default())
	require.NoError(b, err)
	from, to := newRig(b, sw, vqtest.Memfd), newRig(b, sw, vqtest.Memfd)
	defer from.mem.Close()
	defer to.mem.Close()
	addresses(to.put(60), fdb.MACMask, rigMAC(1))
	to.round(1)
	now, began := int64(1e9), cpuTime()
	for b.Loop() {
		for range batch {
			addresses(from.put(size), rigMAC(1), rigMAC(0))
		}
		to.post(batch)
		now += 1000
		from.round(now)
		to.round(now)
		from.sent()
		to.receive(nil)
	}
	require.GreaterOrEqual(b, to.port.Counters().Received, uint64(b.N*batch))
	b.ReportMetric(float64(cpuTime()-began)/float64(b.N*batch), "cpu-ns/frame")
}

// cpuTime is how long this process has had a processor, in nanoseconds: a busy machine is no matter to it.
func cpuTime() int64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}

// BenchmarkCopies is what the copies of a frame cost by themselves: from guest to guest, and by way of a slot. Frames are from
// all over the guests' memory, the slots the same few, as when a receiver keeps up.
func BenchmarkCopies(b *testing.B) {
	for _, size := range []int{60, 1514} {
		for _, copies := range []int{1, 2} {
			b.Run(fmt.Sprintf("%d bytes, %d copies", size, copies), func(b *testing.B) { benchmarkCopies(b, size, copies) })
		}
	}
}

func benchmarkCopies(b *testing.B, size, copies int) {
	const frames, slot, hot = 4096, 2048, 32
	from, to, between := make([]byte, frames*slot), make([]byte, frames*slot), make([]byte, hot*slot)
	i, began := 0, cpuTime()
	for b.Loop() {
		at := i % frames * slot
		src := from[at : at+size]
		if copies == 2 {
			way := between[i%hot*slot:][:size]
			copy(way, src)
			src = way
		}
		copy(to[at:at+size], src)
		i++
	}
	b.ReportMetric(float64(cpuTime()-began)/float64(b.N), "cpu-ns/frame")
}
