package nat_test

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// longEcho sends an echo request in fragments, and waits for the reply.
func (b *bench) longEcho(to string, seq uint16, payload []byte) (reply *porttest.Frame) {
	b.t.Helper()
	dst := netip.MustParseAddr(to)
	request, answer := uint8(8), uint8(0)
	if dst.Is6() {
		request, answer = 128, 129
	}
	b.Frames()
	m := porttest.ICMP{Type: request, Rest: traceID<<16 | uint32(seq), Payload: payload}
	for _, f := range b.CutICMP(dst, m, uint32(seq)+1, 1200) {
		b.SendFragment(f)
	}
	b.Until("a reply", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil && f.ICMP.Type == answer {
				reply = f
			}
		}
		return reply != nil
	})
	return reply
}

func TestE6PingsOfAnyLengthAreAnswered(t *testing.T) {
	if inNamespace(t) {
		return
	}
	newRouters(t)
	for _, mtu := range []int{1500, 9000} {
		for _, to := range []string{"10.0.2.2", "10.0.2.3", theWorld, "fd00:10:0:2::2", theWorld6} {
			t.Run(fmt.Sprint(to, " at ", mtu), func(t *testing.T) {
				b := newBench(t, setup{guest: porttest.Options{MTU: mtu}})
				b.Resolve()
				for i, n := range []int{1200, 1452, 1453, 1472, 1473, 2000, 9000, 65000} {
					f := b.longEcho(to, uint16(i), noise(n)) // porttest has checked fragments and checksum
					require.Equal(t, to, f.Src.String())
					require.EqualValues(t, traceID<<16|i, f.ICMP.Rest)
					requireSame(t, noise(n), f.ICMP.Payload)
				}
				c := b.port.Counters()
				require.Zero(t, c.NoRoom+c.PingRefused+c.Malformed)
			})
		}
	}
}

func TestE6ALongReplyWaitsForReceiveBuffers(t *testing.T) {
	b := newBench(t, setup{guest: porttest.Options{RingSize: 8}})
	b.Resolve()
	b.Frames()
	b.Withhold = true
	send := func(seq uint32) {
		for _, f := range b.CutICMP(b.Gateway, porttest.ICMP{Type: 8, Rest: seq, Payload: noise(60_000)}, seq+1, 1480) {
			b.SendFragment(f)
		}
	}
	send(0)
	b.Settle()
	send(1)
	b.Settle()
	require.EqualValues(t, 1, b.port.Counters().NoRoom, "one waits, and no more")
	b.Withhold = false
	b.Post(8)
	var got []uint32
	b.Until("the first one", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil {
				got = append(got, f.ICMP.Rest)
			}
		}
		return len(got) > 0
	})
	require.Equal(t, []uint32{0}, got)
}

func TestE7RepliesShowTheTimeToLiveAndTheMarksWithWhichTheyCame(t *testing.T) {
	if inNamespace(t) {
		return
	}
	newRouters(t)
	const class = 0xba // expedited forwarding, and a mark of ECN, which the replies of Linux have too
	for _, to := range []string{theWorld, theWorld6} {
		for _, n := range []int{56, 3000} {
			t.Run(fmt.Sprint(n, " bytes to ", to), func(t *testing.T) {
				b := newBench(t, setup{})
				b.Resolve()
				b.as(travel{hops: 64, tos: class})
				b.Frames()
				b.sendEcho(to, n)
				var hops, tos uint8
				b.Until("a reply", func() bool {
					for _, f := range b.Frames() {
						if f.Src == netip.MustParseAddr(to) && len(f.Bytes) > 14 {
							switch f.Bytes[14] >> 4 {
							case 4:
								ip := header.IPv4(f.Bytes[14:])
								hops, tos = ip.TTL(), ip[1]
							case 6:
								ip := header.IPv6(f.Bytes[14:])
								hops = ip.HopLimit()
								tos, _ = ip.TOS()
							}
						}
					}
					return hops != 0
				})
				require.EqualValues(t, 64-2-1, hops, "two routers, and the engine")
				if to == theWorld {
					require.EqualValues(t, class, tos)
				}
			})
		}
	}
}

