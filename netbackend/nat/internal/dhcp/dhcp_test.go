package dhcp

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/nat/internal/fragments"
	"github.com/vringnet/vring/netbackend/nat/internal/hosts"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/link"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/services/dhcp4"
	"github.com/vringnet/vring/netbackend/services/lease"
)

// serving is the service of a guest.
type serving struct {
	Server
	*shardtest.Shard
	t *testing.T
}

func serve(t *testing.T, cfg Config) *serving {
	s := &serving{Shard: shardtest.New(t, 64), t: t}
	addr := netip.MustParseAddr
	book := lease.New(lease.Config{
		Primary: addr("10.0.2.15"), First: addr("10.0.2.20"), Count: 8, User: func(netip.Addr) (mac [6]byte) { return mac },
	})
	dhcp, err := dhcp4.New(dhcp4.Config{
		Guest: addr("10.0.2.15"), Server: addr("10.0.2.2"), Router: addr("10.0.2.2"), Prefix: netip.MustParsePrefix("10.0.2.0/24"), MTU: 1500, Book: book,
	})
	require.NoError(t, err)
	layer, long := new(link.Layer), new(fragments.Sender)
	layer.SetUp(link.Config{}, &s.Turn.Shard, nil, nil, nil)
	long.SetUp(&s.Turn.Shard)
	s.Server.SetUp(cfg, layer, long, &Leases{V4: book}, dhcp, nil)
	return s
}

// client is the guest's host.
func client() [6]byte { return hosts.UnpackMAC(shardtest.HostMAC()) }

// from gives the service a message of a client at an address, and returns what it answers, nil for nothing.
func (s *serving) from(src string, m *dhcpv4.DHCPv4) (answer *dhcpv4.DHCPv4, frame []byte) {
	s.t.Helper()
	payload := m.ToBytes()
	frame = append(make([]byte, s.HeaderLen+netpkt.EtherLen+netpkt.IPv4Len+netpkt.UDPLen), payload...)
	k := s.Packet(src, "255.255.255.255", netpkt.UDP, frame[s.HeaderLen+netpkt.EtherLen+netpkt.IPv4Len:])
	k.Chain, k.L4Offset = s.Chain(frame), s.HeaderLen+netpkt.EtherLen+netpkt.IPv4Len
	s.Handle4(s.Turn, k, netpkt.UDPLen+len(payload))
	frames := s.Frames()
	if len(frames) == 0 {
		return nil, nil
	}
	require.Len(s.t, frames, 1)
	var p netpkt.Packet
	require.True(s.t, p.ParseIPv4(frames[0][netpkt.EtherLen:], netpkt.EtherLen, int64(len(frames[0]))))
	require.Equal(s.t, []uint16{67, 68}, []uint16{binary.BigEndian.Uint16(p.L4), binary.BigEndian.Uint16(p.L4[2:])})
	require.Equal(s.t, shardtest.Addr("10.0.2.2"), p.Src)
	answer, err := dhcpv4.FromBytes(p.L4[netpkt.UDPLen:p.L4Len])
	require.NoError(s.t, err)
	return answer, frames[0]
}

// message is one of the client's.
func (s *serving) message(kind dhcpv4.MessageType, more ...dhcpv4.Modifier) *dhcpv4.DHCPv4 {
	mac := client()
	m, err := dhcpv4.New(append(more, dhcpv4.WithMessageType(kind), dhcpv4.WithHwAddr(mac[:]))...)
	require.NoError(s.t, err)
	return m
}

// owner is the host that has the guest's address, as far as that is known.
func (s *serving) owner() hosts.ID {
	a := shardtest.Addr("10.0.2.15")
	return s.Hosts.User(&a)
}

func TestAHostThatGetsAnAddressIsKnownToHaveIt(t *testing.T) {
	s := serve(t, Config{})
	offer, frame := s.from("0.0.0.0", s.message(dhcpv4.MessageTypeDiscover))
	require.Equal(t, dhcpv4.MessageTypeOffer, offer.MessageType())
	require.Equal(t, "10.0.2.15", offer.YourIPAddr.String())
	mac := client()
	require.Equal(t, mac[:], frame[:6])
	require.Equal(t, hosts.Any, s.owner(), "an offer promises nothing")

	ack, _ := s.from("0.0.0.0", s.message(dhcpv4.MessageTypeRequest,
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress(offer.YourIPAddr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(offer.ServerIdentifier()))))
	require.Equal(t, dhcpv4.MessageTypeAck, ack.MessageType())
	require.Equal(t, s.From, s.owner())
}

func TestAHostThatHasAnAddressIsKnownByItsMessage(t *testing.T) {
	s := serve(t, Config{})
	_, _ = s.from("10.0.2.15", s.message(dhcpv4.MessageTypeInform))
	require.Equal(t, s.From, s.owner())
}

func TestAnAddressThatAHostDeclinesIsToldToTheUser(t *testing.T) {
	s := serve(t, Config{})
	of := []dhcpv4.Modifier{
		dhcpv4.WithOption(dhcpv4.OptRequestedIPAddress([]byte{10, 0, 2, 15})), dhcpv4.WithOption(dhcpv4.OptServerIdentifier([]byte{10, 0, 2, 2})),
	}
	_, _ = s.from("0.0.0.0", s.message(dhcpv4.MessageTypeRequest, of...))
	answer, _ := s.from("0.0.0.0", s.message(dhcpv4.MessageTypeDecline, of...))
	require.Nil(t, answer)
	require.Len(t, s.Notices, 1)
	require.Equal(t, "10.0.2.15", s.Notices[0].Value)
	require.Equal(t, "a host of the guest has declined its address: another one behind the same network card uses it", s.Notices[0].Message)
}

func TestMessagesThatAreNotAnswered(t *testing.T) {
	s := serve(t, Config{NoV4: true, NoV6: true})
	answer, _ := s.from("0.0.0.0", s.message(dhcpv4.MessageTypeDiscover))
	require.Nil(t, answer)
	s.Handle6(s.Turn, nil, 0)
	require.EqualValues(t, 2, s.Counters.Unsupported)

	s = serve(t, Config{})
	reply := s.message(dhcpv4.MessageTypeOffer)
	reply.OpCode = dhcpv4.OpcodeBootReply
	answer, _ = s.from("0.0.0.0", reply)
	require.Nil(t, answer, "no request")

	s.MTU = 300 // the guest's link carries no answer
	answer, _ = s.from("0.0.0.0", s.message(dhcpv4.MessageTypeDiscover))
	require.Nil(t, answer)
}

// A guest that asks all the time costs no more than that.
func TestMessagesAreAnsweredAtABoundedRate(t *testing.T) {
	s := serve(t, Config{})
	answered := 0
	for range 2000 {
		s.Post(1)
		if answer, _ := s.from("0.0.0.0", s.message(dhcpv4.MessageTypeDiscover)); answer == nil {
			break
		}
		answered++
	}
	_, most := s.BudgetUsed(limits.DHCP, s.Now)
	require.Equal(t, most, answered)
	s.At(s.Now + 10e9)
	answer, _ := s.from("0.0.0.0", s.message(dhcpv4.MessageTypeDiscover))
	require.NotNil(t, answer)
}
