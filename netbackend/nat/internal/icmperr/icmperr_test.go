package icmperr

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/flowtable"
	"github.com/vringnet/vring/netbackend/nat/internal/hostsock"
	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/netbackend/nat/internal/limits"
	"github.com/vringnet/vring/netbackend/nat/internal/netpkt"
	"github.com/vringnet/vring/netbackend/nat/internal/policy"
	"github.com/vringnet/vring/netbackend/nat/internal/seqnum"
	"github.com/vringnet/vring/netbackend/nat/internal/shard"
	"github.com/vringnet/vring/netbackend/nat/internal/shardtest"
	"github.com/vringnet/vring/netbackend/nat/spec"
)

const guest, guest6, peer, peer6 = "10.0.2.15", "fd00:10:0:2::15", "192.0.2.9", "2001:db8::9"

// sender is one of a guest, whose rules say of each denial that they are against it.
func sender(t *testing.T) (*shardtest.Shard, *Sender) {
	s, e := shardtest.New(t, 200), new(Sender)
	e.SetUp(&s.Turn.Shard, nil, nil, Hooks{
		Denying: func(flowtable.Key) string { return "closed by a rule" },
		Opening: func(key flowtable.Key, v policy.Verdict) string {
			return fmt.Sprintf("--open-%d %s:%s", v, spec.ProtoName(key.Proto), key.RemoteAddrPort())
		},
	})
	return s, e
}

// to is a flow of the guest's.
func to(remote string, port uint16, proto uint8) *flowtable.Key {
	k := &flowtable.Key{Guest: shardtest.Addr(guest), GuestPort: 4000, Remote: shardtest.Addr(remote), RemotePort: port, Proto: proto}
	if !k.Remote.Is4() {
		k.Guest = shardtest.Addr(guest6)
	}
	return k
}

// message is the ICMP message that the guest has got.
func message(t *testing.T, s *shardtest.Shard) (k netpkt.Packet) {
	t.Helper()
	frames := s.Frames()
	require.Len(t, frames, 1)
	ip := frames[0][netpkt.EtherLen:]
	if ip[0]>>4 == 4 {
		require.True(t, k.ParseIPv4(ip, netpkt.EtherLen, int64(len(frames[0]))))
	} else {
		require.True(t, k.ParseIPv6(ip, netpkt.EtherLen, int64(len(frames[0]))))
	}
	return k
}

// udp is the header of a datagram of the guest's.
func udp() []byte { return []byte{15, 160, 0, 53, 0, 100, 0, 0} }

func TestADenialIsAnsweredByWhatIsTrueOfIt(t *testing.T) {
	for name, c := range map[string]struct {
		remote  string
		verdict policy.Verdict
		want    uint8 // code of "destination unreachable"
	}{
		"a closed port of the host":       {"10.0.2.2", policy.IsClosed, netpkt.CodePort},
		"an address that nobody has":      {"10.0.2.77", policy.IsNobody, netpkt.CodeHost},
		"a destination that is not named": {peer, policy.IsUnlisted, netpkt.CodeProhibited},
		"a destination that is denied":    {peer, policy.IsDenied, netpkt.CodeProhibited},
	} {
		t.Run(name, func(t *testing.T) {
			s, e := sender(t)
			e.Reject(s.Turn, to(c.remote, 53, netpkt.UDP), &policy.Decision{Verdict: c.verdict}, 100, udp())
			k := message(t, s)
			require.Equal(t, []byte{3, c.want}, k.L4[:2])
			require.Equal(t, shardtest.Addr("10.0.2.2"), k.Src)
			require.Equal(t, shardtest.Addr(guest), k.Dst)
			q, ok := netpkt.ParseQuote(k.L4[netpkt.ICMPLen:], true)
			require.True(t, ok)
			require.Equal(t, netpkt.Quote{Src: shardtest.Addr(guest), Dst: shardtest.Addr(c.remote), SrcPort: 4000, DstPort: 53, Size: netpkt.IPv4Len + 100, Proto: netpkt.UDP}, q)
			require.EqualValues(t, 1, s.Counters.Denied)
			require.EqualValues(t, 1, s.Counters.Unreachables)
		})
	}
}

