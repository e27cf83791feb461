package vhostuser

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// sparse is a file that has a length, and nothing in it.
func sparse(t testing.TB, size int64) int {
	fd, err := unix.MemfdCreate("sparse", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, size))
	return fd
}

func TestMemoryOfAllTablesTogetherIsBounded(t *testing.T) {
	const bound = 1 << 40
	h := newBoundHarness(t, guestmem.Limits{Bytes: bound, Mappings: 1000})
	fd := sparse(t, 4*bound)
	rings := h.setup.Memory[0].Size
	huge := func(i, size uint64) guestmem.Region {
		at := 1<<44 + i*bound
		return guestmem.Region{GPA: guestmem.GPA(at), UVA: guestmem.UVA(at), Size: size, FD: fd}
	}
	half := huge(0, bound/2)
	require.NoError(t, h.fe.AddMemReg(half))
	h.requireRefused(h.fe.AddMemReg(huge(1, bound/2-rings+slotSize)))
	require.Contains(t, h.log.String(), "more than 0x10000000000 bytes mapped")
	require.NoError(t, h.fe.AddMemReg(huge(1, bound/2-rings)), "all that there is")
	h.requireRefused(h.fe.AddMemReg(huge(2, slotSize)))

	// A table that shares nothing with the one before counts beside it.
	require.NoError(t, h.fe.RemMemReg(huge(1, bound/2-rings)))
	other := half
	other.UVA += bound
	h.requireRefused(h.fe.SetMemTable([]guestmem.Region{h.setup.Memory[0], other}))
	require.NoError(t, h.fe.SetMemTable([]guestmem.Region{h.setup.Memory[0], half}), "what is shared counts once")
	h.dev.requireRings(true, true)
}

func TestTheNumberOfMappingsOfAllTablesTogetherIsBounded(t *testing.T) {
	h := newBoundHarness(t, guestmem.Limits{Bytes: 1 << 40, Mappings: 3 + wire.MaxRegions})
	fd := slotFile(t, 30)
	slots, err := h.fe.GetMaxMemSlots()
	require.NoError(t, err)
	require.EqualValues(t, 3, slots, "and room for a table")
	require.NoError(t, h.fe.AddMemReg(slot(fd, 0)))
	require.NoError(t, h.fe.AddMemReg(slot(fd, 1)))
	h.requireRefused(h.fe.AddMemReg(slot(fd, 2)))

	table := []guestmem.Region{h.setup.Memory[0]}
	for i := 3; len(table) < wire.MaxRegions; i++ {
		table = append(table, slot(fd, i))
	}
	require.NoError(t, h.fe.SetMemTable(table), "7 mappings beside 3")
	for i := 1; i < len(table); i++ {
		table[i] = slot(fd, 10+i)
	}
	h.requireRefused(h.fe.SetMemTable(table))
	require.Contains(t, h.log.String(), "more than 11 regions mapped")
}

func TestLimitsOfTheProtocolAreRefusedByTheirNames(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	table := func(n int) wire.Message {
		return wire.Message{Request: wire.SetMemTable, NeedReply: true, Regions: make([]wire.Region, n)}
	}
	h.requireRefused(h.fe.Send(table(9), fds(9)(h)...))
	require.Contains(t, h.log.String(), "9 memory regions in a table, want 1 to 8")
	h.requireRefused(h.fe.Send(table(100), fds(100)(h)...))
	require.Contains(t, h.log.String(), "100 memory regions in a table, want 1 to 8")
	h.requireRefused(h.fe.Send(wire.Message{Request: wire.SetOwner, NeedReply: true}, fds(20)(h)...))
	require.Contains(t, h.log.String(), "more than 8 file descriptors with a message")
}

func TestAProcessWithoutDescriptorsRefusesByTheNameOfTheLimit(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	withoutRoom(t, func() {
		h.requireRefused(h.fe.SetMemTable(h.setup.Memory))
	})
	require.Contains(t, h.log.String(), "as many open files as it may")
	require.Contains(t, h.log.String(), "ulimit -n")
	require.NoError(t, h.fe.SetMemTable(h.setup.Memory), "as soon as there is room again")
}

// withoutRoom runs do while this process may open no more descriptors.
func withoutRoom(t *testing.T, do func()) {
	t.Helper()
	var before unix.Rlimit
	require.NoError(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &before))
	limited := before
	limited.Cur = 0
	require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &limited))
	defer func() { require.NoError(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &before)) }()
	do()
}
