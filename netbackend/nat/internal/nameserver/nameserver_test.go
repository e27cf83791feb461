package nameserver

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/namerelay"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/nat/internal/tcp"
	"github.com/vringnet/vring/netbackend/services/dns"
	"github.com/vringnet/vring/netbackend/services/dnsconn"
)

// relayed is a guest whose queries go to a resolver on the loopback.
type relayed struct {
	Relay
	*shardtest.Shard
	t        *testing.T
	resolver *net.UDPConn
	taken    int // tokens of sockets that were looked at
}

func newRelayed(t *testing.T, buffers int) *relayed {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(time.Minute)))
	r := &relayed{Shard: shardtest.New(t, buffers), t: t, resolver: conn}
	long, at := new(fragments.Sender), conn.LocalAddr().(*net.UDPAddr).AddrPort()
	long.SetUp(&r.Turn.Shard)
	resolvers := dns.New(dns.Config{Servers: dns.Plain(at)})
	rules := policy.New(policy.Compile(&policy.Config{}, r.Nets), r.Nets, nil)
	r.Relay.SetUp(r.Turn, Uses{Fragments: long, TCP: new(tcp.Engine), Policy: &rules}, namerelay.NewGuest(dns.NewSplit(resolvers, nil), dnsconn.New(dnsconn.Config{}), namerelay.NewQuotas()))
	t.Cleanup(r.Forget)
	return r
}

// query is one for the address of a name, with an identifier.
func query(id uint16, name string) []byte {
	b := binary.BigEndian.AppendUint16(nil, id)
	b = append(b, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, byte(len(name)))
	b = append(b, name...)
	return append(b, 0, 0, 1, 0, 1)
}

// ask has the guest ask, with as many messages in its packet as there are of segment bytes, 0 for one.
func (r *relayed) ask(message []byte, segment int) {
	frame := append(make([]byte, r.HeaderLen+netpkt.EtherLen+netpkt.IPv4Len+netpkt.UDPLen), message...)
	k := r.Packet("10.0.2.15", "10.0.2.3", netpkt.UDP, frame[r.HeaderLen+netpkt.EtherLen+netpkt.IPv4Len:])
	k.Chain, k.L4Offset, k.Segment = r.Chain(frame), r.HeaderLen+netpkt.EtherLen+netpkt.IPv4Len, segment
	key := &flowtable.Key{Guest: k.Src, GuestPort: 4000, Remote: k.Dst, RemotePort: shard.DNSPort, Proto: netpkt.UDP}
	r.Query(r.Turn, key, k, netpkt.UDPLen+len(message))
}

// heard is what the resolver is asked next, and by whom.
func (r *relayed) heard() (message []byte, by netip.AddrPort) {
	r.t.Helper()
	b := make([]byte, 1500)
	n, by, err := r.resolver.ReadFromUDPAddrPort(b)
	require.NoError(r.t, err)
	return b[:n], by
}

// answer has the resolver answer a query with so many bytes more, and the engine take that.
func (r *relayed) answer(more int) {
	r.t.Helper()
	message, to := r.heard()
	message[2] |= 0x80
	_, err := r.resolver.WriteToUDPAddrPort(append(message, make([]byte, more)...), to)
	require.NoError(r.t, err)
	token := r.Tokens[r.taken]
	r.taken++
	r.OnEvent(r.Turn, uint32(token>>32)&0xffffff, uint32(token))
}

// got are the messages that the guest has got.
func (r *relayed) got() (all [][]byte) {
	r.t.Helper()
	for _, f := range r.Frames() {
		var k netpkt.Packet
		require.True(r.t, k.ParseIPv4(f[netpkt.EtherLen:], netpkt.EtherLen, int64(len(f))))
		require.Equal(r.t, shardtest.Addr("10.0.2.3"), k.Src)
		require.Equal(r.t, []uint16{53, 4000}, []uint16{binary.BigEndian.Uint16(k.L4), binary.BigEndian.Uint16(k.L4[2:])})
		all = append(all, slices.Clone(k.L4[netpkt.UDPLen:k.L4Len]))
	}
	return all
}

func TestAQueryIsAnsweredByTheNameServer(t *testing.T) {
	r := newRelayed(t, 8)
	r.ask(query(7, "example"), 0)
	require.EqualValues(t, 1, r.Counters.Queries)
	require.Equal(t, 1, r.Sockets())
	r.answer(0)
	want := query(7, "example")
	want[2] |= 0x80
	require.Equal(t, [][]byte{want}, r.got())
	require.Zero(t, r.Sockets(), "it is over")
}

func TestQueriesThatCameTogetherAreAskedEach(t *testing.T) {
	r := newRelayed(t, 8)
	first, second := query(1, "one"), query(2, "two")
	r.ask(append(slices.Clone(first), second...), len(first))
	require.EqualValues(t, 2, r.Counters.Queries)
	for _, want := range [][]byte{first, second} {
		message, _ := r.heard()
		require.Equal(t, want[2:], message[2:])
	}
}

func TestWhatIsNoQueryIsNotPassedOn(t *testing.T) {
	r := newRelayed(t, 8)
	reply := query(1, "one")
	reply[2] |= 0x80
	for _, message := range [][]byte{nil, {1, 2, 3}, reply} {
		r.ask(message, 0)
	}
	require.EqualValues(t, 3, r.Counters.QueriesRefused)
	require.Zero(t, r.Counters.Queries)
	require.Zero(t, r.Sockets())
}

func TestAnAnswerWaitsForRoom(t *testing.T) {
	r := newRelayed(t, 0)
	r.ask(query(7, "example"), 0)
	r.answer(0)
	require.Empty(t, r.got())
	r.Post(1)
	r.At(2)
	r.Tend(r.Turn)
	require.Len(t, r.got(), 1)
}

func TestALongAnswerGoesInFragments(t *testing.T) {
	r := newRelayed(t, 8)
	r.ask(query(7, "example"), 0)
	r.answer(2000)
	require.Len(t, r.Frames(), 2)
	require.EqualValues(t, 1, r.Counters.LongDatagrams)
}

func TestQueriesHaveNoMoreSocketsThanTheGuestMay(t *testing.T) {
	r := newRelayed(t, 8)
	r.ask(query(1, "one"), 0)
	require.Equal(t, 1, r.Sockets())
	r.CountSockets(shardtest.MaxFlows - 1) // those of other flows
	r.ask(query(2, "two"), 0)
	require.Equal(t, shardtest.MaxFlows, r.Sockets())
	require.Len(t, r.Tokens, 1)
	r.Forget()
	require.Equal(t, shardtest.MaxFlows-1, r.Sockets())
	r.CountSockets(1 - shardtest.MaxFlows)
}

func TestTheUserIsToldOfAResolverThatDoesNotAnswer(t *testing.T) {
	r := newRelayed(t, 0)
	at := netip.MustParseAddrPort("192.0.2.53:53")
	r.tellLeft(dns.Server{Addr: at}, dns.TCP)
	r.tellLeft(dns.Server{Addr: at}, dns.UDP)
	r.tellBack(dns.Server{Addr: at})
	var told []string
	for _, n := range r.Notices {
		told = append(told, n.Message+": "+n.Value)
	}
	require.Equal(t, []string{
		"a resolver of the host does not answer; others are asked before it: 192.0.2.53:53 by TCP",
		"a resolver of the host does not answer; others are asked before it: 192.0.2.53:53",
		"a resolver of the host answers again: 192.0.2.53:53",
	}, told)
	require.EqualValues(t, 2, r.Counters.ResolversLeft)
}