// The user is told of what he can open, once each, and not of what he has closed himself.
func TestTheUserIsToldHowToOpenWhatTheGuestMisses(t *testing.T) {
	s, e := sender(t)
	for range 2 {
		e.ReportDenied(to("10.0.2.2", 5432, netpkt.TCP), &policy.Decision{Verdict: policy.IsClosed})
		e.ReportDenied(to("192.0.2.1", 5432, netpkt.TCP), &policy.Decision{Verdict: policy.IsClosed})
		e.ReportDenied(to(peer, 443, netpkt.UDP), &policy.Decision{Verdict: policy.IsUnlisted})
		e.ReportDenied(to(peer, 0, netpkt.ICMP), &policy.Decision{Verdict: policy.IsUnlisted})
		e.ReportDenied(to(peer6, 443, netpkt.TCP), &policy.Decision{Verdict: policy.IsUnlisted})
		e.ReportDenied(to(peer, 444, netpkt.TCP), &policy.Decision{Verdict: policy.IsDenied})
		e.ReportDenied(to(peer, 445, netpkt.TCP), &policy.Decision{Verdict: policy.IsNobody})
	}
	var told []string
	for _, n := range s.Notices {
		told = append(told, n.Message)
	}
	require.Equal(t, []string{
		"the guest was denied a service of the host, which --open-1 tcp:10.0.2.2:5432 opens",
		"the guest was denied a service of the host, which --open-1 tcp:192.0.2.1:5432 opens",
		"the guest was denied a destination, which --open-2 udp:192.0.2.9:443 opens",
		"the guest was denied a destination, which --open-2 icmp:192.0.2.9:0 opens",
		"the guest was denied a destination, which --open-2 tcp:[2001:db8::9]:443 opens",
	}, told)
	require.EqualValues(t, 14, s.Counters.Denied)
	e.ForgetReported()
	for port := range uint16(200) {
		e.ReportDenied(to(peer, port+1, netpkt.TCP), &policy.Decision{Verdict: policy.IsUnlisted})
	}
	require.Len(t, s.Notices, 5+limits.MostTold, "a guest that tries everything does not fill the log")
}

func TestAnErrorOfTheHostBecomesTheSameInTheGuest(t *testing.T) {
	for errno, want := range map[unix.Errno]uint8{
		unix.ENETUNREACH: netpkt.CodeNet, unix.EHOSTUNREACH: netpkt.CodeHost, unix.EACCES: netpkt.CodeProhibited, unix.EPERM: netpkt.CodeProhibited,
		unix.ENOPROTOOPT: netpkt.CodeProtocol, unix.EHOSTDOWN: netpkt.CodeNoHost, unix.ENONET: netpkt.CodeIsolated,
		unix.ECONNREFUSED: netpkt.CodePort, unix.EINVAL: netpkt.CodePort,
	} {
		s, e := sender(t)
		e.SendUndelivered(s.Turn, to(peer, 53, netpkt.UDP), errno, 100, udp())
		k := message(t, s)
		require.Equal(t, []byte{3, want}, k.L4[:2], errno)

		sent := e.SendUnreachableSYN(s.Turn, to(peer, 53, netpkt.TCP), seqnum.From(7), errno)
		require.Equal(t, want != netpkt.CodePort, sent, "%v: of a port that refuses, a reset tells", errno)
		if sent {
			k := message(t, s)
			q, ok := netpkt.ParseQuote(k.L4[netpkt.ICMPLen:], true)
			require.True(t, ok)
			require.Equal(t, seqnum.From(7), q.Seq)
		}
	}
}

func TestWhatHasOutlivedItsTimeEndsHere(t *testing.T) {
	s, e := sender(t)
	k := s.Packet(guest, "10.0.2.2", netpkt.UDP, udp())
	require.False(t, e.Outlived(s.Turn, k, to("10.0.2.2", 53, netpkt.UDP), 100), "the engine's own addresses are no further away")
	require.Empty(t, s.Frames())
	k = s.Packet(guest6, peer6, netpkt.UDP, udp())
	require.True(t, e.Outlived(s.Turn, k, to(peer6, 53, netpkt.UDP), 100))
	got := message(t, s)
	require.Equal(t, []byte{3, 0}, got.L4[:2], "time exceeded (RFC 4443 section 3.3)")
	require.EqualValues(t, 1, s.Counters.HopsExceeded)
}

