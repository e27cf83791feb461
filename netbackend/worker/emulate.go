package worker

import (
	"github.com/vringnet/vring/netbackend/netem"
)

// Emulate emulates a link between the guest and its network from now on, or none for the zero value. The link has been checked and has a seed.
// What is under way on the link of before stays on its way, and is there when it would have been. Any goroutine may call it. A
// thread that does not answer in time adopts the link before its next turn; the error is ErrCondemned then.
//
// A thread without a link has its Port's turns as ever: nothing asks whether there is one.
func (d *Device) Emulate(link netem.Link) error {
	if link.IsZero() {
		return d.tellAll((*loop).stopEmulating)
	}
	return d.together(func(l *loop) error { return d.emulateOn(l, link) })
}

// emulateOn emulates a link for the queue pair of l. All that needs memory is made here, and not on its thread.
func (d *Device) emulateOn(l *loop, link netem.Link) error {
	if d.hasEnded() {
		return nil
	}
	prepared := netem.Prepare(link, l.index)
	fresh, err := netem.New(netem.Config{Behind: l.backend, Shared: &d.line, Counters: &l.stats.Link, Gone: l.stoppedEmulating})
	if err != nil {
		return err
	}
	return l.call(func() error { return l.emulate(prepared, fresh) })
}

// emulate gives the queue pair a link. fresh is a Port for it that is used if there is none yet.
func (l *loop) emulate(link *netem.Prepared, fresh *netem.Port) error {
	if l.emulated != nil {
		l.emulated.Set(link)
		return nil
	}
	l.emulated, l.port = fresh, fresh
	fresh.Set(link)
	return fresh.Adopt(l.features, l.state, l)
}

// stopEmulating ends the link when nothing is under way any more.
func (l *loop) stopEmulating() {
	if l.emulated != nil {
		l.emulated.Leave()
	}
}

// stoppedEmulating follows the last turn of a link that has ended.
func (l *loop) stoppedEmulating() {
	l.emulated, l.port = nil, l.backend
	l.startPort(l.features)
}
