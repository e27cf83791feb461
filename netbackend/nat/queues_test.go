package nat_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/guestmem"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// hopper is a guest's driver with several queue pairs, each served by a thread of its own, behind the one pair that
// package porttest knows. A flow stays on a pair for some frames, and hops to another at random then.
type hopper struct {
	t        *testing.T
	ports    []*nat.Port
	device   *worker.Device
	mem      *vqtest.Memory
	pairs    []*hopperPair
	wake     int // eventfd, the interrupt of all receive rings
	guest    netbackend.Worker
	features uint64
	random   *rand.Rand
	hops     float64        // chance of each frame to be the first on another pair
	at       map[uint16]int // pair of each flow, by the guest's port
	waiting  [][]byte       // frames that the guest had no room for
	forward  netip.AddrPort // a port of the host that leads to port 80 of the guest
	ahead    atomic.Int64   // how far the clock of the threads is ahead, in nanoseconds
}

// hopperPair is the driver's end of a queue pair.
type hopperPair struct {
	tx, rx  *vqtest.Driver
	kick    [2]int // receive, transmit
	free    []guestmem.GPA
	sent    map[uint16]guestmem.GPA
	posted  map[uint16]guestmem.GPA
	enabled bool
}

const (
	hopperSlots = 64
	hopperFrame = 66 << 10
	hopperBuf   = 2048
	hopperRing  = 256
	hopperHead  = vnet.HeaderLen
)

func newHopper(t *testing.T, cfg nat.Config, n int) *hopper {
	t.Helper()
	cfg.Queues = n
	ports, err := nat.NewPairs(cfg)
	require.NoError(t, err)
	h := &hopper{t: t, ports: ports, at: map[uint16]int{}, random: rand.New(rand.NewPCG(1, 2)), hops: 0.5}
	h.mem = vqtest.NewMemory(h.size(), vqtest.Heap)
	h.wake = eventFD(t)
	list := make([]netbackend.Port, n)
	for i, p := range ports {
		list[i] = p
	}
	start := time.Now()
	h.device, err = worker.New(worker.Config{Ports: list, Now: func() int64 { return int64(time.Since(start)) + h.ahead.Load() }})
	require.NoError(t, err)
	return h
}

