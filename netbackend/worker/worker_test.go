package worker

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/capture"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// generous bounds waits that take microseconds. It is for a test that hangs, not for a machine that is busy.
const generous = 2 * time.Minute

// port is a Port whose behaviour a test chooses. Its fields are guarded by mu.
type port struct {
	mu     sync.Mutex
	frames [][]byte
	turns  int
	accept func(frame []byte) bool // false leaves the frame in the ring
	reply  []byte                  // sent to the guest for each frame that was accepted
	during func()                  // called in each turn
	states []netbackend.RingState
	worker netbackend.Worker
	events []netbackend.Event
	closed bool
	lost   uint64 // which it counts as dropped

	features uint64 // last told
}

func (p *port) Offers() uint64 { return 0 }

func (p *port) Start(features uint64, w netbackend.Worker) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.worker, p.features = w, features
	return nil
}

func (p *port) Turn(_ int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (done int, next int64) {
	p.mu.Lock()
	during := p.during
	p.mu.Unlock()
	if during != nil {
		during()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.turns++
	p.events = append(p.events, events...)
	for i := range tx {
		frame := make([]byte, tx[i].Len)
		guestmem.CopyFrom(frame, tx[i].Iov, 0)
		if p.accept != nil && !p.accept(frame) {
			return i, 0
		}
		if p.reply != nil && !rx.Write(&vnet.Header{}, p.reply) {
			return i, 0
		}
		p.frames = append(p.frames, frame)
	}
	return len(tx), 0
}

func (p *port) RingsChanged(s netbackend.RingState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.states = append(p.states, s)
}

func (p *port) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	return nil
}

func (p *port) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.frames)
}

func (p *port) set(fn func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fn()
}

// bench is a device with one queue pair, and the guest's side of it.
type bench struct {
	*Device
	t      *testing.T
	port   *port
	mem    *vqtest.Memory
	rx, tx *vqtest.Driver
	fds    [2]virtqueue.RingFDs
}

func newBench(t *testing.T, backing vqtest.Backing) *bench {
	b := &bench{t: t, port: &port{}, mem: vqtest.NewMemory(1<<20, backing)}
	t.Cleanup(b.mem.Close)
	opt := vqtest.Options{Size: 64, EventIdx: true}
	b.rx, b.tx = vqtest.NewDriver(b.mem, opt), vqtest.NewDriver(b.mem, opt)
	var err error
	b.Device, err = New(Config{Ports: []netbackend.Port{b.port}, Counters: []counting.Source{counting.From(b.port.counters)}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, b.Close()) })
	for i := range b.fds {
		b.fds[i] = virtqueue.RingFDs{Kick: eventfd(t), Call: eventfd(t), Err: eventfd(t)}
	}
	return b
}

func eventfd(t *testing.T) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

const features = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureEventIdx

// up starts both rings, enabled.
func (b *bench) up() {
	require.NoError(b.t, b.SetFeatures(features))
	require.NoError(b.t, b.SetMemory(b.mem.Table()))
	for i, d := range []*vqtest.Driver{b.rx, b.tx} {
		require.NoError(b.t, b.StartRing(i, d.Layout(), b.fds[i]))
		require.NoError(b.t, b.EnableRing(i, true))
	}
}

// send makes a frame available and kicks if the device wants it.
func (b *bench) send(frame []byte) {
	gpa := b.mem.Alloc(len(frame)+vnet.HeaderLen, 16)
	b.mem.Write(gpa+vnet.HeaderLen, frame)
	_, ok := b.tx.Add(vqtest.Buf{GPA: gpa, Len: uint32(len(frame) + vnet.HeaderLen)})
	require.True(b.t, ok)
	if b.tx.Publish() {
		signal(b.fds[1].Kick)
	}
}

// post gives the device n receive buffers of 2 KiB.
func (b *bench) post(n int) {
	for range n {
		_, ok := b.rx.Add(vqtest.Buf{GPA: b.mem.Alloc(2048, 16), Len: 2048, Write: true})
		require.True(b.t, ok)
	}
	if b.rx.Publish() {
		signal(b.fds[0].Kick)
	}
}

