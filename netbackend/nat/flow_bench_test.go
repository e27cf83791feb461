package nat

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// benchKey is one of many flows that a guest may have.
func benchKey(i int) flowKey {
	return flowKey{
		guest: ipaddr.From4([]byte{10, 0, 2, 15}), remote: ipaddr.From4([]byte{192, 0, byte(i >> 24), byte(i >> 16)}),
		guestPort: uint16(i), remotePort: 443, proto: protoTCP,
	}
}

func BenchmarkFlowTable(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		t := newFlowTable(n)
		for i := range n {
			k := benchKey(i * 7)
			t.insert(&k, 1, udpFlow{})
		}
		size := float64(uintptr(t.grown*chunkSize)*reflect.TypeFor[flow]().Size()+uintptr(len(t.buckets))*4) / float64(n)
		b.Run(fmt.Sprintf("lookup among %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				k := benchKey(i % n * 7)
				if t.lookup(&k) == nil {
					b.Fatal("a flow is lost")
				}
			}
			b.ReportMetric(size, "B/flow")
		})
		b.Run(fmt.Sprintf("end and begin among %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				k := benchKey(i % n * 7)
				f := t.lookup(&k)
				t.unlink(f)
				t.release(f)
				t.insert(&k, 1, udpFlow{})
			}
		})
	}
}
