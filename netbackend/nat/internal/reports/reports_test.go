package reports

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/ipfrag"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
)

// complaint is an ICMP message of kind and code whose second word is rest, and that quotes a packet of TCP with 1000 bytes behind its IP header.
func complaint(kind, code uint8, rest uint32, src, dst string) []byte {
	from, to := shardtest.Addr(src), shardtest.Addr(dst)
	b := make([]byte, netpkt.ICMPLen+from.HeaderLen()+netpkt.ICMPLen)
	b[0], b[1] = kind, code
	binary.BigEndian.PutUint32(b[4:], rest)
	ip := b[netpkt.ICMPLen:]
	if from.Is4() {
		netpkt.PutIPv4(ip[:netpkt.IPv4Len], &from, &to, netpkt.TCP, 1000)
	} else {
		netpkt.PutIPv6(ip[:netpkt.IPv6Len], &from, &to, netpkt.TCP, 1000)
	}
	copy(ip[from.HeaderLen():], []byte{0, 80, 0x10, 0, 0, 0, 1, 44}) // from port 80 to port 4096, sequence number 300
	return b
}

func TestAReportIsReadAsWhatItQuotes(t *testing.T) {
	const guest, peer, guest6, peer6 = "10.0.2.15", "192.0.2.9", "fd00:10:0:2::15", "2001:db8::9"
	whole := complaint(3, 3, 0, peer, guest)
	later := complaint(3, 3, 0, peer, guest)
	later[netpkt.ICMPLen+7] = 9 // a fragment behind the first one
	for name, c := range map[string]struct {
		message  []byte
		src, dst string // of the message
		want     netpkt.Complaint
		mtu      int
		ok       bool
	}{
		"nobody takes it":         {whole, guest, peer, netpkt.NobodyTakes, 0, true},
		"too big":                 {complaint(3, 4, 0xabcd0578, peer, guest), guest, peer, netpkt.DoesNotFit, 1400, true},
		"too big in IPv6":         {complaint(2, 0, 1280, peer6, guest6), guest6, peer6, netpkt.DoesNotFit, 1280, true},
		"too big for any packet":  {complaint(2, 0, 1<<31, peer6, guest6), guest6, peer6, netpkt.DoesNotFit, ipfrag.MaxPayload, true},
		"by a router behind it":   {whole, "10.0.2.200", peer, netpkt.NobodyTakes, 0, true},
		"about another's packet":  {whole, guest, "192.0.2.10", netpkt.NobodyTakes, 0, false},
		"about the guest's own":   {complaint(3, 3, 0, guest, peer), guest, peer, netpkt.NobodyTakes, 0, false},
		"with too short a quote":  {whole[:len(whole)-1], guest, peer, netpkt.NobodyTakes, 0, false},
		"without a quote":         {whole[:netpkt.ICMPLen], guest, peer, netpkt.NobodyTakes, 0, false},
		"about a later fragment":  {later, guest, peer, netpkt.NobodyTakes, 0, false},
		"a quote of another kind": {complaint(1, 4, 0, peer, guest), guest6, peer6, netpkt.NobodyTakes, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := shardtest.New(t, 0)
			r, ok := readReport(s.Packet(c.src, c.dst, netpkt.ICMP, c.message))
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, r.Complaint)
			require.Equal(t, c.mtu, r.mtu)
			if !ok {
				return
			}
			from, to := shardtest.Addr(peer), shardtest.Addr(guest)
			if !s.Nets.V4.Gateway.Is4() || c.dst == peer6 {
				from, to = shardtest.Addr(peer6), shardtest.Addr(guest6)
			}
			require.Equal(t, flowtable.Key{Guest: to, Remote: from, GuestPort: 4096, RemotePort: 80, Proto: netpkt.TCP}, r.key)
			require.Equal(t, from.HeaderLen()+1000, r.size)
			require.Equal(t, seqnum.From(300), r.seq)
		})
	}
}

func TestAReportOfNoFlowIsCounted(t *testing.T) {
	const guest, peer = "10.0.2.15", "192.0.2.9"
	for name, message := range map[string][]byte{
		"that cannot be read": complaint(3, 3, 0, peer, guest)[:netpkt.ICMPLen],
		"of no flow":          complaint(3, 4, 1400, peer, guest),
	} {
		t.Run(name, func(t *testing.T) {
			s := shardtest.New(t, 0)
			require.False(t, new(Reports).Handle(s.Turn, s.Packet(guest, peer, netpkt.ICMP, message)))
			require.EqualValues(t, 1, s.Counters.StrayReports)
			require.Zero(t, s.Counters.PathsNarrowed)
		})
	}
}