// raised waits until an eventfd is readable, and empties it.
func (b *bench) raised(fd int) {
	b.t.Helper()
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(p, int(generous.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		require.NoError(b.t, err)
		require.Equal(b.t, 1, n, "nothing was signalled")
		break
	}
	_, _ = unix.Read(fd, make([]byte, 8))
}

func (b *bench) eventually(cond func() bool, what string) {
	b.t.Helper()
	require.Eventually(b.t, cond, generous, time.Millisecond, what)
}

// taken waits until the Port has taken n frames in all, and until the turn in which it did so has ended: only then has the
// guest what the Port has written, and are the frames used.
func (b *bench) taken(n int, what string) {
	b.t.Helper()
	b.eventually(func() bool { return b.port.count() == n }, what)
	require.NoError(b.t, b.Do(0, func(*Thread) {}))
}

func TestFramesReachThePortAndTheGuestIsInterrupted(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	b.tx.EnableInterrupts()

	b.send([]byte("frame"))
	b.raised(b.fds[1].Call)
	_, written, ok := b.tx.Used()
	require.True(t, ok)
	require.Zero(t, written)
	require.Equal(t, "frame", string(b.port.frames[0][vnet.HeaderLen:]))
}

func TestAReplyWaitsForReceiveBuffersAndComesWhenTheyDo(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = bytes.Repeat([]byte{7}, 3000)
	b.up()
	b.send([]byte("a"))
	b.eventually(func() bool { b.port.mu.Lock(); defer b.port.mu.Unlock(); return b.port.turns > 0 }, "no turn")
	require.Zero(t, b.port.count(), "there was no room for the reply")

	b.rx.EnableInterrupts()
	b.post(1)
	b.post(1) // 3000 bytes need two of them
	b.raised(b.fds[0].Call)
	require.Equal(t, 1, b.port.count(), "the frame was not offered again")
	_, first, ok := b.rx.Used()
	require.True(t, ok)
	require.EqualValues(t, 2048, first)
	_, second, ok := b.rx.Used()
	require.True(t, ok)
	require.EqualValues(t, 3000+vnet.HeaderLen-2048, second)
}

func TestAStoppedRingAnswersItsFirstUnusedIndex(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.accept = func(frame []byte) bool { return frame[vnet.HeaderLen] != 'x' }
	b.up()
	b.post(10)
	for _, s := range []string{"a", "b", "x", "c"} {
		b.send([]byte(s))
	}
	b.taken(2, "two frames are taken, one is refused")

	state, err := b.StopRing(1)
	require.NoError(t, err)
	require.Equal(t, virtqueue.SplitState(2), state, "what the Port left in the ring was not used")
	state, err = b.StopRing(0)
	require.NoError(t, err)
	require.Equal(t, virtqueue.SplitState(0), state, "buffers that were only looked at were not used")

	b.port.set(func() { b.port.accept = nil })
	cfg := b.tx.Layout()
	cfg.State = virtqueue.SplitState(2)
	require.NoError(t, b.StartRing(1, cfg, b.fds[1]))
	signal(b.fds[1].Kick)
	b.taken(4, "the ring goes on where it stopped")
	require.Equal(t, byte('x'), b.port.frames[2][vnet.HeaderLen])
}

func TestARingThatAskedForNoKicksAsksForThemAgain(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.tx.RawUsedIdx(1, 0) // NO_NOTIFY, of an earlier back end
	require.NoError(t, b.SetFeatures(vnet.FeatureVersion1))
	require.NoError(t, b.SetMemory(b.mem.Table()))
	cfg := b.tx.Layout()
	cfg.EventIdx = false
	require.NoError(t, b.StartRing(1, cfg, b.fds[1]))
	require.Zero(t, b.tx.UsedFlags(), "even before it is enabled")
}

func TestADisabledRingIsDrainedOnAKickOnly(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	require.NoError(t, b.EnableRing(1, false))
	b.tx.RawAvailEvent(0)
	b.send([]byte("lost")) // the device did not touch the ring, so the driver still kicks for index 0
	b.eventually(func() bool { return b.tx.UsedIdx() == 1 }, "the ring is drained")
	require.Zero(t, b.port.count(), "a disabled ring carries nothing")

	require.NoError(t, b.EnableRing(1, true))
	b.send([]byte("carried"))
	b.taken(1, "an enabled ring carries frames again")
}

func TestARingKeepsNoFramesWhenItIsDisabled(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	var refused atomic.Bool
	b.port.set(func() { b.port.accept = func([]byte) bool { refused.Store(true); return false } })
	b.send([]byte("left in the ring"))
	b.eventually(refused.Load, "the Port leaves it there")
	require.NoError(t, b.EnableRing(1, false))
	require.EqualValues(t, 1, b.tx.UsedIdx(), "as soon as the front end may go on")
	require.EqualValues(t, 1, b.Dropped())

	b.send([]byte("too late"))
	b.eventually(func() bool { return b.tx.UsedIdx() == 2 }, "a kick was asked for")
	b.port.set(func() { b.port.accept = nil })
	require.NoError(t, b.EnableRing(1, true))
	b.send([]byte("carried"))
	b.taken(1, "an enabled ring carries frames again")
}

// Whatever front ends and drivers do, and whether a frame was there before or comes later.
func TestALinkThatIsDownCarriesNothing(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = []byte("reply")
	b.up()
	b.post(8)
	b.port.set(func() { b.port.accept = func([]byte) bool { return false } })
	b.send([]byte("left in the ring"))
	b.eventually(func() bool { b.port.mu.Lock(); defer b.port.mu.Unlock(); return b.port.turns > 0 }, "no turn")
	require.NoError(t, b.SetLink(false))
	require.EqualValues(t, 1, b.tx.UsedIdx())
	require.Equal(t, netbackend.RingState{Connected: true}, b.state())
	b.port.set(func() { b.port.accept = nil })
	b.send([]byte("sent while it is down"))
	b.eventually(func() bool { return b.Dropped() == 2 }, "a kick was asked for")

	for i := range 2 {
		require.NoError(t, b.EnableRing(i, false))
		require.NoError(t, b.EnableRing(i, true))
	}
	b.send([]byte("the front end lets it pass"))
	b.eventually(func() bool { return b.Dropped() == 3 }, "the link is still down")
	_, err := b.StopRing(1)
	require.NoError(t, err)
	b.send([]byte("there before the ring starts"))
	start := func(at uint16) {
		cfg := b.tx.Layout()
		cfg.State = virtqueue.SplitState(at)
		require.NoError(t, b.StartRing(1, cfg, b.fds[1]))
	}
	start(3)
	require.EqualValues(t, 4, b.Dropped())
	require.NoError(t, b.Reset())
	require.NoError(t, b.SetFeatures(features))
	require.NoError(t, b.SetMemory(b.mem.Table()))
	start(4)
	require.NoError(t, b.EnableRing(1, true))
	b.send([]byte("of the next front end"))
	b.eventually(func() bool { return b.Dropped() == 5 }, "the link is still down")
	require.Zero(t, b.port.count())
	require.Zero(t, b.rx.UsedIdx())
}

func TestALinkThatIsUpAgainCarriesFrames(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = []byte("reply")
	require.NoError(t, b.SetLink(false))
	b.up()
	b.post(8)
	b.send([]byte("lost"))
	b.eventually(func() bool { return b.Dropped() == 1 }, "the link was down before the front end came")
	require.NoError(t, b.SetLink(true))
	b.send([]byte("carried"))
	b.taken(1, "the link is up")
	require.EqualValues(t, 1, b.rx.UsedIdx())

	require.NoError(t, b.EnableRing(1, false))
	require.NoError(t, b.SetLink(false))
	require.NoError(t, b.SetLink(true))
	b.send([]byte("lost, too"))
	b.eventually(func() bool { return b.Dropped() == 2 }, "what the front end has disabled stays so")
}

func TestADisabledRingGetsNothing(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = []byte("reply")
	b.up()
	require.NoError(t, b.EnableRing(0, false))
	b.post(4)
	b.send([]byte("a"))
	b.eventually(func() bool { b.port.mu.Lock(); defer b.port.mu.Unlock(); return b.port.turns > 0 }, "no turn")
	require.NoError(t, b.EnableRing(1, false)) // waits for the turn to end
	require.Zero(t, b.rx.UsedIdx())
}

func TestAnIdleDeviceTakesNoTurns(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	b.post(8)
	b.send([]byte("a"))
	b.taken(1, "no frame")
	b.quiet(500*time.Millisecond, func() uint64 { return b.port.counters().Turns })
}

// quiet waits until a number that the thread counts stays as it is for so long. On a busy machine what the thread does last
// may come late, so the first such time need not be one; a thread that does not come to rest has none.
func (b *bench) quiet(length time.Duration, count func() uint64) {
	b.t.Helper()
	b.eventually(func() bool {
		before := count()
		time.Sleep(length)
		return count() == before
	}, "the thread never rests")
}

func TestMemoryIsReplacedUnderRunningRings(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	b.send([]byte("a"))
	b.taken(1, "no frame")

	old := b.mem.Table()
	next := b.mem.NewTable(old)
	require.NoError(t, b.SetMemory(next))
	b.send([]byte("b"))
	b.taken(2, "the ring goes on in the new table")
	require.NoError(t, b.Reset())
	require.NoError(t, next.Release())
}

func TestATruncatedMemoryFileEndsTheSessionNotTheProcess(t *testing.T) {
	b := newBench(t, vqtest.Memfd)
	b.up()
	b.mem.Truncate(0)
	signal(b.fds[1].Kick)
	b.raised(b.fds[1].Err)
	select {
	case err := <-b.Failed():
		var fault *guestmem.FaultError
		require.ErrorAs(t, err, &fault)
	case <-time.After(generous):
		t.Fatal("the session was not told")
	}
	require.NoError(t, b.Reset())
}

func TestABrokenRingStopsAloneAndWaitsForItsNextDescription(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = []byte("reply")
	b.up()
	b.post(4)
	b.send([]byte("a"))
	b.taken(1, "no frame")
	b.tx.RawAvailIdx(0, 1000) // more than the ring holds
	signal(b.fds[1].Kick)
	b.raised(b.fds[1].Err)
	b.eventually(func() bool { return !b.state().Transmit }, "the Port is not told")
	require.True(t, b.state().Receive, "the other ring is whole")
	require.Empty(t, b.Failed(), "the session goes on")
	require.NoError(t, b.SetKick(1, b.fds[1].Kick))
	require.NoError(t, b.EnableRing(1, false))
	state, err := b.StopRing(1)
	require.NoError(t, err)
	require.Equal(t, virtqueue.SplitState(1), state, "what was used is known")

	b.tx = vqtest.NewDriver(b.mem, vqtest.Options{Size: 64, EventIdx: true})
	require.NoError(t, b.StartRing(1, b.tx.Layout(), b.fds[1]))
	require.NoError(t, b.EnableRing(1, true))
	b.send([]byte("b"))
	b.taken(2, "the ring serves the next driver")
	require.Empty(t, b.Failed())
}

// state is what the Port was told last.
func (b *bench) state() netbackend.RingState {
	b.port.mu.Lock()
	defer b.port.mu.Unlock()
	return b.port.states[len(b.port.states)-1]
}

// The session closes its descriptors when it ends, and the number of one may be a connection's soon after.
func TestARingThatWasGivenUpTakesNoErrorDescriptor(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.up()
	b.tx.RawAvailIdx(0, 1000)
	signal(b.fds[1].Kick)
	b.raised(b.fds[1].Err)
	elses := eventfd(t)
	require.NoError(t, b.SetErr(1, elses), "the front end's message was under way")
	require.NoError(t, b.Reset())

	b.tx = vqtest.NewDriver(b.mem, vqtest.Options{Size: 64, EventIdx: true})
	require.NoError(t, b.SetMemory(b.mem.Table()))
	require.NoError(t, b.StartRing(1, b.tx.Layout(), b.fds[1]))
	require.NoError(t, b.EnableRing(1, true))
	b.fds[1].Err = eventfd(t)
	require.NoError(t, b.SetErr(1, b.fds[1].Err))
	b.tx.RawAvailIdx(0, 1000) // now, for the thread may look at the ring at any time
	signal(b.fds[1].Kick)
	b.raised(b.fds[1].Err)
	_, err := unix.Read(elses, make([]byte, 8))
	require.ErrorIs(t, err, unix.EAGAIN, "nothing was written to it")
}

func TestAThreadThatDoesNotLetGoCondemnsTheDevice(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.up()
	b.port.set(func() { b.port.during = func() { once.Do(func() { close(entered); <-release }) } })
	b.send([]byte("a")) // the turn that it causes hangs
	<-entered
	_, err := b.StopRing(1)
	require.ErrorIs(t, err, ErrCondemned)
	require.ErrorIs(t, b.EnableRing(0, true), ErrCondemned, "nothing is asked of a condemned device")
	require.Error(t, b.Reset(), "memory is still in use")
	close(release)
	b.eventually(func() bool { return b.Reset() == nil }, "the thread came back")
	require.NoError(t, b.SetFeatures(features))
}

func TestADeviceWithAStuckThreadStillCloses(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	entered, release := make(chan struct{}), make(chan struct{})
	var once sync.Once
	b.up()
	b.port.set(func() { b.port.during = func() { once.Do(func() { close(entered) }); <-release } })
	b.send([]byte("a"))
	<-entered
	require.ErrorIs(t, b.Device.Close(), ErrCondemned)
	close(release) // the thread obeys when it comes back
	b.Device.wg.Wait()
}

func TestADisabledRingIsDrainedInBoundedPieces(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.tx = vqtest.NewDriver(b.mem, vqtest.Options{Size: 512})
	b.up()
	require.NoError(t, b.EnableRing(1, false))
	buf := vqtest.Buf{GPA: b.mem.Alloc(64, 16), Len: 64}
	for range 3 * batch {
		_, ok := b.tx.Add(buf)
		require.True(t, ok)
	}
	b.tx.Publish()
	signal(b.fds[1].Kick)
	b.eventually(func() bool { return b.tx.UsedIdx() == 3*batch }, "all are drained, in several turns")
	b.eventually(func() bool { return b.Dropped() == 3*batch }, "and counted")
	require.Zero(t, b.port.count())
}

func TestTheNextDriversFeaturesReachThePortEvenIfThereAreNone(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	last := func() uint64 { b.port.mu.Lock(); defer b.port.mu.Unlock(); return b.port.features }
	require.NoError(t, b.SetFeatures(features))
	require.EqualValues(t, features, last())
	require.NoError(t, b.Reset())
	require.Zero(t, last())
	require.NoError(t, b.SetFeatures(0))
	require.Zero(t, last())
}

func TestAnInterfaceThatStaysDownIsWarnedOfOnceAndSaidToBeUp(t *testing.T) {
	for name, features := range map[string]uint64{"event index": features, "no event index": vnet.FeatureVersion1} {
		t.Run(name, func(t *testing.T) {
			var clock atomic.Int64
			clock.Store(1)
			got := make(chan netbackend.Notice, 10)
			d, err := New(Config{
				Ports: []netbackend.Port{&port{}}, Now: clock.Load, Notices: func(n netbackend.Notice) { got <- n },
			})
			require.NoError(t, err)
			defer d.Close()
			mem := vqtest.NewMemory(1<<20, vqtest.Heap)
			kick := eventfd(t)
			require.NoError(t, d.SetFeatures(features))
			require.NoError(t, d.SetMemory(mem.Table()))
			rx := vqtest.NewDriver(mem, vqtest.Options{Size: 64, EventIdx: features&vnet.FeatureEventIdx != 0})
			require.NoError(t, d.StartRing(0, rx.Layout(), virtqueue.RingFDs{Kick: kick, Call: -1, Err: -1}))
			require.NoError(t, d.EnableRing(0, true))
			require.Empty(t, got)
			for range 2 {
				clock.Add(emptyPatience)
				require.NoError(t, d.SetErr(0, -1)) // a turn follows
			}
			warning := next(t, got)
			require.Contains(t, warning.Message, "share=on")
			require.Contains(t, warning.Message, "not up yet", "both causes are named")
			require.Equal(t, int(slog.LevelWarn), warning.Level)

			rx.Add(vqtest.Buf{GPA: mem.Alloc(2048, 16), Len: 2048, Write: true})
			require.True(t, rx.Publish(), "the first buffer is asked for")
			signal(kick)
			require.Equal(t, netbackend.Notice{Level: int(slog.LevelInfo), Message: "guest receives now"}, next(t, got))
			clock.Add(emptyPatience)
			require.NoError(t, d.SetErr(0, -1))
			require.NoError(t, d.SetErr(0, -1))
			require.Empty(t, got, "nothing is said twice")
		})
	}
}

func TestDroppedNoticesAreCounted(t *testing.T) {
	gate, got := make(chan struct{}), make(chan netbackend.Notice, 200)
	d, err := New(Config{Ports: []netbackend.Port{&port{}}, Notices: func(n netbackend.Notice) { <-gate; got <- n }})
	require.NoError(t, err)
	require.NoError(t, d.each(func(l *loop) error {
		for range 100 {
			l.Raise(netbackend.Notice{Message: "m"})
		}
		return nil
	}))
	require.NotZero(t, d.Lost())
	close(gate)
	require.NoError(t, d.Close())
	require.Equal(t, "m", next(t, got).Message)
	require.Equal(t, netbackend.Notice{Message: "m", More: 100 - d.Lost() - 2}, next(t, got))
	require.Equal(t, fmt.Sprint(d.Lost()), next(t, got).Value, "all are accounted for")
}

// next returns the next notice.
func next(t *testing.T, got <-chan netbackend.Notice) netbackend.Notice {
	t.Helper()
	select {
	case n := <-got:
		return n
	case <-time.After(generous):
		t.Fatal("no notice")
		return netbackend.Notice{}
	}
}

func TestRepeatedNoticesAreToldByTheirNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		got := make(chan string, 2*maxRecent)
		d := &Device{notices: make(chan netbackend.Notice, 64)}
		go newEventlog(d, func(n netbackend.Notice) { got <- fmt.Sprint(n.Message, n.Value, "+", n.More) }).run()
		wait := func(interval time.Duration, want ...string) {
			t.Helper()
			time.Sleep(interval)
			synctest.Wait()
			require.Len(t, got, len(want))
			for _, text := range want {
				require.Equal(t, text, <-got)
			}
		}
		for i := range 50 {
			d.notices <- netbackend.Notice{Message: "flood", Value: fmt.Sprint(i)}
		}
		d.notices <- netbackend.Notice{Message: "other"}
		wait(0, "flood0+0", "other+0")
		wait(repeatInterval, "flood49+48")
		d.notices <- netbackend.Notice{Message: "flood", Value: "again"}
		wait(repeatInterval, "floodagain+0")
		wait(repeatInterval)
		d.notices <- netbackend.Notice{Message: "flood", Value: "anew"}
		wait(0, "floodanew+0")
		wait(time.Hour)

		for i := range maxRecent + 3 {
			d.notices <- netbackend.Notice{Message: fmt.Sprint("m", i)}
		}
		synctest.Wait()
		require.Len(t, got, maxRecent, "who invents messages is not heard for ever")
		for range maxRecent {
			<-got
		}
		close(d.notices)
		wait(0, "notices were dropped, too many came at once3+0")
		require.EqualValues(t, 3, d.Lost())
	})
}

