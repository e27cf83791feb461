package l2switch_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/l2switch"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

func TestAFrameGoesWhereItsAddressWasSeen(t *testing.T) {
	l := three(t, nil)
	question, answer := ethernet(macOf(1), macOf(0), 100), ethernet(macOf(0), macOf(1), 200)
	l.send(0, question)
	require.Equal(t, [][]byte{question}, l.got(1), "not known yet: to all")
	require.Equal(t, [][]byte{question}, l.got(2))
	require.Empty(t, l.got(0), "but not back")

	l.send(1, answer)
	require.Equal(t, [][]byte{answer}, l.got(0))
	require.Empty(t, l.got(2))
	l.send(0, question)
	require.Equal(t, [][]byte{question}, l.got(1))
	require.Empty(t, l.got(2), "known now")

	l.send(2, ethernet(macOf(0), macOf(1), 60))
	l.got(0)
	l.send(0, question)
	require.Equal(t, [][]byte{question}, l.got(2), "it has moved")
	require.Empty(t, l.got(1))
	l.settled()
	require.EqualValues(t, 1, l.ports[0].Counters().Flooded)
}

func TestAnAddressIsForgottenThatIsNotSeen(t *testing.T) {
	l := three(t, func(c *l2switch.Config) { c.Ageing = 10 * time.Second })
	l.meet()
	l.run(9 * time.Second)
	l.send(1, ethernet(broadcast, macOf(1), 60))
	l.run(9 * time.Second)
	l.got(2)
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Empty(t, l.got(2), "it was seen nine seconds ago")
	l.run(11 * time.Second)
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(2), 1)
}

func TestFramesOfAllLengthsAndLayoutsComeAsTheyWereSent(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{Features: plain | vnet.FeatureIndirectDesc})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{Features: vnet.FeatureVersion1, BufSize: 70000, RingSize: 64})
	l.join(l2switch.PortConfig{}, porttest.Options{Features: vnet.FeatureCSum, BufSize: 70000, RingSize: 64}) // a legacy header
	l.meet()
	layouts := []porttest.Layout{{}, {Lens: []int{vnet.HeaderLen}}, porttest.OneByte(40), {Indirect: true}, {Lens: []int{20, 2000, 1, 1}}}
	for i := range 200 {
		n := []int{14, 15, 59, 60, 61, 1514, 2047, 2048, 2049, 4096, 9014, 65535 + 14}[i%12]
		f := ethernet(macOf(1+i%3), macOf(0), n)
		l.raw(0, vnet.Header{}, f, layouts[i%len(layouts)])
		got := l.got(1 + i%3)
		require.Len(t, got, 1, "%d bytes", n)
		require.Equal(t, f, got[0][:n])
		require.Equal(t, make([]byte, max(0, netbackend.MinFrame-n)), got[0][n:], "short ones are filled up")
	}
	l.settled()
}

func TestAFrameToAGroupGoesToAllOthers(t *testing.T) {
	l := three(t, nil)
	for _, to := range [][6]byte{broadcast, {0x01, 0, 0x5e, 0, 0, 251}, {0x33, 0x33, 0, 0, 0, 1}} {
		f := ethernet(to, macOf(0), 3000)
		l.send(0, f)
		require.Equal(t, [][]byte{f}, l.got(1))
		require.Equal(t, [][]byte{f}, l.got(2))
		require.Empty(t, l.got(0))
	}
	l.settled()
}

