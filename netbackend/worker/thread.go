package worker

import "github.com/vringnet/vring/netbackend"

// Thread is the thread of a queue pair for the time of a function that [Device.Do] runs there. It is the only way to what
// belongs to the thread. Whoever keeps it for longer gets a panic.
type Thread struct {
	loop *loop
	now  int64
}

// Now returns the time that Ports are given, in nanoseconds, as it was when the function began.
func (t *Thread) Now() int64 { return t.now }

// Port returns the queue pair's Port, whose methods may be called now.
func (t *Thread) Port() netbackend.Port { return t.loop.backend }

// Stats returns what the thread has counted.
func (t *Thread) Stats() Stats { return t.loop.counted() }

// Do runs fn on the thread of queue pair i between two turns and waits for it. After an error fn may still run later, so what
// it writes must not be read then. The thread publishes its counters first, so that they fit what fn finds.
//
// Unlike the calls of a session, any goroutine may call Do at any time. After Close there is no thread any more, and fn runs
// on the caller's.
func (d *Device) Do(i int, fn func(*Thread)) error {
	l := d.loops[i]
	t := &Thread{loop: l, now: l.now()}
	if d.hasEnded() {
		return t.do(fn)
	}
	return l.call(func() error {
		t.now = l.now()
		l.publish(t.now)
		return t.do(fn)
	})
}

func (t *Thread) do(fn func(*Thread)) error {
	fn(t)
	t.loop = nil
	return nil
}

// hasEnded reports whether Close has ended all threads.
func (d *Device) hasEnded() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ended
}
