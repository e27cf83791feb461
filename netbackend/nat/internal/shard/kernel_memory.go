package shard

import (
	"math"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
)

// What a guest does not read stays in the host's kernel, in the receive buffer of the flow's socket, and what the host's peer does not
// read in the send buffer. The kernel lets both grow with the speed of a connection, to 32 MiB and 4 MiB by default, and takes them
// from the memory that all sockets of the host share. So a guest has a budget.
//
// Sockets are looked at a few times a second while anything happens (SO_MEMINFO), not for each packet. As long as half of the budget
// is free the kernel chooses, because what a guest has read costs nothing. Then no buffer may be larger than an eighth of
// what is left. The kernel takes nothing away that is in a buffer already. What does not fit it drops, and the peer sends it again. So
// a guest has its budget, the least buffers of its sockets, and what comes between two looks. When half of the
// budget is free again, the kernel chooses again.
//
// Of a unix socket the client has the memory of what it sends. Datagrams that leave are left alone: they are on their way, and nobody
// can stop them.

const (
	// usualKernelMemory is KernelLimits.Memory by default, in bytes.
	usualKernelMemory = 256 << 20
	// leastBuffer is what a socket may have in each direction in any case, in bytes as the kernel counts. The kernel begins
	// with as much (net.ipv4.tcp_wmem).
	leastBuffer = 16 << 10
	// lookInterval is how long after a look at all sockets the next one begins, chunkPause after one at chunkSize of them.
	lookInterval = int64(250e6)
	chunkPause   = int64(4e6)
)

// KernelMemory is what the kernel holds for a guest. Its queue pairs share it.
type KernelMemory struct {
	budget int64        // bytes
	Held   atomic.Int64 // bytes, as seen by the last look at each socket that is open
}

// allowance is how large each buffer of a socket may be while the guest is pressed, in bytes as the kernel counts.
func (m *KernelMemory) allowance() int64 { return max((m.budget-m.Held.Load())/8, leastBuffer) }

// IsPressed tells whether the guest has so much that buffers are bounded.
func (m *KernelMemory) IsPressed() bool { return m.Held.Load() >= m.budget/2 }

// Usage returns how much of the budget is used up, in KiB.
func (m *KernelMemory) Usage() (used, most int) {
	return int(m.Held.Load() >> 10), int(m.budget >> 10)
}

// Limit returns how many bytes the kernel may hold.
func (m *KernelMemory) Limit() int64 { return m.budget }

// Bytes returns how much the kernel holds.
func (m *KernelMemory) Bytes() int64 { return m.Held.Load() }

// SocketMemory is what is known of a socket's buffers. It belongs to the queue pair that has the socket, and goes with it to another.
type SocketMemory struct {
	held    uint32 // bytes that are in KernelMemory.held
	bounded bool   // the engine may have chosen the size of a buffer
}

// set takes note of how much the socket holds.
func (m *KernelMemory) set(s *SocketMemory, held uint32) {
	m.Held.Add(int64(held) - int64(s.held))
	s.held = held
}

// Forget takes note that the socket is closed.
func (m *KernelMemory) Forget(s *SocketMemory) {
	m.set(s, 0)
	s.bounded = false
}

// memoryLook is how far a queue pair has looked at its sockets.
type memoryLook struct {
	at    int64 // it goes on then
	chunk int   // of the table, the next one
}

// LookAtMemory looks at the sockets of one chunk of the table, or at some lingering ones, if it is time, and reports whether all were
// looked at: then those that flows share come next.
func (t *Turn) LookAtMemory() (all bool) {
	l := &t.memory
	if t.Now < l.at {
		return false
	}
	if t.Flows.ForEachOf(l.chunk, t.Owner, t.lookAtFlow) {
		l.chunk++
		l.at = t.Now + chunkPause
		return false
	}
	if t.lookAtSomeLingering() {
		l.at = t.Now + chunkPause
		return false
	}
	l.chunk, l.at = 0, t.Now+lookInterval
	return true
}