func TestWhatIsDroppedIsCountedOnceByItsReason(t *testing.T) {
	for name, c := range map[string]struct {
		frame  []byte
		header vnet.Header
		count  func(l2switch.Counters) uint64
	}{
		"from a group":            {ethernet(macOf(1), [6]byte{1}, 60), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.BadSource }},
		"from nobody":             {ethernet(macOf(1), [6]byte{}, 60), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.BadSource }},
		"to itself":               {ethernet(macOf(0), macOf(0), 60), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.Local }},
		"to the nearest bridge":   {ethernet([6]byte{1, 0x80, 0xc2, 0, 0, 0}, macOf(0), 60), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.Local }},
		"to the nearest bridge, ": {ethernet([6]byte{1, 0x80, 0xc2, 0, 0, 0xf}, macOf(0), 60), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.Local }},
		"with a tag":              {ethernet(macOf(1), macOf(0), 60, 7), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.WrongVLAN }},
		"with VLAN 4095":          {ethernet(macOf(1), macOf(0), 60, 4095), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.WrongVLAN }},
		"cut in its tag":          {ethernet(macOf(1), macOf(0), 0, 7)[:17], vnet.Header{}, func(c l2switch.Counters) uint64 { return c.BadHeaders }},
		"too short":               {make([]byte, 13), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.BadHeaders }},
		"too long":                {ethernet(macOf(1), macOf(0), 65535+14+9), vnet.Header{}, func(c l2switch.Counters) uint64 { return c.BadHeaders }},
		"with a lie": {ethernet(macOf(1), macOf(0), 60), vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 59, CsumOffset: 16},
			func(c l2switch.Counters) uint64 { return c.BadHeaders }},
		"with a checksum in its addresses": {ethernet(macOf(1), macOf(0), 60), vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 0, CsumOffset: 6},
			func(c l2switch.Counters) uint64 { return c.BadHeaders }},
		"of segments of another protocol": {ethernet(macOf(1), macOf(0), 3000),
			vnet.Header{Flags: vnet.FlagNeedsCSum, CsumStart: 34, CsumOffset: 16, GSOType: vnet.GSOTCPv4, GSOSize: 1000},
			func(c l2switch.Counters) uint64 { return c.BadHeaders }},
	} {
		t.Run(name, func(t *testing.T) {
			l := three(t, nil)
			l.meet()
			l.raw(0, c.header, c.frame)
			require.EqualValues(t, 1, c.count(l.ports[0].Counters()), "%+v", l.ports[0].Counters())
			require.Empty(t, l.got(1))
			require.Empty(t, l.got(2))
			l.settled()
		})
	}
}

// A bridge keeps the frames of bridges to itself, and passes those to the groups beside.
func TestAddressesBesideThoseOfBridgesAreForwarded(t *testing.T) {
	l := three(t, nil)
	l.send(0, ethernet([6]byte{1, 0x80, 0xc2, 0, 0, 0x10}, macOf(0), 60))
	require.Len(t, l.got(1), 1)
}

func TestIsolatedGuestsReachOthersOnly(t *testing.T) {
	l := newLAN(t, nil)
	for _, isolated := range []bool{true, true, false} {
		l.join(l2switch.PortConfig{Isolated: isolated}, porttest.Options{})
	}
	l.meet()
	l.send(0, ethernet(macOf(1), macOf(0), 60), ethernet(macOf(2), macOf(0), 60), ethernet(broadcast, macOf(0), 61))
	require.Empty(t, l.got(1))
	require.Len(t, l.got(2), 2)
	l.send(2, ethernet(macOf(1), macOf(2), 60), ethernet(broadcast, macOf(2), 60))
	require.Len(t, l.got(1), 2)
	require.EqualValues(t, 1, l.ports[0].Counters().Isolated)
	l.settled()
}

func TestAGuestHasNoOtherAddressThanThoseItIsBoundTo(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{Fixed: [][6]byte{macOf(0), macOf(10)}}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.meet()
	l.send(0, ethernet(broadcast, macOf(10), 60), ethernet(broadcast, macOf(11), 60))
	require.Len(t, l.got(1), 1, "another address of its own")
	require.EqualValues(t, 1, l.ports[0].Counters().Spoofed)

	l.send(1, ethernet(broadcast, macOf(0), 60), ethernet(macOf(2), macOf(10), 60))
	require.EqualValues(t, 2, l.ports[1].Counters().Spoofed, "nobody else has its addresses")
	l.got(2)
	l.send(2, ethernet(macOf(0), macOf(2), 60))
	require.Len(t, l.got(0), 1)
	require.Empty(t, l.got(1))
	l.settled()

	_, err := l.sw.NewPort(l2switch.PortConfig{Fixed: [][6]byte{macOf(10)}})
	require.ErrorContains(t, err, "52:54:00:00:00:0a is another port's address")
}

