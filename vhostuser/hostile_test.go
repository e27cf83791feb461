package vhostuser

import (
	"encoding/binary"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// hostile is one thing that a front end may do to us. Each runs against a session with running rings, after which the
// harness counts descriptors and mappings.
type hostile struct {
	name string
	m    wire.Message
	fds  func(h *harness) []int
	// ignored: the session goes on. Otherwise it ends, or is refused if an acknowledgement was asked for.
	ignored bool
	// fatal: the session ends even if an acknowledgement was asked for.
	fatal bool
}

func fds(n int) func(*harness) []int {
	return func(h *harness) []int {
		list := make([]int, n)
		for i := range list {
			list[i] = eventfd(h.t)
		}
		return list
	}
}

func file(path string) func(*harness) []int {
	return func(h *harness) []int {
		f, err := os.Open(path)
		require.NoError(h.t, err)
		h.t.Cleanup(func() { f.Close() })
		return []int{int(f.Fd())}
	}
}

func hostileMessages() []hostile {
	return []hostile{
		{name: "SET_VRING_NUM of ring 2 of 2", m: wire.Message{Request: wire.SetVringNum, Ring: 2}},
		{name: "SET_VRING_NUM of ring 65536", m: wire.Message{Request: wire.SetVringNum, Ring: 1 << 16}},
		{name: "SET_VRING_ADDR of ring 4294967295", m: wire.Message{Request: wire.SetVringAddr, Ring: 1<<32 - 1}},
		{name: "SET_VRING_BASE of ring 2147483648", m: wire.Message{Request: wire.SetVringBase, Ring: 1 << 31}},
		{name: "SET_VRING_ENABLE of ring 2", m: wire.Message{Request: wire.SetVringEnable, Ring: 2, Num: 1}},
		{name: "GET_VRING_BASE of ring 65537", m: wire.Message{Request: wire.GetVringBase, Ring: 1<<16 + 1}, fatal: true},
		{name: "SET_VRING_KICK of ring 255", m: wire.Message{Request: wire.SetVringKick, Ring: 255}, fds: fds(1)},
		{name: "SET_VRING_CALL of ring 2", m: wire.Message{Request: wire.SetVringCall, Ring: 2}, fds: fds(1)},
		{name: "SET_VRING_ERR of ring 2", m: wire.Message{Request: wire.SetVringErr, Ring: 2}, fds: fds(1)},

		{name: "GET_FEATURES with a descriptor", m: wire.Message{Request: wire.GetFeatures}, fds: fds(1), fatal: true},
		{name: "SET_FEATURES with 8 descriptors", m: wire.Message{Request: wire.SetFeatures}, fds: fds(8)},
		{name: "SET_OWNER with 9 descriptors", m: wire.Message{Request: wire.SetOwner}, fds: fds(9)},
		{name: "SET_OWNER with 253 descriptors", m: wire.Message{Request: wire.SetOwner}, fds: fds(253)},
		{name: "SET_VRING_KICK with 2 descriptors", m: wire.Message{Request: wire.SetVringKick}, fds: fds(2)},
		{name: "SET_VRING_KICK without a descriptor", m: wire.Message{Request: wire.SetVringKick}},
		{name: "SET_VRING_CALL without but with a descriptor", m: wire.Message{Request: wire.SetVringCall, NoFD: true}, fds: fds(1)},
		{name: "SET_BACKEND_REQ_FD without a descriptor", m: wire.Message{Request: wire.SetBackendReqFD}},
		{name: "SET_BACKEND_REQ_FD with 2 descriptors", m: wire.Message{Request: wire.SetBackendReqFD}, fds: fds(2)},
		{name: "SET_VRING_KICK with a directory", m: wire.Message{Request: wire.SetVringKick}, fds: file("/")},
		{name: "SET_VRING_CALL with a file", m: wire.Message{Request: wire.SetVringCall}, fds: file("/proc/self/maps")},
		{name: "SET_VRING_CALL with a pipe", m: wire.Message{Request: wire.SetVringCall}, fds: pipe},
		{name: "SET_VRING_ERR with a device", m: wire.Message{Request: wire.SetVringErr}, fds: file("/dev/zero")},

		{name: "no memory region", m: wire.Message{Request: wire.SetMemTable}},
		{name: "9 memory regions", m: wire.Message{Request: wire.SetMemTable, Regions: make([]wire.Region, 9)}, fds: fds(9)},
		{name: "127 memory regions", m: wire.Message{Request: wire.SetMemTable, Regions: make([]wire.Region, 127)}, fds: fds(127)},
		{name: "fewer descriptors than memory regions", m: wire.Message{Request: wire.SetMemTable, Regions: make([]wire.Region, 2)}, fds: fds(1)},
		{name: "more descriptors than memory regions", m: wire.Message{Request: wire.SetMemTable, Regions: make([]wire.Region, 1)}, fds: fds(8)},
		{name: "memory region of an eventfd", m: wire.Message{Request: wire.SetMemTable, Regions: []wire.Region{{Size: 4096}}}, fds: fds(1)},
		{name: "memory region of a directory", m: wire.Message{Request: wire.SetMemTable, Regions: []wire.Region{{Size: 4096}}}, fds: file("/")},
		{name: "memory region of /proc", m: wire.Message{Request: wire.SetMemTable, Regions: []wire.Region{{Size: 4096}}}, fds: file("/proc/self/maps")},
		{name: "memory region of the session's own kind of socket", m: wire.Message{Request: wire.SetMemTable, Regions: []wire.Region{{Size: 4096}}}, fds: socket},

		{name: "features that were not offered", m: wire.Message{Request: wire.SetFeatures, Value: 1 << 63}},
		{name: "protocol features that were not offered", m: wire.Message{Request: wire.SetProtocolFeatures, Value: 1 << 16}},
		{name: "MQ at one pair", m: wire.Message{Request: wire.SetProtocolFeatures, Value: wire.ProtocolMQ}},
		{name: "base of a packed ring", m: wire.Message{Request: wire.SetVringBase, Num: 0x80008000}},
		{name: "enable 2", m: wire.Message{Request: wire.SetVringEnable, Num: 2}},

		{name: "request 0", m: wire.Message{Request: 0}, ignored: true},
		{name: "request 4294967295", m: wire.Message{Request: 1<<32 - 1}, ignored: true},
		{name: "request 45 with descriptors", m: wire.Message{Request: 45}, fds: fds(8), ignored: true},
		{name: "SET_LOG_BASE, not negotiated", m: wire.Message{Request: wire.SetLogBase}, fds: fds(1), fatal: true},
		{name: "SET_LOG_FD, not negotiated", m: wire.Message{Request: wire.SetLogFD}, fds: fds(1), ignored: true},
		{name: "IOTLB_MSG, not negotiated", m: wire.Message{Request: 22}, ignored: true},
		{name: "GET_CONFIG, not negotiated", m: wire.Message{Request: 24}, ignored: true},
		{name: "SET_CONFIG, not negotiated", m: wire.Message{Request: 25}, ignored: true},
		{name: "CREATE_CRYPTO_SESSION, not negotiated", m: wire.Message{Request: 26}, ignored: true},
		{name: "POSTCOPY_ADVISE, not negotiated", m: wire.Message{Request: 28}, ignored: true},
		{name: "GET_INFLIGHT_FD, not negotiated", m: wire.Message{Request: 31}, ignored: true},
		{name: "SET_INFLIGHT_FD, not negotiated", m: wire.Message{Request: 32}, fds: fds(1), ignored: true},
		{name: "ADD_MEM_REG, not negotiated", m: wire.Message{Request: wire.AddMemReg, Regions: make([]wire.Region, 1)}, fds: fds(1), ignored: true},
		{name: "REM_MEM_REG, not negotiated", m: wire.Message{Request: wire.RemMemReg, Regions: make([]wire.Region, 1)}, fds: fds(1), ignored: true},
		{name: "RESET_DEVICE, not negotiated", m: wire.Message{Request: wire.ResetDevice}, ignored: true},
		{name: "SET_STATUS, not negotiated", m: wire.Message{Request: 39}, ignored: true},
	}
}

func socket(h *harness) []int {
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(h.t, err)
	h.t.Cleanup(func() { unix.Close(ends[0]); unix.Close(ends[1]) })
	return ends[:1]
}

func pipe(h *harness) []int {
	var ends [2]int
	require.NoError(h.t, unix.Pipe2(ends[:], unix.O_CLOEXEC))
	h.t.Cleanup(func() { unix.Close(ends[0]); unix.Close(ends[1]) })
	return ends[1:]
}

func TestHostileMessages(t *testing.T) {
	for _, tt := range hostileMessages() {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, 1)
			h.start() // without memory slots and RESET_DEVICE
			h.send(tt, false)
			if tt.ignored {
				h.sync()
				h.dev.requireRings(true, true)
				return
			}
			h.wait()
			require.Error(t, h.reason)
		})
		t.Run(tt.name+", acknowledged", func(t *testing.T) {
			h := newHarness(t, 1)
			h.start()
			h.send(tt, true)
			if tt.fatal {
				h.wait()
				require.Error(t, h.reason)
				return
			}
			r, err := h.fe.ReadReply(tt.m.Request)
			require.NoError(t, err)
			require.Equal(t, uint64(1), r.Value)
			h.sync()
			h.dev.requireRings(true, true)
		})
	}
}

