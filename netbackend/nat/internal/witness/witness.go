package witness

import (
	"container/list"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

const (
	// MaxAddresses is how many addresses are remembered for a guest.
	MaxAddresses = 4096
	// MaxNames is how many names are remembered for an address: services that many names share have few addresses.
	MaxNames = 64
)

// Table is what a guest was answered. It is safe for use by several threads. A nil Table has nothing, and remembers nothing.
type Table struct {
	mu     sync.Mutex
	of     map[ipaddr.Addr]*list.Element // of *address
	age    list.List                     // the one that was answered longest ago comes first
	opened map[uint32]string             // names by which flows were opened, by the flows' indices
	flows  atomic.Int32                  // how many are in opened
}

// address is what is remembered of one address.
type address struct {
	addr  ipaddr.Addr
	names []named // the one that was answered longest ago comes first
}

// named is a name of an address, until some time.
type named struct {
	name  string
	until int64
}

// New returns a table without anything.
func New() *Table { return &Table{of: map[ipaddr.Addr]*list.Element{}, opened: map[uint32]string{}} }

// Record remembers until a time, in nanoseconds of the clock that others ask by, that a name was answered with an address. It reports whether
// something else was forgotten for it that is not over at now.
func (t *Table) Record(now int64, name string, addr ipaddr.Addr, until int64) (forgot bool) {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.of[addr]
	if e == nil {
		if len(t.of) >= MaxAddresses {
			forgot = t.forgetOldest(now)
		}
		e = t.age.PushBack(&address{addr: addr})
		t.of[addr] = e
	}
	t.age.MoveToBack(e)
	return e.Value.(*address).add(now, named{name, until}) || forgot
}

// forgetOldest forgets the address that was answered longest ago, and reports whether that was good still.
func (t *Table) forgetOldest(now int64) bool {
	e := t.age.Front()
	a := t.age.Remove(e).(*address)
	delete(t.of, a.addr)
	for _, n := range a.names {
		if n.until > now {
			return true
		}
	}
	return false
}

// add adds a name, or puts off when it is over. It reports whether it has forgotten another one that was good still.
func (a *address) add(now int64, n named) (forgot bool) {
	kept := a.names[:0]
	for _, other := range a.names {
		switch {
		case other.name == n.name:
			n.until = max(n.until, other.until)
		case other.until > now:
			kept = append(kept, other)
		}
	}
	if len(kept) == MaxNames {
		kept, forgot = append(kept[:0], kept[1:]...), true
	}
	clear(a.names[len(kept):])
	a.names = append(kept, n)
	return forgot
}

// Names are those of one address.
type Names [MaxNames]string

// Names puts the names of an address that are good at now into names, the last one to be answered first, and returns how many there are.
func (t *Table) Names(now int64, addr *ipaddr.Addr, names *Names) (n int) {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.of[*addr]
	if e == nil {
		return 0
	}
	all := e.Value.(*address).names
	for i := len(all) - 1; i >= 0; i-- {
		if all[i].until > now {
			names[n] = all[i].name
			n++
		}
	}
	return n
}

// Holds reports whether a name was answered with an address, and that is good at now.
func (t *Table) Holds(now int64, name string, addr *ipaddr.Addr) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.of[*addr]
	if e == nil {
		return false
	}
	for _, n := range e.Value.(*address).names {
		if n.name == name {
			return n.until > now
		}
	}
	return false
}

// Addresses returns the addresses of a name that are good at now, in no particular order.
func (t *Table) Addresses(now int64, name string) (addrs []ipaddr.Addr) {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for addr, e := range t.of {
		for _, n := range e.Value.(*address).names {
			if n.name == name && n.until > now {
				addrs = append(addrs, addr)
			}
		}
	}
	return addrs
}

// Len returns how many addresses are remembered.
func (t *Table) Len() int {
	if t == nil {
		return 0
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.of)
}

// Forget forgets all answers. The names of flows stay: see Opened.
func (t *Table) Forget() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.of)
	t.age.Init()
}

// Opened remembers by which name a flow was opened, in place of what was known of its index; "" is by none.
func (t *Table) Opened(flow uint32, name string) {
	if t == nil || name == "" && t.flows.Load() == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if name == "" {
		delete(t.opened, flow)
	} else {
		t.opened[flow] = name
	}
	t.flows.Store(int32(len(t.opened)))
}

// OpenedBy returns by which name a flow was opened, "" for none.
func (t *Table) OpenedBy(flow uint32) string {
	if t == nil || t.flows.Load() == 0 {
		return ""
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.opened[flow]
}