func TestEventsOfPortsFdsCarryTheirToken(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	r, w, err := os.Pipe()
	require.NoError(t, err)
	defer r.Close()
	defer w.Close()
	b.port.set(func() {}) // after Start
	require.NoError(t, b.each(func(l *loop) error { return l.Register(int(r.Fd()), 42) }))
	_, err = w.Write([]byte{1})
	require.NoError(t, err)
	b.eventually(func() bool {
		b.port.mu.Lock()
		defer b.port.mu.Unlock()
		return len(b.port.events) > 0 && b.port.events[0].Token == 42
	}, "no event")
	require.Error(t, b.each(func(l *loop) error { return l.Register(int(r.Fd()), tokenMail) }), "the worker's own tokens are not for Ports")
	require.NoError(t, b.each(func(l *loop) error { l.Unregister(int(r.Fd())); return nil }))
}

func TestASocketForInputIsNotToldOfRoom(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer func() { _, _ = unix.Close(pair[0]), unix.Close(pair[1]) }()
	require.NoError(t, b.Do(0, func(*Thread) { require.NoError(t, b.loops[0].RegisterInput(pair[0], 9)) }))
	_, err = unix.Write(pair[0], []byte("out")) // room is told of when it is read
	require.NoError(t, err)
	_, err = unix.Read(pair[1], make([]byte, 8))
	require.NoError(t, err)
	_, err = unix.Write(pair[1], []byte("in"))
	require.NoError(t, err)
	events := func() (got []netbackend.Event) {
		b.port.mu.Lock()
		defer b.port.mu.Unlock()
		return append(got, b.port.events...)
	}
	b.eventually(func() bool { return len(events()) > 0 }, "no event")
	require.Equal(t, []netbackend.Event{{Token: 9, Events: unix.EPOLLIN}}, events())
}

