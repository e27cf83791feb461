package bootserver

import (
	"io"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/services/tftp"
)

const (
	// MaxSessions is how many sessions a guest has at once. Boot loaders ask for some files that there are not, each from a port of its own.
	MaxSessions = 32
	// idle is how long a session waits for its client. It is longer than an association lasts, so that none is left without its session.
	idle = 240 * time.Second
	// overhead is how many bytes of a packet are not a block's, at most: IPv6, UDP and TFTP.
	overhead = 40 + 8 + 4
)

// Opener opens a file for reading, by a name relative to the root that tftp.CleanName has returned. The error fs.ErrNotExist is that there is no such file. Any
// goroutine may call it.
type Opener func(name string) (fd int, err error)

// Server is what a guest has of the server. Any thread may use it.
type Server struct {
	open     Opener
	maxBlock int

	mu       sync.Mutex
	closed   bool
	sessions []*session // in the order of their beginnings
}

// session is one client's, on a goroutine of its own.
type session struct {
	conn *os.File
	busy atomic.Bool
}

// New returns a server whose blocks fit into packets of mtu bytes.
func New(open Opener, mtu int) *Server { return &Server{open: open, maxBlock: mtu - overhead} }

// Begin begins a session, and returns the socket that is connected to it. It is the caller's, and takes no blocking. If there are too many sessions, the oldest
// that sends no file ends; the error unix.EAGAIN is that all do.
func (s *Server) Begin() (fd int, err error) {
	ours, theirs, err := connectedPair()
	if err != nil {
		return -1, err
	}
	n := &session{conn: os.NewFile(uintptr(ours), "tftp")}
	if !s.add(n) {
		_ = n.conn.Close()
		_ = unix.Close(theirs)
		return -1, unix.EAGAIN
	}
	go s.run(n)
	return theirs, nil
}

// add makes room for a session, and reports whether there is any.
func (s *Server) add(n *session) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	if len(s.sessions) == MaxSessions {
		i := slices.IndexFunc(s.sessions, func(o *session) bool { return !o.busy.Load() })
		if i < 0 {
			return false
		}
		_ = s.sessions[i].conn.Close() // its goroutine notices
		s.sessions = slices.Delete(s.sessions, i, i+1)
	}
	s.sessions = append(s.sessions, n)
	return true
}

// run serves a session until it is over.
func (s *Server) run(n *session) {
	tftp.Serve(n.conn, s.file, s.maxBlock, idle, n.busy.Store)
	_ = n.conn.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sessions = slices.DeleteFunc(s.sessions, func(o *session) bool { return o == n })
}

// Sessions returns how many sessions there are.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Close ends all sessions. No other ones begin. It may be called without a server.
func (s *Server) Close() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, n := range s.sessions {
		_ = n.conn.Close()
	}
	s.sessions = nil
}

// file opens a file for a session.
func (s *Server) file(name string) (tftp.File, error) {
	fd, err := s.open(name)
	if err != nil {
		return nil, err
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fstat", err)
	}
	return &file{fd, stat.Size}, nil
}

// file is a descriptor. Package os would ask more of it than a sandbox allows.
type file struct {
	fd   int
	size int64
}

func (f *file) Size() int64 { return f.size }

func (f *file) Close() error { return unix.Close(f.fd) }

func (f *file) ReadAt(p []byte, offset int64) (done int, err error) {
	for done < len(p) {
		n, err := unix.Pread(f.fd, p[done:], offset+int64(done))
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return done, os.NewSyscallError("pread", err)
		}
		if n == 0 {
			return done, io.EOF
		}
		done += n
	}
	return done, nil
}

// connectedPair returns two sockets of UDP that take datagrams from each other only.
func connectedPair() (a, b int, err error) {
	var fds [2]int
	for i := range fds {
		fds[i], err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			closeAll(fds[:i])
			return -1, -1, os.NewSyscallError("socket", err)
		}
	}
	a, b = fds[0], fds[1]
	if err := connectEachOther(a, b); err != nil {
		closeAll(fds[:])
		return -1, -1, err
	}
	return a, b, nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// connectEachOther connects two sockets with each other. The kernel gives a socket its port when it is connected; who it is connected to at
// first is nobody, for nothing has port 1 of this address.
func connectEachOther(a, b int) error {
	nobody := &unix.SockaddrInet4{Port: 1, Addr: [4]byte{127, 0, 0, 1}}
	if err := unix.Connect(a, nobody); err != nil {
		return os.NewSyscallError("connect", err)
	}
	for _, fds := range [][2]int{{b, a}, {a, b}} {
		to, err := unix.Getsockname(fds[1])
		if err != nil {
			return os.NewSyscallError("getsockname", err)
		}
		if err := unix.Connect(fds[0], to); err != nil {
			return os.NewSyscallError("connect", err)
		}
	}
	return nil
}
