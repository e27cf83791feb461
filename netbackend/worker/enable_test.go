package worker_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/vhostuser"
	"github.com/vringnet/vring/vhostuser/frontend"
	"github.com/vringnet/vring/vhostuser/wire"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// patience bounds waits that take microseconds.
const patience = 2 * time.Minute

// sink counts the frames of a guest.
type sink struct{ frames atomic.Int64 }

func (s *sink) Offers() uint64                        { return 0 }
func (s *sink) Start(uint64, netbackend.Worker) error { return nil }
func (s *sink) RingsChanged(netbackend.RingState)     {}
func (s *sink) Close() error                          { return nil }
func (s *sink) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, _ *netbackend.RXWriter) (int, int64) {
	s.frames.Add(int64(len(tx)))
	return len(tx), 0
}

// machine is a device behind a socket, and a guest whose front end sends its messages one by one.
type machine struct {
	t      *testing.T
	device *worker.Device
	sinks  []*sink
	path   string
	memory *vqtest.Memory
	rings  []*vqtest.Driver
	setup  frontend.Setup
	frame  vqtest.Buf
	*frontend.Conn
}

func newMachine(t *testing.T, pairs int) *machine {
	m := &machine{t: t, path: filepath.Join(t.TempDir(), "s"), memory: vqtest.NewMemory(1<<20, vqtest.Memfd)}
	t.Cleanup(m.memory.Close)
	var ports []netbackend.Port
	for range pairs {
		m.sinks = append(m.sinks, &sink{})
		ports = append(ports, m.sinks[len(m.sinks)-1])
	}
	var err error
	m.device, err = worker.New(worker.Config{Ports: ports})
	require.NoError(t, err)
	server, err := vhostuser.NewServer(vhostuser.Config{SocketPath: m.path, Device: m.device})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- server.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-served)
		require.NoError(t, m.device.Close())
	})
	m.describe(2 * pairs)
	m.frame = vqtest.Buf{GPA: m.memory.Alloc(100, 16), Len: 100}
	return m
}

// describe makes rings for the guest's driver.
func (m *machine) describe(rings int) {
	m.setup = frontend.Setup{
		Features: vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf | vnet.FeatureEventIdx | vnet.FeatureMQ | vnet.FeatureCtrlVQ,
		Memory:   m.memory.Regions(),
	}
	m.rings = nil
	for range rings {
		d := vqtest.NewDriver(m.memory, vqtest.Options{Size: 64, EventIdx: true})
		cfg := d.Layout()
		m.rings = append(m.rings, d)
		m.setup.Rings = append(m.setup.Rings, frontend.Ring{
			Num: uint32(cfg.Size), Desc: cfg.Desc, Avail: cfg.Avail, Used: cfg.Used,
			KickFD: m.eventfd(), CallFD: m.eventfd(), ErrFD: m.eventfd(),
		})
	}
}

func (m *machine) eventfd() int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(m.t, err)
	m.t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// connect begins a session.
func (m *machine) connect() {
	m.t.Helper()
	require.Eventually(m.t, func() bool {
		conn, err := frontend.Dial(m.path)
		if err != nil {
			return false
		}
		if err := conn.Negotiate(m.setup.Features, wire.ProtocolMQ); err != nil {
			_ = conn.Close()
			return false // the session before has not ended yet
		}
		m.Conn = conn
		return true
	}, patience, 10*time.Millisecond)
	m.t.Cleanup(func() { _ = m.Conn.Close() })
}

// steps are the messages of a start in the order of a front end.
func (m *machine) steps(order frontend.Order) []frontend.Step {
	m.setup.Order = order
	return m.setup.Steps(m.Features())
}

// do sends messages. After each the guest kicks, and all threads have a turn.
func (m *machine) do(steps ...frontend.Step) {
	m.t.Helper()
	for _, s := range steps {
		require.NoError(m.t, m.Do(s))
		m.settle()
	}
}