// An address that somebody has taken before its owner comes is the owner's from then on.
func TestAnAddressIsItsOwnersAsSoonAsThatIsThere(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.meet()
	l.send(0, ethernet(broadcast, macOf(2), 60))
	l.join(l2switch.PortConfig{Fixed: [][6]byte{macOf(2)}}, porttest.Options{})
	l.send(0, ethernet(broadcast, macOf(2), 60))
	require.EqualValues(t, 1, l.ports[0].Counters().Spoofed)
	l.got(0)
	l.send(1, ethernet(macOf(2), macOf(1), 60))
	require.Len(t, l.got(2), 1)
}

func TestAGuestHasNoMoreAddressesThanItMayHave(t *testing.T) {
	l := newLAN(t, func(c *l2switch.Config) { c.PortAddresses = 3 })
	l.join(l2switch.PortConfig{MaxAddresses: 2}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	for i := range 5 {
		l.send(0, ethernet(broadcast, macOf(10+i), 60))
		l.send(1, ethernet(broadcast, macOf(20+i), 60))
	}
	require.Len(t, l.got(1), 2)
	require.EqualValues(t, 3, l.ports[0].Counters().TooManyMACs)
	require.Len(t, l.got(0), 5, "where it is no matter of security, frames pass")
	require.EqualValues(t, 2, l.ports[1].Counters().NotLearned)
	require.Equal(t, []int{2, 3}, []int{l.ports[0].Addresses(), l.ports[1].Addresses()})
	l.settled()
}

func TestAGuestFloodsNoMoreThanItMay(t *testing.T) {
	l := three(t, func(c *l2switch.Config) { c.Flood = 100 })
	l.meet()
	const burst = 51
	for range 200 {
		l.send(0, ethernet(broadcast, macOf(0), 60))
	}
	require.Len(t, l.got(1), burst-1)
	require.EqualValues(t, 201-burst, l.ports[0].Counters().Storm)
	l.send(0, ethernet(macOf(77), macOf(0), 60))
	require.Empty(t, l.got(1), "an address that is not known is as many")
	l.send(0, ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(1), 1, "one that is known is not")
	l.send(2, ethernet(broadcast, macOf(2), 60))
	require.Len(t, l.got(1), 1, "each has a budget of its own")
	l.run(100 * time.Millisecond)
	for range 20 {
		l.send(0, ethernet(broadcast, macOf(0), 60))
	}
	require.Len(t, l.got(1), 10)
	l.settled()
}

// allBut are all VLANs but one.
func allBut(one uint16) (all []uint16) {
	for vid := uint16(1); vid <= l2switch.MaxVLAN; vid++ {
		if vid != one {
			all = append(all, vid)
		}
	}
	return all
}

// retag returns a frame of n bytes, without a tag, as it is with one.
func retag(frame []byte, tag uint16) []byte {
	return bytes.Join([][]byte{frame[:12], {0x81, 0, byte(tag >> 8), byte(tag)}, frame[12:]}, nil)
}

func TestTagsComeAndGoByWhatAPortCarries(t *testing.T) {
	l := newLAN(t, nil)
	access10 := l.join(l2switch.PortConfig{VLAN: 10}, porttest.Options{})
	access20 := l.join(l2switch.PortConfig{VLAN: 20}, porttest.Options{})
	trunk := l.join(l2switch.PortConfig{VLAN: 20, Tagged: []uint16{10, 30}}, porttest.Options{})
	all := l.join(l2switch.PortConfig{VLAN: 1, Tagged: allBut(1)}, porttest.Options{})
	only := func(what string, want map[int][]byte) {
		t.Helper()
		for i := range l.guests {
			if got := l.got(i); want[i] == nil {
				require.Empty(t, got, "%s: guest %d", what, i)
			} else {
				require.Equal(t, [][]byte{want[i]}, got, "%s: guest %d", what, i)
			}
		}
	}
	for _, n := range []int{100, 3000} {
		bare := func(from int) []byte { return ethernet(broadcast, macOf(from), n) }
		with := func(from int, tag uint16) []byte { return retag(bare(from), tag) }
		l.send(access10, bare(0))
		only("access", map[int][]byte{trunk: with(0, 10), all: with(0, 10)})
		l.send(access20, bare(1))
		only("to the native VLAN", map[int][]byte{trunk: bare(1), all: with(1, 20)})
		l.send(trunk, with(2, 0xe000|10))
		only("tag taken off", map[int][]byte{access10: bare(2), all: with(2, 0xe000|10)})
		l.send(trunk, bare(2))
		only("from the native VLAN", map[int][]byte{access20: bare(2), all: with(2, 20)})
		l.send(trunk, with(2, 0xa000))
		only("a priority only", map[int][]byte{access20: bare(2), all: with(2, 0xa000|20)})
		l.send(trunk, with(2, 30))
		only("only a trunk has it", map[int][]byte{all: with(2, 30)})
		l.send(all, retag(with(3, 10), 20))
		only("one tag behind the other leads into no other VLAN", map[int][]byte{})
		l.send(all, retag(with(3, 10), 30))
		only("but may stay behind it", map[int][]byte{trunk: retag(with(3, 10), 30)})
		l.send(access10, with(0, 20), with(0, 10))
		only("an access port has no tags but its own", map[int][]byte{trunk: with(0, 10), all: with(0, 10)})
	}
	l.settled()
}

// The same address may be behind different Ports in different VLANs.
func TestEachVLANHasItsOwnAddresses(t *testing.T) {
	l := newLAN(t, nil)
	a := l.join(l2switch.PortConfig{VLAN: 10}, porttest.Options{})
	b := l.join(l2switch.PortConfig{VLAN: 20}, porttest.Options{})
	trunk := l.join(l2switch.PortConfig{Tagged: []uint16{10, 20}}, porttest.Options{})
	l.send(a, ethernet(broadcast, macOf(7), 60))
	l.send(b, ethernet(broadcast, macOf(7), 60))
	l.got(trunk)
	l.send(trunk, ethernet(macOf(7), macOf(2), 64, 10), ethernet(macOf(7), macOf(2), 65, 20))
	require.Len(t, l.got(a), 1)
	require.Len(t, l.got(b), 1)
	l.settled()
}

// large is a segment for the guest 10.0.2.15 from another one, of n bytes that are to be cut.
func large(v6 bool, n int, size uint16) porttest.Segment {
	s := porttest.Segment{
		Src: netip.MustParseAddrPort("10.0.2.15:1000"), Dst: netip.MustParseAddrPort("10.0.2.15:2000"),
		Seq: 0xffff_f000, Ack: 7, Flags: header.TCPFlagAck | header.TCPFlagPsh, Window: 100, Payload: bytes.Repeat([]byte{1, 2, 3, 5, 7}, n/5+1)[:n], GSOSize: size,
	}
	if v6 {
		s.Src, s.Dst = netip.MustParseAddrPort("[fd00:10:0:2::15]:1000"), netip.MustParseAddrPort("[fd00:10:0:2::15]:2000")
	}
	return s
}

// pair connects guest 0 with all offloads, and guest 1 with the features that are given, which checks each frame that it gets.
func pair(t *testing.T, features uint64, to l2switch.PortConfig) *lan {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{VLAN: 1, Tagged: allBut(1)}, porttest.Options{GatewayMAC: macOf(1)})
	l.join(to, porttest.Options{Features: features, GatewayMAC: macOf(0)})
	l.meet()
	l.guests[1].MayBreakRules, l.guests[1].Deaf = false, true
	return l
}

