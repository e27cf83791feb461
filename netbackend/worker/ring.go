package worker

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue"
)

// ring is one ring of a pair, as its thread sees it.
type ring struct {
	token   uint64 // of its kick fd in the epoll set
	dir     virtqueue.Direction
	q       *virtqueue.Queue // nil while stopped
	fds     virtqueue.RingFDs
	sockets struct{ kick, call bool } // which of fds are sockets, as User-mode Linux passes them, instead of eventfds
	kicked  bool                      // since the last turn
	armed   bool                      // the guest was asked to kick
	wanted  bool                      // the front end has enabled it
	refused bool                      // the front end has disabled it while it ran
	enabled bool                      // frames may pass, as far as that is for others to say than the driver
	drops   bool                      // what the driver makes available is dropped
	resumed bool                      // the ring did not begin at index 0
	turned  bool                      // its driver looks after it in each turn, see netbackend.Driver

	// Of a receive ring that held too little: what had been done with it then, and, if it waits for more buffers than are
	// available, the driver's index at that time.
	work    uint64
	waits   bool
	awaited uint16

	interrupts uint64 // of the guest
	kicks      uint64 // of the guest's

	state virtqueue.State // where a ring stands that was stopped since its driver broke it
}

func newRing(token uint64, dir virtqueue.Direction) *ring {
	return &ring{token: token, dir: dir, fds: noFDs}
}

var noFDs = virtqueue.RingFDs{Kick: -1, Call: -1, Err: -1}

// runs tells that frames may pass.
func (r *ring) runs() bool { return r.q != nil && r.enabled }

// polled tells that the driver does not kick, and that nothing else shows that it has done something.
func (r *ring) polled() bool { return r.q != nil && r.fds.Kick < 0 && !r.turned }

// driverPolls reports that the driver of a ring in which frames may pass wants no interrupts: it polls.
func (r *ring) driverPolls() bool { return r.runs() && r.q.DriverPolls() }

// occupancy returns how many entries are available, as they were seen last, of how many. A ring that does not run has none.
func (r *ring) occupancy() (available, entries uint64) {
	if r.q == nil {
		return 0, 0
	}
	return uint64(r.q.Available()), uint64(r.q.Size())
}

// fetch returns the next chains of a transmit ring. They are none in a turn in which the driver is found to take entries
// back: it frees what they hold, in any order, and so perhaps what is available still.
func (r *ring) fetch() []virtqueue.Chain {
	before := r.q.Withdrawals()
	chains := r.q.Fetch(batch)
	if r.q.Withdrawals() != before {
		r.q.Rewind() // so that they count as not looked at yet
		return nil
	}
	return chains
}

// quiet tells the guest not to kick while its ring is being looked at anyway.
func (r *ring) quiet() {
	if r.armed {
		r.q.DisableKicks()
		r.armed = false
	}
}

// arm asks for a kick before sleeping, and tells whether more had come in the meantime.
func (r *ring) arm() (more bool) {
	r.armed = true
	return r.q.EnableKicks()
}

// armStarved is arm for a receive ring that did not hold what was to go into it. Entries that were there at the last call
// already are no reason for another turn if nothing was done since: it would end as the last one did.
func (r *ring) armStarved() (more bool) {
	work := r.q.Work()
	stands := work == r.work
	r.work = work
	if !r.arm() {
		r.waits = false
		return false
	}
	if !stands {
		r.waits = false
		return true
	}
	avail, changed := r.q.AwaitMore()
	more = changed || !r.waits || avail != r.awaited
	r.waits, r.awaited = true, avail
	return more
}

// publish shows the guest finished chains. An interrupt for them is up to the next flush.
func (r *ring) publish() {
	if r.q != nil {
		r.q.Publish()
	}
}

// flush publishes finished chains, and interrupts the guest if it wants to know. It tells whether it did.
func (r *ring) flush() (called bool) {
	if r.q == nil || !r.q.Flush() {
		return false
	}
	r.interrupts++
	r.call()
	return true
}

// one is what is added to an eventfd: 1 in the machine's byte order. To a stream socket it is just something to read.
var one = [8]byte{1}

// setFDs takes the descriptors of a ring.
func (r *ring) setFDs(fds virtqueue.RingFDs) {
	r.fds = fds
	r.sockets.kick, r.sockets.call = isSocket(fds.Kick), isSocket(fds.Call)
}

// setErr replaces the error fd. A ring that was given up takes none: its session may close the fd at any time, and the
// number be somebody else's by the time that there is an error to tell.
func (r *ring) setErr(fd int) {
	if r.q != nil {
		r.fds.Err = fd
	}
}

// takeKick takes back what a kick has written. An eventfd is never read: each kick is an edge for epoll, whatever the
// counter is, and a read could wait if the front end, which shares the file, cleared O_NONBLOCK.
func (r *ring) takeKick(scratch []byte) {
	if r.sockets.kick {
		_, _, _ = unix.Recvfrom(r.fds.Kick, scratch, unix.MSG_DONTWAIT)
	}
}

// call interrupts the guest. A full call fd means that an interrupt is pending already, so errors are of no interest.
func (r *ring) call() {
	if r.sockets.call {
		_ = unix.Send(r.fds.Call, one[:], unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return
	}
	signal(r.fds.Call)
}

// signal writes to an eventfd of the front end, if there is one.
//
// It does not block: O_NONBLOCK is set. But the flag belongs to the open file, which the front end shares. One that clears
// it and fills the counter holds this thread up, and so takes the network from its own guest, and from nobody else: the
// scheduler gives the thread's processor away, and the session that ends empties the counter (vhostuser: unblock). To ask
// poll(2) each time would cost every honest guest a system call an interrupt.
func signal(fd int) {
	if fd >= 0 {
		_, _ = unix.Write(fd, one[:])
	}
}

func isSocket(fd int) bool {
	var st unix.Stat_t
	return fd >= 0 && unix.Fstat(fd, &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFSOCK
}