// settle lets the threads do what there is to do.
func (m *machine) settle() {
	m.t.Helper()
	_, err := m.GetFeatures() // all before it has been done
	require.NoError(m.t, err)
	for i, r := range m.setup.Rings {
		_, _ = unix.Write(r.KickFD, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		for range 2 {
			require.NoError(m.t, m.device.Do(i/2, func(*worker.Thread) {}))
		}
	}
}

// send puts n frames into the transmit ring of a pair.
func (m *machine) send(pair, n int) {
	d := m.rings[2*pair+1]
	for {
		if _, _, ok := d.Used(); !ok {
			break
		}
	}
	for range n {
		_, ok := d.Add(m.frame)
		require.True(m.t, ok)
	}
	d.Publish()
}

// requireSent waits until so many frames of a pair have left.
func (m *machine) requireSent(pair, n int) {
	m.t.Helper()
	require.Eventually(m.t, func() bool { return m.sinks[pair].frames.Load() == int64(n) }, patience, time.Millisecond,
		"frames of pair %d", pair)
}

func enable(ring int, on bool) frontend.Step {
	num := uint32(0)
	if on {
		num = 1
	}
	return frontend.Step{Message: wire.Message{Request: wire.SetVringEnable, Ring: uint32(ring), Num: num}}
}

func orders() []frontend.Order {
	return []frontend.Order{frontend.QEMU, frontend.CloudHypervisor, frontend.DPDK, frontend.UserModeLinux}
}

func TestFramesThatWaitInTheRingAreSentWhicheverOrderAFrontEndStartsIn(t *testing.T) {
	for _, order := range orders() {
		t.Run(order.String(), func(t *testing.T) {
			m := newMachine(t, 1)
			m.connect()
			m.send(0, 30)
			m.do(m.steps(order)...)
			m.requireSent(0, 30)

			// The front end connects again, as after a crash of either side.
			require.NoError(t, m.Close())
			m.connect()
			m.send(0, 30)
			m.setup.Rings[1].Base = 30
			m.do(m.steps(order)...)
			m.requireSent(0, 60)

			// It stops the device, and starts it again.
			m.do(enable(0, false), enable(1, false))
			bases, err := m.Stop(m.setup)
			require.NoError(t, err)
			m.send(0, 30)
			m.setup.Rings[1].Base = bases[1]
			m.do(m.steps(order)...)
			m.requireSent(0, 90)
			require.Zero(t, m.device.Dropped())
		})
	}
}

func TestFramesThatWaitInTheRingAreSentWhateverTheOrderOfMessages(t *testing.T) {
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := newMachine(t, 1)
			m.connect()
			m.send(0, 30)
			steps := m.steps(orders()[seed%4])
			rand.New(rand.NewPCG(seed, 0)).Shuffle(len(steps), func(i, j int) { steps[i], steps[j] = steps[j], steps[i] })
			m.do(steps...)
			m.requireSent(0, 30)
			require.Zero(t, m.device.Dropped())
		})
	}
}

// A back end that died may have gone further than the front end knows, and DPDK says 0 then. Within a session nobody died.
func TestTheUsedIndexOfAPastLifeWinsInTheFirstStartOfASessionOnly(t *testing.T) {
	m := newMachine(t, 1)
	m.connect()
	m.send(0, 30)
	m.do(m.steps(frontend.DPDK)...)
	m.requireSent(0, 30)
	require.NoError(t, m.Close())
	m.connect()
	m.send(0, 7)
	m.do(m.steps(frontend.DPDK)...) // with base 0
	m.requireSent(0, 37)

	_, err := m.Stop(m.setup)
	require.NoError(t, err)
	used := m.rings[1].UsedIdx()
	cfg := m.rings[1].Layout()
	m.describe(2)
	tx := &m.setup.Rings[1]
	m.send(0, 40)
	m.rings[1].RawUsedIdx(0, used) // this driver has not cleared what it found there
	require.NotEqual(t, cfg.Used, tx.Used)
	m.do(m.steps(frontend.QEMU)...)
	m.requireSent(0, 77)
}

// DPDK stops its rings first when it connects again, and names base 0 for them.
func TestTheUsedIndexOfAPastLifeWinsThoughARingIsStoppedBeforeItHasRun(t *testing.T) {
	m := newMachine(t, 1)
	m.connect()
	m.send(0, 30)
	m.do(m.steps(frontend.DPDK)...)
	m.requireSent(0, 30)
	require.NoError(t, m.Close())
	m.connect()
	m.send(0, 7)
	_, err := m.Stop(m.setup)
	require.NoError(t, err)
	m.do(m.steps(frontend.DPDK)...)
	m.requireSent(0, 37)
}

func TestARingThatIsNeverEnabledKeepsItsFrames(t *testing.T) {
	m := newMachine(t, 2)
	m.connect()
	m.send(0, 30)
	m.send(1, 20)
	for _, s := range m.steps(frontend.QEMU) {
		if s.Message.Request == wire.SetVringEnable && s.Message.Ring >= 2 {
			continue // the guest uses one pair
		}
		m.do(s)
	}
	m.requireSent(0, 30)
	m.settle()
	require.Zero(t, m.rings[3].UsedIdx())
	require.Zero(t, m.device.Dropped())
	m.do(enable(3, true))
	m.requireSent(1, 20)
}

func TestWithoutProtocolFeaturesNoRingIsEnabledAndAllSend(t *testing.T) {
	m := newMachine(t, 1)
	m.connect()
	m.send(0, 30)
	for _, s := range m.steps(frontend.DPDK) {
		switch s.Message.Request {
		case wire.SetVringEnable:
			continue
		case wire.SetFeatures:
			s.Message.Value &^= wire.FeatureProtocolFeatures
		}
		m.do(s)
	}
	m.requireSent(0, 30)
	require.Zero(t, m.device.Dropped())
}

func TestARingThatIsDisabledWhileItRunsDropsItsFrames(t *testing.T) {
	for _, enabled := range []bool{true, false} {
		t.Run(fmt.Sprintf("enabled before %v", enabled), func(t *testing.T) {
			m := newMachine(t, 1)
			m.connect()
			for _, s := range m.steps(frontend.CloudHypervisor) {
				if s.Message.Request != wire.SetVringEnable || enabled {
					m.do(s)
				}
			}
			m.do(enable(1, false))
			m.send(0, 30)
			m.settle()
			require.Eventually(t, func() bool { return m.device.Dropped() == 30 }, patience, time.Millisecond)
			m.do(enable(1, true))
			m.send(0, 5)
			m.settle()
			m.requireSent(0, 5)
		})
	}
}