func eventFD(t *testing.T) int {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

func (h *hopper) Offers() uint64 { return h.ports[0].Offers() }

func (h *hopper) Start(features uint64, w netbackend.Worker) error {
	h.guest, h.features = w, features
	require.NoError(h.t, h.device.SetFeatures(features))
	require.NoError(h.t, h.device.SetMemory(h.mem.Table()))
	h.startAll()
	return w.Register(h.wake, 1)
}

// startAll starts the rings of all pairs, with new drivers.
func (h *hopper) startAll() {
	h.pairs = nil
	for i := range h.ports {
		h.pairs = append(h.pairs, h.start(i))
	}
}

// leave takes the front end away, and comeBack brings it back; the guest's drivers begin anew then.
func (h *hopper) leave() { require.NoError(h.t, h.device.Reset()) }

func (h *hopper) comeBack() {
	h.mem = vqtest.NewMemory(h.size(), vqtest.Heap)
	require.NoError(h.t, h.device.SetFeatures(h.features))
	require.NoError(h.t, h.device.SetMemory(h.mem.Table()))
	h.startAll()
}

// size is how much memory the pairs need, in bytes.
func (h *hopper) size() int {
	return len(h.ports) * (hopperSlots*hopperFrame + hopperRing*hopperBuf + 512<<10)
}

// start starts the rings of a pair.
func (h *hopper) start(i int) *hopperPair {
	p := &hopperPair{
		kick: [2]int{eventFD(h.t), eventFD(h.t)}, sent: map[uint16]guestmem.GPA{}, posted: map[uint16]guestmem.GPA{},
		tx: h.driver(hopperRing), rx: h.driver(hopperRing),
	}
	for range hopperSlots {
		p.free = append(p.free, h.mem.Alloc(hopperFrame, 64))
	}
	for range hopperRing {
		p.post(h.mem.Alloc(hopperBuf, 64))
	}
	p.rx.Publish()
	for j, d := range []*vqtest.Driver{p.rx, p.tx} {
		fds := virtqueue.RingFDs{Kick: p.kick[j], Call: -1, Err: -1}
		if j == 0 {
			fds.Call = h.wake
		}
		require.NoError(h.t, h.device.StartRing(2*i+j, d.Layout(), fds))
	}
	h.enable(i, p, true)
	return p
}

// driver returns one of a new ring of so many entries, as the guest's features are.
func (h *hopper) driver(size uint16) *vqtest.Driver {
	return vqtest.NewDriver(h.mem, vqtest.Options{
		Size:     size,
		EventIdx: h.features&vnet.FeatureEventIdx != 0,
		Indirect: h.features&vnet.FeatureIndirectDesc != 0,
	})
}

func (h *hopper) enable(i int, p *hopperPair, on bool) {
	h.t.Helper()
	p.enabled = on
	require.NoError(h.t, h.device.EnableRing(2*i, on))
	require.NoError(h.t, h.device.EnableRing(2*i+1, on))
}

func (h *hopper) RingsChanged(netbackend.RingState) {}

func (h *hopper) Close() error {
	h.guest.Unregister(h.wake)
	return h.device.Close()
}

func (h *hopper) Turn(_ int64, tx []virtqueue.Chain, _ []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	for i := range tx {
		frame := make([]byte, tx[i].Len)
		guestmem.CopyFrom(frame, tx[i].Iov, 0)
		h.transmit(frame)
	}
	for _, p := range h.pairs {
		h.collect(p)
	}
	for len(h.waiting) > 0 {
		var v vnet.Header
		v.Decode(h.waiting[0][:hopperHead])
		if !rx.Write(&v, h.waiting[0][hopperHead:]) {
			break
		}
		h.waiting = h.waiting[1:]
	}
	return len(tx), 0
}

// transmit sends a frame on the pair of its flow, after waiting for a free buffer.
func (h *hopper) transmit(frame []byte) {
	p := h.pairs[h.choose(frame)]
	for start := time.Now(); len(p.free) == 0; runtime.Gosched() {
		for head, _, ok := p.tx.Used(); ok; head, _, ok = p.tx.Used() {
			p.free = append(p.free, p.sent[head])
		}
		require.Less(h.t, time.Since(start), 2*time.Minute, "a transmit ring is stuck")
	}
	gpa := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	copy(h.mem.Bytes(gpa, len(frame)), frame)
	head, ok := p.tx.Add(vqtest.Buf{GPA: gpa, Len: uint32(len(frame))})
	require.True(h.t, ok)
	p.sent[head] = gpa
	p.tx.Publish()
	kick(p.kick[1])
}

// choose returns the pair that the flow of a frame is on.
func (h *hopper) choose(frame []byte) int {
	port := uint16(0) // of what is no flow
	switch b := frame[hopperHead:]; {
	case binary.BigEndian.Uint16(b[12:]) == vnet.EtherTypeIPv4 && len(b) >= 38:
		port = binary.BigEndian.Uint16(b[34:])
	case binary.BigEndian.Uint16(b[12:]) == vnet.EtherTypeIPv6 && len(b) >= 58:
		port = binary.BigEndian.Uint16(b[54:])
	}
	i, known := h.at[port]
	if !known || !h.pairs[i].enabled || h.random.Float64() < h.hops {
		for i = h.random.IntN(len(h.pairs)); !h.pairs[i].enabled; {
			i = h.random.IntN(len(h.pairs))
		}
	}
	h.at[port] = i
	return i
}

func kick(fd int) { _, _ = unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}) }

func (p *hopperPair) post(gpa guestmem.GPA) {
	head, _ := p.rx.Add(vqtest.Buf{GPA: gpa, Len: hopperBuf, Write: true})
	p.posted[head] = gpa
}

