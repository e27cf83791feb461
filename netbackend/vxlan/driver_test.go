package vxlan

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/mmsg"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
)

func TestFramesPassWholeInBothDirections(t *testing.T) {
	h := byHand(t, 1)
	for _, n := range []int{46, 1500, 4133, 4134, 4135, 9000, 60000} {
		f := ethernet(mac(1), mac(2), n)
		h.give(f)
		require.Equal(t, [][]byte{datagram(42, f)}, h.hear(0), "%d bytes", n)
		h.say(h.sockets[0], datagram(42, f))
		require.Equal(t, [][]byte{f}, h.take(), "%d bytes", n)
	}
}

func TestAFrameGoesWhereItsDestinationWasSeenAndElseToAll(t *testing.T) {
	h := byHand(t, 3)
	toOne, toAll := ethernet(mac(1), mac(9), 60), ethernet(broadcast, mac(9), 60)
	h.give(toOne, toAll)
	for i := range 3 {
		require.Equal(t, [][]byte{datagram(42, toOne), datagram(42, toAll)}, h.hear(i), "nobody knows yet")
	}
	h.say(h.sockets[1], datagram(42, ethernet(broadcast, mac(1), 60)))
	require.Len(t, h.take(), 1)
	h.give(toAll, toOne, toAll)
	require.Equal(t, [][]byte{datagram(42, toAll), datagram(42, toAll)}, h.hear(0))
	require.Equal(t, [][]byte{datagram(42, toAll), datagram(42, toOne), datagram(42, toAll)}, h.hear(1), "in order")
	require.Len(t, h.hear(2), 2)
	h.say(h.sockets[2], datagram(42, ethernet(broadcast, mac(1), 60)))
	h.take()
	h.give(toOne)
	require.Empty(t, h.hear(1))
	require.Len(t, h.hear(2), 1, "it has moved")
	require.Equal(t, []int{0, 0, 1}, []int{h.Remotes()[0].Addresses, h.Remotes()[1].Addresses, h.Remotes()[2].Addresses})
	require.Equal(t, []time.Duration{-1, 0, 0}, []time.Duration{h.Remotes()[0].Heard, h.Remotes()[1].Heard, h.Remotes()[2].Heard})
	h.clock += 301 * second
	h.give(toOne)
	require.Len(t, h.hear(0), 1, "it was not seen for too long")
	require.Empty(t, h.Learned(10))
}

// More copies than a call takes: each remote switch gets each frame once, in order.
func TestManyCopiesAreSentByManyCalls(t *testing.T) {
	h := byHand(t, 100)
	var want [][]byte
	for i := range 5 {
		f := ethernet(broadcast, mac(i), 50+i)
		want = append(want, datagram(42, f))
		h.give(f)
	}
	for i := range 100 {
		require.Equal(t, want, h.hear(i))
	}
	require.EqualValues(t, 500, h.Carried().Sent)
}

func TestWhatIsNotRightIsDroppedAndCounted(t *testing.T) {
	good := datagram(42, ethernet(broadcast, mac(1), 60))
	with := func(at int, b byte) []byte {
		d := append([]byte{}, good...)
		d[at] = b
		return d
	}
	for name, c := range map[string]struct {
		datagram []byte
		counter  func(Counters) uint64
	}{
		"nothing":              {[]byte{}, func(c Counters) uint64 { return c.BadHeader }},
		"half a header":        {good[:7], func(c Counters) uint64 { return c.BadHeader }},
		"no I flag":            {with(0, 0), func(c Counters) uint64 { return c.BadHeader }},
		"another protocol":     {with(0, 0x0c), func(c Counters) uint64 { return c.BadHeader }},
		"another network":      {with(6, 43), func(c Counters) uint64 { return c.WrongVNI }},
		"another network, too": {with(4, 1), func(c Counters) uint64 { return c.WrongVNI }},
		"no frame":             {good[:8], func(c Counters) uint64 { return c.BadFrame }},
		"half an address":      {good[:8+13], func(c Counters) uint64 { return c.BadFrame }},
		"reserved bits":        {with(0, 0x88), func(c Counters) uint64 { return c.Received }},
		"reserved byte":        {with(7, 0xff), func(c Counters) uint64 { return c.Received }},
		"a shortest frame":     {good[:8+14], func(c Counters) uint64 { return c.Received }},
	} {
		t.Run(name, func(t *testing.T) {
			h := byHand(t, 1)
			h.say(h.sockets[0], c.datagram)
			require.Len(t, h.take(), int(h.Carried().Received))
			require.EqualValues(t, 1, c.counter(h.Carried()))
			h.say(h.sockets[0], good)
			require.Len(t, h.take(), 1, "what is right passes behind it")
		})
	}
}

