package nat_test

import (
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// echo sends an echo request.
func (b *bench) echo(to string, id, seq uint16, payload []byte) {
	b.SendICMP(netip.MustParseAddr(to), porttest.ICMP{Type: 8, Rest: uint32(id)<<16 | uint32(seq), Payload: payload})
}

// reply waits for an echo reply and returns it.
func (b *bench) reply() (reply *porttest.Frame) {
	b.t.Helper()
	b.Until("a reply", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil && f.ICMP.Type == 0 {
				reply = f
			}
		}
		return reply != nil
	})
	return reply
}

// settleReplies waits until no more replies come.
func (b *bench) settleReplies() {
	b.t.Helper()
	b.Until("silence", func() bool {
		time.Sleep(100 * time.Millisecond)
		b.Settle()
		return len(b.Frames()) == 0
	})
}

// told waits for a message "destination unreachable" and returns it.
func (b *bench) told() (message *porttest.ICMP) {
	b.t.Helper()
	b.Until("the guest is told", func() bool {
		if list := unreachables(b.Frames()); len(list) > 0 {
			message = list[0]
		}
		return message != nil
	})
	return message
}

func TestTheGuestPingsWhoeverIsOutside(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	_, far := neighbour(t, "192.0.2.1/24")
	inhabit(t, far, "192.0.2.9/24")
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.AllowHost = []spec.HostService{{Proto: unix.IPPROTO_ICMP, Addr: netip.MustParseAddr("192.0.2.1")}}
	}})
	b.Resolve()

	t.Run("identifier, sequence and payload come back", func(t *testing.T) {
		for seq, size := range []int{0, 1, 56, 57, 1472} {
			b.echo("192.0.2.9", 0xabcd, uint16(seq), noise(size))
			f := b.reply() // porttest has checked its checksum
			require.Equal(t, "192.0.2.9", f.Src.String())
			require.EqualValues(t, 0xabcd0000|seq, f.ICMP.Rest)
			requireSame(t, noise(size), f.ICMP.Payload)
		}
		require.Equal(t, 1, b.Sockets(), "one socket for all of a series")
		require.EqualValues(t, 1, b.port.Counters().PingFlows)
	})
	t.Run("series are kept apart", func(t *testing.T) {
		for _, id := range []uint16{0, 1, 65535} {
			b.echo("192.0.2.9", id, 7, []byte("x"))
			require.EqualValues(t, uint32(id)<<16|7, b.reply().ICMP.Rest)
		}
		require.Equal(t, 4, b.Sockets())
	})
	t.Run("the host's address answers if it was opened", func(t *testing.T) {
		b.echo("192.0.2.1", 1, 1, []byte("x"))
		require.Equal(t, "192.0.2.1", b.reply().Src.String())
		b.echo("127.0.0.1", 1, 1, []byte("x"))
		require.EqualValues(t, 13, b.told().Code, "others do not")
	})
	t.Run("silence ends a series", func(t *testing.T) {
		b.Run(59 * time.Second)
		require.NotZero(t, b.Sockets())
		b.Run(2 * time.Second)
		require.Zero(t, b.Sockets())
		b.echo("192.0.2.9", 0xabcd, 1, nil)
		b.reply()
	})
	require.Empty(t, b.Notices()[1:], "one denial was told")
}