// send sends a message with its descriptors, whether they fit or not.
func (h *harness) send(c hostile, needReply bool) {
	h.t.Helper()
	var list []int
	if c.fds != nil {
		list = c.fds(h)
	}
	c.m.NeedReply = needReply
	require.NoError(h.t, h.fe.Write(c.m.Append(nil), list...))
}

func TestHostileBytes(t *testing.T) {
	tests := []struct {
		name string
		b    []byte
	}{
		{"version 0", []byte{1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"version 2", []byte{1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0}},
		{"a reply", []byte{1, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0}},
		{"4 GiB of payload", []byte{1, 0, 0, 0, 1, 0, 0, 0, 255, 255, 255, 255}},
		{"payload where there is none", append([]byte{1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0}, make([]byte, 8)...)},
		{"too little payload", append([]byte{2, 0, 0, 0, 9, 0, 0, 0, 4, 0, 0, 0}, make([]byte, 4)...)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := newHarness(t, 1)
			h.start()
			require.NoError(t, h.fe.Write(tt.b, fds(8)(h)...))
			h.requireEnd(wire.ErrFraming)
		})
	}
}

func TestFloodOfMessagesDoesNotGrowAnything(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	openBefore, mapsBefore, heapBefore := openFDs(t), guestMappings(t), heap()
	fd := h.setup.Rings[0].CallFD
	for i := range 500 {
		require.NoError(t, h.fe.SetVringCall(0, fd))
		require.NoError(t, h.fe.SetVringErr(1, fd))
		require.NoError(t, h.fe.SetVringKick(1, fd))
		require.NoError(t, h.fe.SetBackendReqFD(fd))
		require.NoError(t, h.fe.SetMemTable(h.memory(i)))
		require.NoError(t, h.fe.Send(wire.Message{Request: 99}))
	}
	h.sync()
	require.Equal(t, openBefore+1, openFDs(t), "the back-end channel is new")
	require.Equal(t, mapsBefore, guestMappings(t))
	require.Less(t, countLines(h.log.String(), "ignored"), 100, "the log is limited")
	h.dev.takeCalls()
	const slack = 1 << 20 // 3000 messages that left 350 bytes each behind would be more
	require.Less(t, heap(), heapBefore+slack)
}