// NextMemoryLook returns when LookAtMemory has something to do.
func (t *Turn) NextMemoryLook() int64 { return t.memory.at }

// lookAtFlow looks at the socket of a flow of this queue pair.
func (t *Turn) lookAtFlow(f *Flow) {
	if f.FD >= 0 && f.Bits&SharedSocket == 0 {
		t.LookAt(f.FD, &f.memory, kindOf(f))
	}
}

// socketKind is whose choice the sizes of buffers are.
type socketKind uint8

const (
	Datagrams socketKind = iota // they stay as they are set
	Stream                      // they grow with the speed of TCP
	Local                       // a unix socket's stay as they are set
)

func kindOf(f *Flow) socketKind {
	switch {
	case f.Key.Proto != netpkt.TCP:
		return Datagrams
	case f.Bits&UnixSocket != 0:
		return Local
	}
	return Stream
}

// LookAt finds out what the kernel holds for a socket, and bounds its buffers if that has become too much for the guest.
func (t *Turn) LookAt(fd int32, s *SocketMemory, kind socketKind) {
	if t.MemInfo.Read(fd) != 0 {
		return
	}
	m := &t.Pairs.Memory
	m.set(s, t.held())
	if !m.IsPressed() {
		s.release(fd, kind)
		return
	}
	s.bounded = true
	t.bound(fd, kind)
}

// held is how much the socket holds whose memory was just read.
func (t *Turn) held() uint32 {
	return t.MemInfo[hostsock.MemReceiveTaken] + max(t.MemInfo[hostsock.MemSendQueued], t.MemInfo[hostsock.MemSendTaken])
}

// BoundNew bounds the buffers of a new socket, before it tells a peer how much it takes.
func (t *Turn) BoundNew(fd int, kind socketKind) {
	if t.Pairs.Memory.IsPressed() && t.MemInfo.Read(int32(fd)) == 0 {
		t.bound(int32(fd), kind)
	}
}

// bound bounds the buffers of a socket whose memory was just read.
func (t *Turn) bound(fd int32, kind socketKind) {
	allowed := t.Pairs.Memory.allowance()
	if kind != Local {
		t.shrink(fd, unix.SO_RCVBUF, t.MemInfo[hostsock.MemReceiveBuffer], allowed)
	}
	if kind != Datagrams {
		t.shrink(fd, unix.SO_SNDBUF, t.MemInfo[hostsock.MemSendBuffer], allowed)
	}
}

// shrink makes a buffer smaller that is larger than allowed, both in bytes as the kernel counts. It counts twice what it is told, for
// what it needs to describe data (socket(7)).
func (s *Shard) shrink(fd int32, option int, size uint32, allowed int64) {
	if int64(size) <= allowed {
		return
	}
	s.OverLimit(limits.Memory)
	_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, option, int(allowed/2))
}

// release leaves the sizes of a socket's buffers to the kernel again. Before Linux 5.14 those of a connection stay as they are.
func (s *SocketMemory) release(socket int32, kind socketKind) {
	if !s.bounded {
		return
	}
	s.bounded = false
	const soBufLock = 72 // SO_BUF_LOCK, of which no bit is set now
	fd := int(socket)
	switch kind {
	case Stream:
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, soBufLock, 0)
	case Local:
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, usualBuffer/2)
	case Datagrams:
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, usualBuffer/2)
	}
}

// usualBuffer is what sockets other than TCP's have by default (net.core.rmem_default, wmem_default).
const usualBuffer = 212992

// HostKernelMemory returns how much all guests of a process may have together, in bytes: half of what TCP may have on this
// host, or no bound where the process cannot read that.
func HostKernelMemory() int64 {
	tcp, ok := hostcaps.TCPMemory()
	if !ok {
		return math.MaxInt64
	}
	return tcp / 2
}
