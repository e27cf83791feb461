package nat_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

const (
	icmp = unix.IPPROTO_ICMP
	tcp  = unix.IPPROTO_TCP
	udp  = unix.IPPROTO_UDP
)

// longest is the payload of the longest UDP datagram there is.
const longest = 65535 - 20 - 8

// datagram returns one from the guest to the echo service.
func (h *hostile) datagram(payload []byte) porttest.Datagram {
	return porttest.Datagram{Src: netip.AddrPortFrom(h.IP, 5000), Dst: h.echo, Payload: payload}
}

func (h *hostile) sendAll(fragments []porttest.Fragment) {
	for _, f := range fragments {
		h.SendFragment(f)
	}
}

func TestDatagramsOfAnyLengthPassBothWays(t *testing.T) {
	const least = 68 // a front end may set it, though the engine's own must be larger
	for _, mtu := range []int{least, 576, 1500, 1501, 9000, 65520} {
		h := newHostile(t, setup{
			guest:  porttest.Options{MTU: mtu, BufSize: 2048},
			config: func(c *nat.Config) { c.MTU = max(c.MTU, 576) },
		})
		for i, n := range []int{0, 1, 548, 549, 1472, 1473, 1480, 8972, 8973, 20_000, longest - 1, longest} {
			d := h.datagram(noise(n))
			h.answered(func() {
				if n+28 <= mtu {
					h.SendDatagram(d)
					return
				}
				h.sendAll(d.Cut(uint32(i), (mtu-20)&^7))
			}, d.Payload)
		}
		require.Zero(t, h.port.Counters().Malformed)
	}
}

func TestFragmentsMayComeInAnyOrder(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(5000))
	for name, reorder := range map[string]func([]porttest.Fragment){
		"as sent":        func([]porttest.Fragment) {},
		"last one first": slices.Reverse[[]porttest.Fragment],
		"first two swapped": func(f []porttest.Fragment) {
			f[0], f[1] = f[1], f[0]
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := d.Cut(7, 1480)
			reorder(f)
			h.answered(func() { h.sendAll(f) }, d.Payload)
		})
	}
}

func TestFragmentsOfSeveralDatagramsMayMix(t *testing.T) {
	h := newHostile(t, setup{})
	first, second := h.datagram(noise(4000)), h.datagram(noise(4001))
	a, b := first.Cut(1, 1480), second.Cut(2, 1480)
	for i := range a {
		h.SendFragment(a[i])
		h.SendFragment(b[i])
	}
	var got []*porttest.Datagram
	h.Until("both come back", func() bool { got = append(got, h.Datagrams()...); return len(got) == 2 })
	requireSame(t, first.Payload, got[0].Payload)
	requireSame(t, second.Payload, got[1].Payload)
}

// A fragment may be spread over descriptors as any frame.
func TestFragmentsComeInEveryLayout(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(3000))
	h.answered(func() {
		for _, f := range d.Cut(1, 1480) {
			h.SendFragment(f, porttest.Layout{Lens: []int{12, 14, 20, 3}})
		}
	}, d.Payload)
}

func TestS5FragmentsWhoseSumIsTooLongAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(3000))
	f := d.Cut(1, 1480)[0]
	for _, c := range []struct {
		name   string
		offset int
		n      int
	}{
		{"the last byte is one too many", 65512, 8},
		{"the offset is the largest there is", 0x1fff * 8, 1480},
	} {
		t.Run(c.name, func(t *testing.T) {
			h.counted(2, malformed, func() {
				for _, more := range []bool{true, false} {
					f := f
					f.Offset, f.More, f.Payload = c.offset, more, noise(c.n)
					h.SendFragment(f)
				}
			})
		})
	}
}

func TestS5FragmentsOfImpossibleLengthAreDropped(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(3000))
	f := d.Cut(1, 1480)
	h.counted(2, malformed, func() {
		empty, odd := f[1], f[0]
		empty.Payload = nil
		odd.Payload = odd.Payload[:1479]
		h.SendFragment(empty)
		h.SendFragment(odd)
	})
	h.answered(func() { h.sendAll(f) }, d.Payload)
}

// fragment returns n bytes of a datagram to the echo service.
func (h *hostile) fragment(id uint32, offset, n int, more bool) porttest.Fragment {
	d := h.datagram(noise(longest))
	f := d.Cut(id, 65520)[0]
	f.Payload = f.Payload[offset:min(offset+n, len(f.Payload))]
	f.Offset, f.More = offset, more
	return f
}

