package shard

import (
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/timerwheel"
)

// none is the index of no flow. Indices start at 1, so that a zero value is none as well.
const (
	none        = flowtable.None
	FirstRecord = flowtable.None + 1
)

// Flow is one record of the table: a TCP connection, a UDP association, or a series of pings. It holds no pointers.
//
// All of it belongs to its owner's thread, but for Key, which does not change from insert to the end of the grace period: any queue
// pair may read it during a turn in which lookup gave it the record. What only one protocol knows of a flow is not here, but with
// what serves the protocol.
type Flow struct {
	Key   flowtable.Key
	IPLen uint8    // of the IP header in front of what goes to the guest
	Host  hosts.ID // of the guest, hosts.Any if it is not known yet
	Index uint32   // of this record

	runNext uint32 // run list
	FD      int32  // host socket, -1 for none
	Bits    Bits
	moveTo  uint8 // the queue pair that it is leaving for
	State   State

	CreatedAt int64  // time of the Port's clock
	FromGuest uint64 // bytes that the host's socket took
	ToGuest   uint64 // bytes that the guest acknowledged, or was sent as datagrams

	classPrev, classNext uint32 // list of the class

	Class     Class
	standing  Standing        // as counted
	Sender    hostsock.Sender // of its socket
	RouteNews uint16          // UDP, ping: what the number of route.ChangeCount was when its socket's source address was right
	memory    SocketMemory
}

// Bits is what is known of any flow, and what is due to it. What only a protocol knows is with its state, see tcpFlags.
type Bits uint16

const (
	onRunList    Bits = 1 << iota
	Readable          // the host socket may have more; only EAGAIN clears it
	Writable          // the host socket said that it can be written
	PeerClosed        // EPOLLRDHUP: the host's FIN has arrived, though perhaps unread data stand before it
	SockError         // EPOLLERR: the host's side is dead, though perhaps unread data stand before its end
	Inbound           // the host began it
	SharedSocket      // the socket is that of a forward or a mapping
	UnixSocket        // the socket is a unix one
	leaving           // the flow goes to another queue pair
	Direct            // the host began it, and not by a forward; see Call
	Awaited           // the client waits for what the guest answers, and somebody else has its socket, too; see Call
	IsNew             // the guest began it, and nobody has answered yet; see NewFlows
	NoSocket          // the engine is the other end itself; see package measure
	Held              // it had to tell its server; see package proof
	Bound             // the socket is bound to an interface or a source address that the user has chosen; see package egress
)

// State is where a flow stands. Of a flow that is found by its key it is that of its protocol.
type State uint8

const (
	StateFree      State = iota
	StateDead            // the flow is over; the run list frees its record
	StateActive          // packets pass: for protocols that have no other states
	StateLingering       // nothing is left but what the kernel has to send, see lingerers
	ProtocolStates       // the first of those that a protocol has itself
)

// Table has the flows of a guest, whose queue pairs share it: a record for each key of its table.
type Table struct {
	*flowtable.Table
	records flowtable.Slab[Flow]
	timers  timerwheel.Timers // each queue pair has a wheel for those of its own flows
	sockets atomic.Int32      // of flows, and of mappings that have flows

	standings standings
}

// NewTable makes a table in which max flows may live.
func NewTable(max int) *Table {
	t := flowtable.New(max)
	return &Table{Table: t, records: flowtable.NewSlab[Flow](t), timers: timerwheel.NewTimers(t)}
}

// At returns the record of index i, which must exist.
func (t *Table) At(i uint32) *Flow { return t.records.At(i) }

// Find returns the flow of a key, nil if there is none. Any queue pair may call it during a turn. Of another's flow it may use
// what does not change only; see flow.
func (t *Table) Find(k *flowtable.Key) *Flow {
	i := t.Lookup(k)
	if i == none {
		return nil
	}
	return t.At(i)
}

// ByIndex returns the flow of owner that an event names, nil if it is another's, or its generation has passed. For owner.
func (t *Table) ByIndex(i, gen, owner uint32) *Flow {
	if !t.IsCurrent(i, gen, owner) {
		return nil
	}
	return t.At(i)
}

// Create makes a record for k that belongs to owner. Before anybody else can find it, prepare is called, which makes what others may
// read of the flow. It returns nil if there is no room, or if
// another queue pair has made one in the meantime, which is elsewhere.
func (t *Table) Create(k *flowtable.Key, owner uint32, prepare func(i uint32)) (f *Flow, at Where) {
	i, exists := t.Insert(k, owner, func(i uint32) {
		*t.records.Make(i) = Flow{Key: *k, Index: i, FD: -1, IPLen: uint8(k.Guest.HeaderLen())}
		t.timers.Make(i)
		prepare(i)
	})
	switch {
	case exists:
		return nil, Elsewhere
	case i == none:
		return nil, Nowhere
	}
	return t.At(i), Here
}

// Remove takes f's key out of the table; the record stays until the table is told that it is free. For its owner.
func (t *Table) Remove(f *Flow) {
	t.Unlink(f.Index)
	f.State = StateDead
	t.Stand(f, 0)
}