func TestNoticesReachTheControlPlane(t *testing.T) {
	got := make(chan netbackend.Notice, 1)
	p := &port{}
	d, err := New(Config{Ports: []netbackend.Port{p}, Notices: func(n netbackend.Notice) { got <- n }})
	require.NoError(t, err)
	require.NoError(t, d.each(func(l *loop) error { l.Raise(netbackend.Notice{Message: "m"}); return nil }))
	select {
	case n := <-got:
		require.Equal(t, "m", n.Message)
	case <-time.After(generous):
		t.Fatal("no notice")
	}
	require.NoError(t, d.Close())
	require.True(t, p.closed)
	require.NoError(t, d.Close(), "closing twice is harmless")
}

func TestWrongCallsAreErrors(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	require.Error(t, b.SetFeatures(1<<63), "never offered")
	require.Error(t, b.EnableRing(2, true), "no such ring")
	require.Error(t, b.StartRing(0, b.rx.Layout(), b.fds[0]), "no memory yet")
	require.Error(t, b.SetMTU(67))
	require.NoError(t, b.SetMTU(9000))
	b.up()
	require.Error(t, b.StartRing(0, b.rx.Layout(), b.fds[0]), "it runs already")
	state, err := b.StopRing(1)
	require.NoError(t, err)
	require.Zero(t, state)
	_, err = New(Config{})
	require.Error(t, err)
}

