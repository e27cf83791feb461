package shard

import (
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
)

// When both sides of a connection have ended, the kernel may still have to send what the guest has sent last, with its FIN, to a peer
// that reads slowly or not at all. A socket that is closed then is an orphan: it keeps its memory, until the peer has taken all or has
// been silent for minutes, and nobody can ask how much that is. A guest that ends connections to peers of its own which do not read
// would so take memory beyond its budget, and places of net.ipv4.tcp_max_orphans, which are the whole host's.
//
// So the socket stays open, and lingers until the kernel has nothing to send any more. What it holds counts in the guest's
// budget (KernelMemory), and there may be no more of them than of a class of flows. If there is too much, the one goes whose peer has
// taken nothing for longest: its peer learns by a reset that the end is missing.
//
// Nothing asks a lingering socket whether it is done: the kernel tells when the last byte is acknowledged, or the peer has reset. How
// much each holds is looked at with all other sockets of the guest, while anything happens. A peer that takes nothing between two looks
// of an hour is given up; one that answers nothing at all the kernel gives up itself (net.ipv4.tcp_retries2).
//
// A guest that is gone leaves them as they are, for what it has sent is owed to its peers. An engine that is closed closes them, and
// the kernel sends the rest: no more than the budget. Of unix sockets the client has what was sent in its own socket, which is open.

// lingerer is a connection that is over, but for what the kernel has to send.
type lingerer struct {
	Flow          // as it was. Its key is free for another one, and its index is that of its place. The empty place has no socket.
	moved  int64  // when its peer was seen last to have taken something, time of the Port's clock
	unsent uint32 // bytes that the peer had not acknowledged then, the FIN counts one
}

// lingerers are the lingering connections of a queue pair, which keeps them whatever becomes of its rings.
type lingerers struct {
	places []lingerer
	empty  []uint32 // indices of places
	next   int      // the place that lookAtSomeLingering goes on with
}

// firstLingering is the index from which on Shard.ForEachFrom means places of lingering connections. Tables have less indices than that.
const firstLingering = uint32(1) << 31

// add puts a copy of f into an empty place.
func (l *lingerers) add(f *Flow, now int64) *lingerer {
	if len(l.empty) == 0 {
		l.empty = append(l.empty, uint32(len(l.places)))
		l.places = append(l.places, lingerer{})
	}
	i := l.empty[len(l.empty)-1]
	l.empty = l.empty[:len(l.empty)-1]
	k := &l.places[i]
	*k = lingerer{Flow: *f, moved: now}
	k.Index, k.State, k.Class = i, StateLingering, ClassNone
	return k
}

// at returns what lingers at a place, nil if nothing does.
func (l *lingerers) at(i uint32) *lingerer {
	if int(i) >= len(l.places) || l.places[i].FD < 0 {
		return nil
	}
	return &l.places[i]
}

// eachFrom does what Table.ForEachFrom does, with places for indices.
func (l *lingerers) eachFrom(i uint32, fn func(*Flow) bool) (next uint32) {
	for ; int(i) < len(l.places); i++ {
		if k := l.at(i); k != nil && !fn(&k.Flow) {
			return i + 1
		}
	}
	return none
}

// ForEachFrom does what Table.ForEachFrom does for the flows of this pair, and after them for its lingering connections.
func (s *Shard) ForEachFrom(index uint32, fn func(*Flow) bool) (next uint32) {
	if index < firstLingering {
		if next = s.Flows.ForEachFrom(index, s.Owner, fn); next != none {
			return next
		}
		index = firstLingering
	}
	if next = s.lingering.eachFrom(index-firstLingering, fn); next != none {
		next += firstLingering
	}
	return next
}

// Linger takes the socket of a connection that both sides have ended, if the kernel has to send something yet, and reports whether it
// does. The flow has no socket then.
func (t *Turn) Linger(f *Flow) bool {
	if f.Bits&UnixSocket != 0 || t.MemInfo.Read(f.FD) != 0 || t.MemInfo[hostsock.MemSendQueued] == 0 {
		return false
	}
	t.EnforceLimit(ClassLingering)
	k := t.lingering.add(f, t.Now)
	f.FD, f.memory = -1, SocketMemory{}
	t.classes[ClassLingering].count.Add(1)
	if t.Worker.Rearm(int(k.FD), Token(TokenLingering, 0, k.Index)) != nil {
		t.OverLimit(limits.Host)
		t.ResetLingering(&k.Flow)
		return true
	}
	k.unsent = k.unacknowledged()
	t.Pairs.Memory.set(&k.memory, t.held())
	t.boundLingering()
	return true
}