func TestALargeFrameIsPassedWholeToWhomTakesIt(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		l := pair(t, 0, l2switch.PortConfig{})
		s := large(v6, 60_000, 1400)
		l.guests[0].SendSegment(s)
		l.sent[0]++
		l.work()
		got := l.guests[1].Frames()
		require.Len(t, got, 1)
		require.Equal(t, s.Payload, got[0].TCP.Payload)
		require.EqualValues(t, 1400, got[0].Header.GSOSize)
		require.Zero(t, l.ports[0].Counters().Cut)
		l.settled()
	}
}

func TestALargeFrameIsCutForWhomDoesNotTakeIt(t *testing.T) {
	for _, features := range []uint64{plain, plain | vnet.FeatureGuestCSum, vnet.FeatureVersion1} {
		for _, v6 := range []bool{false, true} {
			for _, n := range []int{60_000, 1400, 1401, 2800} {
				t.Run(fmt.Sprintf("%#x, IPv6 %v, %d bytes", features, v6, n), func(t *testing.T) {
					l := pair(t, features, l2switch.PortConfig{})
					s := large(v6, n, 1400)
					l.guests[0].SendSegment(s)
					l.sent[0]++
					l.work()
					var payload []byte
					got := l.guests[1].Frames()
					for i, f := range got {
						require.Equal(t, s.Seq+uint32(len(payload)), f.TCP.Seq)
						require.Equal(t, i == len(got)-1, f.TCP.Has(header.TCPFlagPsh))
						require.Zero(t, f.Header.Flags|f.Header.GSOType)
						payload = append(payload, f.TCP.Payload...)
					}
					require.Len(t, got, (n+1399)/1400)
					require.Equal(t, s.Payload, payload)
					require.EqualValues(t, 1, l.ports[0].Counters().Cut)
					l.settled()
				})
			}
		}
	}
}

