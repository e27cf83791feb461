package virtqueue

import (
	"fmt"

	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/internal/ring"
)

// Direction is the way of the data in a queue.
type Direction uint8

const (
	FromGuest Direction = iota // a transmit queue: the device reads the buffers
	ToGuest                    // a receive queue: the device writes the buffers
)

// Config describes a ring.
type Config struct {
	Size              uint16       // descriptors: a power of two, at most 32768 (VHOST_USER_SET_VRING_NUM)
	Desc, Avail, Used guestmem.UVA // the three parts (VHOST_USER_SET_VRING_ADDR)
	State             State        // where the device begins (VHOST_USER_SET_VRING_BASE)
	// StateIsExact says that whoever gave State knows where the ring is. Else the used index in the ring wins: see [New].
	StateIsExact bool
	Dir          Direction
	Indirect     bool // VIRTIO_F_INDIRECT_DESC was acknowledged
	EventIdx     bool // VIRTIO_F_EVENT_IDX was acknowledged
	Log          Logging
}

// Error is a condition that callers tell apart with errors.Is.
type Error string

func (e Error) Error() string { return "virtqueue: " + string(e) }

const (
	// ErrConfig is a ring that cannot be served as configured.
	ErrConfig = Error("invalid ring")
	// ErrUnmapped is a ring that is not in guest memory.
	ErrUnmapped = Error("ring is not in guest memory")
	// ErrIndex is a driver whose index is further ahead than the queue holds.
	ErrIndex = Error("available index ran away")
)

// Check tells why [New] could not make a queue on the ring that c describes in mem, nil if it can. It builds nothing: a
// front end can have a ring started again and again.
func (c *Config) Check(mem *guestmem.Table) error {
	if err := c.check(); err != nil {
		return err
	}
	dev, err := c.device(mem)
	if err != nil {
		return err
	}
	return guestmem.Guard(func() { dev.UsedIdx(); dev.AvailIdx() }) // mapped memory may have no pages
}

func (c *Config) check() error {
	if c.Size == 0 || c.Size&(c.Size-1) != 0 || c.Size > ring.MaxSize {
		return fmt.Errorf("%w: size %d is not a power of two up to %d", ErrConfig, c.Size, ring.MaxSize)
	}
	if c.Dir > ToGuest {
		return fmt.Errorf("%w: direction %d", ErrConfig, c.Dir)
	}
	if err := c.State.check(); err != nil {
		return err
	}
	areas := c.areas()
	for i, a := range areas {
		if uint64(a.addr)%a.align != 0 {
			return fmt.Errorf("%w: %s at %#x is not aligned to %d", ErrConfig, a.name, uint64(a.addr), a.align)
		}
		for _, b := range areas[:i] {
			if a.overlaps(b) {
				return fmt.Errorf("%w: %s and %s overlap", ErrConfig, b.name, a.name)
			}
		}
	}
	return nil
}

// area is one of the three parts of a ring.
type area struct {
	name  string
	addr  guestmem.UVA
	len   uint64
	align uint64
}

func (c *Config) areas() [3]area {
	return [3]area{
		{"descriptor table", c.Desc, ring.DescLen(c.Size), ring.DescAlign},
		{"available ring", c.Avail, ring.AvailLen(c.Size, c.EventIdx), ring.AvailAlign},
		{"used ring", c.Used, ring.UsedLen(c.Size, c.EventIdx), ring.UsedAlign},
	}
}

// overlaps does not care about areas that wrap around: they are not mapped.
func (a area) overlaps(b area) bool {
	return uint64(a.addr-b.addr) < b.len || uint64(b.addr-a.addr) < a.len
}