func TestOnlyThatIsAnsweredByAnErrorWhichMayBe(t *testing.T) {
	other := shardtest.Addr("10.0.2.16")
	for name, c := range map[string]struct {
		src, dst string
		proto    uint8
		l4       []byte
		want     bool
	}{
		"a datagram":           {guest, peer, netpkt.UDP, udp(), true},
		"an echo request":      {guest, peer, netpkt.ICMP, []byte{8, 0, 0, 0, 0, 0, 0, 0}, true},
		"an echo reply":        {guest, peer, netpkt.ICMP, []byte{0, 0, 0, 0, 0, 0, 0, 0}, false},
		"an error":             {guest, peer, netpkt.ICMP, []byte{3, 1, 0, 0, 0, 0, 0, 0}, false},
		"an error of IPv6":     {guest6, peer6, netpkt.ICMPv6, []byte{1, 0, 0, 0, 0, 0, 0, 0}, false},
		"to a group":           {guest, "224.0.0.1", netpkt.UDP, udp(), false},
		"to everybody":         {guest, "10.0.2.255", netpkt.UDP, udp(), false},
		"of another guest":     {"10.0.2.16", peer, netpkt.UDP, udp(), false},
		"from nowhere":         {"0.0.0.0", peer, netpkt.UDP, udp(), false},
		"from our own address": {"10.0.2.2", peer, netpkt.UDP, udp(), false},
	} {
		s, e := sender(t)
		s.OtherGuests = map[ipaddr.Addr]bool{other: true}
		require.Equal(t, c.want, e.mayBeTold(s.Packet(c.src, c.dst, c.proto, c.l4), c.proto), name)
	}
}

// What a socket of the host reports is passed on as who said it, as the guest sees that one.
func TestAnErrorOfASocketIsPassedOn(t *testing.T) {
	router := shardtest.Addr("198.51.100.1")
	icmp := func(kind, code uint8, offender string) hostsock.Error {
		return hostsock.Error{
			ExtendedError: hostsock.ExtendedError{Origin: unix.SO_EE_ORIGIN_ICMP, Kind: kind, Code: code, Errno: uint32(unix.EHOSTUNREACH)},
			Offender:      shardtest.Addr(offender),
		}
	}
	failed := func(errno unix.Errno, info uint32) hostsock.Error {
		return hostsock.Error{ExtendedError: hostsock.ExtendedError{Errno: uint32(errno), Info: info}, Offender: router}
	}
	for name, c := range map[string]struct {
		fault hostsock.Error
		want  netpkt.Message
		rest  uint32
		ok    bool
	}{
		"a router's":         {icmp(3, 13, "198.51.100.1"), netpkt.Message{Kind: 3, Code: 13}, 0, true},
		"time exceeded":      {icmp(11, 0, "198.51.100.1"), netpkt.Message{Kind: 11}, 0, true},
		"too big":            {failed(unix.EMSGSIZE, 1400), netpkt.TooBig(true), 1400, true},
		"too big, no number": {failed(unix.EMSGSIZE, 1<<20), netpkt.TooBig(true), 0xffff, true},
		"refused":            {failed(unix.ECONNREFUSED, 0), netpkt.Message{Kind: 3, Code: 3}, 0, true},
		"of no meaning":      {failed(unix.EINVAL, 0), netpkt.Message{Kind: 3, Code: 3}, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			_, e := sender(t)
			c.fault.To.Peer.Addr = c.fault.Offender // so the destination itself is it, and no route is asked for
			m, ok := e.ErrorOf(&shard.Flow{Key: *to(peer, 53, netpkt.UDP)}, &c.fault)
			require.Equal(t, c.ok, ok)
			require.Equal(t, c.want, m.Message)
			require.Equal(t, c.rest, m.Rest)
			require.Equal(t, shardtest.Addr(peer), m.From, "by the address that the guest named")
		})
	}
	_, e := sender(t)
	own := failed(unix.ENETUNREACH, 0)
	own.Offender = ipaddr.Addr{}
	m, _ := e.ErrorOf(&shard.Flow{Key: *to(peer6, 53, netpkt.UDP)}, &own)
	require.Equal(t, shardtest.Addr("fd00:10:0:2::2"), m.From, "the kernel's own is the router's")
}