// What is behind a Port may carry less than the sender thinks: segments of TCP are cut for it, those that are alone in their frame as well.
func TestSegmentsAreCutForTheMTUBehindAPort(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		for _, n := range []int{60_000, 1400, 900} {
			for _, size := range []uint16{0, 1400} {
				if size == 0 && n > 1400 {
					continue
				}
				l := pair(t, plain, l2switch.PortConfig{})
				l.ports[1].Carries(1000)
				s := large(v6, n, size)
				l.guests[0].SendSegment(s)
				l.sent[0]++
				l.work()
				var payload []byte
				for _, f := range l.guests[1].Frames() {
					require.Equal(t, s.Seq+uint32(len(payload)), f.TCP.Seq)
					require.LessOrEqual(t, len(f.TCP.Payload), 1000-40)
					payload = append(payload, f.TCP.Payload...)
				}
				require.Equal(t, s.Payload, payload)
				l.settled()
			}
		}
	}
}

func TestAPortLearnsAsManyAddressesAsItIsGiven(t *testing.T) {
	l := newLAN(t, func(c *l2switch.Config) { c.PortAddresses = 1 })
	l.join(l2switch.PortConfig{Learned: 3}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	for i := range 5 {
		l.send(0, ethernet(broadcast, macOf(10+i), 60))
		l.send(1, ethernet(broadcast, macOf(20+i), 60))
	}
	require.Equal(t, 3, l.ports[0].Addresses())
	require.Equal(t, 1, l.ports[1].Addresses())
	require.ErrorContains(t, (&l2switch.PortConfig{Learned: -1}).Check(), "addresses are learned")
}

func TestDatagramsInOneFrameAreCut(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		l := pair(t, plain, l2switch.PortConfig{})
		s := large(v6, 10_000, 0)
		l.guests[0].SendDatagram(porttest.Datagram{Src: s.Src, Dst: s.Dst, Payload: s.Payload, GSOSize: 1200})
		l.sent[0]++
		l.work()
		var payload []byte
		for _, d := range l.guests[1].Datagrams() {
			payload = append(payload, d.Payload...)
		}
		require.Equal(t, s.Payload, payload)
		require.Len(t, l.got(1), 9)
		l.settled()
	}
}