// heap is how many bytes are in use.
func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// memory returns memory that differs from one i to the next, with the rings in it.
func (h *harness) memory(i int) []guestmem.Region {
	r := h.setup.Memory[0]
	r.Size -= uint64(i%2) * 4096
	return []guestmem.Region{r}
}

func TestFrontEndThatDoesNotReadItsReplies(t *testing.T) {
	h := newStalledHarness(t)
	get := (&wire.Message{Request: wire.GetFeatures}).Append(nil)
	for range 100000 {
		if err := h.fe.Write(get); err != nil {
			break
		}
	}
	h.requireEnd(os.ErrDeadlineExceeded)
}

// fill makes the next write to an eventfd wait.
func fill(t *testing.T, fd int) {
	const most = 1<<64 - 2
	_, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, most))
	require.NoError(t, err)
	require.NoError(t, unix.SetNonblock(fd, false))
}

// The front end shares the file of an eventfd, and with it O_NONBLOCK.
func TestAFullBlockingErrorEventfdHoldsNobodyUp(t *testing.T) {
	h := newHarness(t, 1)
	h.start()
	h.dev.letBlock()
	fill(t, h.setup.Rings[0].ErrFD)
	addr := ringAddr(h.setup.Rings[0])
	addr.Used += 2 // not aligned: cannot be served, which is signalled
	require.NoError(t, h.fe.SetVringAddr(0, addr))
	h.sync()
	require.Contains(t, h.log.String(), "cannot be served")
}

func TestAThreadThatWaitsForAFullEventfdIsFreed(t *testing.T) {
	fd := eventfd(t)
	fill(t, fd)
	written := make(chan error)
	go func() {
		_, err := unix.Write(fd, binary.NativeEndian.AppendUint64(nil, 1))
		written <- err
	}()
	require.Eventually(t, func() bool {
		unblock(fd)
		select {
		case err := <-written:
			require.NoError(t, err)
			return true
		default:
			return false
		}
	}, testLimit, time.Millisecond)
	unblock(fd)
	unblock(fd) // empty, and blocking: does not wait
}