// sendEcho sends an echo request, in fragments if it is long.
func (b *bench) sendEcho(to string, n int) {
	if n <= 1400 {
		b.echoTo(to, traceID, 1, noise(n))
		return
	}
	kind := uint8(8)
	dst := netip.MustParseAddr(to)
	if dst.Is6() {
		kind = 128
	}
	for _, f := range b.CutICMP(dst, porttest.ICMP{Type: kind, Rest: traceID << 16, Payload: noise(n)}, 1, 1200) {
		b.SendFragment(f)
	}
}

func TestE8TCPMayComeInFragments(t *testing.T) {
	h := newHostile(t, setup{})
	for _, id := range []uint32{1, 2, 3} {
		s := h.good.Segment(porttest.ACK|porttest.PSH, noise(3000))
		for _, f := range h.CutSegment(&s, id, 1200) {
			h.SendFragment(f)
		}
		h.good.SndNxt += 3000
		h.good.SndMax = h.good.SndNxt
		requireSame(t, noise(3000), h.readSome(h.host, 3000))
	}
	require.Zero(t, h.port.Counters().TCPOutOfOrder)
}

func TestE9AnIncompletePacketIsToldAfterAWhile(t *testing.T) {
	for name, c := range map[string]struct {
		to         string
		kind, code uint8
		header     int
	}{
		"IPv4": {"203.0.113.9", 11, 1, 20},
		"IPv6": {"2001:db8::9", 3, 1, 40},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			b.withHosts() // it is told to the one that sent it
			dst, src := netip.MustParseAddr(c.to), secondIP
			if dst.Is6() {
				src = secondIP6
			}
			d := porttest.Datagram{
				Src: netip.AddrPortFrom(src, 1000), Dst: netip.AddrPortFrom(dst, 2000), Payload: noise(4000),
			}
			messages := func() (list []*porttest.ICMP) {
				for _, f := range b.Frames() {
					if f.ICMP != nil && f.ICMP.Type == c.kind {
						list = append(list, f.ICMP)
					}
				}
				return list
			}
			own := b.MAC
			b.MAC = secondMAC
			b.SendFragment(d.Cut(1, 1200)[0])
			b.SendFragment(d.Cut(2, 1200)[1]) // of which the first fragment is missing
			b.MAC = own
			b.pingRouter(b.IP) // the first host speaks last
			b.Run(29 * time.Second)
			require.Empty(t, messages())
			b.Run(2 * time.Second)
			told := messages()
			require.Len(t, told, 1)
			require.Equal(t, c.code, told[0].Code)
			quoted := header.UDP(told[0].Payload[c.header:])
			require.EqualValues(t, 1000, quoted.SourcePort())
			require.EqualValues(t, 2000, quoted.DestinationPort())
			require.EqualValues(t, 2, b.port.Counters().FragmentTimeouts)
			b.Run(time.Minute)
			require.Empty(t, messages())
		})
	}
}

// The last fragment of a packet whose flow belongs to another queue pair waits for it.
func TestE8FragmentsOfFlowsThatHopBetweenQueuesLoseNothing(t *testing.T) {
	port := echoDatagrams(t)
	b, h := newQueues(t, 4, func(c *nat.Config) {
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_UDP, Port: port})
	})
	b.Resolve()
	h.hops = 0
	to := netip.AddrPortFrom(b.Gateway, port)
	for i := range 20 {
		d := porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 5000), Dst: to, Payload: noise(3000 + i)}
		for _, f := range d.Cut(uint32(i), 1480) {
			h.at[binary.BigEndian.Uint16(f.Payload)] = i % 4 // all of a datagram goes by one pair
			b.SendFragment(f)
		}
		var got []*porttest.Datagram
		b.Until("it comes back", func() bool { got = append(got, b.Datagrams()...); return len(got) > 0 })
		requireSame(t, d.Payload, got[0].Payload)
	}
	require.NotZero(t, h.moved(), "they did hop")
}