// LingeringEvent is called when something has become of a lingering connection.
func (t *Turn) LingeringEvent(i uint32) {
	k := t.lingering.at(i)
	if k == nil {
		t.Counters.StaleEvents++
		return
	}
	t.lookAtLingering(k)
}

// lookAtLingering finds out what the kernel holds for a lingering connection, and closes it if that is nothing.
func (t *Turn) lookAtLingering(k *lingerer) {
	if t.MemInfo.Read(k.FD) != 0 {
		return
	}
	if t.MemInfo[hostsock.MemSendQueued] == 0 {
		t.closeLingering(&k.Flow)
		return
	}
	t.Pairs.Memory.set(&k.memory, t.held())
	if n := k.unacknowledged(); n != k.unsent {
		k.unsent, k.moved = n, t.Now
	}
}

// unacknowledged returns how many bytes the kernel has to send yet, or has sent and not seen acknowledged.
func (k *lingerer) unacknowledged() uint32 {
	n, err := unix.IoctlGetUint32(int(k.FD), unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

// lookAtSomeLingering looks at some of the lingering connections, and reports whether others are left. After the last of them it bounds
// what they hold.
func (t *Turn) lookAtSomeLingering() (more bool) {
	const some = 256
	l := &t.lingering
	for left := some; left > 0 && l.next < len(l.places); l.next++ {
		if k := l.at(uint32(l.next)); k != nil {
			t.lookAtLingering(k)
			left--
		}
	}
	if l.next < len(l.places) {
		return true
	}
	l.next = 0
	t.boundLingering()
	return false
}

// boundLingering ends lingering connections while the guest has more than its budget. If this pair has none, another one ends one of
// its own in its next turn.
func (t *Turn) boundLingering() {
	for m := &t.Pairs.Memory; m.Held.Load() > m.budget; {
		if t.Evict(ClassLingering) {
			continue
		}
		if q, c := t.largestShard(ClassLingering, ClassLingering); q.classes[c].count.Load() > 0 {
			q.mailbox.put(func(m *mail) { m.UnderPressure |= 1 << c })
		}
		return
	}
}

// evictLingering ends the connection whose peer has taken nothing for longest. There is one.
func (t *Turn) evictLingering() {
	var first *Flow
	moved := int64(0)
	t.lingering.eachFrom(0, func(f *Flow) bool {
		if k := t.lingering.at(f.Index); first == nil || k.moved < moved {
			first, moved = f, k.moved
		}
		return true
	})
	t.ResetLingering(first)
}

// GiveUpLingering ends connections whose peers have taken nothing for so many nanoseconds, and reports whether others are left.
func (t *Turn) GiveUpLingering(patience int64) (left bool) {
	t.lingering.eachFrom(0, func(f *Flow) bool {
		k := t.lingering.at(f.Index)
		t.lookAtLingering(k)
		if k.FD >= 0 && t.Now-k.moved >= patience {
			t.Counters.LingeringGivenUp++
			t.ResetLingering(f)
		}
		return true
	})
	return t.classes[ClassLingering].count.Load() > 0
}

// ResetLingering ends a lingering connection by a reset.
func (s *Shard) ResetLingering(f *Flow) {
	_ = unix.SetsockoptLinger(int(f.FD), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	s.closeLingering(f)
}

// closeLingering closes the socket of a lingering connection, whose place is empty then. What it has not sent the kernel sends.
func (s *Shard) closeLingering(f *Flow) {
	s.CloseSocket(f)
	s.lingering.empty = append(s.lingering.empty, f.Index)
	s.classes[ClassLingering].count.Add(-1)
}

// CloseAllLingering closes all of this queue pair's.
func (s *Shard) CloseAllLingering() {
	s.lingering.eachFrom(0, func(f *Flow) bool {
		s.closeLingering(f)
		return true
	})
	s.lingering = lingerers{}
}