// collect takes what a pair has received, and posts the buffers again.
func (h *hopper) collect(p *hopperPair) {
	var frame []byte
	left, some := 0, false
	for head, n, ok := p.rx.Used(); ok; head, n, ok = p.rx.Used() {
		some = true
		gpa := p.posted[head]
		part := h.mem.Bytes(gpa, int(n))
		if left == 0 {
			frame = nil
			left = int(binary.LittleEndian.Uint16(part[10:]))
		}
		frame = append(frame, part...)
		p.post(gpa)
		if left--; left == 0 {
			h.waiting = append(h.waiting, frame)
		}
	}
	require.Zero(h.t, left, "a frame is published as a whole")
	if !some {
		return // a kick for nothing would wake a thread that is to sleep
	}
	p.rx.Publish()
	kick(p.kick[0])
}

// counters are those of all pairs.
func (h *hopper) counters() (all []nat.Counters) {
	for i, p := range h.ports {
		require.NoError(h.t, h.device.Do(i, func(*worker.Thread) { all = append(all, p.Counters()) }))
	}
	return all
}

// skip lets time pass for the threads, each of which looks at its timers then.
func (h *hopper) skip(d time.Duration) {
	h.ahead.Add(int64(d))
	for i := range h.ports {
		require.NoError(h.t, h.device.Do(i, func(*worker.Thread) {}))
	}
}

func (h *hopper) moved() (n uint64) {
	for _, c := range h.counters() {
		n += c.FlowsMoved
	}
	return n
}

// newQueues is a bench whose guest has several queue pairs.
func newQueues(t *testing.T, n int, options ...func(*nat.Config)) (*bench, *hopper) {
	t.Helper()
	return newQueuesOf(t, porttest.Options{}, n, options...)
}

// newQueuesOf is newQueues for a guest that is given.
func newQueuesOf(t *testing.T, guest porttest.Options, n int, options ...func(*nat.Config)) (*bench, *hopper) {
	t.Helper()
	l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(porttest.FreePort(t)))
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	forward := porttest.FreePort(t)
	port := uint16(l.Addr().(*net.TCPAddr).Port)
	cfg := nat.DefaultConfig()
	cfg.ResolvConf = ""
	cfg.AllowHost = []spec.HostService{{Proto: unix.IPPROTO_TCP, Port: port}, {Proto: unix.IPPROTO_UDP, Port: port}}
	for _, proto := range []string{"tcp:", "udp:"} {
		f, err := spec.ParseForward(proto + forward.String() + ":80")
		require.NoError(t, err)
		cfg.Forwards = append(cfg.Forwards, f)
	}
	for _, option := range options {
		option(&cfg)
	}
	h := newHopper(t, cfg, n)
	h.forward = forward
	g := porttest.New(t, h, guest)
	b := &bench{Guest: g, t: t, port: h.ports[0], listen: l, server: netip.AddrPortFrom(cfg.Gateway, port)}
	b.Resolve()
	return b, h
}

// echo answers every connection with what it says.
func echo(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}()
	}
}

// echoes lets n connections send size bytes each and checks what comes back, while meanwhile is called now and then.
func echoes(t *testing.T, b *bench, n, size int, meanwhile func()) {
	t.Helper()
	go echo(b.listen)
	conns := make([]*porttest.TCP, n)
	got, want := make([][]byte, n), make([][]byte, n)
	for i := range conns {
		conns[i] = b.Dial(b.server)
		want[i] = noise(size + i)
	}
	for i, c := range conns {
		b.Until("it is open", func() bool { return c.State == porttest.Open })
		c.Send(want[i])
	}
	next := time.Now()
	b.Until("all is echoed", func() bool {
		if time.Now().After(next) {
			meanwhile()
			next = time.Now().Add(5 * time.Millisecond)
		}
		all := true
		for i, c := range conns {
			got[i] = append(got[i], c.Read()...)
			all = all && len(got[i]) >= len(want[i])
		}
		return all
	})
	for i, c := range conns {
		requireSame(t, want[i], got[i])
		c.Close()
	}
	b.Until("all have ended", func() bool {
		for _, c := range conns {
			if !c.Ended() {
				return false
			}
		}
		return true
	})
}