// The data path allocates nothing: the test takes turns itself, in place of the thread.
func TestATurnAllocatesNothing(t *testing.T) {
	p := &countingPort{}
	d := &Device{failed: make(chan error, 1)}
	l, err := newLoop(d, 0, p, &Config{Now: func() int64 { return 1 }, Counters: []counting.Source{counting.From(p.counters)}})
	require.NoError(t, err)
	mem := vqtest.NewMemory(1<<20, vqtest.Heap)
	driver := vqtest.NewDriver(mem, vqtest.Options{Size: 64, EventIdx: true})
	require.NoError(t, l.setFeatures(features))
	require.NoError(t, l.setMemory(mem.Table()))
	require.NoError(t, l.startRing(l.tx, driver.Layout(), virtqueue.RingFDs{Kick: eventfd(t), Call: eventfd(t), Err: -1}))
	require.NoError(t, l.enableRing(l.tx, true))
	buf := vqtest.Buf{GPA: mem.Alloc(64, 16), Len: 64}
	turn := func() {
		for range 16 {
			driver.Add(buf)
		}
		driver.Publish()
		l.again = true // do not sleep
		l.wait()
		_ = guestmem.Guard(l.guarded)
		l.publication.due = 0
		l.publishIfDue()
		for {
			if _, _, ok := driver.Used(); !ok {
				break
			}
		}
	}
	turn()
	driverAllocs := testing.AllocsPerRun(100, func() {
		for range 16 {
			driver.Add(buf)
		}
		driver.Publish()
		chains := l.tx.q.Fetch(16)
		l.tx.q.UseN(len(chains))
		l.tx.q.Flush()
		for {
			if _, _, ok := driver.Used(); !ok {
				break
			}
		}
	})
	require.Equal(t, driverAllocs, testing.AllocsPerRun(100, turn), "only the test's driver allocates")
	require.Positive(t, p.chains)

	tap := newTap(t)
	l.capture.wanted.Store(capture.NewHook([]*capture.Tap{tap}))
	turn()
	require.Equal(t, driverAllocs, testing.AllocsPerRun(1000, turn), "nor does a capture, with room and without")
	require.True(t, tap.Captured() > 0 && tap.Missed() > 0)
}

