package vhostuser

import (
	"slices"

	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// maxSlots is how many memory slots a front end may use: as many as the kernel's vhost allows, and other back ends.
const maxSlots = 509

// slotsWithin returns how many memory slots are offered under limits. It does not change: a front end that is told fewer
// when it comes back gives up. Room is left for a table that replaces the slots.
func slotsWithin(l guestmem.Limits) int { return max(1, min(maxSlots, l.Mappings-wire.MaxRegions)) }

// setMemory replaces the guest's memory. Rings go on running if the new memory has them too. When it returns nil the old
// memory is not in use any more, which the front end may rely on.
func (s *session) setMemory(regions []wire.Region, fds fdconn.FDs) error {
	list := make([]guestmem.Region, len(regions))
	for i, r := range regions {
		list[i] = s.region(r, fds[i])
	}
	if err := s.changeMemory(list); err != nil {
		return err
	}
	clear(s.repeats)
	return nil
}

// slotID is what a memory slot is known by; the offset in its file means nothing (REM_MEM_REG).
type slotID struct {
	gpa  guestmem.GPA
	uva  guestmem.UVA
	size uint64
}

func idOf(r guestmem.Region) slotID { return slotID{r.GPA, r.UVA, r.Size} }

// addMemory adds one region, whose addresses nothing else has (ADD_MEM_REG). QEMU before 9.0 adds and removes each region
// once for each queue pair, so the very same region may come as often as there are pairs, and stays until it has been
// removed as often.
func (s *session) addMemory(r wire.Region, fds fdconn.FDs) error {
	if err := s.needs(wire.ProtocolConfigureMemSlots); err != nil {
		return err
	}
	region := s.region(r, fds[0])
	id := idOf(region)
	if s.repeats[id] < len(s.rings)/2-1 && s.mem.Has(region) {
		s.repeats[id]++
		return nil
	}
	list := s.regions()
	if len(list) >= s.slots {
		return refuse("one memory region more than the %d that were offered", s.slots)
	}
	return s.changeMemory(append(list, region))
}

// removeMemory takes a region away (REM_MEM_REG).
func (s *session) removeMemory(r wire.Region) error {
	if err := s.needs(wire.ProtocolConfigureMemSlots); err != nil {
		return err
	}
	gone := s.region(r, noFD)
	list := s.regions()
	i := slices.IndexFunc(list, func(r guestmem.Region) bool { return idOf(r) == idOf(gone) })
	if i < 0 {
		return refuse("%v is not there", gone)
	}
	if s.repeats[idOf(gone)] > 0 {
		s.repeats[idOf(gone)]--
		return nil
	}
	return s.changeMemory(slices.Delete(list, i, i+1))
}

// region is what the front end says of a region, and its file. With GPA_ADDRESSES, addresses of rings are guest-physical.
func (s *session) region(r wire.Region, fd int) guestmem.Region {
	uva := guestmem.UVA(r.UVA)
	if s.protocol&wire.ProtocolGPAAddresses != 0 {
		uva = guestmem.UVA(r.GPA)
	}
	return guestmem.Region{GPA: guestmem.GPA(r.GPA), Size: r.Size, UVA: uva, Offset: r.Offset, FD: fd}
}

// regions returns the regions of the present memory, which keep their mappings in another table.
func (s *session) regions() []guestmem.Region {
	if s.mem == nil {
		return nil
	}
	return s.mem.Regions()
}

// changeMemory makes list the guest's memory; an empty one takes it away.
func (s *session) changeMemory(list []guestmem.Region) error {
	var t *guestmem.Table
	if len(list) > 0 {
		var err error
		if t, err = s.budget.Map(list, s.mem); err != nil {
			return refuse("%w", err)
		}
	}
	if err := s.adopt(t); err != nil {
		s.limboTables = append(s.limboTables, t)
		return err
	}
	s.retryRefused()
	return nil
}

// adopt gives t to the device and releases the table before it. After an error the device may use either.
func (s *session) adopt(t *guestmem.Table) error {
	for i := range s.rings {
		if t != nil && s.rings[i].within(t) && s.canLog(i, t) {
			continue
		}
		if err := s.suspend(i); err != nil {
			return err
		}
	}
	if err := s.dev.SetMemory(t); err != nil {
		return fail(err, "set memory")
	}
	old := s.mem
	s.mem = t
	s.tellUncovered()
	if old == nil {
		return nil
	}
	if err := old.Release(); err != nil {
		s.log.Warn("release guest memory", "err", err)
	}
	return nil
}

// memorySize returns the size of the guest's memory in bytes.
func (s *session) memorySize() uint64 {
	size := uint64(0)
	for _, r := range s.regions() {
		size += r.Size
	}
	return size
}
