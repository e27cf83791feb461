package stray

import (
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/groups"
	"github.com/vringnet/vring/netbackend/nat/internal/icmperr"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/nat/stats"
)

// strays is a Keeper of a guest, on a host whose networks it has no part in.
func strays(t *testing.T) (*shardtest.Shard, *Keeper) {
	s, e := shardtest.New(t, 64), new(Keeper)
	icmp, reflector := new(icmperr.Sender), new(groups.Reflector)
	icmp.SetUp(&s.Turn.Shard, nil, nil, icmperr.Hooks{})
	reflector.SetUp(&s.Turn.Shard, nil, nil)
	e.SetUp(&s.Turn.Shard, icmp, reflector, new(Guest))
	return s, e
}

const guest, guest6, peer, peer6 = "10.0.2.15", "fd00:10:0:2::15", "192.0.2.9", "2001:db8::9"

func TestPacketsThatLeadNowhereAreCountedAndAnswered(t *testing.T) {
	for name, c := range map[string]struct {
		src, dst string
		proto    uint8
		later    bool // a fragment behind the first
		counter  func(*stats.Counters) *uint64
		answer   []byte // type, code, and the pointer's last byte; nil for none
		from     string
	}{
		"GRE":                     {guest, peer, unix.IPPROTO_GRE, false, func(c *stats.Counters) *uint64 { return &c.OtherProtocols }, []byte{3, 2, 0}, "10.0.2.2"},
		"GRE in IPv6":             {guest6, peer6, unix.IPPROTO_GRE, false, func(c *stats.Counters) *uint64 { return &c.OtherProtocols }, []byte{4, 1, 6}, "fd00:10:0:2::2"},
		"to the gateway":          {guest, "10.0.2.2", unix.IPPROTO_SCTP, false, func(c *stats.Counters) *uint64 { return &c.OtherProtocols }, []byte{3, 2, 0}, "10.0.2.2"},
		"to the name server":      {guest, "10.0.2.3", unix.IPPROTO_SCTP, false, func(c *stats.Counters) *uint64 { return &c.OtherProtocols }, []byte{3, 2, 0}, "10.0.2.3"},
		"a fragment":              {guest, peer, unix.IPPROTO_GRE, true, func(c *stats.Counters) *uint64 { return &c.OtherProtocols }, nil, ""},
		"nothing":                 {guest6, peer6, unix.IPPROTO_NONE, false, func(c *stats.Counters) *uint64 { return &c.OtherProtocols }, nil, ""},
		"to a group":              {guest, "224.0.0.22", unix.IPPROTO_IGMP, false, func(c *stats.Counters) *uint64 { return &c.Multicast }, nil, ""},
		"to a group, as UDP":      {guest, "239.255.255.250", netpkt.UDP, false, func(c *stats.Counters) *uint64 { return &c.Multicast }, nil, ""},
		"to all":                  {guest, "255.255.255.255", unix.IPPROTO_GRE, false, func(c *stats.Counters) *uint64 { return &c.Broadcast }, nil, ""},
		"to all of the network":   {guest, "10.0.2.255", unix.IPPROTO_GRE, false, func(c *stats.Counters) *uint64 { return &c.Broadcast }, nil, ""},
		"from the gateway":        {"10.0.2.2", peer, unix.IPPROTO_GRE, false, func(c *stats.Counters) *uint64 { return &c.BadAddress }, nil, ""},
		"from a loopback address": {"127.0.0.1", peer, unix.IPPROTO_GRE, false, func(c *stats.Counters) *uint64 { return &c.BadAddress }, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := strays(t)
			e.Unspoken(s.Turn, s.Packet(c.src, c.dst, c.proto, []byte{7, 108, 7, 108, 1, 2, 3, 4}), c.proto, !c.later)
			require.EqualValues(t, 1, *c.counter(&s.Counters))
			frames := s.Frames()
			if c.answer == nil {
				require.Empty(t, frames)
				return
			}
			require.Len(t, frames, 1)
			var k netpkt.Packet
			src := shardtest.Addr(c.src)
			if ip := frames[0][netpkt.EtherLen:]; src.Is4() {
				require.True(t, k.ParseIPv4(ip, netpkt.EtherLen, int64(len(frames[0]))))
			} else {
				require.True(t, k.ParseIPv6(ip, netpkt.EtherLen, int64(len(frames[0]))))
			}
			require.Equal(t, c.answer, []byte{k.L4[0], k.L4[1], k.L4[7]})
			require.Equal(t, shardtest.Addr(c.from), k.Src)
			require.Equal(t, []byte{7, 108, 7, 108, 1, 2, 3, 4}, k.L4[len(k.L4)-8:], "the beginning of what was in it")
		})
	}
}

func TestTheUserIsToldOfEachProtocolOnceAndOfFewInAll(t *testing.T) {
	s, e := strays(t)
	for range 2 {
		for _, proto := range []uint8{unix.IPPROTO_GRE, unix.IPPROTO_ESP, 200, unix.IPPROTO_SCTP, unix.IPPROTO_IPIP, unix.IPPROTO_IPV6} {
			e.Unspoken(s.Turn, s.Packet(guest, peer, proto, make([]byte, 8)), proto, true)
		}
	}
	var told []string
	for _, n := range s.Notices {
		told = append(told, n.Value)
	}
	require.Equal(t, []string{"47 (GRE)", "50 (IPsec)", "200", "132 (SCTP)"}, told)
}

func TestTheUserIsToldOnceThatGroupsEndHere(t *testing.T) {
	s, e := strays(t)
	for _, port := range []uint16{5353, 1900} {
		e.Misaddressed(s.Turn, s.Packet(guest, "224.0.0.251", netpkt.UDP, []byte{20, 233, byte(port >> 8), byte(port), 0, 8, 0, 0}), netpkt.UDP)
	}
	e.Misaddressed(s.Turn, s.Packet(guest, "224.0.0.22", unix.IPPROTO_IGMP, make([]byte, 8)), unix.IPPROTO_IGMP)
	require.Len(t, s.Notices, 1)
	require.Equal(t, "224.0.0.251 (mDNS)", s.Notices[0].Value)
	require.EqualValues(t, 3, s.Counters.Multicast)
}

func TestOnlyTheseProtocolsGoOn(t *testing.T) {
	v4, v6 := shardtest.Addr(guest), shardtest.Addr(guest6)
	for proto := range 256 {
		require.Equal(t, proto == 1 || proto == 6 || proto == 17, Carries(&v4, uint8(proto)), proto)
		require.Equal(t, proto == 58 || proto == 6 || proto == 17, Carries(&v6, uint8(proto)), proto)
	}
}