func TestAChecksumIsFilledInForWhomWantsItWhole(t *testing.T) {
	for _, n := range []int{10, 1400} {
		l := pair(t, plain, l2switch.PortConfig{})
		l.guests[0].SendSegment(large(false, n, 0))
		l.sent[0]++
		l.work()
		got := l.guests[1].Frames()
		require.Len(t, got, 1)
		require.Zero(t, got[0].Header.Flags)
		require.EqualValues(t, 1, l.ports[0].Counters().Summed)
		l.settled()

		l = pair(t, plain|vnet.FeatureGuestCSum, l2switch.PortConfig{})
		l.guests[0].SendSegment(large(false, n, 0))
		l.work()
		got = l.guests[1].Frames()
		require.EqualValues(t, vnet.FlagNeedsCSum, got[0].Header.Flags, "and is left alone for others")
	}
}

// What a header says of offsets moves with a tag.
func TestOffloadsStayRightWithATagMoreOrLess(t *testing.T) {
	for name, features := range map[string]uint64{"cut": plain, "summed by the receiver": plain | vnet.FeatureGuestCSum, "whole": 0} {
		t.Run(name, func(t *testing.T) {
			l := pair(t, features, l2switch.PortConfig{VLAN: 10})
			l.guests[0].Alter = func([]byte) {}
			// A frame with a tag arrives without, and its checksums are found right by the receiver's own check.
			tagged := func(s porttest.Segment) {
				probe := newLAN(t, nil)
				probe.join(l2switch.PortConfig{}, porttest.Options{GatewayMAC: macOf(1)})
				probe.join(l2switch.PortConfig{}, porttest.Options{})
				probe.meet()
				probe.guests[0].SendSegment(s)
				probe.work()
				f := probe.guests[1].Frames()[0]
				h := f.Header
				h.NumBuffers, h.CsumStart, h.HdrLen = 0, h.CsumStart+4, h.HdrLen+4
				l.raw(0, h, retag(f.Bytes, 10))
			}
			l.send(1, ethernet(broadcast, macOf(1), 60))
			l.got(0)
			s := large(false, 5000, 1400)
			if features == plain|vnet.FeatureGuestCSum {
				s = large(false, 1400, 0)
			}
			tagged(s)
			var payload []byte
			for _, f := range l.guests[1].Frames() {
				payload = append(payload, f.TCP.Payload...)
			}
			require.Equal(t, s.Payload, payload)
			l.settled()
		})
	}
}

// A header that names segments of one byte would make a thousand frames of one.
func TestAFrameThatWouldBeVeryManyIsDropped(t *testing.T) {
	l := pair(t, plain, l2switch.PortConfig{})
	l.guests[0].SendSegment(large(false, 30_000, 1))
	l.sent[0]++
	l.work()
	require.EqualValues(t, 1, l.ports[0].Counters().Uncut)
	require.Empty(t, l.got(1))
	l.settled()
}

func TestAFrameToManyIsCutForThoseThatNeedIt(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{GatewayMAC: macOf(77)})
	l.join(l2switch.PortConfig{}, porttest.Options{Features: plain})
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.guests[1].Deaf, l.guests[2].Deaf = true, true
	l.guests[0].SendSegment(large(false, 10_000, 1000))
	l.sent[0]++
	l.work()
	require.Len(t, l.got(1), 10)
	require.Len(t, l.got(2), 1)
	l.settled()
}