type countingPort struct {
	port
	chains int
}

type chainCounters struct {
	Chains uint64 `counter:"chains"`
}

func (p *countingPort) counters() chainCounters { return chainCounters{uint64(p.chains)} }

func (p *countingPort) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, _ *netbackend.RXWriter) (int, int64) {
	p.chains += len(tx)
	return len(tx), 0
}

func TestDoRunsBetweenTurnsAndGivesUpOnAThreadThatIsStuck(t *testing.T) {
	entered, leave := make(chan bool), make(chan bool)
	p := &port{}
	d, err := New(Config{Ports: []netbackend.Port{p}, Now: func() int64 { return 42 }})
	require.NoError(t, err)
	defer func() { require.NoError(t, d.Close()) }()

	var seen int64
	require.NoError(t, d.Do(0, func(t *Thread) { seen = t.Now() }))
	require.Equal(t, int64(42), seen)

	go func() {
		_ = d.Do(0, func(*Thread) { entered <- true; <-leave })
	}()
	<-entered
	require.ErrorIs(t, d.Do(0, func(*Thread) {}), ErrCondemned)
	close(leave)
	require.NoError(t, d.SetMTU(1400), "to look is not to condemn")
}

// linkPort is a Port with a network behind it that carries up to 1500 bytes.
type linkPort struct {
	port
	announced [][6]byte
}

