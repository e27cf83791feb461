package worker

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/drops"
	"github.com/vringnet/vring/netbackend/netem"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const (
	// batch is how many of the guest's chains are handed to the Port at once.
	batch = 128
	// maxEvents is how many readiness events are taken a turn.
	maxEvents = 128
	// pollInterval, in nanoseconds, is how often a ring without a kick fd is looked at.
	pollInterval = int64(1e6)

	// outsideInterval bounds, in nanoseconds, how long turns follow each other before sockets and mailbox have theirs.
	outsideInterval = 20_000
	// spins is how many times the rings are looked at in a row.
	spins = 32

	// emptyPatience is how long a driver may take to post its first receive buffer before something is wrong.
	emptyPatience = int64(5e9)

	tokenReceive  = netbackend.PortTokens
	tokenTransmit = netbackend.PortTokens + 1
	tokenMail     = netbackend.PortTokens + 2
	tokenDriver   = netbackend.PortTokens + 3
)

// loop is the thread of one queue pair. All but mail and wake belong to that thread.
type loop struct {
	device *Device
	port   netbackend.Port // that has turns: backend, or the emulated link in front of it
	index  int
	cpu    int // that the thread is pinned to, -1 for none
	now    func() int64
	mail   chan func()
	mailFD int
	epFD   int
	stop   bool

	rings    [2]*ring // receive (to the guest), transmit (from the guest)
	rx, tx   *ring
	memory   *guestmem.Table
	features uint64
	state    netbackend.RingState
	writer   netbackend.RXWriter

	first    bool  // this is the first queue pair: the guest's interface is judged by it
	unfilled bool  // the driver is new and has posted no receive buffer yet
	emptyAt  int64 // when to warn of that, 0 for never

	guarded func() // method value of rounds, made once
	began   int64  // when the last rounds began
	at      int64  // when the last turn began
	next    int64  // deadline that the Port asked for, 0 for none
	again   bool   // there is more to do: do not sleep
	blocked bool   // the Port left frames in the ring
	starved bool   // the Port found no receive buffer
	obeyed  bool   // the control plane has changed something since the last turn

	driver       netbackend.Driver // of the rings, if it is in this process; nil for a guest's
	driverEvents uint32            // of its socket, since the last turn
	driverFull   bool              // its socket is watched for room

	moderation  moderation
	plan        sleepPlan // of the last turn
	capture     captured
	backend     netbackend.Port // does not change
	emulated    *netem.Port     // nil for none
	publication publication
	turnTimes   *counting.Histogram
	drops       drops.Log

	stats   Stats
	fault   error // what the Port said through Worker.Fault
	down    bool  // the link of the guest is down
	ready   [maxEvents]unix.EpollEvent
	events  [maxEvents]netbackend.Event
	nEvents int
	scratch [512]byte
}

func newLoop(d *Device, index int, p netbackend.Port, cfg *Config) (*loop, error) {
	l := &loop{
		device: d, index: index, first: index == 0, port: p, backend: p, cpu: -1, now: cfg.Now, mail: make(chan func(), 16),
		rx: newRing(tokenReceive, virtqueue.ToGuest), tx: newRing(tokenTransmit, virtqueue.FromGuest),
	}
	l.rings = [2]*ring{l.rx, l.tx}
	l.guarded = l.rounds
	l.turnTimes = newTurnTimes()
	l.publication = newPublication(counting.From(l.counted), cfg.counters(index))
	var err error
	if l.epFD, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll set of queue pair %d: %w", index, err)
	}
	if l.mailFD, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		_ = unix.Close(l.epFD)
		return nil, fmt.Errorf("mailbox of queue pair %d: %w", index, err)
	}
	if err := l.watch(l.mailFD, tokenMail, unix.EPOLLIN); err != nil {
		_ = unix.Close(l.epFD)
		_ = unix.Close(l.mailFD)
		return nil, err
	}
	return l, nil
}

// closeFDs is for a thread that never ran, or has ended.
func (l *loop) closeFDs() {
	_ = unix.Close(l.epFD)
	_ = unix.Close(l.mailFD)
}

