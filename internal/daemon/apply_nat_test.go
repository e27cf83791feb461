package daemon

import (
	"encoding/binary"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/sandbox"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/worker"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

// openedNAT returns a daemon of two guests with queue pairs behind a NAT, and the configuration that it was opened with.
func openedNAT(t *testing.T, pairs int) (d *Daemon, config Config) {
	dir := shortDir(t)
	n := DefaultNAT()
	n.Queues, n.NoIPv6, n.Resolvers = pairs, true, dns.Plain(netip.MustParseAddrPort("127.0.0.1:9"))
	config = Config{
		FrontEnds: FrontEnds{SocketPaths: []string{filepath.Join(dir, "a"), filepath.Join(dir, "b")}}, Sandbox: sandbox.Off, NAT: &n,
	}
	p, events := program()
	go func() {
		for range events {
		}
	}()
	d = open(t, config, p)
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d, config
}

// sender is the driver of the transmit ring of one queue pair.
type sender struct {
	t    *testing.T
	mem  *vqtest.Memory
	ring *vqtest.Driver
	kick int
	addr [4]byte // of the guest
}

// sendersOf are those of all queue pairs of a guest, which has no receive rings: it is told nothing.
func sendersOf(t *testing.T, g *served) (all []*sender) {
	mem := vqtest.NewMemory(1<<20, vqtest.Heap)
	require.NoError(t, g.device.SetFeatures(vnet.FeatureVersion1))
	require.NoError(t, g.device.SetMemory(mem.Table()))
	for pair := range g.ports {
		kick, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, unix.Close(kick)) })
		s := &sender{t: t, mem: mem, ring: vqtest.NewDriver(mem, vqtest.Options{Size: 256}), kick: kick, addr: g.network.NAT.Guest.As4()}
		require.NoError(t, g.device.StartRing(2*pair+1, s.ring.Layout(), virtqueue.RingFDs{Kick: kick, Call: -1, Err: -1}))
		require.NoError(t, g.device.EnableRing(2*pair+1, true))
		all = append(all, s)
	}
	return all
}

// send sends a datagram from a port of the guest to one of the host, by the router's address.
func (s *sender) send(guest, host uint16, text string) {
	frame := make([]byte, vnet.HeaderLen, 200)
	frame = append(frame, 0x52, 0x55, 10, 0, 2, 2, 0x52, 0x54, 0, 1, 2, 3, 8, 0)
	ip := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2}
	binary.BigEndian.PutUint16(ip[2:], uint16(28+len(text)))
	copy(ip[12:], s.addr[:])
	frame = append(frame, ip...)
	for _, word := range []uint16{guest, host, uint16(8 + len(text)), 0} {
		frame = binary.BigEndian.AppendUint16(frame, word)
	}
	frame = append(frame, text...)
	at := s.mem.Alloc(len(frame), 64)
	copy(s.mem.Bytes(at, len(frame)), frame)
	_, ok := s.ring.Add(vqtest.Buf{GPA: at, Len: uint32(len(frame))})
	require.True(s.t, ok)
	s.ring.Publish()
	_, err := unix.Write(s.kick, []byte{1, 0, 0, 0, 0, 0, 0, 0})
	require.NoError(s.t, err)
}

// countedBy is the sum of what all queue pairs of a guest have counted.
func countedBy(t *testing.T, g *served) (sum nat.Counters) {
	for pair := range g.ports {
		require.NoError(t, g.device.Do(pair, func(thread *worker.Thread) {
			c := thread.Port().(*nat.Port).Counters()
			sum.Denied += c.Denied
			sum.Withdrawn += c.Withdrawn
		}))
	}
	return sum
}

// udpService is a socket of the host's loopback.
func udpService(t *testing.T) (s *net.UDPConn, service spec.HostService) {
	s, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })
	return s, spec.HostService{Proto: unix.IPPROTO_UDP, Port: s.LocalAddr().(*net.UDPAddr).AddrPort().Port()}
}

// hears waits for n datagrams.
func hears(t *testing.T, s *net.UDPConn, n int) {
	t.Helper()
	require.NoError(t, s.SetReadDeadline(time.Now().Add(time.Minute)))
	for range n {
		_, err := s.Read(make([]byte, 100))
		require.NoError(t, err)
	}
}

func TestAllQueuePairsOfAllGuestsFollowAPolicyThatIsApplied(t *testing.T) {
	const pairs = 3
	d, config := openedNAT(t, pairs)
	first, opensFirst := udpService(t)
	second, opensSecond := udpService(t)
	senders := [][]*sender{sendersOf(t, d.guests[0]), sendersOf(t, d.guests[1])}
	everyPair := func(service spec.HostService) {
		for _, guest := range senders {
			for pair, s := range guest {
				s.send(uint16(1000+pair), service.Port, "x")
			}
		}
	}
	config.NAT.AllowHost = []spec.HostService{opensFirst}
	done, err := d.Apply(config)
	require.NoError(t, err)
	require.Equal(t, []string{"NAT.AllowHost"}, pathsOf(done.Changed))
	everyPair(opensFirst)
	hears(t, first, 2*pairs)

	config.NAT.AllowHost = []spec.HostService{opensSecond}
	done, err = d.Apply(config)
	require.NoError(t, err)
	require.Equal(t, []string{"NAT.AllowHost"}, pathsOf(done.Changed))
	for _, g := range d.guests {
		require.Eventually(t, func() bool { return countedBy(t, g).Withdrawn == pairs }, time.Minute, time.Millisecond)
	}
	everyPair(opensFirst)
	for _, g := range d.guests {
		require.Eventually(t, func() bool { return countedBy(t, g).Denied == pairs }, time.Minute, time.Millisecond)
	}
	everyPair(opensSecond)
	hears(t, second, 2*pairs)
	require.Equal(t, config.NAT.AllowHost, d.Config().NAT.AllowHost)
}