func TestNobodyElseIsHeard(t *testing.T) {
	h := byHand(t, 2)
	stranger := h.socket([4]byte{127, 0, 2, 1})
	h.say(stranger, datagram(42, ethernet(broadcast, mac(1), 60)))
	require.Empty(t, h.take())
	require.EqualValues(t, 1, h.Carried().Stranger)
	require.Empty(t, h.Learned(10), "nothing was learned from it")
	another := h.socket([4]byte{127, 0, 1, 1})
	h.say(another, datagram(42, ethernet(broadcast, mac(1), 60)))
	require.Len(t, h.take(), 1, "a remote switch sends from any port (RFC 7348 section 5)")
}

// VLANs with networks of their own have no tags there.
func TestVLANsHaveNetworksOfTheirOwn(t *testing.T) {
	h := byHand(t, 1, Mapping{10, 1010}, Mapping{20, 1020})
	bare := ethernet(mac(1), mac(2), 60)
	h.give(ethernet(mac(1), mac(2), 60, 10), bare, ethernet(mac(1), mac(2), 60, 30), ethernet(mac(1), mac(2), 5000, 20))
	require.Equal(t, [][]byte{datagram(1010, bare), datagram(42, bare), datagram(1020, ethernet(mac(1), mac(2), 5000))}, h.hear(0))
	require.EqualValues(t, 1, h.Carried().Unmapped)
	h.say(h.sockets[0], datagram(1020, bare))
	h.say(h.sockets[0], datagram(42, bare))
	h.say(h.sockets[0], datagram(1021, bare))
	h.say(h.sockets[0], datagram(1010, ethernet(mac(1), mac(2), 60, 20)))
	require.Equal(t, [][]byte{ethernet(mac(1), mac(2), 60, 20), bare}, h.take())
	require.EqualValues(t, 1, h.Carried().WrongVNI)
	require.EqualValues(t, 1, h.Carried().BadFrame, "a tag where the network says the VLAN")
}

// The same address in two VLANs may be behind two remote switches.
func TestAddressesAreThoseOfAVLAN(t *testing.T) {
	h := byHand(t, 2)
	h.say(h.sockets[0], datagram(42, ethernet(broadcast, mac(1), 60, 10)))
	h.say(h.sockets[1], datagram(42, ethernet(broadcast, mac(1), 60, 20)))
	require.Len(t, h.take(), 2)
	h.give(ethernet(mac(1), mac(2), 60, 10))
	require.Len(t, h.hear(0), 1)
	require.Empty(t, h.hear(1))
}

// The loopback carries no packet longer than its MTU if it must not be cut.
func TestAFrameThatIsTooLargeForTheWayIsCountedAndTold(t *testing.T) {
	h := byHand(t, 1)
	mtu, err := h.InnerMTU()
	require.NoError(t, err)
	require.Equal(t, 65535-Overhead4, mtu)
	f := ethernet(mac(1), mac(2), mtu+1)
	h.give(ethernet(mac(1), mac(2), 60), f, ethernet(mac(1), mac(2), 61))
	require.Len(t, h.hear(0), 2, "the others pass")
	require.EqualValues(t, 1, h.Carried().TooLarge)
	require.Equal(t, len(f), h.TooLarge())
	select {
	case <-h.Trouble():
	default:
		t.Fatal("it was not told")
	}
	h.give(f)
	require.Empty(t, h.Trouble(), "it is told once")
}

// A flood of addresses behind one remote switch leaves the table bounded, and those behind others known.
func TestAFloodOfAddressesLeavesOthersKnown(t *testing.T) {
	h := byHand(t, 2)
	h.say(h.sockets[1], datagram(42, ethernet(broadcast, mac(1), 60)))
	require.Len(t, h.take(), 1)
	for i := range 20000 {
		f := ethernet(broadcast, [6]byte{4, 0, 0, byte(i >> 16), byte(i >> 8), byte(i)}, 46)
		h.learn(f, 0, h.clock)
	}
	require.LessOrEqual(t, h.Remotes()[0].Addresses, share)
	require.NotZero(t, h.Carried().NotLearned)
	h.give(ethernet(mac(1), mac(2), 60))
	require.Empty(t, h.hear(0))
	require.Len(t, h.hear(1), 1)
}

// What the device does not take stays in the socket.
func TestADeviceThatTakesNothingIsWaitedFor(t *testing.T) {
	h := byHand(t, 1)
	for i := range 3 * slots {
		h.say(h.sockets[0], datagram(42, ethernet(mac(1), mac(2), 60+i)))
	}
	h.Fill(unix.EPOLLIN)
	for range 10 {
		h.Fill(0)
		require.False(t, h.Drain(), "nothing can be done")
	}
	require.LessOrEqual(t, h.Outstanding(), slots)
	require.Len(t, h.take(), 3*slots)
}

