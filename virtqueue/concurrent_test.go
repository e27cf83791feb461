package virtqueue_test

import (
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// TestDriverAndDeviceRunConcurrently moves numbered messages between two goroutines that sleep until they are notified.
// A lost kick or interrupt is a deadlock; under the race detector, a missing barrier is a race, since all memory is Go
// memory.
func TestDriverAndDeviceRunConcurrently(t *testing.T) {
	for _, dir := range []virtqueue.Direction{virtqueue.FromGuest, virtqueue.ToGuest} {
		for _, opt := range []vqtest.Options{
			{Size: 16},
			{Size: 16, EventIdx: true, Base: 65000},
			{Size: 2, EventIdx: true, Indirect: true},
			{Size: 64, EventIdx: true, Indirect: true, OddAvail: true, Base: 65500},
			{Size: 8, OddAvail: true},
		} {
			t.Run(fmt.Sprintf("%d/%+v", dir, opt), func(t *testing.T) {
				newDuet(t, dir, opt).run(5000)
			})
		}
	}
}

// duet is a driver and a device with the eventfds between them. Each side sends numbers in its direction.
type duet struct {
	*rig
	opt        vqtest.Options
	kick, call chan struct{}
	failed     chan error
	slots      map[uint16]vqtest.Buf // by head
	idle       []vqtest.Buf
}

func newDuet(t *testing.T, dir virtqueue.Direction, opt vqtest.Options) *duet {
	u := &duet{rig: newRig(t, dir, opt), opt: opt, slots: map[uint16]vqtest.Buf{}}
	u.kick, u.call = make(chan struct{}, 1), make(chan struct{}, 1)
	u.failed = make(chan error, 2)
	for range opt.Size {
		u.idle = append(u.idle, u.buf(8))
	}
	return u
}

func (u *duet) run(n uint64) {
	go func() { u.failed <- u.device(n) }()
	go func() { u.failed <- u.driver(n) }()
	for range 2 {
		select {
		case err := <-u.failed:
			require.NoError(u.t, err)
		case <-time.After(time.Minute):
			u.t.Fatal("a notification was lost")
		}
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// device takes or makes the numbers 0 to n-1.
func (u *duet) device(n uint64) error {
	for i := uint64(0); i < n; {
		u.q.DisableKicks()
		chains := u.q.Fetch(5)
		for _, c := range chains {
			if err := u.message(c, i); err != nil {
				return err
			}
			u.q.Use(8)
			i++
		}
		if u.q.Flush() {
			signal(u.call)
		}
		if len(chains) == 0 && !u.q.EnableKicks() {
			<-u.kick
		}
		if err := u.q.Err(); err != nil {
			return err
		}
	}
	return nil
}

func (u *duet) message(c virtqueue.Chain, i uint64) error {
	var b [8]byte
	if u.q.Config().Dir == virtqueue.ToGuest {
		binary.LittleEndian.PutUint64(b[:], i)
		guestmem.CopyTo(c.Iov, 0, b[:])
		return nil
	}
	guestmem.CopyFrom(b[:], c.Iov, 0)
	return expect(b[:], i)
}

func expect(b []byte, i uint64) error {
	if got := binary.LittleEndian.Uint64(b); got != i {
		return fmt.Errorf("message %d where %d was due", got, i)
	}
	return nil
}

// driver gives the device n buffers, and takes them back.
func (u *duet) driver(n uint64) error {
	var sent, taken uint64
	for taken < n {
		for len(u.idle) > 0 && sent < n && u.send(sent) {
			sent++
		}
		if u.d.Publish() {
			signal(u.kick)
		}
		before := taken
		for {
			head, _, ok := u.d.Used()
			if !ok {
				break
			}
			if err := u.take(head, taken); err != nil {
				return err
			}
			taken++
		}
		if taken == before && !u.d.EnableInterrupts() {
			<-u.call
		}
		u.d.DisableInterrupts()
	}
	return nil
}

func (u *duet) send(i uint64) bool {
	b := u.idle[len(u.idle)-1]
	if !b.Write {
		binary.LittleEndian.PutUint64(u.m.Bytes(b.GPA, 8), i)
	}
	add := u.d.Add
	if u.opt.Indirect && i%3 != 0 {
		add = u.d.AddIndirect
	}
	head, ok := add(b)
	if ok {
		u.slots[head] = b
		u.idle = u.idle[:len(u.idle)-1]
	}
	return ok
}

func (u *duet) take(head uint16, i uint64) error {
	b := u.slots[head]
	delete(u.slots, head)
	u.idle = append(u.idle, b)
	if !b.Write {
		return nil
	}
	return expect(u.m.Bytes(b.GPA, 8), i)
}