// run is the thread's life. It tells ready when the thread has its processor, or why it has not.
func (l *loop) run(ready chan<- error) {
	runtime.LockOSThread()
	if l.cpu < 0 {
		defer runtime.UnlockOSThread() // else the thread ends with the goroutine: nobody else wants it
	}
	l.moderation.coalescer.precise = sleepsPrecisely(l.epFD)
	ready <- l.pin()
	l.startPort(0)
	for !l.stop {
		l.wait()
		l.obey()
		if l.wokeToPublish() {
			continue
		}
		if err := guestmem.Guard(l.guarded); err != nil {
			l.condemn(err)
		}
		l.check()
		l.publishIfDue()
	}
	l.publish(l.now())
	l.closeFDs()
}

// pin binds the thread to its processor, if it has one.
func (l *loop) pin() error {
	if l.cpu < 0 {
		return nil
	}
	var set unix.CPUSet
	set.Set(l.cpu)
	if err := unix.SchedSetaffinity(0, &set); err != nil {
		return fmt.Errorf("pin a thread to processor %d: %w", l.cpu, err)
	}
	return nil
}

// checkReceive says when the guest's interface comes up: that is when its driver posts the first receive buffers. It warns
// once if that takes long. A driver whose interface is down posts none, and neither can one be seen whose guest has memory
// that is not shared; from here the two look alike.
func (l *loop) checkReceive() {
	if !l.unfilled || !l.rx.runs() {
		return
	}
	if q := l.rx.q; q.State() != (virtqueue.State{}) || len(q.Pending()) > 0 || q.HasAvail() {
		l.unfilled, l.emptyAt = false, 0
		l.Raise(netbackend.Notice{Level: int(slog.LevelInfo), Message: "guest receives now"})
		return
	}
	if l.emptyAt != 0 && l.at >= l.emptyAt {
		l.emptyAt = 0
		l.Raise(netbackend.Notice{
			Level: int(slog.LevelWarn),
			Message: "the guest's driver has posted no receive buffer: the guest's network interface is not up yet, " +
				"or its memory is not shared (QEMU needs share=on on its memory backend, and memory-backend= in -machine)",
		})
	}
}

// check stops rings that the guest or the kernel broke.
func (l *loop) check() {
	if l.fault != nil {
		l.condemn(l.fault)
	}
	for _, r := range l.rings {
		if r.q != nil && r.q.Err() != nil {
			l.giveUp(r, r.q.Err())
		}
	}
}

// giveUp stops a ring that its driver has broken, and nothing else. It waits for its next description, which a driver that
// starts anew brings. To end the session instead would take the network for good from a guest whose front end cannot
// connect again, and bring one that can back to the same broken ring, over and over.
func (l *loop) giveUp(r *ring, err error) {
	fd, state := r.fds.Err, r.q.State()
	l.forget(r)
	r.state = state
	signal(fd)
	l.changed()
	l.Raise(netbackend.Notice{
		Level: int(slog.LevelWarn), Message: "a ring of the guest is broken and stopped; it starts again with the guest's driver",
		Key: "err", Value: err.Error(),
	})
}

// condemn gives up the guest's rings without touching them again, and tells the front end and the session.
func (l *loop) condemn(err error) {
	l.fault = nil
	for _, r := range l.rings {
		fd := r.fds.Err
		l.forget(r)
		signal(fd)
	}
	l.tellPort()
	l.device.fail(err)
}

// rounds is the data path between two looks at what else has happened. It runs under guestmem.Guard.
func (l *loop) rounds() {
	start := l.now()
	l.began = start
	if l.moderation.polling && !l.hasCause(start) && !l.spin() {
		l.prepareSleep(start)
		return
	}
	l.turn(start)
	for l.again && len(l.mail) == 0 && l.at-start < outsideInterval && (!l.moderation.polling || l.spin()) {
		l.turn(l.now())
	}
}

// hasCause reports whether there is a reason for a turn other than what is in the rings.
func (l *loop) hasCause(now int64) bool {
	return l.nEvents > 0 || l.driverEvents != 0 || l.obeyed || l.tx.kicked || l.rx.kicked || (l.next != 0 && l.next <= now) || l.moderation.irq.overdue(now)
}

