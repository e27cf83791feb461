package drops

import (
	"net/netip"
	"sync"
	"time"
)

const (
	// Kept is how many drops a log keeps.
	Kept = 128
	// PerSecond is how many of a second it keeps.
	PerSecond = 32
)

// Drop is a frame that was dropped, or something like it.
type Drop struct {
	Time    int64  // in nanoseconds, by the clock of the device
	Reason  string // the name of a counter
	Detail  string // more of the reason, such as the option that opens what is closed; "" if there is no more
	ToGuest bool   // it was on its way to the guest
	Left    uint64 // others before it, behind the one before, that were not kept

	Frame Frame
}

// Frame is what is known of what was dropped. Ports are 0 for protocols without, and for what is no whole packet.
type Frame struct {
	EtherType uint16         // 0 if it is not known
	Proto     uint8          // of IP
	Src, Dst  netip.AddrPort // the zero AddrPort if they are not known
	Length    int            // in bytes, without the virtio-net header; 0 if it is not known
}

// Log keeps the last drops of one thread. The zero Log is empty.
type Log struct {
	until int64 // the end of the second that room is of
	room  int   // for drops of this second
	left  uint64

	mu    sync.Mutex // its owner never waits for it
	drops [Kept]Drop // guarded by mu, like next
	next  uint64     // how many there were
}

// Takes reports whether a drop of now, in nanoseconds, is to be added, and numbers it if not. It is for the owner.
func (l *Log) Takes(now int64) bool {
	if now >= l.until {
		l.until, l.room = now+int64(time.Second), PerSecond
	}
	if l.room == 0 {
		l.left++
		return false
	}
	l.room--
	return true
}

// Add keeps a drop that Takes has taken. It is for the owner. The log sets Left.
func (l *Log) Add(d Drop) {
	if !l.mu.TryLock() {
		l.left++
		return
	}
	defer l.mu.Unlock()
	d.Left, l.left = l.left, 0
	l.drops[l.next%Kept] = d
	l.next++
}

// Skip numbers n drops that are not to be kept. It is for the owner.
func (l *Log) Skip(n int) { l.left += uint64(n) }

// Last returns the drops that are kept, the oldest first. Anybody may call it at any time.
func (l *Log) Last() (all []Drop) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := l.next - min(l.next, Kept); i < l.next; i++ {
		all = append(all, l.drops[i%Kept])
	}
	return all
}