func TestNothingIsAllocatedPerFrame(t *testing.T) {
	h := byHand(t, 2)
	f, in := ethernet(mac(1), mac(2), 1000), datagram(42, ethernet(mac(2), mac(3), 1000))
	buf := make([]byte, 2000)
	require.Zero(t, testing.AllocsPerRun(200, func() {
		h.writer.Recheck()
		h.writer.Write(&vnet.Header{}, f)
		h.rx.Flush()
		_ = unix.Sendto(h.sockets[0], in, 0, h.at)
		h.Fill(unix.EPOLLIN)
		h.tx.UseN(len(h.tx.Fetch(virtqueue.MaxBatch)))
		h.tx.Flush()
		h.Drain()
		_, _ = unix.Read(h.sockets[0], buf)
		_, _ = unix.Read(h.sockets[1], buf)
	})-sendtoAllocs(h, in))
	require.NotZero(t, h.Carried().Received)
	require.NotZero(t, h.Carried().Sent)
}

// sendtoAllocs is what the test's own call allocates.
func sendtoAllocs(h *hand, b []byte) float64 {
	return testing.AllocsPerRun(100, func() { _ = unix.Sendto(h.sockets[0], b, 0, h.at) })
}

func TestConfigurationsThatCannotBe(t *testing.T) {
	a, b, c := netip.MustParseAddrPort("192.0.2.1:4789"), netip.MustParseAddrPort("192.0.2.1:4790"), netip.MustParseAddrPort("[2001:db8::1]:4789")
	many := make([]netip.AddrPort, MaxRemotes+1)
	for i := range many {
		many[i] = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 4789)
	}
	for want, cfg := range map[string]Config{
		"no remote switch":          {},
		"is named twice":            {Remotes: []netip.AddrPort{a, b}},
		"one version of IP":         {Remotes: []netip.AddrPort{a, c}},
		"want one version of IP":    {Remotes: []netip.AddrPort{a}, Local: c},
		"name each remote switch":   {Remotes: []netip.AddrPort{netip.MustParseAddrPort("239.0.0.1:4789")}},
		"want the address":          {Remotes: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:4789")}},
		"want a port":               {Remotes: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:0")}},
		"129 remote switches":       {Remotes: many},
		"VNI 16777216":              {Remotes: many[:1], VNI: 1 << 24},
		"VLAN 4095":                 {Remotes: many[:1], Mappings: []Mapping{{4095, 1}}},
		"VLAN 7 has two networks":   {Remotes: many[:1], Mappings: []Mapping{{7, 1}, {7, 2}}},
		"VNI 0 is the network of":   {Remotes: many[:1], Mappings: []Mapping{{7, 0}}},
		"257 VLANs with networks":   {Remotes: many[:1], Mappings: make([]Mapping, MaxMappings+1)},
		"VNI 16777217: want 0 to 1": {Remotes: many[:1], Mappings: []Mapping{{7, 1<<24 + 1}}},
	} {
		require.ErrorContains(t, cfg.Check(), want)
	}
}

// FuzzDatagrams has a remote switch send anything: what comes out is a frame that lies in the datagram, and what is right passes behind it.
func FuzzDatagrams(f *testing.F) {
	f.Add(datagram(42, ethernet(broadcast, mac(1), 60)), false)
	f.Add(datagram(1010, ethernet(broadcast, mac(1), 60, 7)), true)
	f.Add([]byte{8}, true)
	f.Fuzz(func(t *testing.T, b []byte, mapped bool) {
		var mappings []Mapping
		if mapped {
			mappings = []Mapping{{10, 1010}}
		}
		h := byHand(t, 1, mappings...)
		if len(b) > 60000 {
			return
		}
		h.say(h.sockets[0], b)
		for _, got := range h.take() {
			require.GreaterOrEqual(t, len(got), 14)
			want := b[HeaderLen:]
			if len(got) == len(want)+tagLen {
				require.Equal(t, uint16(10), tagOf(got))
				got = append(append([]byte{}, got[:12]...), got[16:]...)
			}
			require.Equal(t, want, got)
			require.NotZero(t, b[0]&8)
		}
		c := h.Carried()
		require.EqualValues(t, 1, c.Received+c.BadHeader+c.WrongVNI+c.BadFrame)
		good := ethernet(broadcast, mac(1), 60)
		h.say(h.sockets[0], datagram(42, good))
		require.Equal(t, [][]byte{good}, h.take())
	})
}

func TestNamesAreThoseOfTheirAddresses(t *testing.T) {
	for _, text := range []string{"192.0.2.1:4789", "[2001:db8::1]:1"} {
		at := netip.MustParseAddrPort(text)
		name := mmsg.NameOf(at, 0)
		require.Equal(t, at.Addr().As16(), name.Addr(), fmt.Sprint(at))
	}
}
