package guestmem

import (
	"bufio"
	"fmt"
	"math/bits"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// Limits bound what the tables of one guest map together. While one table replaces another both count; what they share
// counts once.
type Limits struct {
	Bytes    uint64 // of address space
	Mappings int
}

// What a process can map is shared by all its guests and by the Go runtime, which ends the process when it finds no address
// space or no mapping for its heap. So guests have a part of it together.
const (
	addressShare = 2 // guests have half of the address space
	mappingShare = 4 // and all mappings but a fourth
	// maxMapCount is the kernel's default for vm.max_map_count.
	maxMapCount = 65530
	// addressBits is how many bits user addresses have where that cannot be found out: the least of any 64-bit Linux.
	addressBits = 39
)

// LimitsFor returns what each guest may map in a process that serves so many.
func LimitsFor(guests int) Limits {
	n := max(guests, 1)
	total := mapCount()
	return Limits{
		Bytes:    addressSpace() / addressShare / uint64(n),
		Mappings: (total - total/mappingShare) / n,
	}
}

// addressSpace returns how many bytes this process can have mapped. The stack lies at the end of what it can address.
func addressSpace() uint64 {
	width := addressBits
	const atRandom = 25 // AT_RANDOM of getauxval(3): an address on the stack
	if vector, err := unix.Auxv(); err == nil {
		for _, entry := range vector {
			if entry[0] == atRandom {
				width = bits.Len64(uint64(entry[1]))
			}
		}
	}
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_AS, &limit) // cannot fail with these arguments (getrlimit(2))
	return min(uint64(1)<<width, limit.Cur)
}

// mapCount returns how many mappings a process may have.
func mapCount() int {
	f, err := os.Open("/proc/sys/vm/max_map_count")
	if err != nil {
		return maxMapCount
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	n, err := strconv.Atoi(strings.TrimSpace(line))
	if err != nil || n <= 0 {
		return maxMapCount
	}
	return n
}

// Budget counts what the tables of one guest map. A nil Budget has no limits. It may be used by several goroutines.
type Budget struct {
	limits Limits

	mu       sync.Mutex
	bytes    uint64
	mappings int
}

// NewBudget returns a Budget of which nothing is used.
func NewBudget(l Limits) *Budget { return &Budget{limits: l} }

// Limits returns what b was made with.
func (b *Budget) Limits() Limits { return b.limits }

// take counts a mapping of so many bytes, if there is room for it.
func (b *Budget) take(size uint64) error {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.mappings >= b.limits.Mappings {
		return fmt.Errorf("the guest would have more than %d regions mapped, which is its share of what this process may have",
			b.limits.Mappings)
	}
	if size > b.limits.Bytes-b.bytes {
		return fmt.Errorf("the guest would have more than %#x bytes mapped, which is its share of this process's address space",
			b.limits.Bytes)
	}
	b.bytes += size
	b.mappings++
	return nil
}

// giveBack takes a mapping off the count.
func (b *Budget) giveBack(size uint64) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.bytes -= size
	b.mappings--
}
