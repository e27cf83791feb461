package integration

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/hostile"
	"github.com/vringnet/vring/integration/lab/process"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

const (
	// ownMemory bounds what vring itself has resident, in KiB: all but shared memory, which is the guests'.
	ownMemory = 64 << 10
	// addressSpace is how long the files of hostile front ends are, in bytes: as long as all that a process can map.
	addressSpace = 1 << 47
	// mostSlots is how many memory slots vring offers.
	mostSlots = 509
	slotSize  = 4096
)

// A front end with the largest, the most and the fastest of everything costs the other guest nothing, and vring keeps
// nothing of it.
func TestTheLargestTheMostAndTheFastestOfEverything(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		harm func(t *testing.T, a *arena)
	}{
		{"regions as long as the address space, again and again", hugeRegions},
		{"as many slots as there are, and one more", allSlots},
		{"front ends that come and go as fast as they can", stormOfFrontEnds},
		{"connections that are closed at once", stormOfConnections},
		{"descriptors with every message", floodOfDescriptors},
		{"resets as fast as they can be", floodOfResets},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a := newArena(t)
			tt.harm(t, a)
			require.Less(t, residentOfItsOwn(t, a.vring.PID()), ownMemory, "KiB while it lasts")
			a.requireUnharmed()
			require.Less(t, residentOfItsOwn(t, a.vring.PID()), ownMemory, "KiB")
			requireQuietThreads(t, a.vring.PID())
		})
	}
}

// residentOfItsOwn returns what a process has resident in KiB but for shared memory: VmRSS less RssShmem, see
// proc_pid_status(5), where memory of memfds is counted.
func residentOfItsOwn(t *testing.T, pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	field := func(name string) int {
		_, after, found := strings.Cut(string(text), name+":")
		require.True(t, found, name)
		kib, err := strconv.Atoi(strings.Fields(after)[0])
		require.NoError(t, err)
		return kib
	}
	own := field("VmRSS") - field("RssShmem")
	t.Logf("vring has %d KiB of its own, of %d", own, field("VmRSS"))
	return own
}

// requireQuietThreads checks that vring does nothing once everybody has left.
func requireQuietThreads(t *testing.T, pid int) {
	const interval, share = 2 * time.Second, 0.05
	quiet := func() bool {
		before, err := process.ThreadTimes(pid)
		require.NoError(t, err)
		time.Sleep(interval)
		after, err := process.ThreadTimes(pid)
		require.NoError(t, err)
		for thread, used := range after {
			if used-before[thread] > time.Duration(share*float64(interval)) {
				t.Logf("thread %d used %v in %v", thread, used-before[thread], interval)
				return false
			}
		}
		return true
	}
	require.True(t, assertEventually(quiet), "a thread does not come to rest")
}