func TestFlowsGoOnIfAChangeKeepsThem(t *testing.T) {
	const pairs = 2
	d, _ := openedNAT(t, pairs)
	service, opens := udpService(t)
	guest := d.guests[1]
	senders := sendersOf(t, guest)
	everyPair := func(port uint16) {
		for pair, s := range senders {
			s.send(port+uint16(pair), opens.Port, "x")
		}
	}
	policy := func(open ...spec.HostService) func(*Config) error {
		return func(c *Config) error {
			c.NAT.AllowHost = open
			return nil
		}
	}
	_, err := d.Change(policy(opens))
	require.NoError(t, err)
	everyPair(1000)
	hears(t, service, pairs)
	_, err = d.ChangeKeepingFlows(policy())
	require.NoError(t, err)
	everyPair(1000)
	hears(t, service, pairs)
	everyPair(2000)
	require.Eventually(t, func() bool { return countedBy(t, guest).Denied == pairs }, time.Minute, time.Millisecond, "others are closed")
	require.Zero(t, countedBy(t, guest).Withdrawn)
	_, err = d.Change(func(c *Config) error {
		c.NAT.Restrict = true
		return nil
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return countedBy(t, guest).Withdrawn == pairs }, time.Minute, time.Millisecond, "another policy judges them")
}

func TestAPolicyThatIsRefusedChangesNothing(t *testing.T) {
	first, opensFirst := udpService(t)
	for name, c := range map[string]struct {
		spoil func(*Config)
		want  string
	}{
		"a rule that could never matter": {func(c *Config) { c.NAT.Rules = []spec.Rule{{Prefix: netip.MustParsePrefix("10.0.2.0/25")}} },
			"that is the guest's own network"},
		"a service that nobody could use": {func(c *Config) { c.NAT.AllowHost[0].Addr = netip.MustParseAddr("10.0.2.77") },
			"the address is in the guest's own network"},
		"resolvers that nobody reads": {func(c *Config) { c.NAT.Resolvers = nil }, "dns: the host's resolvers were not asked at the start"},
		"another field that is fixed": {func(c *Config) { c.NAT.MTU = 1400 }, "mtu cannot change while guests are served"},
	} {
		t.Run(name, func(t *testing.T) {
			d, config := openedNAT(t, 1)
			config.NAT.AllowHost = []spec.HostService{opensFirst}
			_, err := d.Apply(config)
			require.NoError(t, err)
			before := d.Config()
			config.NAT.AllowHost, config.NAT.Restrict = []spec.HostService{{Proto: unix.IPPROTO_TCP, Port: 9}}, true
			config.NAT.Rules = []spec.Rule{{Prefix: netip.MustParsePrefix("192.0.2.0/24")}}
			config.Threads.Poll = time.Millisecond
			if c.want[:3] == "dns" {
				config.NAT.Restrict = false
			}
			c.spoil(&config)
			done, err := d.Apply(config)
			require.ErrorContains(t, err, c.want)
			require.Empty(t, done.Changed)
			require.Equal(t, before, d.Config())
			require.Zero(t, d.guests[0].device.Poll())
			sendersOf(t, d.guests[0])[0].send(1000, opensFirst.Port, "x")
			hears(t, first, 1)
		})
	}
}

func TestPoliciesThatSeveralCallersApplyEndInOneOfThem(t *testing.T) {
	d, config := openedNAT(t, 2)
	service, opens := udpService(t)
	for i := range 10000 {
		config.NAT.Rules = append(config.NAT.Rules, spec.Rule{
			Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}), 32),
		})
	}
	senders := sendersOf(t, d.guests[0])
	var callers sync.WaitGroup
	for caller := range 4 {
		callers.Go(func() {
			for i := range 8 {
				c := d.Config()
				c.NAT.Rules, c.NAT.AllowHost = config.NAT.Rules[:1000*(caller+i)], nil
				if (caller+i)%2 == 0 {
					c.NAT.AllowHost = []spec.HostService{opens}
				}
				_, err := d.Apply(c)
				require.NoError(t, err)
			}
		})
	}
	for i := range 100 {
		senders[i%2].send(uint16(1000+i), opens.Port, "x")
	}
	callers.Wait()
	before := countedBy(t, d.guests[0]).Denied
	require.Eventually(t, func() bool { // the frames of before are over
		now := countedBy(t, d.guests[0]).Denied
		same := now == before
		before = now
		return same
	}, time.Minute, 100*time.Millisecond)
	opened := len(d.Config().NAT.AllowHost) > 0
	for pair, s := range senders {
		s.send(uint16(3000+pair), opens.Port, "last")
	}
	if !opened {
		require.Eventually(t, func() bool { return countedBy(t, d.guests[0]).Denied == before+2 }, time.Minute, time.Millisecond)
		return
	}
	require.NoError(t, service.SetReadDeadline(time.Now().Add(time.Minute)))
	for last := 0; last < 2; {
		text := make([]byte, 100)
		n, err := service.Read(text)
		require.NoError(t, err)
		if string(text[:n]) == "last" {
			last++
		}
	}
}
