package guestmem_test

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/virtqueue/guestmem"
)

func TestGuardTurnsAFaultIntoAnError(t *testing.T) {
	fd := memfd(t, 4)
	table, err := guestmem.Map([]guestmem.Region{{Size: 4 * page, FD: fd}}, nil)
	require.NoError(t, err)
	defer release(t, table)
	iov, ok := table.AppendGPA(make([]guestmem.Iovec, 0, 1), 2*page, page)
	require.True(t, ok)
	require.NoError(t, unix.Ftruncate(fd, page))

	for name, touch := range map[string]func(){
		"read":  func() { guestmem.CopyFrom(make([]byte, 100), iov, 200) },
		"write": func() { guestmem.CopyTo(iov, 200, make([]byte, 100)) },
	} {
		t.Run(name, func(t *testing.T) {
			var fault *guestmem.FaultError
			require.ErrorAs(t, guestmem.Guard(touch), &fault)
			require.GreaterOrEqual(t, fault.Addr, iov[0].Base)
			require.Less(t, fault.Addr, iov[0].Base+page)
			// Guards nest, and work more than once.
			require.NoError(t, guestmem.Guard(func() {
				require.Error(t, guestmem.Guard(touch))
			}))
			require.Error(t, guestmem.Guard(func() {
				require.NoError(t, guestmem.Guard(func() {}))
				touch()
			}), "an inner guard does not switch off the outer one")
		})
	}
	_, _, errno := unix.Syscall(unix.SYS_WRITE, uintptr(memfd(t, 1)), iov[0].Base, 1)
	require.Equal(t, unix.EFAULT, errno, "the kernel says so without a signal")
}

func TestGuardLetsOtherPanicsGoOn(t *testing.T) {
	require.PanicsWithValue(t, "bug", func() { _ = guestmem.Guard(func() { panic("bug") }) })
	require.Panics(t, func() {
		_ = guestmem.Guard(func() {
			var nothing *int
			*nothing = 1 //lint:ignore SA5011 the point of it
		})
	}, "a nil dereference is a bug of ours")
	require.Panics(t, func() {
		_ = guestmem.Guard(func() {
			var empty []byte
			empty[len(empty)] = 1
		})
	})
	err := errors.New("an error")
	require.PanicsWithError(t, "an error", func() { _ = guestmem.Guard(func() { panic(err) }) })
}

func TestGuardCostsNoAllocation(t *testing.T) {
	fn := func() {}
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = guestmem.Guard(fn) }))
}
