package framesocket

import (
	"bytes"
	"encoding/binary"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/ownrings"
	"github.com/vringnet/vring/internal/vfkit"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// hand is a driver with its front end and its device, which do what a test has them do, on its goroutine.
type hand struct {
	*frames
	t      testing.TB
	peer   int // the front end's socket
	tx, rx *virtqueue.Queue
	writer netbackend.RXWriter
}

func byHand(t testing.TB, f Framing) *hand {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, f.kind()|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	h := &hand{frames: newFrames(f), t: t, peer: fds[1]}
	t.Cleanup(func() {
		unix.Close(fds[0])
		unix.Close(h.peer)
	})
	h.begin(fds[0])
	h.rx, h.tx = h.queue(0, virtqueue.ToGuest), h.queue(1, virtqueue.FromGuest)
	h.writer.Attach(h.rx, vnet.HeaderLen, true)
	return h
}

func (h *hand) queue(i int, dir virtqueue.Direction) *virtqueue.Queue {
	cfg := h.Ring(i)
	cfg.Dir = dir
	q, err := virtqueue.New(h.Table(), cfg)
	require.NoError(h.t, err)
	return q
}

// say has the front end send b, as far as its socket takes it.
func (h *hand) say(b []byte) (n int) {
	for n < len(b) {
		wrote, err := unix.SendmsgN(h.peer, b[n:], nil, nil, unix.MSG_NOSIGNAL)
		if err != nil {
			require.ErrorIs(h.t, err, unix.EAGAIN)
			return n
		}
		n += wrote
	}
	return n
}

// hear returns what the front end receives at once.
func (h *hand) hear() []byte {
	var all []byte
	buf := make([]byte, 1<<20)
	for {
		n, err := unix.Read(h.peer, buf)
		if err != nil || n == 0 {
			return all
		}
		all = append(all, buf[:n]...)
	}
}

// take has the driver fill its rings, and the device use all that it finds. It returns the frames.
func (h *hand) take() (all [][]byte) {
	h.Fill(unix.EPOLLIN)
	chains := h.tx.Fetch(virtqueue.MaxBatch)
	for i := range chains {
		frame := make([]byte, chains[i].Len)
		guestmem.CopyFrom(frame, chains[i].Iov, 0)
		require.Equal(h.t, make([]byte, vnet.HeaderLen), frame[:vnet.HeaderLen], "no offloads")
		all = append(all, frame[vnet.HeaderLen:])
	}
	h.tx.UseN(len(chains))
	h.tx.Flush()
	return all
}

// takeAll is take as often as there is more.
func (h *hand) takeAll() (all [][]byte) {
	for {
		all = append(all, h.take()...)
		if !h.Drain() {
			return all
		}
	}
}

// give has the device send a frame, and reports whether there was room.
func (h *hand) give(frame []byte) bool {
	h.writer.Recheck()
	ok := h.writer.Write(&vnet.Header{}, frame)
	h.rx.Flush()
	return ok
}

func TestFramesAreCutWhereverReadsEnd(t *testing.T) {
	for _, step := range []int{1, 2, 3, 5, 59, 64, 65, 4096} {
		h := byHand(t, Stream)
		var want, got [][]byte
		var stream []byte
		for i, n := range []int{14, 60, 1514, 14, 300, 60} {
			want = append(want, ethernet(n, i))
			stream = append(stream, framed(want[i])...)
		}
		for len(stream) > 0 {
			n := min(step, len(stream))
			require.Equal(t, n, h.say(stream[:n]))
			stream = stream[n:]
			got = append(got, h.takeAll()...)
		}
		require.Equal(t, want, got, "%d bytes at a time", step)
	}
}

// More frames than the ring has room for, and more bytes than the buffer, come in turns of the device.
func TestWhatHasNoRoomWaitsInTheSocket(t *testing.T) {
	h := byHand(t, Stream)
	var want, got [][]byte
	var stream []byte
	for i := range 3000 {
		want = append(want, ethernet(14+i*7%1501, i))
		stream = append(stream, framed(want[i])...)
	}
	for len(stream) > 0 {
		stream = stream[h.say(stream):]
		got = append(got, h.takeAll()...)
	}
	require.Equal(t, want, got)
}

// A device that uses nothing gets no more than its ring holds, and the driver is content with that.
func TestADeviceThatUsesNothingIsLeftAlone(t *testing.T) {
	for _, size := range []int{60, 9000} {
		h := byHand(t, Stream)
		stream := bytes.Repeat(framed(ethernet(size, 7)), 4<<20/size)
		sent := 0
		for range 20 {
			sent += h.say(stream[sent:])
			turns := 0
			for more := true; more; turns++ {
				h.Fill(unix.EPOLLIN)
				more = h.Drain()
				require.Less(t, turns, 4, "there is nothing to do before the device does something")
			}
		}
		require.LessOrEqual(t, h.Outstanding(), ownrings.TXChains)
		require.Less(t, sent, 2<<20)
		got := len(h.takeAll())
		for sent < len(stream) {
			sent += h.say(stream[sent:])
			got += len(h.takeAll())
		}
		require.Equal(t, 4<<20/size, got)
	}
}

func TestFramesThatAreTooShortAreCountedAndLeftOut(t *testing.T) {
	h := byHand(t, Stream)
	var stream []byte
	for _, n := range []int{0, 13, 60, 1, 14} {
		stream = append(stream, framed(make([]byte, n))...)
	}
	h.say(stream)
	require.Equal(t, [][]byte{make([]byte, 60), make([]byte, 14)}, h.takeAll())
	require.EqualValues(t, 3, h.Counters().FrontEndShort)
	h.say(bytes.Repeat([]byte{0}, 64<<10)) // as a flood
	require.Empty(t, h.takeAll())
	require.EqualValues(t, 3+64<<10/4, h.Counters().FrontEndShort)
	require.False(t, h.over)
}

func TestALengthThatCannotBeEndsTheConnection(t *testing.T) {
	for _, length := range []uint32{MaxFrame + 1, 1 << 31, 1<<32 - 1} {
		h := byHand(t, Stream)
		h.say(append(framed(ethernet(60, 1)), binary.BigEndian.AppendUint32(nil, length)...))
		require.Len(t, h.takeAll(), 1, "what came before is good")
		require.Equal(t, errFrame(length), <-h.ended)
		h.say(framed(ethernet(60, 2)))
		require.Empty(t, h.takeAll())
		require.True(t, h.give(ethernet(60, 3)))
		require.False(t, h.Drain())
		require.Empty(t, h.hear())
	}
	h := byHand(t, Stream)
	stream := framed(ethernet(MaxFrame, 1))
	var got [][]byte
	for len(stream) > 0 {
		stream = stream[h.say(stream):]
		got = append(got, h.takeAll()...)
	}
	require.Equal(t, [][]byte{ethernet(MaxFrame, 1)}, got)
}

func TestAFrontEndThatHangsUpEndsTheConnection(t *testing.T) {
	for _, f := range []Framing{Stream, Packets} {
		h := byHand(t, f)
		h.say(framed(ethernet(60, 1))[:40])
		require.NoError(t, unix.Shutdown(h.peer, unix.SHUT_RDWR))
		h.Fill(unix.EPOLLIN | unix.EPOLLRDHUP)
		for h.Drain() {
			h.Fill(0)
		}
		require.True(t, h.over, "no other event tells of the end")
		require.NoError(t, <-h.ended, "%s", f)
	}
}

// The length of each frame is before it, in however many buffers it lies.
func TestTheDevicesFramesLeaveAsTheyAre(t *testing.T) {
	for _, f := range []Framing{Stream, Packets, Datagrams} {
		h := byHand(t, f)
		for i, n := range []int{60, 1514, ownrings.RXBuffer - vnet.HeaderLen, ownrings.RXBuffer - vnet.HeaderLen + 1, 2 * ownrings.RXBuffer, 65534, 60} {
			for round := range 2 {
				require.True(t, h.give(ethernet(n, 2*i+round)))
			}
			require.False(t, h.Drain())
			for round := range 2 {
				want := ethernet(n, 2*i+round)
				if f == Stream {
					want = framed(want)
				}
				got := make([]byte, len(want))
				read, err := unix.Read(h.peer, got)
				require.NoError(t, err)
				require.Equal(t, want, got[:read], "%s, %d bytes", f, n)
			}
		}
	}
}

// What the front end does not read stays in the ring, which the device finds without buffers.
func TestAFrontEndThatDoesNotReadIsWaitedFor(t *testing.T) {
	for _, f := range []Framing{Stream, Packets} {
		h := byHand(t, f)
		given, heard := 0, 0
		for h.give(ethernet(1514, given)) {
			given++
			require.False(t, h.Drain())
			require.Less(t, given, 10_000, "there is a bound")
		}
		require.True(t, h.Full())
		var got []byte
		for heard < given {
			more := h.hear()
			require.NotEmpty(t, more, "%s: frame %d of %d", f, heard, given)
			got = append(got, more...)
			for len(got) >= 1518 {
				want := ethernet(1514, heard)
				if f == Stream {
					want = framed(want)
				}
				require.Equal(t, want, got[:len(want)], "%s: frame %d of %d", f, heard, given)
				got = got[len(want):]
				heard++
			}
			if f != Stream && len(got) == 1514 {
				heard++
				got = nil
			}
			h.Fill(unix.EPOLLOUT)
			h.Drain()
		}
		require.True(t, h.give(ethernet(60, 1)), "there are buffers again")
	}
}

func TestPacketsAreFrames(t *testing.T) {
	for _, f := range []Framing{Packets, Datagrams} {
		h := byHand(t, f)
		var want, got [][]byte
		for i := range 500 {
			want = append(want, ethernet(14+i*131%9000, i))
			for h.say(want[i]) == 0 {
				got = append(got, h.takeAll()...)
			}
		}
		got = append(got, h.takeAll()...)
		require.Equal(t, want, got)
		h.say(make([]byte, 13))
		h.say(make([]byte, slotSize+1))
		h.say(make([]byte, MaxFrame+1))
		h.say(want[1])
		require.Equal(t, want[1:2], h.takeAll())
		require.EqualValues(t, 1, h.Counters().FrontEndShort)
		require.EqualValues(t, 2, h.Counters().FrontEndLong)
	}
}

// The greeting is no frame, and it is one only as the first datagram.
func TestAGreetingIsNoFrame(t *testing.T) {
	h := byHand(t, Datagrams)
	h.say([]byte(vfkit.Greeting))
	h.say(ethernet(60, 1))
	require.Len(t, h.takeAll(), 1)
	require.Zero(t, h.Counters().FrontEndShort)
	h.say([]byte(vfkit.Greeting))
	require.Empty(t, h.takeAll())
	require.EqualValues(t, 1, h.Counters().FrontEndShort)
}

// A packet that the socket can never take is left out, and does not hold up those behind it.
func TestAFrameThatTheSocketCannotTakeIsCountedAndLeftOut(t *testing.T) {
	h := byHand(t, Packets)
	require.NoError(t, unix.SetsockoptInt(h.fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 4096))
	require.True(t, h.give(ethernet(60000, 1)))
	require.True(t, h.give(ethernet(60, 2)))
	h.Drain()
	require.Equal(t, ethernet(60, 2), h.hear())
	require.EqualValues(t, 1, h.Counters().FrontEndRefused)
}

func TestNoFrameAllocates(t *testing.T) {
	for _, f := range []Framing{Stream, Packets} {
		h := byHand(t, f)
		out, in := ethernet(1514, 1), ethernet(1514, 2)
		sent := out
		if f == Stream {
			sent = framed(out)
		}
		buf := make([]byte, 1<<20)
		require.Zero(t, testing.AllocsPerRun(200, func() {
			_, _ = unix.Write(h.peer, sent)
			h.Fill(unix.EPOLLIN)
			h.tx.UseN(len(h.tx.Fetch(virtqueue.MaxBatch)))
			h.tx.Flush()
			h.give(in)
			h.Drain()
			_, _ = unix.Read(h.peer, buf)
		}))
		require.Zero(t, h.Outstanding())
	}
}

// FuzzStream compares what the driver makes of a stream, in reads of any length, with what is in it.
func FuzzStream(f *testing.F) {
	f.Add(append(framed(ethernet(60, 1)), framed(ethernet(14, 2))...), uint16(7))
	f.Add(append(framed(nil), 0xff, 0xff, 0xff, 0xff), uint16(1))
	f.Add(bytes.Repeat(framed(ethernet(14, 3)), 400), uint16(3000))
	f.Add(bytes.Repeat([]byte{0, 0, 0, 20}, 9), uint16(5))
	f.Fuzz(func(t *testing.T, stream []byte, step uint16) {
		want, wrong := deframed(stream)
		h := byHand(t, Stream)
		var got [][]byte
		for len(stream) > 0 && !h.over {
			n := h.say(stream[:min(len(stream), int(step)+1)])
			stream = stream[n:]
			got = append(got, h.takeAll()...)
		}
		require.Equal(t, len(want), len(got))
		for i := range want {
			require.Equal(t, want[i], got[i])
		}
		require.Equal(t, wrong, h.over)
	})
}

// deframed is what is in a stream, and whether a length in it cannot be.
func deframed(stream []byte) (all [][]byte, wrong bool) {
	for len(stream) >= 4 {
		n := binary.BigEndian.Uint32(stream)
		if n > MaxFrame {
			return all, true
		}
		if uint32(len(stream)-4) < n {
			return all, false
		}
		if n >= minFrame {
			all = append(all, stream[4:4+n])
		}
		stream = stream[4+n:]
	}
	return all, false
}

// What the Port gives a guest in a turn leaves by one call, if nobody bounds sockets to less: so the front end finds it all when it wakes up.
func TestAStreamsSocketTakesWhatATurnGives(t *testing.T) {
	bound, err := os.ReadFile("/proc/sys/net/core/wmem_max")
	require.NoError(t, err)
	most, err := strconv.Atoi(strings.TrimSpace(string(bound)))
	require.NoError(t, err)
	h := byHand(t, Stream)
	size, err := unix.GetsockoptInt(h.fd, unix.SOL_SOCKET, unix.SO_SNDBUF)
	require.NoError(t, err)
	require.Equal(t, 2*min(most, 1<<20), size)
}
