package porttest

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
)

// inputEdges and edges are how a worker registers sockets.
const (
	inputEdges = unix.EPOLLIN | unix.EPOLLET&0xffffffff
	edges      = inputEdges | unix.EPOLLOUT | unix.EPOLLPRI | unix.EPOLLRDHUP
)

// worker is an epoll set for one Port. It implements netbackend.Worker.
type worker struct {
	t       testing.TB
	epfd    int
	fds     map[int]uint64 // registered, with their tokens
	events  []netbackend.Event
	buf     [64]unix.EpollEvent
	notices []netbackend.Notice
}

var _ netbackend.Worker = (*worker)(nil)

func newWorker(t testing.TB) *worker {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		t.Fatalf("porttest: epoll_create1: %v", err)
	}
	return &worker{t: t, epfd: fd, fds: map[int]uint64{}}
}

func (w *worker) close() {
	for fd, token := range w.fds {
		w.t.Errorf("porttest: the Port was closed with fd %d (token %#x) registered", fd, token)
	}
	_ = unix.Close(w.epfd)
}

// control makes one change to the set. A token does not fit the union of struct epoll_event other than as two halves.
func (w *worker) control(op, fd int, token uint64, events uint32) error {
	e := unix.EpollEvent{Events: events, Fd: int32(uint32(token)), Pad: int32(uint32(token >> 32))}
	return unix.EpollCtl(w.epfd, op, fd, &e)
}

// Register implements netbackend.Worker.
func (w *worker) Register(fd int, token uint64) error { return w.register(fd, token, edges) }

// RegisterInput implements netbackend.Worker.
func (w *worker) RegisterInput(fd int, token uint64) error { return w.register(fd, token, inputEdges) }

func (w *worker) register(fd int, token uint64, events uint32) error {
	if token >= netbackend.PortTokens {
		w.t.Errorf("porttest: token %#x is not a Port's", token)
	}
	if err := w.control(unix.EPOLL_CTL_ADD, fd, token, events); err != nil {
		return err
	}
	w.fds[fd] = token
	return nil
}

// sockets returns how many fds are registered, but for those by which a Port hears what becomes of the host.
func (w *worker) sockets() (n int) {
	for fd := range w.fds {
		if domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); domain != unix.AF_NETLINK {
			n++
		}
	}
	return n
}

// dropNews reads, instead of the Port, what the kernel has told of the host.
func (w *worker) dropNews() {
	for fd := range w.fds {
		if domain, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN); domain != unix.AF_NETLINK {
			continue
		}
		for buf := make([]byte, 4096); ; {
			if _, err := unix.Read(fd, buf); err == unix.EAGAIN {
				break
			}
		}
	}
}

// Rearm implements netbackend.Worker.
func (w *worker) Rearm(fd int, token uint64) error {
	return w.control(unix.EPOLL_CTL_MOD, fd, token, edges)
}

// Unregister implements netbackend.Worker. It must come before the fd is closed.
func (w *worker) Unregister(fd int) {
	if _, ok := w.fds[fd]; !ok {
		w.t.Errorf("porttest: fd %d is unregistered, but was not registered", fd)
	}
	delete(w.fds, fd)
	if err := w.control(unix.EPOLL_CTL_DEL, fd, 0, 0); err != nil {
		w.t.Errorf("porttest: unregister fd %d: %v", fd, err)
	}
}

// Raise implements netbackend.Worker.
func (w *worker) Raise(n netbackend.Notice) { w.notices = append(w.notices, n) }

// Fault implements netbackend.Worker.
func (w *worker) Fault(err error) { w.t.Errorf("porttest: fault in guest memory: %v", err) }

// poll collects events, after waiting for the first for up to ms milliseconds.
func (w *worker) poll(ms int) {
	n, err := unix.EpollWait(w.epfd, w.buf[:], ms)
	if err != nil && !errors.Is(err, unix.EINTR) {
		w.t.Fatalf("porttest: epoll_wait: %v", err)
	}
	for i := range max(n, 0) {
		e := &w.buf[i]
		token := uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32
		w.events = append(w.events, netbackend.Event{Token: token, Events: e.Events})
	}
}
