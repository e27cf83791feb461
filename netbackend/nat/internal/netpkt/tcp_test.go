package netpkt_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
)

func TestASegmentIsReadAsItWasWritten(t *testing.T) {
	b := make([]byte, netpkt.TCPLen+netpkt.SYNOptionsLen+netpkt.TimesLen)
	netpkt.PutTCP(b, 80, 1024, netpkt.SYN|netpkt.ACK, seqnum.From(1<<31), seqnum.From(7), 4000)
	o := netpkt.SYNOptions{MSS: 1400, Scale: 7, Scales: true, SACKs: true}
	netpkt.PutSYNOptions(b[netpkt.TCPLen:], o)
	netpkt.PutTimes(b[netpkt.TCPLen+netpkt.SYNOptionsLen:], 10, 20)
	netpkt.SetTCPLen(b, len(b))
	netpkt.PutUrgent(b, 5)
	netpkt.PutTCPSum(b, 0x1234)
	require.Equal(t, []byte{0, 80, 4, 0}, b[:4])
	require.Equal(t, []byte{0x12, 0x34, 0, 5}, b[16:20])

	var s netpkt.Segment
	require.True(t, s.Parse(b, len(b)+100))
	require.Equal(t, seqnum.From(1<<31), s.Seq)
	require.Equal(t, seqnum.From(7), s.Ack)
	require.EqualValues(t, netpkt.SYN|netpkt.ACK|netpkt.URG, s.Flags)
	require.EqualValues(t, 4000, s.Window)
	require.EqualValues(t, 5, s.Urgent)
	require.Equal(t, len(b), s.Offset)
	require.Equal(t, 100, s.N)
	require.EqualValues(t, 101, s.Len(), "a SYN counts")
	got := netpkt.ParseSYNOptions(s.Options)
	require.Equal(t, netpkt.SYNOptions{MSS: 1400, Scale: 7, Scales: true, SACKs: true, Times: true, Stamp: 10}, got)
	s.ReadTimes()
	require.True(t, s.Timed)
	require.Equal(t, []uint32{10, 20}, []uint32{s.Stamp, s.Echo})
	require.NotNil(t, s.Options, "others are left")
}

func TestTimestampsAloneLeaveNoOptions(t *testing.T) {
	s := netpkt.Segment{Options: make([]byte, netpkt.TimesLen)}
	netpkt.PutTimes(s.Options, 1, 2)
	s.ReadTimes()
	require.True(t, s.Timed)
	require.Nil(t, s.Options)
	s = netpkt.Segment{Options: []byte{8, 10, 0, 0, 0, 1, 0, 0, 0, 2, 1, 1}} // behind is where nobody else puts them
	s.ReadTimes()
	require.True(t, s.Timed)
	require.EqualValues(t, 2, s.Echo)
	s = netpkt.Segment{Options: []byte{8, 9, 0, 0, 0, 1, 0, 0, 0}}
	s.ReadTimes()
	require.False(t, s.Timed)
}

func TestSegmentsThatContradictThemselvesAreRefused(t *testing.T) {
	b := make([]byte, 40)
	for words, ok := range map[byte]bool{0: false, 4: false, 5: true, 10: true, 11: false, 15: false} {
		b[12] = words << 4
		var s netpkt.Segment
		require.Equal(t, ok, s.Parse(b, 40), "header of %d words", words)
	}
	b[12] = 6 << 4
	var s netpkt.Segment
	require.False(t, s.Parse(b, 23), "the header is longer than the segment")
	require.False(t, s.Parse(b[:19], 40))
}

func TestOptionsOfASYN(t *testing.T) {
	for _, c := range []struct {
		options []byte
		want    netpkt.SYNOptions
	}{
		{nil, netpkt.SYNOptions{MSS: 536}},
		{[]byte{2, 4, 5, 0xb4}, netpkt.SYNOptions{MSS: 1460}},
		{[]byte{2, 3, 5}, netpkt.SYNOptions{MSS: 536}},
		{[]byte{3, 3, 200}, netpkt.SYNOptions{MSS: 536, Scales: true, Scale: 14}},
		{[]byte{4, 2, 0, 3, 3, 1}, netpkt.SYNOptions{MSS: 536, SACKs: true}},
		{[]byte{1, 1, 4, 2}, netpkt.SYNOptions{MSS: 536, SACKs: true}},
		{[]byte{2, 0, 2, 4, 5, 0xb4}, netpkt.SYNOptions{MSS: 536}},
		{[]byte{3, 9, 1}, netpkt.SYNOptions{MSS: 536}},
		{[]byte{3}, netpkt.SYNOptions{MSS: 536}},
		{[]byte{2, 4, 1, 1, 2, 4, 5, 0xb4}, netpkt.SYNOptions{MSS: 1460}},
	} {
		require.Equal(t, c.want, netpkt.ParseSYNOptions(c.options), "% x", c.options)
	}
}

func TestSACKBlocks(t *testing.T) {
	var got [][2]uint32
	s := netpkt.Segment{Options: []byte{1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 4}}
	s.EachSACK(func(r seqnum.Range) { got = append(got, [2]uint32{r.First.Uint32(), r.End.Uint32()}) })
	require.Equal(t, [][2]uint32{{1, 2}, {0xffffffff, 4}}, got)
	s.Options = []byte{5, 9, 0, 0, 0, 1, 0, 0, 0} // a part of one
	s.EachSACK(func(seqnum.Range) { require.Fail(t, "there is no block") })
}