func TestStreamsStayInOrderWhileTheirFlowsHopBetweenQueues(t *testing.T) {
	b, h := newQueues(t, 8)
	echoes(t, b, 6, 120_000, func() {})
	require.NotZero(t, h.moved(), "they did hop")
}

func TestStreamsSurviveThatQueuesComeAndGo(t *testing.T) {
	b, h := newQueues(t, 8)
	echoes(t, b, 4, 200_000, func() {
		i := h.random.IntN(len(h.pairs))
		last := 0
		for _, p := range h.pairs {
			if p.enabled {
				last++
			}
		}
		if p := h.pairs[i]; !p.enabled || last > 1 {
			h.enable(i, p, !p.enabled)
		}
	})
	require.NotZero(t, h.moved())
}

// Connections that begin and end while others do likewise on other queues use their records over and over.
func TestShortConnectionsOnManyQueues(t *testing.T) {
	b, h := newQueues(t, 8)
	h.hops = 0.5
	go echo(b.listen)
	for range 15 {
		conns := make([]*porttest.TCP, 8)
		for i := range conns {
			conns[i] = b.Dial(b.server)
			conns[i].Send(noise(100 + i))
			conns[i].Close()
		}
		for i, c := range conns {
			b.Until("it has ended", func() bool { return c.Ended() })
			requireSame(t, noise(100+i), c.Received())
		}
	}
	b.Until("no flow is left", func() bool {
		left := 0
		for i, p := range h.ports {
			require.NoError(t, h.device.Do(i, func(t *worker.Thread) { left += len(p.Snapshot(t.Now()).Flows) }))
		}
		return left == 0
	})
	require.NotZero(t, h.moved())
}

