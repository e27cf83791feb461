package virtqueue_test

import (
	"fmt"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// A turn of a device that prints what a guest transmits.
func Example() {
	memory := vqtest.NewMemory(1<<20, vqtest.Memfd)
	defer memory.Close()

	// The guest makes a message of two buffers available.
	driver := vqtest.NewDriver(memory, vqtest.Options{Size: 256, EventIdx: true})
	hello, world := memory.Alloc(6, 1), memory.Alloc(5, 1)
	copy(memory.Bytes(hello, 6), "hello ")
	copy(memory.Bytes(world, 5), "world")
	driver.Add(vqtest.Buf{GPA: hello, Len: 6}, vqtest.Buf{GPA: world, Len: 5})
	fmt.Println("kick the device:", driver.Publish())

	cfg := driver.Layout()
	cfg.Dir = virtqueue.FromGuest
	queue, err := virtqueue.New(memory.Table(), cfg)
	if err != nil {
		fmt.Println(err)
		return
	}
	// All access to guest memory is guarded: it may vanish at any time.
	err = guestmem.Guard(func() {
		queue.DisableKicks()
		for _, chain := range queue.Fetch(virtqueue.MaxBatch) {
			message := make([]byte, chain.Len)
			guestmem.CopyFrom(message, chain.Iov, 0)
			fmt.Printf("%s\n", message)
			queue.Use(0)
		}
		fmt.Println("interrupt the guest:", queue.Flush())
		fmt.Println("look again before sleep:", queue.EnableKicks())
	})
	fmt.Println("fault:", err)
	// Output:
	// kick the device: true
	// hello world
	// interrupt the guest: true
	// look again before sleep: false
	// fault: <nil>
}
