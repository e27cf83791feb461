package fragments

import (
	"bytes"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

const guest, guest6, peer, peer6 = "10.0.2.15", "fd00:10:0:2::15", "192.0.2.9", "2001:db8::9"

// noise is a payload.
func noise(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// to is a flow whose remote end the guest hears.
func to(is6 bool) *flowtable.Key {
	k := &flowtable.Key{Guest: shardtest.Addr(guest), GuestPort: 4000, Remote: shardtest.Addr(peer), RemotePort: 53, Proto: netpkt.UDP}
	if is6 {
		k.Guest, k.Remote = shardtest.Addr(guest6), shardtest.Addr(peer6)
	}
	return k
}

// parsed are packets of frames.
func parsed(t *testing.T, frames [][]byte) (all []netpkt.Packet) {
	t.Helper()
	for _, f := range frames {
		var k netpkt.Packet
		ip := f[netpkt.EtherLen:]
		if ip[0]>>4 == 4 {
			require.True(t, k.ParseIPv4(ip, netpkt.EtherLen, int64(len(f))))
		} else {
			require.True(t, k.ParseIPv6(ip, netpkt.EtherLen, int64(len(f))) && k.TakeFragmentHeader())
		}
		all = append(all, k)
	}
	return all
}

// joined is what fragments of one packet hold.
func joined(t *testing.T, packets []netpkt.Packet) (whole []byte) {
	t.Helper()
	for i, k := range packets {
		require.Equal(t, len(whole), k.Part.Start)
		require.Equal(t, packets[0].Part.ID, k.Part.ID)
		require.Equal(t, i < len(packets)-1, k.Part.More)
		require.False(t, k.Whole && k.Src.Is4(), "routers may cut what is long")
		whole = append(whole, k.L4[:k.L4Len]...)
	}
	return whole
}

func TestADatagramThatFitsNoFrameGoesInFragments(t *testing.T) {
	for name, c := range map[string]struct {
		is6       bool
		payload   int
		fragments int
		long      int // datagrams that were counted as long
	}{
		"one frame":                    {false, 1472, 1, 0},
		"a byte more":                  {false, 1473, 2, 1},
		"the longest":                  {false, 65507, 45, 1},
		"one frame of IPv6":            {true, 1452, 1, 0},
		"a byte more than that":        {true, 1453, 2, 1},
		"several, cut at eight octets": {true, 4000, 3, 1},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := shardtest.New(t, 64), new(Sender)
			e.SetUp(&s.Turn.Shard)
			key, payload := to(c.is6), noise(c.payload)
			e.SendDatagrams(s.Turn, key, payload, 0)
			require.False(t, e.IsBusy())
			frames := s.Frames()
			require.Len(t, frames, c.fragments)
			for _, f := range frames {
				require.LessOrEqual(t, len(f), netpkt.EtherLen+1500)
			}
			packets := parsed(t, frames)
			whole := joined(t, packets)
			require.Equal(t, payload, whole[netpkt.UDPLen:])
			require.EqualValues(t, len(whole), binary.BigEndian.Uint16(whole[4:]))
			require.EqualValues(t, 0xffff, vnet.Sum(whole, shard.PseudoSum(key, len(whole))), "its checksum")
			require.EqualValues(t, c.long, s.Counters.LongDatagrams)
			e.SendDatagrams(s.Turn, key, payload, 0)
			if again := parsed(t, s.Frames()); c.fragments > 1 && len(again) > 0 {
				require.NotEqual(t, packets[0].Part.ID, again[0].Part.ID)
			}
		})
	}
}

func TestDatagramsThatCameAsOneLeaveOneByOne(t *testing.T) {
	s, e := shardtest.New(t, 64), new(Sender)
	e.SetUp(&s.Turn.Shard)
	e.SendDatagrams(s.Turn, to(false), noise(1000+1000+7), 1000)
	var got []byte
	packets := parsed(t, s.Frames())
	require.Len(t, packets, 3)
	for _, k := range packets {
		require.True(t, k.Part.IsAll())
		require.EqualValues(t, 53, binary.BigEndian.Uint16(k.L4))
		got = append(got, k.L4[netpkt.UDPLen:k.L4Len]...)
	}
	require.Equal(t, noise(2007), got)
}

// As long as the guest has no room for all of it, nothing else is received.
func TestTheRestFollowsWhenThereIsRoom(t *testing.T) {
	s, e := shardtest.New(t, 2), new(Sender)
	e.SetUp(&s.Turn.Shard)
	e.SendDatagrams(s.Turn, to(false), noise(4000), 0)
	require.True(t, e.IsBusy())
	first := s.Frames()
	require.Len(t, first, 2)
	require.Zero(t, e.Reserve(s.Turn).Len())
	e.SendEchoReply(s.Turn, to(false), hostsock.Arrival{}, noise(3000))
	require.EqualValues(t, 1, s.Counters.NoRoom, "there is one such at a time")

	s.Post(2)
	s.At(2)
	require.NotZero(t, e.Reserve(s.Turn).Len(), "behind it is room for another one")
	require.False(t, e.IsBusy())
	whole := joined(t, parsed(t, append(first, s.Frames()...)))
	require.Equal(t, noise(4000), whole[netpkt.UDPLen:])

	e.SendDatagrams(s.Turn, to(false), noise(4000), 0)
	require.True(t, e.IsBusy())
	e.Forget()
	require.False(t, e.IsBusy())
	require.True(t, e.SendRest(s.Turn))
}

