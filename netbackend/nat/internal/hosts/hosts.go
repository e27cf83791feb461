package hosts

import (
	"encoding/binary"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
)

// A guest may be more than one host: macvlan interfaces, bridged containers and virtual machines within it have MAC addresses of
// their own behind its network card. What belongs to a flow goes to the host that the flow's packets come from; what begins
// outside goes to the host that uses the address it is for.

const (
	// maxHosts bounds how many MAC addresses of a guest are known at once. If there are more, the one that was silent longest
	// is forgotten.
	maxHosts = 64
	// maxHostAddrs bounds how many addresses of hosts are known, and how many are asked for, at once.
	maxHostAddrs = 256
	// askAgain is how many nanoseconds pass before the link is asked for the same address again.
	askAgain = int64(500e6)
)

// ID names a host of a guest in a byte, so that a flow can hold it.
type ID uint8

// Any is the host that was heard last, for what goes to an address of which nothing is known.
const Any ID = 0

// Table has the hosts of a guest, by what they have sent. A guest's queue pairs share it: which host a frame comes from is
// found without a lock, addresses are looked up once a flow.
type Table struct {
	macs  [1 << 8]atomic.Uint64      // as PackMAC has it, 0 for none; as many as there are IDs, so that no index is beyond
	heard [maxHosts + 1]atomic.Int64 // when the host was heard after another one, or told where it is
	count atomic.Int32               // hosts that are known
	news  atomic.Uint32              // counts addresses that were asked for and found since
	moves atomic.Uint32              // counts addresses that have become another host's
	users atomic.Uint32              // counts changes of userOf

	mu     sync.Mutex
	userOf map[ipaddr.Addr]ID
	asked  map[ipaddr.Addr]int64 // when the link was asked for an address that is not known
}

// New returns a Table without hosts.
func New() *Table {
	return &Table{userOf: map[ipaddr.Addr]ID{}, asked: map[ipaddr.Addr]int64{}}
}

// PackMAC returns a MAC address in the low bits.
func PackMAC(mac [6]byte) uint64 {
	return uint64(binary.BigEndian.Uint16(mac[:]))<<32 | uint64(binary.BigEndian.Uint32(mac[2:]))
}

// UnpackMAC is the reverse of packMAC.
func UnpackMAC(packed uint64) (mac [6]byte) {
	PutMAC(mac[:], packed)
	return mac
}

// PutMAC writes a packed MAC address.
func PutMAC(b []byte, packed uint64) {
	binary.BigEndian.PutUint16(b, uint16(packed>>32))
	binary.BigEndian.PutUint32(b[2:], uint32(packed))
}

// Is reports whether host id has that MAC address.
func (h *Table) Is(id ID, mac uint64) bool { return h.macs[id].Load() == mac }

// MAC returns the packed MAC address of a host, 0 if it is not known.
func (h *Table) MAC(id ID) uint64 { return h.macs[id].Load() }

// Meet returns the host with a MAC address, which has sent a frame at now.
func (h *Table) Meet(mac uint64, now int64) ID {
	id := h.find(mac)
	if id == Any {
		id = h.add(mac)
	}
	h.heard[id].Store(now)
	h.macs[Any].Store(mac)
	return id
}

// find returns the host with a MAC address, Any if it is not known.
func (h *Table) find(mac uint64) ID {
	for id := range ID(h.count.Load()) {
		if h.macs[id+1].Load() == mac {
			return id + 1
		}
	}
	return Any
}

// add makes a record for a host, if need be in the place of another one.
func (h *Table) add(mac uint64) ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	if id := h.find(mac); id != Any {
		return id // another queue pair was quicker
	}
	id := ID(h.count.Load() + 1)
	if id > maxHosts {
		id = h.oldest()
		h.forgetUser(id)
	}
	h.macs[id].Store(mac)
	h.count.Store(max(h.count.Load(), int32(id)))
	return id
}

// oldest returns the host that was silent longest.
func (h *Table) oldest() ID {
	oldest := ID(1)
	for id := oldest; id <= maxHosts; id++ {
		if h.heard[id].Load() < h.heard[oldest].Load() {
			oldest = id
		}
	}
	return oldest
}

// forgetUser forgets the addresses of a host. The caller has the lock.
func (h *Table) forgetUser(id ID) {
	h.users.Add(1)
	for a, user := range h.userOf {
		if user == id {
			delete(h.userOf, a)
		}
	}
}

// Learn takes note that a host uses an address, which may have been another host's. found tells that it was asked for.
func (h *Table) Learn(a *ipaddr.Addr, id ID, now int64) (found bool) {
	if id == Any {
		return false
	}
	h.heard[id].Store(now)
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, found = h.asked[*a]; found {
		delete(h.asked, *a)
		h.news.Add(1)
	}
	before, known := h.userOf[*a]
	switch {
	case known && before == id:
		return found
	case known:
		h.moves.Add(1)
	case len(h.userOf) >= maxHostAddrs:
		h.dropOne()
	}
	h.userOf[*a] = id
	h.users.Add(1)
	return found
}

// dropOne makes room for an address: one goes of the host that has most of them. The caller has the lock.
func (h *Table) dropOne() {
	var counts [maxHosts + 1]int
	for _, id := range h.userOf {
		counts[id]++
	}
	greedy := ID(0)
	for id := range counts {
		if counts[id] > counts[greedy] {
			greedy = ID(id)
		}
	}
	for a, id := range h.userOf {
		if id == greedy {
			delete(h.userOf, a)
			return
		}
	}
}

// User returns the host that uses an address, Any if that is not known.
func (h *Table) User(a *ipaddr.Addr) ID {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.userOf[*a]
}

// Addresses returns the addresses that hosts use, in no order.
func (h *Table) Addresses() []ipaddr.Addr {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.userOf))
}

// UserCache is what a queue pair remembers of Table.User, so that it need not take the lock for each batch of datagrams.
type UserCache struct {
	addr  ipaddr.Addr
	id    ID
	known bool
	users uint32
}

// User is Table.User.
func (c *UserCache) User(h *Table, a *ipaddr.Addr) ID {
	if users := h.users.Load(); !c.known || c.users != users || c.addr != *a {
		*c = UserCache{addr: *a, id: h.User(a), known: true, users: users}
	}
	return c.id
}

// MayAsk reports whether the link is to be asked for an address now, and takes note that it is.
func (h *Table) MayAsk(a *ipaddr.Addr, now int64) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	before, asked := h.asked[*a]
	if asked && now-before < askAgain {
		return false
	}
	if !asked && len(h.asked) >= maxHostAddrs {
		clear(h.asked) // nobody waits for most of them any more
	}
	h.asked[*a] = now
	return true
}

// HeardAt returns when the host with a MAC address was heard, 0 for never.
func (h *Table) HeardAt(mac uint64) int64 {
	if id := h.find(mac); id != Any {
		return h.heard[id].Load()
	}
	return 0
}

// Found counts addresses that were asked for and found since, and Moved those that have become another host's.
func (h *Table) Found() uint32 { return h.news.Load() }
func (h *Table) Moved() uint32 { return h.moves.Load() }

// Forget forgets all of them: the guest is gone.
func (h *Table) Forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.count.Store(0)
	for id := range h.heard {
		h.macs[id].Store(0)
		h.heard[id].Store(0)
	}
	clear(h.userOf)
	h.users.Add(1)
	clear(h.asked)
}