// turn lets the Port do what there is to do.
func (l *loop) turn(now int64) {
	l.at, l.obeyed = now, false
	l.checkReceive()
	if l.moderation.before(now) {
		l.tx.flush()
	}
	l.fillRings()
	l.tx.kickedOff()
	l.writer.Recheck()
	chains, more := l.fetch()
	if hook := l.capture.wanted.Load(); hook != l.capture.hook {
		l.setCapture(hook)
	}
	if l.capture.hook != nil {
		l.capture.begin(now, vnet.HeaderLength(l.features), chains)
	}
	frames, bytes, called := l.writer.Frames, l.writer.Bytes, l.nEvents > 0
	done, next := l.port.Turn(now, chains, l.events[:l.nEvents], &l.writer)
	l.nEvents = 0
	if l.capture.hook != nil {
		l.capture.end(len(chains) - done)
	}
	t := turnStats{
		at: now, taken: done, sent: bytesIn(chains[:done], uint32(vnet.HeaderLength(l.features))),
		given: int(l.writer.Frames - frames), received: l.writer.Bytes - bytes, unkicked: l.driver != nil,
	}
	if len(chains) > 0 {
		l.tx.q.UseN(done)
	}
	l.next, l.blocked, l.starved = next, done < len(chains), l.writer.Starved()
	l.again = more || (!l.blocked && len(chains) == batch) || (next != 0 && next <= now)
	l.tx.kicked, l.rx.kicked = more, false
	t.noRoom, t.more = called && l.starved, l.again || l.blocked
	l.stats.Turns++
	l.stats.FromGuestFrames += uint64(done)
	l.stats.FromGuestBytes += t.sent
	l.finish(t)
	l.measure(now)
	if !l.again && l.plan.mode == block {
		l.prepareSleep(now)
	}
}

// fetch returns what the guest has sent. Frames of a ring that drops them are dropped; more tells that there may be others.
func (l *loop) fetch() (chains []virtqueue.Chain, more bool) {
	switch {
	case l.tx.runs():
		return l.tx.fetch(), false
	case l.tx.kicked && l.tx.drops:
		return nil, l.drain()
	}
	return nil, false
}

// finish publishes what the turn t has done, and interrupts the guest at most once a ring.
func (l *loop) finish(t turnStats) {
	l.tx.publish()
	t.interrupted = l.rx.flush()
	if l.drainRings() {
		l.again, t.more = true, true
	}
	t.rxPolled, t.txPolled = l.rx.driverPolls(), l.tx.driverPolls()
	if l.plan = l.moderation.after(t); l.plan.interrupt {
		l.tx.flush()
	}
}

// prepareSleep is for when there is nothing to do: either the rings are polled for a while, or the guest is asked for kicks.
func (l *loop) prepareSleep(now int64) {
	l.again = l.moderation.idle(now, l.tx.runs() || l.rx.runs()) || l.arm()
	if !l.again {
		l.moderation.sleeps()
		l.stats.Sleeps++
	}
}

// spin looks at the rings for about a microsecond, and tells whether there is something to do.
func (l *loop) spin() bool {
	tx := l.tx.runs() && !l.blocked
	rx := l.starved && l.rx.runs()
	for range spins {
		if tx && l.tx.q.HasAvail() || rx && l.rx.q.HasAvail() {
			l.stats.Polled++
			return true
		}
		virtqueue.Pause()
	}
	return false
}

// bytesIn returns how many bytes the frames in chains have, each of which begins with a header. That of a malformed chain has none.
func bytesIn(chains []virtqueue.Chain, header uint32) (n uint64) {
	for i := range chains {
		n += uint64(max(chains[i].Len, header) - header)
	}
	return n
}

// kickedOff stops notifications for the time of a turn.
func (r *ring) kickedOff() {
	if r.runs() {
		r.quiet()
	}
}

// arm asks the guest for the notifications that could change something, and tells whether there is more to do already.
func (l *loop) arm() (more bool) {
	if l.tx.runs() && !l.blocked && !l.tx.polled() {
		more = l.tx.arm()
	}
	switch {
	case !l.rx.runs() || l.rx.polled():
	case l.starved:
		more = l.rx.armStarved() || more
	case l.unfilled:
		more = l.rx.arm() || more
	default:
		l.rx.quiet()
	}
	return more
}

// drain drops frames of a transmit ring that the front end has disabled, and tells whether there may be more of them.
func (l *loop) drain() (more bool) {
	if l.tx.q == nil {
		return false
	}
	chains := l.tx.fetch()
	n := len(chains)
	l.noteDisabled(chains)
	l.tx.q.UseN(n)
	l.device.dropped.Add(uint64(n))
	return n == batch || l.tx.arm()
}

