package worker

import (
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue"
)

// captured is what captures see of a queue pair. All but wanted is the thread's own.
type captured struct {
	wanted atomic.Pointer[capture.Hook] // what the control plane has set last; nil for nobody
	hook   *capture.Hook                // what the thread uses
	seen   int                          // frames at the beginning of the transmit ring that were captured in turns before
}

// SetCapture shows the frames of queue pair i to hook instead of what was set before; nil ends that. Any goroutine may call it at any
// time. The thread adopts it with its next turn; it is not woken for it.
func (d *Device) SetCapture(i int, hook *capture.Hook) { d.loops[i].capture.wanted.Store(hook) }

// AdoptCaptures has all threads adopt what SetCapture has set, and waits for it: what was set before is not written to any more. It
// wakes them. A thread that does not answer in time does so before its next turn; the error is ErrCondemned then. Any goroutine may call it.
func (d *Device) AdoptCaptures() error {
	return d.tellAll(func(l *loop) { l.setCapture(l.capture.wanted.Load()) })
}

// Now returns the time of the device in nanoseconds, which turns and captured frames have. Anybody may call it.
func (d *Device) Now() int64 { return d.loops[0].now() }

// setCapture adopts what the control plane wants.
func (l *loop) setCapture(hook *capture.Hook) {
	l.capture.hook, l.capture.seen = hook, 0
	l.writer.SetCapture(hook)
}

// begin captures what the guest has sent, before the Port has it: what the Port answers comes behind it. A frame that the Port leaves in
// the ring is offered again, and was captured then.
func (c *captured) begin(now int64, headerLen int, chains []virtqueue.Chain) {
	c.hook.Begin(now, headerLen)
	c.hook.FromGuest(chains[min(c.seen, len(chains)):])
}

// end ends a turn that has left so many frames in the ring.
func (c *captured) end(left int) {
	c.hook.End()
	c.seen = left
}