func TestDatagramsOfHoppingFlowsAllArrive(t *testing.T) {
	b, h := newQueues(t, 8)
	h.hops = 0.5
	host := b.listenUDP()
	go func() {
		buf := make([]byte, 2000)
		for {
			n, from, err := host.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			_, _ = host.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	const flows, rounds = 10, 30
	for round := range rounds {
		for i := range flows {
			b.SendDatagram(porttest.Datagram{
				Src: netip.AddrPortFrom(b.IP, uint16(3000+i)), Dst: b.server, Payload: numbered(round, 200),
			})
		}
		got := map[uint16]bool{}
		b.Until("all answers are there", func() bool {
			for _, d := range b.Datagrams() {
				require.Equal(t, numbered(round, 200), d.Payload)
				got[d.Dst.Port()] = true
			}
			return len(got) == flows
		})
	}
	require.NotZero(t, h.moved())
}

// A forward goes on when the queue pair that its socket was with is not used any more.
func TestForwardsFollowTheQueuesThatRun(t *testing.T) {
	b, h := newQueues(t, 4)
	host := h.forward.String()
	h.eachLowest(func() {
		for range 3 {
			b.forwardedEcho(t, host)
		}
	})
}

// eachLowest calls fn with all queue pairs, then without the lowest, the two lowest and so on, and at last with the lowest alone.
func (h *hopper) eachLowest(fn func()) {
	for i := range h.pairs {
		fn()
		h.enable((i+1)%len(h.pairs), h.pairs[(i+1)%len(h.pairs)], true)
		h.enable(i, h.pairs[i], false)
	}
	fn()
}

// forwardedEcho lets a client of a forward talk to the guest, by TCP and by UDP.
func (b *bench) forwardedEcho(t *testing.T, host string) {
	t.Helper()
	l := b.Listen(80)
	client, err := net.Dial("tcp4", host)
	require.NoError(t, err)
	defer client.Close()
	_, err = client.Write(noise(5000))
	require.NoError(t, err)
	require.NoError(t, client.(*net.TCPConn).CloseWrite())
	c := l.Accept()
	c.WaitFor(5000)
	requireSame(t, noise(5000), c.Received())
	c.Send(noise(7000))
	c.Close()
	r := b.readAll(client)
	require.NoError(t, r.err)
	requireSame(t, noise(7000), r.data)

	u, err := net.Dial("udp4", host)
	require.NoError(t, err)
	defer u.Close()
	for i := range 5 {
		_, err = u.Write(numbered(i, 100))
		require.NoError(t, err)
		var got []*porttest.Datagram
		b.Until("the guest has the datagram", func() bool {
			got = append(got, b.Datagrams()...)
			return len(got) == 1
		})
		b.SendDatagram(porttest.Datagram{Src: got[0].Dst, Dst: got[0].Src, Payload: numbered(i+9, 50)})
		answer := await(b, "the client has the answer", func() []byte {
			buf := make([]byte, 1000)
			n, err := u.Read(buf)
			if err != nil {
				return nil
			}
			return buf[:n]
		})
		require.Equal(t, numbered(i+9, 50), answer)
	}
}

// A front end that goes takes all flows with it, whatever pairs they were on.
func TestAFrontEndThatGoesEndsTheFlowsOfAllQueues(t *testing.T) {
	b, h := newQueues(t, 8)
	var hosts []net.Conn
	for range 10 {
		_, host := b.connect()
		hosts = append(hosts, host)
	}
	require.NoError(t, h.device.Reset())
	for _, host := range hosts {
		require.NoError(t, host.SetReadDeadline(time.Now().Add(time.Minute)))
		_, err := host.Read(make([]byte, 1))
		require.ErrorIs(t, err, unix.ECONNRESET)
	}
}

// With a grace they wait for it, and go on whatever pairs they were on.
func TestWithAGraceTheFlowsOfAllQueuesOutliveTheFrontEnd(t *testing.T) {
	b, h := newQueues(t, 8, func(c *nat.Config) { c.ReconnectGrace = time.Hour })
	var hosts []*net.TCPConn
	var guests []*porttest.TCP
	for range 10 {
		c, host := b.connect()
		guests, hosts = append(guests, c), append(hosts, host)
	}
	for round := range 3 {
		h.leave()
		for i, host := range hosts {
			_, err := host.Write(numbered(i, 1000))
			require.NoError(t, err)
			guests[i].Send(numbered(i+1, 2000)) // is lost with the old rings
		}
		for range 10 {
			b.Turn()
			time.Sleep(time.Millisecond)
		}
		h.comeBack()
		for i, c := range guests {
			b.Skip("the guest has what came meanwhile", func() bool { return len(c.Received()) >= 1000 })
			requireSame(t, numbered(i, 1000), c.Read())
			b.Skip("the guest has sent all", func() bool { return c.Unsent() == 0 })
			requireSame(t, numbered(i+1, 2000), b.readSome(hosts[i], 2000))
			require.Equal(t, porttest.Open, c.State, "round %d", round)
		}
	}
	for _, c := range h.counters() {
		for name, n := range c.Ends.All() {
			require.Zero(t, n, name)
		}
	}
}

// A forward that is to send a header, or to take one, does so wherever its flow and its listener go.
func TestHeadersOfFlowsThatHopBetweenQueues(t *testing.T) {
	b, h := newQueues(t, 4, func(c *nat.Config) { c.Forwards[0].AcceptProxy, c.Forwards[0].SendProxy = true, 1 })
	l := b.Listen(80)
	for i := range 20 {
		client, err := net.Dial("tcp4", h.forward.String())
		require.NoError(t, err)
		defer client.Close()
		_, err = client.Write([]byte(named[:20]))
		require.NoError(t, err)
		for range 10 {
			b.Turn()
			time.Sleep(100 * time.Microsecond)
		}
		if pair := i % 4; i < 12 && i%2 == 1 {
			h.enable(pair, h.pairs[pair], !h.pairs[pair].enabled) // the call waits on a pair that may cease to run
		}
		_, err = client.Write(append([]byte(named[20:]), noise(20_000)...))
		require.NoError(t, err)
		c := l.Accept()
		c.WaitFor(len(named) + 20_000)
		requireSame(t, append([]byte(named), noise(20_000)...), c.Received())
		c.Close()
	}
	require.NotZero(t, h.moved())
}

// A gate opens and shuts by what the guest's port says, whichever pair it says it by, and whoever has the listeners.
func TestAGateOfManyQueues(t *testing.T) {
	b, h := newQueues(t, 4, func(c *nat.Config) { c.Forwards[0].Gate = true })
	host := h.forward.String()
	dial := func() (net.Conn, error) { return net.DialTimeout("tcp4", host, time.Minute) }
	// The pairs' clock is the machine's. A gate may stay shut for a second after the guest's port has begun to answer.
	eventually := func(what string, happens func() bool) {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); !happens(); time.Sleep(time.Millisecond) {
			require.True(t, time.Now().Before(deadline), what)
			b.Turn()
		}
	}
	for lowest := range 4 {
		for i := range lowest {
			if h.pairs[i].enabled {
				h.enable(i, h.pairs[i], false)
			}
		}
		requireRefused(t, host)
		l := b.Listen(80)
		var client net.Conn
		eventually("the gate opens", func() bool {
			c, err := dial()
			client = c
			return err == nil
		})
		c := l.Accept()
		for int(c.Remote.Port()) != client.LocalAddr().(*net.TCPAddr).Port {
			c = l.Accept() // that was a client of before, which had come when the gate was about to shut
		}
		c.Send([]byte("hello"))
		require.Equal(t, "hello", string(b.readSome(client, 5)))
		l.Close()
		c.Reset() // the guest is asked at once, and refuses
		require.ErrorContains(t, b.readAll(client).err, "connection reset")
		require.NoError(t, client.Close())
		eventually("the gate is shut", func() bool {
			c, err := dial()
			if err == nil {
				_ = c.Close()
			}
			return err != nil
		})
		requireRefused(t, host)
	}
	b.Listen(80)
	eventually("the gate opens", func() bool {
		c, err := dial()
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	h.leave()
	requireRefused(t, host)
}

// The pair that knocks sleeps for five seconds while a gate is open. An end of a connection on another pair wakes it.
// Nothing here may wake it but that, so the kernel is asked for the gate, not the engine, and no client tries it.
func TestAnEndOnAnyPairWakesTheOneThatKnocks(t *testing.T) {
	b, h := newQueues(t, 4, func(c *nat.Config) { c.Forwards[0].Gate = true })
	h.hops, h.at[80] = 0, 3 // what the port sends goes by the last pair, and the first one has the listeners
	opensAndShuts := func() (took time.Duration) {
		l := b.Listen(80)
		b.Until("the gate is open", func() bool { return isListenedOn(t, h.forward) })
		start := time.Now() // the next knock but for the end is due five seconds from here
		// It still wakes once, when it was to knock at a gate that is shut: within a second.
		b.Until("it has gone to sleep", func() bool { return time.Since(start) > 1500*time.Millisecond })
		client, err := net.Dial("tcp4", h.forward.String())
		require.NoError(t, err)
		defer client.Close()
		c := l.Accept()
		c.Send([]byte("hello"))
		require.Equal(t, "hello", string(b.readSome(client, 5)))
		l.Close()
		c.Reset()
		b.Until("the gate is shut", func() bool { return !isListenedOn(t, h.forward) })
		return time.Since(start)
	}
	// A machine that is busy may need longer now and then. A pair that nobody wakes needs longer each time.
	for tries := 1; opensAndShuts() >= 4*time.Second; tries++ {
		require.Less(t, tries, 20, "only its own knock shuts the gate")
	}
	require.NotZero(t, h.moved(), "the connection was the last pair's")
}

// isListenedOn asks the kernel whether a TCP port takes connections.
func isListenedOn(t *testing.T, a netip.AddrPort) bool {
	t.Helper()
	const listening = "0A"
	address := a.Addr().As4()
	local := fmt.Sprintf("%08X:%04X", binary.NativeEndian.Uint32(address[:]), a.Port())
	return slices.ContainsFunc(kernelSockets(t), func(f []string) bool { return f[1] == local && f[3] == listening })
}

// A guest that floods through all its queue pairs has no larger budget than one with a single pair.
func TestTheQueuesOfAGuestShareItsBudgets(t *testing.T) {
	b, h := newQueues(t, 4)
	const questions, budget = 2000, 256
	start := time.Now()
	answers := 0
	for i := range questions {
		b.SendFrame(arpQuestion(&hostile{bench: b}))
		if i%16 == 0 {
			b.Turn()
			answers += len(b.Frames())
		}
	}
	b.Until("the budget is used", func() bool {
		answers += len(b.Frames())
		return answers >= budget
	})
	b.Settle()
	answers += len(b.Frames())
	allowed := budget + int(budget*time.Since(start).Seconds()) + 1 // the pairs' clock is the machine's
	require.LessOrEqual(t, answers, allowed)
	used := 0
	for _, c := range h.counters() {
		if c.ARPOverBudget > 0 {
			used++
		}
	}
	require.Greater(t, used, 1, "it came through several")
}

// However many pairs a guest has, there are no more flows of a kind than with one, and the pair that has most gives them up.
func TestTheQueuesOfAGuestShareTheRoomForItsFlows(t *testing.T) {
	const room, quarter = 64, 16
	for name, hops := range map[string]float64{"flows are on all queues": 1, "a flood has one queue, and others come by others": 0.1} {
		t.Run(name, func(t *testing.T) {
			b, h := newQueues(t, 4, func(c *nat.Config) { c.MaxFlows = room })
			host, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), b.server.Port())))
			require.NoError(t, err)
			defer host.Close()
			for port := range uint16(300) {
				if h.random.Float64() >= hops {
					h.at[4000+port], h.hops = 0, 0
				}
				b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 4000+port), Dst: b.server, Payload: []byte("x")})
				b.Turn()
				h.hops = 0.5
			}
			b.Until("all have come, and those that are too many are gone", func() bool {
				begun, evicted := uint64(0), uint64(0)
				for _, c := range h.counters() {
					begun += c.UDPFlows
					evicted += c.AssociationsEvicted
					require.Zero(t, c.TableFull)
				}
				left := h.associations()
				return begun == 300 && left == 300-int(evicted) && left <= quarter+len(h.ports)
			})
			require.Greater(t, h.associations(), quarter/2)
			_, client := b.connect()
			require.NoError(t, client.Close())
		})
	}
}

