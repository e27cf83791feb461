package vhostuser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// newSlotHarness has a front end that passes memory by slots, and is up.
func newSlotHarness(t testing.TB) *harness {
	t.Helper()
	h := newHarness(t, 1)
	h.setup.Order = frontend.QEMU11
	h.start()
	return h
}

const slotSize = 4096

// slot is page i of a file, far from the memory that has the rings.
func slot(fd, i int) guestmem.Region {
	const at = 1 << 40
	offset := uint64(i) * slotSize
	return guestmem.Region{GPA: guestmem.GPA(at + 2*offset), UVA: guestmem.UVA(at + 3*offset), Size: slotSize, Offset: offset, FD: fd}
}

// slotFile is a file for so many slots.
func slotFile(t testing.TB, slots int64) int {
	fd, err := unix.MemfdCreate("slots", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, slots*slotSize))
	return fd
}

// requireRefused checks that the back end refused a message and that the session goes on.
func (h *harness) requireRefused(err error) {
	h.t.Helper()
	var refused *frontend.RefusedError
	require.ErrorAs(h.t, err, &refused)
	h.sync()
	h.dev.requireRings(true, true)
}

func (h *harness) memoryOfDevice() *guestmem.Table {
	h.dev.mu.Lock()
	defer h.dev.mu.Unlock()
	return h.dev.mem
}

func TestMemoryComesAndGoesBySlotsUnderRunningRings(t *testing.T) {
	h := newSlotHarness(t)
	fd := slotFile(t, 3)
	before := openFDs(t)
	h.dev.takeCalls()
	for i := range 3 {
		require.NoError(t, h.fe.AddMemReg(slot(fd, i)))
	}
	require.Len(t, h.memoryOfDevice().Regions(), 4)
	require.NoError(t, h.fe.RemMemReg(slot(fd, 1)))
	unknownOffset := slot(fd, 2)
	unknownOffset.Offset = 12345
	require.NoError(t, h.fe.RemMemReg(unknownOffset), "the offset means nothing")
	withFile := slot(fd, 0)
	m := wire.Message{Request: wire.RemMemReg, NeedReply: true, Regions: []wire.Region{{GPA: uint64(withFile.GPA), UVA: uint64(withFile.UVA), Size: slotSize}}}
	require.NoError(t, h.fe.Send(m, fd), "some front ends send a descriptor")
	require.Len(t, h.memoryOfDevice().Regions(), 1)
	h.sync() // the last descriptor is closed behind the reply
	require.Equal(t, before, openFDs(t))
	for _, call := range h.dev.takeCalls() {
		require.Equal(t, "SetMemory", call, "the rings go on")
	}
}

func TestAsManySlotsAsOfferedCanBeUsedAtOnceAndNotOneMore(t *testing.T) {
	h := newSlotHarness(t)
	offered, err := h.fe.GetMaxMemSlots()
	require.NoError(t, err)
	require.EqualValues(t, 509, offered)
	fd := slotFile(t, 509)
	for i := 1; i < 509; i++ { // beside the one with the rings
		require.NoError(t, h.fe.AddMemReg(slot(fd, i)))
	}
	require.Len(t, h.memoryOfDevice().Regions(), 509)
	h.requireRefused(h.fe.AddMemReg(slot(fd, 0)))
	require.Contains(t, h.log.String(), "one memory region more than the 509 that were offered")
	require.NoError(t, h.fe.RemMemReg(slot(fd, 7)))
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	h.dev.requireRings(true, true)
}

// QEMU 7.2 adds and removes each region once for each queue pair.
func TestASlotMayBeAddedOnceForEachQueuePairAndStaysUntilItIsRemovedAsOften(t *testing.T) {
	const pairs = 3
	h := newHarness(t, pairs)
	h.setup.Order = frontend.QEMU11
	h.start()
	fd, other := slotFile(t, 2), slotFile(t, 2)
	before := openFDs(t)
	for range pairs {
		require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	}
	require.Len(t, h.memoryOfDevice().Regions(), 2)
	h.requireRefused(h.fe.AddMemReg(slot(fd, 0)))
	require.NoError(t, h.fe.RemMemReg(slot(fd, 0)))
	h.requireRefused(h.fe.AddMemReg(slot(other, 0)))
	moved := slot(fd, 0)
	moved.Offset = slotSize
	h.requireRefused(h.fe.AddMemReg(moved))
	for range pairs - 1 {
		require.Len(t, h.memoryOfDevice().Regions(), 2)
		require.NoError(t, h.fe.RemMemReg(slot(fd, 0)))
	}
	require.Len(t, h.memoryOfDevice().Regions(), 1)
	h.requireRefused(h.fe.RemMemReg(slot(fd, 0)))
	h.sync()
	require.Equal(t, before, openFDs(t))

	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	table := []guestmem.Region{slot(fd, 0)}
	table = append(table, h.setup.Memory...)
	require.NoError(t, h.fe.SetMemTable(table))
	require.NoError(t, h.fe.RemMemReg(slot(fd, 0)), "a table begins anew")
	require.Len(t, h.memoryOfDevice().Regions(), 1)
}

