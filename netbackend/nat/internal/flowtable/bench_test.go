package flowtable

import (
	"fmt"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// benchKey is one of many flows that a guest may have.
func benchKey(i int) Key {
	return Key{
		Guest: ipaddr.From4([]byte{10, 0, 2, 15}), Remote: ipaddr.From4([]byte{192, 0, byte(i >> 24), byte(i >> 16)}),
		GuestPort: uint16(i), RemotePort: 443, Proto: unix.IPPROTO_TCP,
	}
}

func BenchmarkFlowTable(b *testing.B) {
	for _, n := range []int{100, 100_000} {
		t := New(n)
		for i := range n {
			k := benchKey(i * 7)
			t.Insert(&k, 1, nothing)
		}
		size := float64(uintptr(t.grown)*reflect.TypeFor[chunk]().Size()+uintptr(len(t.buckets))*4) / float64(n)
		b.Run(fmt.Sprintf("lookup among %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				k := benchKey(i % n * 7)
				if t.Lookup(&k) == None {
					b.Fatal("a flow is lost")
				}
			}
			b.ReportMetric(size, "B/flow")
		})
		b.Run(fmt.Sprintf("end and begin among %d", n), func(b *testing.B) {
			b.ReportAllocs()
			for i := range b.N {
				k := benchKey(i % n * 7)
				f := t.Lookup(&k)
				t.Unlink(f)
				t.Release(f)
				t.Insert(&k, 1, nothing)
			}
		})
	}
}