// wait collects readiness, and sleeps until there is some if nothing else is to be done.
func (l *loop) wait() {
	n, err := l.sleep()
	if err != nil {
		n = 0 // EINTR: the loop comes round again
	}
	for _, e := range l.ready[:n] {
		token := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
		switch token {
		case tokenMail:
			_, _ = unix.Read(l.mailFD, l.scratch[:8])
		case tokenReceive:
			l.kick(l.rx)
		case tokenTransmit:
			l.kick(l.tx)
		case tokenDriver:
			l.driverEvents |= e.Events
		default:
			l.events[l.nEvents] = netbackend.Event{Token: token, Events: e.Events}
			l.nEvents++
		}
	}
}

// kick notes a kick. Kick fds are edge-triggered, so one that stays readable does not keep the thread awake.
func (l *loop) kick(r *ring) {
	r.kicked = true
	r.kicks++
	r.takeKick(l.scratch[:])
}

// sleep waits for events, as long as there is nothing else to do.
func (l *loop) sleep() (int, error) {
	timeout := l.timeout()
	if l.driver != nil && l.moderation.coalescer.precise {
		return l.sleepWithDriver(timeout)
	}
	if l.plan.mode == coalesceRX && timeout > 0 {
		t := unix.NsecToTimespec(timeout)
		_ = unix.Nanosleep(&t, nil) // a signal may end it, which is no loss
		timeout = 0
	}
	if l.moderation.coalescer.precise {
		return epollWait(l.epFD, l.ready[:], timeout)
	}
	const ms = 1e6
	if timeout > 0 {
		timeout = min((timeout+ms-1)/ms, 1<<30)
	}
	return unix.EpollWait(l.epFD, l.ready[:], int(timeout))
}

// timeout returns how long to sleep, in nanoseconds, -1 for ever.
func (l *loop) timeout() int64 {
	if l.again || len(l.mail) > 0 {
		return 0
	}
	timeout := int64(-1)
	if next := l.deadline(); next != 0 {
		timeout = max(0, next-l.now())
	}
	if l.rx.polled() || l.tx.polled() {
		timeout = earliest(timeout, pollInterval)
	}
	if l.plan.mode != block {
		timeout = earliest(timeout, l.plan.pause)
	}
	if bound := l.device.maxSleep.Load(); bound != 0 {
		timeout = earliest(timeout, bound)
	}
	return timeout
}

// deadline returns when the thread wakes up though nothing happens, 0 for never.
func (l *loop) deadline() int64 {
	port := netbackend.Earlier(l.next, l.emptyAt)
	return netbackend.Earlier(port, netbackend.Earlier(l.moderation.irq.due(), l.publishDue()))
}

// earliest returns the shorter of two times to sleep, of which the first may be -1 for ever.
func earliest(timeout, limit int64) int64 {
	if timeout < 0 {
		return limit
	}
	return min(timeout, limit)
}

// watch adds fd to the epoll set.
func (l *loop) watch(fd int, token uint64, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
	if err := unix.EpollCtl(l.epFD, unix.EPOLL_CTL_ADD, fd, &e); err != nil {
		return fmt.Errorf("watch fd %d: %w", fd, err)
	}
	return nil
}

const (
	inputEvents = unix.EPOLLIN | unix.EPOLLET
	portEvents  = inputEvents | unix.EPOLLOUT | unix.EPOLLPRI | unix.EPOLLRDHUP
)

// Register implements netbackend.Worker.
func (l *loop) Register(fd int, token uint64) error { return l.register(fd, token, portEvents) }

// RegisterInput implements netbackend.Worker.
func (l *loop) RegisterInput(fd int, token uint64) error { return l.register(fd, token, inputEvents) }

func (l *loop) register(fd int, token uint64, events uint32) error {
	if token >= netbackend.PortTokens {
		return errors.New("token is one of the worker's own")
	}
	return l.watch(fd, token, events)
}

// Rearm implements netbackend.Worker.
func (l *loop) Rearm(fd int, token uint64) error {
	return l.rewatch(fd, token, portEvents)
}

// rewatch changes what fd is watched for.
func (l *loop) rewatch(fd int, token uint64, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
	return unix.EpollCtl(l.epFD, unix.EPOLL_CTL_MOD, fd, &e)
}

// Unregister implements netbackend.Worker.
func (l *loop) Unregister(fd int) { _ = unix.EpollCtl(l.epFD, unix.EPOLL_CTL_DEL, fd, nil) }

// Raise implements netbackend.Worker.
func (l *loop) Raise(n netbackend.Notice) {
	select {
	case l.device.notices <- n:
	default:
		l.device.lost.Add(1)
	}
}

// Fault implements netbackend.Worker.
func (l *loop) Fault(err error) { l.fault = err }