func TestErrorsDoNotTakeTheRoomOfReplies(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	_, far := neighbour(t, "192.0.2.1/24")
	sysctl(t, "net.ipv4.neigh.near.retrans_time_ms", "10")
	b := newBench(t, setup{})
	b.Resolve()
	const enough, burst = 500, 50 // more errors than a socket's buffer holds
	b.Until("many have failed", func() bool {
		before := b.port.Counters().Unreachables
		for seq := range uint16(burst) {
			b.echo("192.0.2.9", 7, seq, nil)
		}
		b.Until("some have failed", func() bool { return b.port.Counters().Unreachables > before })
		return before > enough
	})
	b.Settle()
	inhabit(t, far, "192.0.2.9/24")
	b.Until("a reply", func() bool { // the kernel may still have given up what waits for the address
		b.echo("192.0.2.9", 7, 1, nil)
		time.Sleep(20 * time.Millisecond)
		return slices.ContainsFunc(b.Frames(), func(f *porttest.Frame) bool { return f.ICMP != nil && f.ICMP.Type == 0 })
	})
	b.settleReplies()
	const together = 20
	for seq := range uint16(together) {
		b.echo("192.0.2.9", 7, seq, noise(1400))
	}
	replies := 0
	b.Until("all replies", func() bool { replies += len(b.Frames()); return replies == together })
	require.EqualValues(t, 1, b.port.Counters().PingFlows)
}

func TestRepliesOfOthersAreNotTheGuests(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	near, far := neighbour(t, "192.0.2.1/24")
	silent(t, near, far, "192.0.2.9")
	b := newBench(t, setup{})
	b.Resolve()
	b.Frames()
	b.echo("192.0.2.9", 7, 1, []byte("hello"))
	b.Settle()

	forged := header.ICMPv4(make([]byte, 8))
	forged.SetType(header.ICMPv4EchoReply)
	forged.SetIdent(pingIdentifier(t))
	forged.SetSequence(1)
	forged.SetChecksum(^vnet.Sum(forged, 0))
	conn, err := net.Dial("ip4:icmp", "192.0.2.1")
	require.NoError(t, err)
	defer conn.Close()
	turns := b.Turns()
	_, err = conn.Write(forged)
	require.NoError(t, err)
	b.Settle()
	require.Greater(t, b.Turns(), turns, "the kernel has given the reply to the engine's socket")
	require.Empty(t, b.Frames())
}

// pingIdentifier returns the identifier of the namespace's only ping socket.
func pingIdentifier(t *testing.T) uint16 {
	t.Helper()
	table, err := os.ReadFile("/proc/net/icmp")
	require.NoError(t, err)
	lines := strings.Split(strings.TrimSpace(string(table)), "\n")
	require.Len(t, lines, 2, "a heading and a socket")
	_, identifier, _ := strings.Cut(strings.Fields(lines[1])[1], ":")
	n, err := strconv.ParseUint(identifier, 16, 16)
	require.NoError(t, err)
	return uint16(n)
}

func TestAPingThatCannotArriveIsToldSo(t *testing.T) {
	if inNamespace(t) {
		return
	}
	permitPings(t)
	neighbour(t, "192.0.2.1/24")
	sysctl(t, "net.ipv4.neigh.near.retrans_time_ms", "50")
	route(t, unix.RTN_PROHIBIT, "203.0.113.0/24")
	for name, c := range map[string]struct {
		to   string
		code uint8
	}{
		"no route":               {"198.18.0.1", 0},
		"nobody has the address": {"192.0.2.9", 1},
		"a prohibited route":     {"203.0.113.1", 13},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			b.Resolve()
			for seq := range uint16(3) {
				b.echo(c.to, 7, seq, []byte("hello"))
				m := b.told()
				require.Equal(t, c.code, m.Code)
				require.Equal(t, c.to, netip.AddrFrom4([4]byte(header.IPv4(m.Payload).DestinationAddressSlice())).String())
				quoted := header.ICMPv4(m.Payload[20:])
				require.Equal(t, header.ICMPv4Echo, quoted.Type())
				require.EqualValues(t, 7, quoted.Ident())
				require.EqualValues(t, seq, quoted.Sequence())
			}
			require.Zero(t, b.port.Counters().PingRefused)
		})
	}
}

