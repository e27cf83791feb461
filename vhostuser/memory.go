package vhostuser

import (
	"github.com/vringnet/vring/vhostuser/internal/fdconn"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// setMemory replaces the guest's memory. Rings go on running if the new memory has them too. When it returns nil the old
// memory is not in use any more, which the front end may rely on.
func (s *session) setMemory(regions []wire.Region, fds fdconn.FDs) error {
	list := make([]guestmem.Region, len(regions))
	for i, r := range regions {
		list[i] = guestmem.Region{GPA: guestmem.GPA(r.GPA), Size: r.Size, UVA: guestmem.UVA(r.UVA), Offset: r.Offset, FD: fds[i]}
	}
	t, err := guestmem.Map(list, s.mem)
	if err != nil {
		return refuse("%w", err)
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
		if s.rings[i].within(t) {
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
	for _, r := range s.mem.Regions() {
		size += r.Size
	}
	return size
}
