package netbackend

import "github.com/vringnet/vring/virtqueue"

// Event is the readiness of a file descriptor that a Port registered with its Worker.
type Event struct {
	Token  uint64 // as given to Worker.Register
	Events uint32 // EPOLLIN, EPOLLOUT, EPOLLPRI, EPOLLRDHUP, EPOLLHUP and EPOLLERR, as in epoll_ctl(2)
}

// Port is where the frames of one queue pair go to and come from: a TAP queue, a shard of the NAT engine, a stub.
//
// All methods are called on the worker's thread, except Offers, which the control plane calls before Start.
type Port interface {
	// Offers returns the virtio-net feature bits that this Port can honour end to end (checksum and segmentation
	// offloads). What the rings bring, such as mergeable buffers and event index, the worker adds. A bit that neither
	// returns is not shown to the guest.
	Offers() uint64

	// Start begins a run of the guest's driver: features are the bits that the guest acknowledged. It is called again,
	// without a Close between, when the driver negotiates anew.
	Start(features uint64, w Worker) error

	// Turn takes the guest's frames, readiness events and the time, and fills the guest's receive queue through rx.
	//
	// now is a monotonic clock in nanoseconds. Each chain of tx begins with a virtio-net header; a chain without
	// buffers was malformed and is only to be used up. The first done chains are finished: the worker returns them to
	// the guest after Turn. The rest stay in the ring and are offered again on the next turn, so a Port must not have
	// acted on them. next is the time at which the Port wants a turn though nothing else happens, 0 for none; a value
	// that is not after now asks for another turn at once.
	//
	// tx, events, and the guest memory that they point at may be used until Turn returns, and no longer.
	Turn(now int64, tx []virtqueue.Chain, events []Event, rx *RXWriter) (done int, next int64)

	// RingsChanged tells that a ring was started, stopped, enabled or disabled, or that guest memory was replaced.
	RingsChanged(s RingState)

	// Close releases what the Port holds. It is the last call, and the only one if the worker could not be started.
	Close() error
}

// Link is what a Port is besides if there is a network behind it that has an MTU of its own and switches that learn where
// a guest is. Of a device with several Ports the first is asked. Both methods are called on the worker's thread.
type Link interface {
	// SetMTU tells the MTU in bytes that the guest will use (NET_SET_MTU). An error means that the network does not carry
	// frames of that size.
	SetMTU(mtu int) error
	// Announce tells the network that mac is here now: the guest was migrated (SEND_RARP).
	Announce(mac [6]byte) error
}

// Endpoint is what a Port is besides at which the guest's connections end, instead of frames going on to others.
type Endpoint interface {
	// EndsConnections reports that the Port keeps what it has for the guest as long as rx has no room, and looks at no checksum of the
	// guest's frames. It does not change.
	EndsConnections() bool
}

// Earlier returns the earlier of two deadlines, of which 0 means none.
func Earlier(a, b int64) int64 {
	if a == 0 || (b != 0 && b < a) {
		return b
	}
	return a
}

// RingState is what a Port may expect of its rings.
type RingState struct {
	Connected bool // a front end is there and gave us the guest's memory
	Transmit  bool // frames of the guest may come
	Receive   bool // rx can take frames, as far as the guest posts buffers
	MTU       int  // the guest's MTU in bytes as the front end set it (NET_SET_MTU), 0 if it did not
	// Reset is set from when the guest's driver has reset its device, as far as front ends show that, until a driver starts a
	// ring again. A guest that reboots resets its device, and so does one that unloads its driver or sleeps; one that is
	// paused, or whose cable is unplugged, does not.
	Reset bool
	// Restarted is set when the receive queue began at index 0: the driver is new, and knows nothing of earlier
	// connections.
	Restarted bool
}

// Worker is what a Port may ask of the thread that runs it. Its methods are for that thread only.
type Worker interface {
	// Register adds fd to the worker's epoll set, edge-triggered, for input, urgent input, output and hang-up; its events
	// carry token.
	// The fd stays the Port's: it must call Unregister before it closes fd.
	Register(fd int, token uint64) error
	// RegisterInput is Register for input and errors only. It is for sockets that are never waited for to have room: one
	// for datagrams would tell of it with every datagram that has left it.
	RegisterInput(fd int, token uint64) error
	// Rearm asks for the present readiness of an fd that was given to Register as a fresh event, and to be told of the next change. It
	// is how a Port waits for room in a socket that no call has found full: an edge alone would never come.
	Rearm(fd int, token uint64) error
	// Unregister takes fd out of the epoll set. Events of fd that were already collected may still be delivered.
	Unregister(fd int)
	// Raise hands a notice to the control plane, which logs it. It never blocks: with the queue full the notice is
	// dropped and counted.
	Raise(n Notice)
	// Fault tells that the kernel could not reach guest memory (EFAULT): the worker stops both rings after this turn,
	// and the session is closed.
	Fault(err error)
}

// PortTokens is the range of tokens that a Port may register: those below it. The rest are the worker's own.
const PortTokens = uint64(0xff) << 56

// Notice is something rare that a user should learn of. Ports do not log: a full stderr pipe would stall the ring.
type Notice struct {
	Level   int    // as slog.Level
	Message string // a constant text
	Key     string // name of Value, "" for none
	Value   string // detail
	More    uint64 // notices like this one that were left out since the one before; a Port leaves it 0
}
