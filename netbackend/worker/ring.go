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
	kicked  bool // since the last turn
	armed   bool // the guest was asked to kick
	enabled bool
	resumed bool // the ring did not begin at index 0
}

func newRing(token uint64, dir virtqueue.Direction) *ring {
	return &ring{token: token, dir: dir, fds: noFDs}
}

var noFDs = virtqueue.RingFDs{Kick: -1, Call: -1, Err: -1}

// runs tells that frames may pass.
func (r *ring) runs() bool { return r.q != nil && r.enabled }

// polled tells that the driver does not kick.
func (r *ring) polled() bool { return r.q != nil && r.fds.Kick < 0 }

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

// flush publishes finished chains, and interrupts the guest if it wants to know.
func (r *ring) flush() {
	if r.q != nil && r.q.Flush() {
		r.call()
	}
}

// one is what is added to an eventfd: 1 in the machine's byte order. To a stream socket it is just something to read.
var one = [8]byte{1}

// call interrupts the guest. A full call fd means that an interrupt is pending already, so errors are of no interest.
func (r *ring) call() { signal(r.fds.Call) }

// signal writes to an eventfd of the front end, if there is one. It is non-blocking, but can be anything.
func signal(fd int) {
	if fd >= 0 {
		_, _ = unix.Write(fd, one[:])
	}
}