// As for a server that is another user's than its broker.
func TestPingSocketsThatTheHostForbidsThisProcessComeFromAnother(t *testing.T) {
	if inNamespace(t) {
		return
	}
	_, far := neighbour(t, "192.0.2.1/24")
	inhabit(t, far, "192.0.2.9/24")
	failure := error(unix.EACCES)
	b := newBench(t, setup{config: func(c *nat.Config) {
		c.Pings = func(v6 bool) (int, error) {
			require.False(t, v6)
			if failure != nil {
				return -1, failure
			}
			permitPings(t)
			return unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_ICMP)
		}
	}})
	b.Resolve()
	b.echo("192.0.2.9", 8, 1, []byte("hello"))
	require.EqualValues(t, 13, b.told().Code, "administratively prohibited")
	require.EqualValues(t, 1, b.port.Counters().PingForbidden)
	failure = os.ErrDeadlineExceeded
	b.echo("192.0.2.9", 9, 1, []byte("hello"))
	require.EqualValues(t, 1, b.told().Code, "host unreachable: nobody answers in time")
	failure = nil
	b.echo("192.0.2.9", 7, 1, []byte("hello"))
	require.Equal(t, "192.0.2.9", b.reply().Src.String())
	require.Equal(t, 1, b.Sockets())
	require.EqualValues(t, 1, b.port.Counters().PingForbidden)
}

func TestPingsThatTheHostForbidsAreToldToTheGuestAndCounted(t *testing.T) {
	if inNamespace(t) {
		return
	}
	// A new namespace permits nobody.
	require.ErrorContains(t, hostcaps.CheckPing(), "sysctl net.ipv4.ping_group_range")
	b := newBench(t, setup{})
	b.Resolve()
	b.Frames()
	for seq := range uint16(3) {
		b.echo("198.51.100.1", 7, seq, []byte("hello"))
		m := b.told()
		require.EqualValues(t, 13, m.Code, "administratively prohibited (RFC 1812 section 5.2.7.1)")
		require.EqualValues(t, seq, header.ICMPv4(m.Payload[20:]).Sequence())
	}
	require.EqualValues(t, 3, b.port.Counters().PingForbidden)

	b.echo("10.0.2.2", 7, 1, []byte("hello"))
	b.reply()

	permitPings(t)
	require.NoError(t, hostcaps.CheckPing())
}

func TestOddICMPMessagesAreDropped(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.Frames()
	icmp := func(src, dst string, message ...byte) []byte {
		return b.IPv4(1, netip.MustParseAddr(src), netip.MustParseAddr(dst), message)
	}
	for name, frame := range map[string][]byte{
		"no header":               icmp("10.0.2.15", "198.51.100.1", 8, 0, 0),
		"a reply":                 icmp("10.0.2.15", "198.51.100.1", 0, 0, 0, 0, 0, 0, 0, 0),
		"a redirect":              icmp("10.0.2.15", "198.51.100.1", 5, 1, 0, 0, 0, 0, 0, 0),
		"a timestamp request":     icmp("10.0.2.15", "198.51.100.1", 13, 0, 0, 0, 0, 0, 0, 0),
		"a request with a code":   icmp("10.0.2.15", "198.51.100.1", 8, 1, 0, 0, 0, 0, 0, 0),
		"to everybody":            icmp("10.0.2.15", "255.255.255.255", 8, 0, 0, 0, 0, 0, 0, 0),
		"to a group":              icmp("10.0.2.15", "224.0.0.1", 8, 0, 0, 0, 0, 0, 0, 0),
		"from the gateway":        icmp("10.0.2.2", "198.51.100.1", 8, 0, 0, 0, 0, 0, 0, 0),
		"from loopback":           icmp("127.0.0.1", "198.51.100.1", 8, 0, 0, 0, 0, 0, 0, 0),
		"from everybody, to ours": icmp("255.255.255.255", "10.0.2.2", 8, 0, 0, 0, 0, 0, 0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			before := b.port.Counters()
			b.SendFrame(frame)
			b.Settle()
			after := b.port.Counters()
			require.Empty(t, b.Frames())
			require.EqualValues(t, 1,
				after.Malformed+after.Unsupported+after.BadAddress+after.Multicast+after.Broadcast-
					before.Malformed-before.Unsupported-before.BadAddress-before.Multicast-before.Broadcast)
			require.Zero(t, b.Sockets())
		})
	}
}