// associations counts those of all pairs.
func (h *hopper) associations() (n int) {
	for i, p := range h.ports {
		require.NoError(h.t, h.device.Do(i, func(t *worker.Thread) {
			for _, f := range p.Snapshot(t.Now()).Flows {
				if f.Proto == unix.IPPROTO_UDP {
					n++
				}
			}
		}))
	}
	return n
}

// A table that others have filled is made room in for who comes again.
func TestAnotherQueueMakesRoomInAFullTable(t *testing.T) {
	const room = 8 // two of a kind
	b, h := newQueues(t, 2, func(c *nat.Config) { c.MaxFlows = room })
	b.listenUDP()
	h.hops = 0
	stay := func(pair int, ports ...uint16) {
		for _, p := range ports {
			h.at[p] = pair
		}
	}
	stay(0, 4000, 4001)
	for port := range uint16(2) {
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 4000+port), Dst: b.server, Payload: []byte("x")})
	}
	b.Until("two associations are there", func() bool { return h.associations() == 2 })
	for i := range uint16(room - 2) {
		stay(0, 5000+i)
		c := b.Connect(b.server, porttest.TCPOptions{LocalPort: 5000 + i})
		require.Equal(t, porttest.Open, c.State)
	}
	stay(1, 6000, 6001)
	c := b.Dial(b.server, porttest.TCPOptions{LocalPort: 6000})
	b.Until("it is refused", c.Ended)
	b.Until("there is room", func() bool { return h.associations() == 1 })
	require.Equal(t, porttest.Open, b.Connect(b.server, porttest.TCPOptions{LocalPort: 6001}).State)
}
