package nat_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// last is the newest frame that the guest has received, without its Ethernet header.
func (b *udpBench) last() []byte {
	f := b.Frames()
	return f[len(f)-1].Bytes[14:]
}

// send lets the host send payload to the guest, which gets it.
func (b *udpBench) send(payload []byte) {
	b.t.Helper()
	_, err := b.host.WriteToUDPAddrPort(payload, b.from)
	require.NoError(b.t, err)
	b.guestGets([][]byte{payload})
}

// complain sends an ICMP error about a packet to who has sent it.
func (b *bench) complain(m porttest.ICMP, packet []byte) {
	if packet[0]>>4 == 4 {
		m.Payload = packet[:28]
		b.SendICMP(netip.AddrFrom4([4]byte(packet[12:16])), m)
	} else {
		m.Payload = packet[:56]
		b.SendICMP(netip.AddrFrom16([16]byte(packet[8:24])), m)
	}
	b.Settle()
}

const mayNotCut = 0x40 // "don't fragment", in the seventh byte of a packet

func TestI1DatagramsMayBeCutOnANarrowPathOfIPv4(t *testing.T) {
	for name, features := range map[string]uint64{
		"one by one": plain | vnet.FeatureMrgRxBuf, "put together": plain | vnet.FeatureMrgRxBuf | vnet.FeatureGuestUSO4,
	} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, setup{guest: porttest.Options{Features: features}})
			b.hello()
			b.send(numbered(1, 1450))
			packet := b.last()
			require.NotZero(t, packet[6]&mayNotCut)
			b.complain(tooBig(1400, packet), packet)
			require.Equal(t, uint64(1), b.port.Counters().PathsNarrowed)

			ids := map[uint16]bool{}
			for i := range 10 {
				b.send(numbered(i, 1450))
				packet = b.last()
				require.Zero(t, packet[6]&mayNotCut, "a router may cut it")
				ids[binary.BigEndian.Uint16(packet[4:])] = true
			}
			require.Len(t, ids, 10, "fragments are told apart")
			b.send(numbered(1, 1372))
			require.NotZero(t, b.last()[6]&mayNotCut, "it fits")
			b.guestGets(b.sendTogether(10, 1450))
			require.Zero(t, b.last()[6]&mayNotCut)
			b.send(numbered(1, 4000)) // in fragments as ever
			b.Run(10*time.Minute + time.Second)
			b.hello()
			b.Frames()
			b.send(numbered(1, 1450))
			require.NotZero(t, b.last()[6]&mayNotCut, "the path is tried again")
		})
	}
}

func TestI2DatagramsLeaveInFragmentsOnANarrowPathOfIPv6(t *testing.T) {
	for name, features := range map[string]uint64{
		"one by one": plain | vnet.FeatureMrgRxBuf, "put together": plain | vnet.FeatureMrgRxBuf | vnet.FeatureGuestUSO6,
	} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench6(t, setup{guest: porttest.Options{Features: features}})
			b.SendDatagram(b.datagram6(0, 9))
			b.Settle()
			b.hostGets([][]byte{b.datagram6(0, 9).Payload})
			b.send(numbered(1, 1400))
			packet := b.last()
			b.complain(tooBig(1300, packet), packet)
			fits := func() {
				for _, f := range b.Frames() {
					if f.Header.GSOType == vnet.GSONone {
						require.LessOrEqual(t, len(f.Bytes), 14+1300)
					} else {
						require.LessOrEqual(t, int(f.Header.GSOSize), 1300-48)
					}
				}
			}
			for _, n := range []int{1400, 1253, 1252, 4000} {
				b.send(numbered(n, n))
			}
			fits()
			b.guestGets(b.sendTogether(10, 1400))
			fits()
			b.guestGets(b.sendTogether(10, 1200))
			fits()

			b.send(numbered(1, 1450))
			fragment := b.Frames()[0]
			require.True(t, fragment.Fragment)
			b.complain(tooBig(1280, fragment.Bytes[14:]), fragment.Bytes[14:])
			require.Equal(t, uint64(2), b.port.Counters().PathsNarrowed, "a fragment can be too big as well")
		})
	}
}

func TestI3ADatagramForAClosedPortEndsItsFlow(t *testing.T) {
	host := porttest.FreePort(t)
	b := newUDPBench(t, setup{config: withForward(t, "udp:"+host.String()+":53")})
	client, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(host))
	require.NoError(t, err)
	t.Cleanup(func() { _ = client.Close() })
	closed := porttest.ICMP{Type: 3, Code: 3}
	for range 3 {
		_, err = client.Write([]byte("question"))
		require.NoError(t, err)
		b.Until("the guest has it", func() bool { return len(b.Datagrams()) == 1 })
		require.Len(t, b.port.Snapshot(b.Now()).Flows, 1)
		b.complain(closed, b.last())
		require.Empty(t, b.port.Snapshot(b.Now()).Flows, "the peer's flow is over, and its next datagram makes another")
	}
	require.Equal(t, uint64(3), b.port.Counters().ReportsHeeded)

	sockets := b.Sockets()
	b.hello()
	b.send([]byte("answer"))
	packet := b.last()
	packet[28-8] ^= 1
	b.complain(closed, packet)
	require.Len(t, b.port.Snapshot(b.Now()).Flows, 1, "that was of another port")
	require.Equal(t, uint64(1), b.port.Counters().StrayReports)
	packet[28-8] ^= 1
	b.complain(closed, packet)
	require.Empty(t, b.port.Snapshot(b.Now()).Flows)
	require.Equal(t, sockets, b.Sockets(), "the host's kernel refuses what the peer sends next")
}

func TestI3ADatagramThatIsLostOnItsWayEndsASilentFlowSoon(t *testing.T) {
	for name, m := range map[string]porttest.ICMP{
		"host unreachable": {Type: 3, Code: 1}, "network unreachable": {Type: 3, Code: 0}, "time exceeded": {Type: 11},
	} {
		t.Run(name, func(t *testing.T) {
			b := newUDPBench(t, setup{})
			b.hello()
			b.send([]byte("first"))
			b.complain(m, b.last())
			b.Run(9 * time.Second)
			b.send([]byte("second"))
			b.Run(20 * time.Second)
			require.Len(t, b.port.Snapshot(b.Now()).Flows, 1, "it has arrived again meanwhile, as far as anybody knows")
			b.Frames()
			b.send([]byte("third"))
			b.complain(m, b.last())
			b.Run(11 * time.Second)
			require.Empty(t, b.port.Snapshot(b.Now()).Flows)
		})
	}
}

func TestI4APortThatOtherFlowsShareIsKept(t *testing.T) {
	b, _ := newMappingBench(t)
	b.hello()
	b.send([]byte("first"))
	before := b.from
	b.complain(porttest.ICMP{Type: 3, Code: 3}, b.last())
	require.Len(t, b.port.Snapshot(b.Now()).Flows, 1)
	b.hello()
	require.Equal(t, before, b.from, "an ICMP message ends no mapping (RFC 4787 section 9)")
}