// ForEach calls fn for every live flow of owner, on whose thread. fn may unlink the flow that it is called for.
func (t *Table) ForEach(owner uint32, fn func(*Flow)) {
	t.Each(owner, func(i uint32) { fn(t.At(i)) })
}

// ForEachOf does what each does for the flows of a portion of the table, and reports whether there is one with that number.
func (t *Table) ForEachOf(n int, owner uint32, fn func(*Flow)) bool {
	return t.EachOf(n, owner, func(i uint32) { fn(t.At(i)) })
}

// ForEachFrom does what each does for the records of an index on, until fn returns false. It returns the index to go on with, 0 if there
// are no more.
func (t *Table) ForEachFrom(index, owner uint32, fn func(*Flow) bool) (next uint32) {
	return t.EachFrom(index, owner, func(i uint32) bool { return fn(t.At(i)) })
}

// Remove ends a flow: its socket is closed, its key is free, and its record will be with the next turn.
func (s *Shard) Remove(f *Flow) {
	s.Hooks.Closing(f)
	s.CloseSocket(f)
	s.LeaveClass(f)
	s.Wheel.Remove(f.Index)
	s.Flows.Remove(f)
	s.Schedule(f)
}

// CloseSocket closes the socket of a flow, or does without the one that it shares.
func (s *Shard) CloseSocket(f *Flow) {
	switch {
	case f.FD < 0:
	case f.Bits&SharedSocket != 0:
	default:
		s.Worker.Unregister(int(f.FD))
		_ = unix.Close(int(f.FD))
		s.Flows.sockets.Add(-1)
		s.Pairs.Memory.Forget(&f.memory)
	}
	f.FD = -1
}

// TakeSocket takes the socket of its own from a flow that is to end.
func (s *Shard) TakeSocket(f *Flow) (fd int) {
	fd = int(f.FD)
	s.Worker.Unregister(fd)
	s.CountSockets(-1)
	f.memory.release(f.FD, kindOf(f)) // its next flow looks anew
	s.Pairs.Memory.Forget(&f.memory)
	f.FD = -1
	return fd
}

// ReplaceSocket gives a flow another socket, in the place of its own. The error is that the worker cannot watch it.
func (s *Shard) ReplaceSocket(f *Flow, fd int, set hostsock.Sender) error {
	s.Worker.Unregister(int(f.FD))
	_ = unix.Close(int(f.FD))
	s.Pairs.Memory.Forget(&f.memory)
	f.FD, f.Sender = int32(fd), set
	s.Flows.Renew(f.Index) // no event of the old socket is one of this
	f.Bits &^= Readable | Writable | PeerClosed | SockError
	if err := s.register(f); err != nil {
		s.OverLimit(limits.Host)
		return err
	}
	return nil
}

// Create makes a flow for key, which admit has made room for, with the host socket fd, which is the flow's from now on. If that
// cannot be done, it returns nil and refuses fd; it is elsewhere if another queue pair has made it in the meantime.
func (t *Turn) Create(key *flowtable.Key, fd int, state State, bits Bits, c Class) (*Flow, Where) {
	return t.CreateWith(key, fd, state, bits, c, func(uint32) {})
}

// CreateWith is create for a flow of which others may read more than its key: prepare makes that for its index, before they can find
// it.
func (t *Turn) CreateWith(key *flowtable.Key, fd int, state State, bits Bits, c Class, prepare func(i uint32)) (*Flow, Where) {
	f, at := t.Flows.Create(key, t.Owner, prepare)
	if f == nil {
		if at == Nowhere {
			t.OverLimit(limits.Flows)
		}
		RefuseSocket(fd, bits)
		return nil, at
	}
	f.FD, f.State, f.Bits, f.CreatedAt = int32(fd), state, bits, t.Now
	t.Hooks.Created(f)
	t.setHost(f, c)
	t.JoinClass(f, c)
	if bits&(SharedSocket|NoSocket) != 0 {
		return f, Here
	}
	if err := t.register(f); err != nil {
		t.OverLimit(limits.Host)
		RefuseSocket(fd, bits)
		f.FD = -1
		t.Remove(f)
		return nil, Nowhere
	}
	t.Flows.sockets.Add(1)
	if t.Pairs.Memory.IsPressed() {
		t.lookAtFlow(f) // it begins with small buffers
	}
	return f, Here
}

// setHost finds the host of the guest that a new flow in c belongs to: the one whose frame begins it, or, where none does, the one
// that uses its address.
func (t *Turn) setHost(f *Flow, c Class) {
	if f.Bits&Inbound != 0 || c == ClassStrangers {
		f.Host = t.Hosts.User(&f.Key.Guest)
		return
	}
	t.moved(f)
}

// register has the worker watch a flow's socket. Only a connection waits for room in its socket.
func (s *Shard) register(f *Flow) error {
	t := Token(TokenFlow, s.Flows.Generation(f.Index), f.Index)
	if f.Key.Proto == netpkt.TCP {
		return s.Worker.Register(int(f.FD), t)
	}
	return s.Worker.RegisterInput(int(f.FD), t)
}

// RefuseSocket resets the socket of a flow that there will not be, unless it is others', too.
func RefuseSocket(fd int, bits Bits) {
	if bits&(SharedSocket|Awaited|NoSocket) == 0 {
		hostsock.Reset(fd)
	}
}