// sparseFile has a length, and nothing in it.
func sparseFile(t *testing.T, size int64) int {
	fd, err := unix.MemfdCreate("sparse", unix.MFD_CLOEXEC)
	require.NoError(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	require.NoError(t, unix.Ftruncate(fd, size))
	return fd
}

// negotiated is a connection of a front end that can do everything.
func negotiated(t *testing.T, socket string) *frontend.Conn {
	t.Helper()
	fe, err := frontend.Dial(socket)
	require.NoError(t, err)
	t.Cleanup(func() { fe.Close() })
	setup := frontend.Setup{Order: frontend.QEMU11}
	require.NoError(t, fe.Negotiate(0, setup.Protocol()))
	return fe
}

func hugeRegions(t *testing.T, a *arena) {
	fd := sparseFile(t, addressSpace)
	fe := negotiated(t, a.vring.Socket)
	taken, refused := 0, 0
	for i := range 300 {
		for shift := 40; shift < 47; shift++ { // each table is another one
			at := uint64(i+1) << 12
			region := guestmem.Region{GPA: guestmem.GPA(at), UVA: guestmem.UVA(at), Size: 1 << shift, FD: fd}
			if fe.SetMemTable([]guestmem.Region{region}) == nil {
				taken++
			} else {
				refused++
			}
		}
	}
	_, err := fe.GetFeatures()
	require.NoError(t, err)
	require.Positive(t, taken)
	require.Positive(t, refused)
	a.vring.waitOutput("which is its share of this process's address space")
	require.NoError(t, fe.Close())
}

func allSlots(t *testing.T, a *arena) {
	fd := sparseFile(t, (mostSlots+1)*slotSize)
	for range 3 {
		fe := negotiated(t, a.vring.Socket)
		slots, err := fe.GetMaxMemSlots()
		require.NoError(t, err)
		require.EqualValues(t, mostSlots, slots)
		region := func(i int) guestmem.Region {
			at := uint64(i+1) * 2 * slotSize
			return guestmem.Region{GPA: guestmem.GPA(at), UVA: guestmem.UVA(at), Size: slotSize, Offset: uint64(i) * slotSize, FD: fd}
		}
		for i := range mostSlots {
			require.NoError(t, fe.AddMemReg(region(i)))
		}
		require.Error(t, fe.AddMemReg(region(mostSlots)))
		require.GreaterOrEqual(t, a.vring.footprint().SharedMappings, mostSlots)
		for i := range mostSlots {
			require.NoError(t, fe.RemMemReg(region(i)))
		}
		require.NoError(t, fe.Close())
	}
}

const stormTime = 3 * time.Second

func stormOfFrontEnds(t *testing.T, a *arena) {
	before, err := process.CPUTime(a.vring.PID())
	require.NoError(t, err)
	visits := 0
	for end := time.Now().Add(stormTime); time.Now().Before(end); visits++ {
		fe, err := frontend.Dial(a.vring.Socket)
		require.NoError(t, err)
		_, _ = fe.GetFeatures()
		_, _ = fe.GetQueueNum()
		require.NoError(t, fe.Close())
	}
	after, err := process.CPUTime(a.vring.PID())
	require.NoError(t, err)
	t.Logf("%d front ends in %v, %v of processor time", visits, stormTime, after-before)
	require.Less(t, visits, 100, "a front end that comes back at once is slowed down")
	require.Contains(t, a.vring.Output(), "more queue pairs than there are (1)")
	require.Contains(t, a.vring.Output(), "--queues")
}

func stormOfConnections(t *testing.T, a *arena) {
	logged := len(a.vring.Output())
	for end := time.Now().Add(stormTime); time.Now().Before(end); {
		fe, err := frontend.Dial(a.vring.Socket)
		if err != nil {
			require.ErrorIs(t, err, unix.EAGAIN) // as many wait as may
			time.Sleep(time.Millisecond)
			continue
		}
		require.NoError(t, fe.Close())
	}
	require.Less(t, len(a.vring.Output())-logged, 10<<10, "bytes of log")
}

func floodOfDescriptors(t *testing.T, a *arena) {
	fe := negotiated(t, a.vring.Socket)
	fds := make([]int, 253)
	for i := range fds {
		fds[i] = int(os.Stdin.Fd())
	}
	for range 2000 {
		require.Error(t, fe.Send(wire.Message{Request: wire.SetOwner, NeedReply: true}, fds...))
	}
	require.Contains(t, a.vring.Output(), "more than 8 file descriptors with a message")
	require.NoError(t, fe.Close())
}

// A process that may open just as many files as it asks for has room for all that a front end can leave with it.
func TestAFrontEndThatLeavesAllTheDescriptorsItCan(t *testing.T) {
	const pairs, most = 32, 914
	limited := &daemon{t: t, emulator: []string{"sh", "-c", fmt.Sprintf(`ulimit -n %d; exec "$0" "$@"`, most), built.vring}}
	a := newArenaOf(t, limited, "--queues", strconv.Itoa(pairs))
	fe := negotiated(t, a.vring.Socket)
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	require.NoError(t, err)
	defer unix.Close(fd)
	before := a.vring.footprint().FDs
	for range 3 {
		for ring := range 2 * pairs {
			require.NoError(t, fe.SetVringKick(ring, fd))
			require.NoError(t, fe.SetVringCall(ring, fd))
			require.NoError(t, fe.SetVringErr(ring, fd))
		}
		require.NoError(t, fe.SetBackendReqFD(fd))
	}
	_, err = fe.GetFeatures()
	require.NoError(t, err)
	require.Equal(t, 3*2*pairs+1, a.vring.footprint().FDs-before, "what one message brings, the next one replaces")

	// Those who want to take its place bring nothing with them that counts.
	var open []*frontend.Conn
	for range 8 {
		other, err := frontend.Dial(a.vring.Socket)
		require.NoError(t, err)
		open = append(open, other)
	}
	time.Sleep(floodTime)
	require.Less(t, a.vring.footprint().FDs, most)
	for _, c := range append(open, fe) {
		require.NoError(t, c.Close())
	}
	a.requireUnharmed()
	require.NotContains(t, a.vring.Output(), "as many open files as it may")
}

func floodOfResets(t *testing.T, a *arena) {
	f := hostile.New(theirAddress)
	defer f.Close()
	f.Setup.Order = frontend.QEMU11
	require.True(t, assertEventually(func() bool { return f.Connect(a.vring.Socket) == nil }))
	for range 300 {
		require.NoError(t, f.ResetDevice())
		for _, step := range f.Setup.Steps(f.Features())[2:] {
			if step.Message.Request != wire.AddMemReg {
				require.NoError(t, f.Do(step))
			}
		}
	}
	_, err := f.GetFeatures()
	require.NoError(t, err)
}