func (p *linkPort) SetMTU(mtu int) error {
	if mtu > 1500 {
		return errors.New("too large")
	}
	return nil
}

func (p *linkPort) Announce(mac [6]byte) error {
	p.announced = append(p.announced, mac)
	return nil
}

func TestTheFirstPortSpeaksForTheLink(t *testing.T) {
	first, second := &linkPort{}, &linkPort{}
	d, err := New(Config{Ports: []netbackend.Port{first, second}})
	require.NoError(t, err)
	defer d.Close()
	require.NoError(t, d.SetMTU(1500))
	require.ErrorContains(t, d.SetMTU(1501), "too large")
	require.NoError(t, d.SendRARP([6]byte{2, 1}))
	require.Equal(t, [][6]byte{{2, 1}}, first.announced)
	require.Empty(t, second.announced)
}

// A guest that sends much is not asked to kick for a while after each turn. Nothing may be lost by that.
func TestABusyGuestIsServedToTheEnd(t *testing.T) {
	b := newBench(t, vqtest.Heap)
	b.port.reply = []byte("reply") // with it an interrupt for the transmit ring may be left for later
	b.up()
	b.post(20)
	b.rx.EnableInterrupts()
	frame := bytes.Repeat([]byte{1}, busyTurn)
	for i := range 20 {
		b.tx.EnableInterrupts()
		b.send(frame) // kicks only if it is asked to
		b.raised(b.fds[1].Call)
		_, _, ok := b.tx.Used()
		require.True(t, ok)
		require.Equal(t, i+1, b.port.count())
	}
}