func TestALongEchoReplyIsMadeOfItsRequest(t *testing.T) {
	for is6, want := range map[bool]uint8{false: 0, true: 129} {
		s, e := shardtest.New(t, 64), new(Sender)
		e.SetUp(&s.Turn.Shard)
		request := noise(3000)
		request[0], request[1] = 8, 0
		key := to(is6)
		key.Proto = netpkt.ICMP
		e.SendEchoReply(s.Turn, key, hostsock.Arrival{HopLimit: 7}, request)
		packets := parsed(t, s.Frames())
		require.Len(t, packets, 3)
		whole := joined(t, packets)
		require.Equal(t, want, whole[0])
		require.Equal(t, request[4:], whole[4:])
		require.EqualValues(t, 0xffff, vnet.Sum(whole, netpkt.ICMPSum(&key.Remote, &key.Guest, len(whole))))
		for _, k := range packets {
			require.EqualValues(t, 7, k.Hops)
		}
	}
}

// fragment is one of the guest's.
func fragment(s *shardtest.Shard, is6 bool, id uint32, start int, more bool, b []byte) *shard.Packet {
	src, dst := guest, peer
	if is6 {
		src, dst = guest6, peer6
	}
	k := s.Packet(src, dst, netpkt.UDP, b)
	k.Part = netpkt.Part{ID: id, Start: start, More: more}
	return k
}

func TestThePacketIsWholeWhenItsLastFragmentHasCome(t *testing.T) {
	payload := noise(3000)
	for name, order := range map[string][]int{"in order": {0, 1, 2}, "backwards": {2, 1, 0}, "mixed": {1, 0, 2}} {
		t.Run(name, func(t *testing.T) {
			s, e := shardtest.New(t, 0), new(Assembler)
			e.SetUp()
			var whole *shard.Packet
			for n, i := range order {
				k := fragment(s, false, 9, i*1000, i < 2, payload[i*1000:(i+1)*1000])
				if i == 0 {
					k.Hops, k.TOS = 33, 4
				}
				whole = e.Take(s.Turn, k)
				require.Equal(t, n == 2, whole != nil)
			}
			require.Equal(t, payload, whole.L4)
			require.True(t, whole.Assembled)
			require.Equal(t, []any{3000, uint8(33), uint8(4), shardtest.Addr(guest), shardtest.Addr(peer)},
				[]any{whole.L4Len, whole.Hops, whole.TOS, whole.Src, whole.Dst}, "as the first fragment came")
			e.Done(true)
			last := order[2]
			again := e.Take(s.Turn, fragment(s, false, 9, last*1000, last < 2, payload[last*1000:(last+1)*1000]))
			require.NotNil(t, again, "its last fragment comes again")
			require.True(t, bytes.Equal(payload, again.L4))
			e.Done(false)
			require.Nil(t, e.Take(s.Turn, fragment(s, false, 9, 2000, false, payload[2000:])), "it is over")
		})
	}
}

func TestFragmentsThatCannotBeArePutNowhere(t *testing.T) {
	for name, c := range map[string]struct {
		is6       bool
		start     int
		more      bool
		length    int
		malformed bool
	}{
		"an empty one":                      {false, 0, true, 0, true},
		"one that is not of eights":         {false, 0, true, 1001, true},
		"a last one that is not":            {false, 1000, false, 1001, false},
		"one beyond the longest packet":     {false, 65512, false, 8, true},
		"one within the longest of IPv6":    {true, 65520, false, 8, false},
		"one beyond the longest one of IP6": {true, 65528, false, 8, true},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := shardtest.New(t, 0), new(Assembler)
			e.SetUp()
			require.Nil(t, e.Take(s.Turn, fragment(s, c.is6, 9, c.start, c.more, noise(c.length + 1)[:c.length])))
			require.Equal(t, c.malformed, s.Counters.Malformed == 1)
			require.Equal(t, c.malformed, e.Next() == 0)
		})
	}
}

func TestPacketsThatStayIncompleteAreGivenUp(t *testing.T) {
	s, e := shardtest.New(t, 0), new(Assembler)
	e.SetUp()
	require.Nil(t, e.Take(s.Turn, fragment(s, false, 9, 0, true, noise(800))))
	require.Equal(t, 1+ipfrag.Timeout, e.Next())
	var given []int
	expire := func() { e.Expire(s.Turn, func(p *ipfrag.Packet) { given = append(given, p.Len()) }) }
	s.At(ipfrag.Timeout)
	expire()
	require.Empty(t, given)
	s.At(1 + ipfrag.Timeout)
	expire()
	require.Len(t, given, 1)
	require.EqualValues(t, 1, s.Counters.FragmentTimeouts)
	require.Zero(t, e.Next())

	for id := range uint32(ipfrag.MaxPackets + 1) {
		require.Nil(t, e.Take(s.Turn, fragment(s, false, id+1, 0, true, noise(800))))
	}
	require.EqualValues(t, 1, s.Counters.FragmentsEvicted, "the oldest makes room")
	require.Nil(t, e.Take(s.Turn, fragment(s, false, 5, 400, true, noise(800))))
	require.EqualValues(t, 2, s.Counters.FragmentOverlaps, "both are dropped")
	e.Forget()
	require.Zero(t, e.Next())
}