// A guest whose ring is too small for a frame of 64 KiB gets the others in pieces.
func TestFramesAreCutForARingThatHoldsNoLargeOnes(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{GatewayMAC: macOf(1)})
	l.join(l2switch.PortConfig{}, porttest.Options{RingSize: 16, BufSize: 1526})
	l.guests[1].Deaf = true
	l.meet()
	for range 2 {
		l.guests[0].SendSegment(large(false, 40_000, 1400))
		l.sent[0]++
		l.work()
	}
	require.EqualValues(t, 1, l.ports[1].Counters().TooLong)
	require.Len(t, l.got(1), 29)
	l.settled()
}

func TestAFrameThatDoesNotFitIntoTheBuffersCostsNoBuffers(t *testing.T) {
	l := newLAN(t, nil)
	l.join(l2switch.PortConfig{}, porttest.Options{})
	l.join(l2switch.PortConfig{}, porttest.Options{Features: vnet.FeatureVersion1})
	l.meet()
	l.send(0, ethernet(macOf(1), macOf(0), 9000), ethernet(macOf(1), macOf(0), 60))
	require.Len(t, l.got(1), 1)
	require.EqualValues(t, 1, l.ports[1].Counters().TooLong)
	l.settled()
}

func TestConfigurationsThatMakeNoSense(t *testing.T) {
	for _, change := range []func(*l2switch.Config){
		func(c *l2switch.Config) { c.Addresses = 0 },
		func(c *l2switch.Config) { c.Addresses = l2switch.MaxAddresses + 1 },
		func(c *l2switch.Config) { c.PortAddresses = 0 },
		func(c *l2switch.Config) { c.Ageing = time.Millisecond },
		func(c *l2switch.Config) { c.Flood = -1 },
		func(c *l2switch.Config) { c.Wait = -1 },
		func(c *l2switch.Config) { c.Wait = 2 * time.Second },
	} {
		cfg := l2switch.Default()
		change(&cfg)
		_, err := l2switch.New(cfg)
		require.Error(t, err)
	}
	sw, err := l2switch.New(l2switch.Default())
	require.NoError(t, err)
	for _, cfg := range []l2switch.PortConfig{
		{VLAN: 4095}, {Tagged: []uint16{0}}, {Tagged: []uint16{4095}}, {VLAN: 5, Tagged: []uint16{5}}, {Tagged: []uint16{5, 5}},
		{Fixed: [][6]byte{{1}}}, {Fixed: [][6]byte{{}}}, {Fixed: [][6]byte{macOf(1), macOf(1)}},
		{Fixed: [][6]byte{macOf(1)}, MaxAddresses: 1}, {MaxAddresses: -1}, {Fixed: make([][6]byte, 65)},
	} {
		_, err := sw.NewPort(cfg)
		require.Error(t, err, "%+v", cfg)
	}
}

func TestASwitchHasSoManyPortsAndNoMore(t *testing.T) {
	sw, err := l2switch.New(l2switch.Default())
	require.NoError(t, err)
	var ports []*l2switch.Port
	for range l2switch.MaxPorts {
		p, err := sw.NewPort(l2switch.PortConfig{})
		require.NoError(t, err)
		ports = append(ports, p)
	}
	_, err = sw.NewPort(l2switch.PortConfig{})
	require.ErrorContains(t, err, "256 ports")
	require.NoError(t, ports[7].Close())
	ports[7], err = sw.NewPort(l2switch.PortConfig{})
	require.NoError(t, err, "a place that was left is another's")
	for _, p := range ports {
		require.NoError(t, p.Close())
	}
}

func TestAllThatASwitchWritesForAMigratedGuestIsMarked(t *testing.T) {
	l := newLAN(t, nil)
	for range 2 {
		l.join(l2switch.PortConfig{}, porttest.Options{RingSize: 64, DirtyLog: true})
	}
	l.meet()
	for _, n := range []int{60, 1514, 2049, 9014, 65535 + 14} {
		l.send(0, ethernet(macOf(1), macOf(0), n))
		require.Len(t, l.got(1), 1)
	}
	l.settled()
}