func TestS7S8FragmentsThatContradictEachOtherSpoilTheirDatagram(t *testing.T) {
	h := newHostile(t, setup{})
	for i, c := range []struct {
		name      string
		fragments []porttest.Fragment
	}{
		{"the first is larger than the last", []porttest.Fragment{h.fragment(0, 0, 1480, true), h.fragment(0, 8, 8, false)}},
		{"the same one again", []porttest.Fragment{h.fragment(0, 0, 1480, true), h.fragment(0, 0, 1480, true)}},
		{"overlap by one unit", []porttest.Fragment{h.fragment(0, 0, 1480, true), h.fragment(0, 1472, 1480, true)}},
		{"overlap from before", []porttest.Fragment{h.fragment(0, 1480, 1480, true), h.fragment(0, 8, 1480, true)}},
		{"one inside another", []porttest.Fragment{h.fragment(0, 0, 4000, true), h.fragment(0, 1480, 80, true)}},
		{"the end in the last byte of a unit", []porttest.Fragment{h.fragment(0, 16, 3, false), h.fragment(0, 16, 8, true)}},
		{"two ends", []porttest.Fragment{h.fragment(0, 1480, 10, false), h.fragment(0, 2960, 10, false)}},
		{"the end comes before the furthest", []porttest.Fragment{h.fragment(0, 2960, 800, true), h.fragment(0, 1480, 10, false)}},
		{"something behind the end", []porttest.Fragment{h.fragment(0, 1480, 10, false), h.fragment(0, 1496, 800, true)}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for j := range c.fragments {
				c.fragments[j].ID = uint32(i)
			}
			h.counted(2, overlaps, func() { h.sendAll(c.fragments) })
			// Nothing that comes later makes it whole (RFC 5722 section 4).
			d := h.datagram(noise(3000))
			whole := d.Cut(uint32(i), 1480)
			h.counted(uint64(len(whole)), overlaps, func() { h.sendAll(whole) })
		})
	}
}

func TestS8TheLastFragmentSentAgainBeginsNothing(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(longest))
	f := d.Cut(1, 1480)
	h.answered(func() { h.sendAll(f) }, d.Payload)
	h.SendFragment(f[len(f)-1])
	h.Settle()
	require.Empty(t, h.Datagrams())
	h.Advance(time.Minute)
	d = h.datagram(noise(2000))
	h.answered(func() { h.sendAll(d.Cut(2, 1480)) }, d.Payload)
	require.EqualValues(t, 1, h.port.Counters().FragmentTimeouts)
}

func TestFragmentsWithoutARestAreGivenUp(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(4000))
	f := d.Cut(1, 1480)
	h.sendAll(f[:2])
	h.Settle()
	h.Advance(31 * time.Second)
	h.SendFragment(f[2])
	h.Settle()
	require.EqualValues(t, 2, h.port.Counters().FragmentTimeouts)
	require.Empty(t, h.Datagrams(), "the rest came too late")
}

// A guest that begins datagram after datagram makes the engine forget the oldest, and nothing else.
func TestIncompleteDatagramsAreBounded(t *testing.T) {
	h := newHostile(t, setup{})
	const many = 1000
	for id := range uint32(many) {
		h.SendFragment(h.fragment(id, 0, 64, true))
	}
	h.Settle()
	const kept = 16
	require.EqualValues(t, many-kept, h.port.Counters().FragmentsEvicted)
	d := h.datagram(noise(3000))
	h.answered(func() { h.sendAll(d.Cut(many, 1480)) }, d.Payload)
}

// No byte of an earlier datagram is in a later one: what was not sent keeps it incomplete.
func TestAHoleIsNeverFilledWithOldBytes(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(6000))
	h.answered(func() { h.sendAll(d.Cut(1, 1480)) }, d.Payload)
	h.sendAll(slices.Delete(d.Cut(2, 1480), 2, 3))
	h.Settle()
	require.Empty(t, h.Datagrams())
}

func TestAFragmentedDatagramObeysThePolicy(t *testing.T) {
	h := newHostile(t, setup{})
	d := h.datagram(noise(3000))
	d.Dst = netip.AddrPortFrom(h.Gateway, 9)
	before := h.port.Counters().Denied
	h.sendAll(d.Cut(1, 1480))
	h.Until("the guest learns that it is unreachable", func() bool { return unreachable(h.Frames()) })
	require.Equal(t, before+1, h.port.Counters().Denied)
}