func TestSlotsThatCannotBeAreRefusedAndChangeNothing(t *testing.T) {
	h := newSlotHarness(t)
	fd := slotFile(t, 4)
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	edited := func(i int, edit func(*guestmem.Region)) guestmem.Region {
		r := slot(fd, i)
		edit(&r)
		return r
	}
	for name, r := range map[string]guestmem.Region{
		"twice":                           slot(fd, 0),
		"twice in guest memory":           edited(1, func(r *guestmem.Region) { r.GPA = slot(fd, 0).GPA }),
		"twice in the front end's":        edited(1, func(r *guestmem.Region) { r.UVA = slot(fd, 0).UVA }),
		"overlaps":                        edited(1, func(r *guestmem.Region) { r.GPA = slot(fd, 0).GPA + 1 }),
		"empty":                           edited(1, func(r *guestmem.Region) { r.Size = 0 }),
		"behind the end of its file":      edited(3, func(r *guestmem.Region) { r.Size++ }),
		"longer than anything":            edited(1, func(r *guestmem.Region) { r.Size = 1<<64 - 1 }),
		"wraps around":                    edited(1, func(r *guestmem.Region) { r.GPA = 1<<64 - 1 }),
		"of an eventfd":                   edited(1, func(r *guestmem.Region) { r.FD = h.setup.Rings[0].CallFD }),
		"offset that is not a whole page": edited(1, func(r *guestmem.Region) { r.Offset = 1 }),
	} {
		t.Run("add "+name, func(t *testing.T) { h.requireRefused(h.fe.AddMemReg(r)) })
	}
	for name, r := range map[string]guestmem.Region{
		"unknown":            slot(fd, 1),
		"of another size":    edited(0, func(r *guestmem.Region) { r.Size++ }),
		"of another address": edited(0, func(r *guestmem.Region) { r.UVA++ }),
	} {
		t.Run("remove "+name, func(t *testing.T) { h.requireRefused(h.fe.RemMemReg(r)) })
	}
	require.Len(t, h.memoryOfDevice().Regions(), 2)
	require.NoError(t, h.fe.RemMemReg(slot(fd, 0)))
}

func TestAMemoryTableReplacesSlots(t *testing.T) {
	h := newSlotHarness(t)
	fd := slotFile(t, 2)
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	require.NoError(t, h.fe.SetMemTable(h.setup.Memory))
	require.Len(t, h.memoryOfDevice().Regions(), 1)
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	require.Len(t, h.memoryOfDevice().Regions(), 2)
	h.dev.requireRings(true, true)
}

func TestTheSlotOfARunningRingIsTakenAwayAndComesBack(t *testing.T) {
	h := newHarness(t, 1)
	before := guestMappings(t)
	h.setup.Order = frontend.QEMU11
	h.start()
	require.NoError(t, h.fe.RemMemReg(h.setup.Memory[0]))
	h.dev.requireRings(false, true)
	require.Nil(t, h.memoryOfDevice())
	require.Equal(t, before, guestMappings(t))
	require.NoError(t, h.fe.AddMemReg(h.setup.Memory[0]))
	h.sync()
	h.dev.requireRings(true, true)
}

// With GPA_ADDRESSES, rings are told by guest-physical addresses, and the place in the front end's memory means nothing.
func TestRingsAreFoundByGuestPhysicalAddresses(t *testing.T) {
	h := newHarness(t, 1)
	const needed = wire.ProtocolReplyAck | wire.ProtocolConfigureMemSlots | wire.ProtocolGPAAddresses
	require.NoError(t, h.fe.Negotiate(fakeFeatures, needed))
	memory := h.setup.Memory[0]
	for i := range h.setup.Rings {
		r := &h.setup.Rings[i]
		for _, a := range []*guestmem.UVA{&r.Desc, &r.Avail, &r.Used} {
			*a += guestmem.UVA(memory.GPA) - memory.UVA
		}
	}
	h.setup.Order = frontend.QEMU11
	h.setup.Memory[0].UVA = 0xdead0000
	for _, step := range h.setup.Steps(h.fe.Features()) {
		require.NoError(t, h.fe.Do(step))
	}
	h.sync()
	h.dev.requireRings(true, true)
	memory.UVA = 0xbeef0000
	require.NoError(t, h.fe.RemMemReg(memory))
	h.dev.requireRings(false, true)
}

func TestADeviceResetForgetsTheDriverAndNothingElse(t *testing.T) {
	h := newSlotHarness(t)
	h.dev.answerBase(0, 77)
	h.dev.takeCalls()
	require.NoError(t, h.fe.ResetDevice())
	h.sync()
	h.dev.requireRings(false, false)
	require.Equal(t, []string{"StopRing 0", "EnableRing 0 false", "StopRing 1", "EnableRing 1 false", "DriverReset"}, h.dev.takeCalls())
	require.NotNil(t, h.memoryOfDevice(), "front ends do not pass it again")

	// The next driver, as QEMU brings it: nothing that was told to the one before counts.
	for i, r := range h.setup.Rings {
		require.NoError(t, h.fe.SetVringEnable(i, true))
		require.NoError(t, h.fe.SetVringKick(i, r.KickFD))
		require.NoError(t, h.fe.SetVringNum(i, r.Num))
		require.NoError(t, h.fe.SetVringAddr(i, ringAddr(r)))
	}
	h.sync()
	h.dev.requireRings(false, true)
	require.NoError(t, h.fe.SetFeatures(h.fe.Features()))
	h.sync()
	h.dev.requireRings(true, true)
	require.Zero(t, h.dev.ring(0).cfg.State, "the ring begins anew")
	require.NotEqual(t, noFD, h.dev.ring(0).fds.Call, "it was passed before, and is not again")
	require.NotEqual(t, noFD, h.dev.ring(0).fds.Err)
}

func TestAResetOfADeviceThatNeverRanIsHarmless(t *testing.T) {
	h := newHarness(t, 2)
	h.setup.Order = frontend.QEMU11
	require.NoError(t, h.fe.Negotiate(fakeFeatures, h.setup.Protocol()))
	for range 3 {
		require.NoError(t, h.fe.ResetDevice())
	}
	for _, step := range h.setup.Steps(h.fe.Features()) {
		require.NoError(t, h.fe.Do(step))
	}
	h.sync()
	h.dev.requireRings(true, true)
}
