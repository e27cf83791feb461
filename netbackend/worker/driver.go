package worker

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
)

// A driver in this process (netbackend.Driver) and the Port take turns on the same thread: what has come by the driver's socket is in the
// transmit ring when the Port's turn begins, and what the Port has put into the receive ring leaves when it ends. So there are no kicks and
// no interrupts, and the thread sleeps for the socket as it does for those of the Port.

// SetDriver gives the rings of queue pair i a driver in this process, before they are started. Nil takes it away, after Reset, say:
// with nil returned, nobody uses its socket any more.
func (d *Device) SetDriver(i int, driver netbackend.Driver) error {
	return d.call(d.loops[i], func() error { return d.loops[i].setDriver(driver) })
}

func (l *loop) setDriver(driver netbackend.Driver) error {
	if l.driver != nil {
		l.stats.FrontEnd = l.driver.Counters()
		l.Unregister(l.driver.FD())
	}
	l.driver, l.driverEvents, l.driverFull = driver, 0, false
	for _, r := range l.rings {
		r.turned = driver != nil
	}
	if driver == nil {
		return nil
	}
	return l.watch(driver.FD(), tokenDriver, driverEvents)
}

// driverEvents are what a driver's socket is watched for, but for room: a unix socket would tell of it with each frame that its peer reads.
const driverEvents = inputEvents | unix.EPOLLRDHUP

// watchDriver follows whether the driver's socket is full. The change is an edge: what has happened before is told again.
func (l *loop) watchDriver() {
	full := l.driver.Full()
	if full == l.driverFull {
		return
	}
	l.driverFull = full
	events := uint32(driverEvents)
	if full {
		events |= unix.EPOLLOUT
	}
	if err := l.rewatch(l.driver.FD(), tokenDriver, events); err != nil {
		l.device.fail(err)
	}
}

// briefly is how long, in nanoseconds, a thread with a driver in this process waits before Go's scheduler learns of it. The scheduler takes a
// thread for one that works on meanwhile, and interrupts those after 10 ms: so a wait that nothing ends is over before that.
const briefly = int64(5e6)

// sleepWithDriver is sleep with a driver in this process. Nothing can ask its front end to wait, so a pause is one whatever the socket says.
//
// What ends soon is not told to Go's scheduler. A thread that is in system calls for most of its time is to it one whose processor others
// could have, and its monitor wakes up every 20 µs to take it: a fifth of the processor time of a stream. Nobody lacks that processor, since
// there is one for each thread and one more (Device). Who stops the world interrupts the call by a signal.
func (l *loop) sleepWithDriver(timeout int64) (int, error) {
	if l.plan.mode != block && timeout > 0 {
		napFor(timeout)
		timeout = 0
	}
	brief := briefly
	if timeout >= 0 {
		brief = min(timeout, briefly)
	}
	n, err := epollBriefly(l.epFD, l.ready[:], brief)
	if n > 0 || err != nil || brief == timeout {
		return n, err
	}
	if timeout > 0 {
		timeout -= brief
	}
	return epollWait(l.epFD, l.ready[:], timeout)
}

// fillRings lets the driver in this process, if there is one, do its part before the Port's turn.
func (l *loop) fillRings() {
	if l.driver != nil && l.tx.q != nil && l.rx.q != nil {
		events := l.driverEvents
		l.driverEvents = 0
		l.tx.kicked = l.driver.Fill(events) || l.tx.kicked
	}
}

// drainRings is fillRings after the Port's turn. It reports whether another turn is to follow at once.
func (l *loop) drainRings() (more bool) {
	if l.driver == nil || l.tx.q == nil || l.rx.q == nil {
		return false
	}
	more = l.driver.Drain()
	l.watchDriver()
	return more
}