func TestAFragmentedQueryWithoutAResolverFails(t *testing.T) {
	h := newHostile(t, setup{})
	d := porttest.Datagram{
		Src: netip.AddrPortFrom(h.IP, 5000), Dst: netip.MustParseAddrPort("10.0.2.3:53"),
		// A query for the address of "a", and what nobody asked for behind it.
		Payload: append([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 'a', 0, 0, 1, 0, 1}, make([]byte, 100)...),
	}
	h.sendAll(d.Cut(1, 24))
	var got []*porttest.Datagram
	h.Until("an answer", func() bool { got = append(got, h.Datagrams()...); return len(got) > 0 })
	require.EqualValues(t, 2, got[0].Payload[3]&15, "SERVFAIL")
}

func TestALongDatagramWaitsForReceiveBuffers(t *testing.T) {
	h := newHostile(t, setup{guest: porttest.Options{RingSize: 16}})
	d := h.datagram(noise(longest))
	h.Withhold = true
	h.sendAll(d.Cut(1, 1480))
	for range 20 {
		h.Settle()
		require.Empty(t, h.Datagrams())
		h.Post(1)
	}
	h.Withhold = false
	h.Post(16)
	var got []*porttest.Datagram
	h.Until("all fragments came", func() bool { got = append(got, h.Datagrams()...); return len(got) > 0 })
	requireSame(t, d.Payload, got[0].Payload)
	require.EqualValues(t, 1, h.port.Counters().LongDatagrams)
	require.Zero(t, h.port.Counters().NoRoom)
}

func TestALongDatagramOfAGuestThatIsGoneIsForgotten(t *testing.T) {
	port := echoDatagrams(t)
	b := newBench(t, setup{guest: porttest.Options{RingSize: 16}, config: func(c *nat.Config) {
		c.AllowHost = []spec.HostService{{Proto: udp, Port: port}}
	}})
	b.Resolve()
	b.Withhold = true
	d := porttest.Datagram{
		Src: netip.AddrPortFrom(b.IP, 5000), Dst: netip.AddrPortFrom(b.Gateway, port), Payload: noise(longest),
	}
	for _, f := range d.Cut(1, 1480) {
		b.SendFragment(f)
	}
	b.Until("it comes back", func() bool { return b.port.Counters().LongDatagrams == 1 })
	b.SendFragment(d.Cut(2, 1480)[0])
	b.Settle()
	b.Disconnect()
	b.Settle()
	require.Zero(t, b.Sockets())
}

func TestLongDatagramsOfAForwardReachTheGuest(t *testing.T) {
	host := porttest.FreePort(t)
	h := newHostile(t, setup{config: func(c *nat.Config) {
		f, err := spec.ParseForward("udp:" + host.String() + ":7")
		require.NoError(t, err)
		c.Forwards = []spec.Forward{f}
	}})
	client, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	defer unix.Close(client)
	to := &unix.SockaddrInet4{Addr: host.Addr().As4(), Port: int(host.Port())}
	require.NoError(t, unix.Sendto(client, noise(longest), 0, to))
	var got []*porttest.Datagram
	h.Until("it arrives", func() bool { got = append(got, h.Datagrams()...); return len(got) > 0 })
	requireSame(t, noise(longest), got[0].Payload)
	answer := porttest.Datagram{Src: got[0].Dst, Dst: got[0].Src, Payload: noise(30_000)}
	h.sendAll(answer.Cut(1, 1480))
	h.Settle()
	buf := make([]byte, 65536)
	n, _, err := unix.Recvfrom(client, buf, unix.MSG_DONTWAIT)
	require.NoError(t, err)
	requireSame(t, answer.Payload, buf[:n])
}

// Datagrams with the same identification would be mixed up by a guest that gets them at the same time.
func TestFragmentsToTheGuestHaveIdentificationsOfTheirOwn(t *testing.T) {
	h := newHostile(t, setup{})
	seen := map[uint16]bool{}
	for range 20 {
		d := h.datagram(noise(2000))
		h.Frames()
		h.answered(func() { h.sendAll(d.Cut(1, 1480)) }, d.Payload)
		ids := map[uint16]bool{}
		for _, f := range h.Frames() {
			if f.Fragment {
				ids[uint16(f.Bytes[18])<<8|uint16(f.Bytes[19])] = true
			}
		}
		require.Len(t, ids, 1, "one identification for all fragments")
		for id := range ids {
			require.False(t, seen[id])
			seen[id] = true
		}
	}
}
