package nat_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// travel is how the guest's packets travel: what it writes into their IP headers.
type travel struct {
	hops, tos uint8
	whole     bool // IPv4: they must not be fragmented
}

// as lets the guest's packets travel so from now on.
func (b *bench) as(m travel) {
	b.Alter = func(frame []byte) {
		switch binary.BigEndian.Uint16(frame[12:]) {
		case 0x0800:
			ip := header.IPv4(frame[14:])
			ip.SetTTL(m.hops)
			ip.SetTOS(m.tos, 0)
			flags := ip.Flags() &^ header.IPv4FlagDontFragment
			if m.whole {
				flags |= header.IPv4FlagDontFragment
			}
			ip.SetFlagsFragmentOffset(flags, ip.FragmentOffset())
			ip.SetChecksum(0)
			ip.SetChecksum(^ip.CalculateChecksum())
		case 0x86dd:
			ip := header.IPv6(frame[14:])
			ip.SetHopLimit(m.hops)
			ip.SetTOS(m.tos, 0)
		}
	}
}

// echoTo sends an echo request to an address of either version.
func (b *bench) echoTo(to string, id, seq uint16, payload []byte) {
	dst := netip.MustParseAddr(to)
	kind := uint8(8)
	if dst.Is6() {
		kind = 128
	}
	b.SendICMP(dst, porttest.ICMP{Type: kind, Rest: uint32(id)<<16 | uint32(seq), Payload: payload})
}

// probe is one way to trace a route: send sends the seq-th packet to somebody, arrived reports whether a frame says that one has
// arrived, and requireQuoted checks what the message of a router quotes.
type probe struct {
	send          func(b *bench, to string, seq int)
	arrived       func(b *bench, f *porttest.Frame) bool
	requireQuoted func(t *testing.T, transport []byte, seq int)
}

const (
	tracePort = 33434
	traceID   = 0xbeef
)

func probes() map[string]probe {
	endpoint := func(to string, port int) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(to), uint16(port))
	}
	ports := func(transport []byte) string {
		return fmt.Sprint(binary.BigEndian.Uint16(transport), binary.BigEndian.Uint16(transport[2:]))
	}
	return map[string]probe{
		"UDP": {
			send: func(b *bench, to string, seq int) {
				dst := endpoint(to, tracePort+seq)
				b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.Source(dst.Addr()), 1024), Dst: dst, Payload: noise(40)})
			},
			arrived: func(_ *bench, f *porttest.Frame) bool {
				return f.ICMP != nil && (f.ICMP.Type == 3 || f.ICMP.Type == 1) && f.Src != netip.Addr{}
			},
			requireQuoted: func(t *testing.T, transport []byte, seq int) {
				require.Equal(t, fmt.Sprint(1024, tracePort+seq), ports(transport))
			},
		},
		"ICMP": {
			send: func(b *bench, to string, seq int) { b.echoTo(to, traceID, uint16(seq), noise(40)) },
			arrived: func(_ *bench, f *porttest.Frame) bool {
				return f.ICMP != nil && (f.ICMP.Type == 0 || f.ICMP.Type == 129)
			},
			requireQuoted: func(t *testing.T, transport []byte, seq int) {
				require.Contains(t, []byte{8, 128}, transport[0])
				require.EqualValues(t, traceID, binary.BigEndian.Uint16(transport[4:]), "the guest's identifier, not the host's")
				require.EqualValues(t, seq, binary.BigEndian.Uint16(transport[6:]))
			},
		},
		"TCP": {
			send: func(b *bench, to string, seq int) {
				b.Dial(endpoint(to, 80), porttest.TCPOptions{LocalPort: uint16(5000 + seq), ISS: uint32(9000 + seq)})
			},
			arrived: func(_ *bench, f *porttest.Frame) bool { return f.TCP != nil && f.TCP.Flags.Contains(porttest.RST) },
			requireQuoted: func(t *testing.T, transport []byte, seq int) {
				require.Equal(t, fmt.Sprint(5000+seq, 80), ports(transport))
				require.EqualValues(t, 9000+seq, binary.BigEndian.Uint32(transport[4:]))
			},
		},
	}
}

// timeExceeded returns the transport header that f quotes if it says that the time to live of a packet has run out.
func timeExceeded(f *porttest.Frame) []byte {
	switch {
	case f.ICMP == nil || f.ICMP.Code != 0:
		return nil
	case f.ICMP.Type == 11 && f.Src.Is4():
		return f.ICMP.Payload[20:]
	case f.ICMP.Type == 3 && f.Src.Is6():
		return f.ICMP.Payload[40:]
	}
	return nil
}

func TestE1EachRouterOnTheWayAnswersInItsTurn(t *testing.T) {
	if inNamespace(t) {
		return
	}
	newRouters(t)
	for name, route := range map[string][]string{
		"IPv4": {"10.0.2.2", firstRouter, secondRouter, theWorld},
		"IPv6": {"fd00:10:0:2::2", firstRouter6, secondRouter6, theWorld6},
	} {
		for protocol, probe := range probes() {
			t.Run(name+" "+protocol, func(t *testing.T) {
				b := newBench(t, setup{})
				b.Resolve()
				to := route[len(route)-1]
				for i, router := range route {
					b.Frames()
					b.as(travel{hops: uint8(i + 1)})
					probe.send(b, to, i)
					var from, quoted = "", []byte(nil)
					b.Until("somebody answers", func() bool {
						for _, f := range b.Frames() {
							if quoted = timeExceeded(f); quoted != nil && f.Src.String() != router {
								continue // about a probe before, which the host's kernel has sent again
							}
							if quoted != nil || probe.arrived(b, f) {
								from = f.Src.String()
								return true
							}
						}
						return false
					})
					require.Equal(t, router, from, "hop %d", i+1)
					require.Equal(t, router != to, quoted != nil, "only who is not the end says that time has run out")
					if quoted != nil {
						probe.requireQuoted(t, quoted, i)
					}
				}
				require.EqualValues(t, 1, b.port.Counters().HopsExceeded, "the engine is the first of them")
			})
		}
	}
}

func TestE2TheFirstHopAnswersWhereTheHostForbidsPings(t *testing.T) {
	if inNamespace(t) {
		return
	}
	// A new namespace permits nobody to ping, and has no route to anywhere.
	for _, to := range []string{theWorld, theWorld6} {
		b := newBench(t, setup{})
		b.Resolve()
		b.Frames()
		b.as(travel{hops: 1})
		b.echoTo(to, traceID, 1, noise(40))
		b.Until("the router answers", func() bool {
			return slices.ContainsFunc(b.Frames(), func(f *porttest.Frame) bool { return timeExceeded(f) != nil })
		})
		require.Zero(t, b.port.Counters().PingForbidden)
	}
}

// Many probes are under way at once, each with its own time to live, and one series of pings has one socket.
func TestE1ProbesMayBeUnderWayTogether(t *testing.T) {
	if inNamespace(t) {
		return
	}
	newRouters(t)
	b := newBench(t, setup{})
	b.Resolve()
	b.Frames()
	want := map[int]string{}
	for seq := range 12 {
		hops := seq%4 + 1
		b.as(travel{hops: uint8(hops)})
		b.echoTo(theWorld, traceID, uint16(seq), noise(40))
		want[seq] = []string{"10.0.2.2", firstRouter, secondRouter, theWorld}[hops-1]
	}
	got := map[int]string{}
	b.Until("all are answered", func() bool {
		for _, f := range b.Frames() {
			if quoted := timeExceeded(f); quoted != nil {
				got[int(binary.BigEndian.Uint16(quoted[6:]))] = f.Src.String()
			} else if f.ICMP != nil && f.ICMP.Type == 0 {
				got[int(uint16(f.ICMP.Rest))] = f.Src.String()
			}
		}
		return len(got) == len(want)
	})
	require.Equal(t, want, got)
	require.Equal(t, 1, b.Sockets())
}

// What a router quotes of an echo request is the guest's own packet, checksum included.
func TestE3ErrorsAboutPingsQuoteTheGuestsOwnRequest(t *testing.T) {
	if inNamespace(t) {
		return
	}
	r := newRouters(t)
	for name, c := range map[string]struct {
		kind    int
		code    uint8
		network string
	}{
		"a host that cannot be reached": {unix.RTN_UNREACHABLE, 1, theWorld + "/32"},
		"prohibited by a filter":        {unix.RTN_PROHIBIT, 13, theWorld + "/32"},
	} {
		t.Run(name, func(t *testing.T) {
			defer r.second.block(c.kind, c.network)()
			b := newBench(t, setup{})
			b.Resolve()
			for seq := range uint16(2) { // a router says so five times at once
				payload := noise(40 + int(seq))
				b.echo(theWorld, traceID, seq, payload)
				sent := time.Now()
				var f *porttest.Frame
				b.Until("the guest is told", func() bool {
					if time.Since(sent) > 3*time.Second { // a busy router may say nothing
						b.echo(theWorld, traceID, seq, payload)
						sent = time.Now()
					}
					for _, got := range b.Frames() {
						if got.ICMP != nil && got.ICMP.Type == 3 {
							f = got
						}
					}
					return f != nil
				})
				require.Equal(t, c.code, f.ICMP.Code)
				require.Equal(t, secondRouter, f.Src.String(), "who says so")
				quoted := f.ICMP.Payload[20:]
				require.EqualValues(t, 0xffff, vnet.Sum(quoted, 0), "its checksum is right")
				require.EqualValues(t, traceID, binary.BigEndian.Uint16(quoted[4:]))
				require.EqualValues(t, seq, binary.BigEndian.Uint16(quoted[6:]))
				requireSame(t, payload, quoted[8:])
			}
			require.Zero(t, b.port.Counters().PingRefused)
		})
	}
}

// A ping that must not be fragmented learns the MTU of the way; one that may be arrives.
func TestE3APingThatMustNotBeFragmentedLearnsTheMTU(t *testing.T) {
	if inNamespace(t) {
		return
	}
	r := newRouters(t)
	r.second.mtu("to-world", 1300)
	r.world.mtu("uplink", 1300)
	b := newBench(t, setup{})
	b.Resolve()
	b.as(travel{hops: 64, whole: true})
	b.echo(theWorld, traceID, 1, noise(1400))
	m := b.told()
	require.EqualValues(t, 4, m.Code)
	require.EqualValues(t, 1300, m.Rest)
	require.EqualValues(t, traceID, binary.BigEndian.Uint16(m.Payload[24:]))
	b.echo(theWorld, traceID, 2, noise(1400))
	m = b.told()
	require.EqualValues(t, 1300, m.Rest, "now the host knows by itself")
	require.EqualValues(t, 2, binary.BigEndian.Uint16(m.Payload[26:]))
	b.as(travel{hops: 64})
	b.echo(theWorld, traceID, 3, noise(1400))
	requireSame(t, noise(1400), b.reply().ICMP.Payload)
	require.Zero(t, b.port.Counters().PingRefused, "it was told each time")

	b.echoTo(theWorld6, traceID, 1, noise(1400))
	var big *porttest.ICMP
	b.Until("the guest is told", func() bool {
		for _, f := range b.Frames() {
			if f.ICMP != nil && f.ICMP.Type == 2 && f.Src.Is6() {
				big = f.ICMP
			}
		}
		return big != nil
	})
	require.EqualValues(t, 1300, big.Rest)
}

func TestE4AnErrorOnTheWayEndsAConnectWithItsCodeAndSender(t *testing.T) {
	if inNamespace(t) {
		return
	}
	r := newRouters(t)
	for name, c := range map[string]struct {
		kind int
		code uint8
	}{
		"a host that cannot be reached": {unix.RTN_UNREACHABLE, 1},
		"prohibited by a filter":        {unix.RTN_PROHIBIT, 13},
	} {
		t.Run(name, func(t *testing.T) {
			defer r.second.block(c.kind, theWorld+"/32")()
			b := newBench(t, setup{})
			b.Resolve()
			b.Frames()
			conn := b.Dial(at(theWorld + ":80"))
			var f *porttest.Frame
			b.Until("the guest is told", func() bool {
				for _, got := range b.Frames() {
					if got.ICMP != nil {
						f = got
					}
				}
				return f != nil
			})
			require.Equal(t, secondRouter, f.Src.String(), "who says so")
			require.EqualValues(t, 3, f.ICMP.Type)
			require.Equal(t, c.code, f.ICMP.Code)
			requireQuotedSYN(t, conn, f.ICMP.Payload)
			require.Zero(t, b.Sockets())
			require.Empty(t, conn.Segments, "no reset")
		})
	}
}

// What a router says about a connection that is open is a hint: the connection goes on when the way is free again.
func TestE4AnOpenConnectionOutlivesErrorsOnTheWay(t *testing.T) {
	if inNamespace(t) {
		return
	}
	r := newRouters(t)
	for _, to := range []string{theWorld, theWorld6} {
		t.Run(to, func(t *testing.T) {
			l := r.world.listen(net.JoinHostPort(to, "80"))
			b := newBench(t, setup{})
			b.Resolve()
			b.as(travel{hops: 10}) // as who traces the route would
			conn := b.Connect(netip.AddrPortFrom(netip.MustParseAddr(to), 80))
			host, err := l.AcceptTCP()
			require.NoError(t, err)
			defer host.Close()
			b.as(travel{hops: 64})

			packets := r.second.sniff()
			network := netip.PrefixFrom(netip.MustParseAddr(to), netip.MustParseAddr(to).BitLen()).String()
			undo := r.second.block(unix.RTN_UNREACHABLE, network)
			conn.Send([]byte("hello"))
			// The kernel takes what comes while the engine sends for a hint in any case; what comes later is a repetition's.
			sent := 0
			b.Until("the router has said that there is no way, of a repetition too", func() bool {
				for _, ip := range packets() {
					if bytes.HasSuffix(ip, []byte("hello")) {
						sent++
					}
				}
				return sent >= 2
			})
			b.Settle()
			require.Equal(t, porttest.Open, conn.State)
			undo()
			conn.Send([]byte(" again"))
			require.Equal(t, "hello again", string(await(b, "the data arrives", func() []byte { return b.read(host, 11) })))
			require.Zero(t, b.endings()["failed"])
		})
	}
}

// read reads n bytes of c, on another goroutine than the bench's.
func (b *bench) read(c net.Conn, n int) []byte {
	buf := make([]byte, n)
	got := 0
	for got < n {
		m, err := c.Read(buf[got:])
		if err != nil {
			b.t.Errorf("read: %v", err)
			break
		}
		got += m
	}
	return buf[:got]
}

// What the guest writes into its headers on purpose is what the world sees, less one hop.
func TestE5TheWorldSeesTheGuestsHopLimitAndTrafficClass(t *testing.T) {
	if inNamespace(t) {
		return
	}
	r := newRouters(t)
	const ect, dscp = 2, 46 << 2 // ECN-capable, expedited forwarding
	for _, to := range []string{theWorld, theWorld6} {
		for protocol, probe := range probes() {
			t.Run(protocol+" to "+to, func(t *testing.T) {
				packets := r.world.sniff()
				b := newBench(t, setup{config: func(c *nat.Config) { c.ResolvConf = "" }})
				b.Resolve()
				seen := func(m travel) (hops, tos uint8) {
					t.Helper()
					packets()
					b.as(m)
					probe.send(b, to, int(m.hops))
					b.Until("the world has it", func() bool {
						for _, ip := range packets() {
							if h, c, ok := headerOf(ip, protocol); ok {
								hops, tos = h, c
								return true
							}
						}
						return false
					})
					return hops, tos
				}
				wantECN := uint8(ect)
				if protocol == "TCP" {
					wantECN = 0 // the host's kernel is the end of the connection, and of its congestion notification
				}
				hops, tos := seen(travel{hops: 40, tos: dscp | ect})
				require.EqualValues(t, 40-1-2, hops, "the engine is a router as the two others are")
				require.Equal(t, dscp|wantECN, tos)
				hops, tos = seen(travel{hops: 64})
				require.EqualValues(t, 64-2, hops, "an ordinary packet begins as one of the host's does")
				require.Zero(t, tos)
			})
		}
	}
}

// headerOf returns hop limit and traffic class of an IP packet of a protocol; !ok if it is of another one.
func headerOf(b []byte, protocol string) (hops, tos uint8, ok bool) {
	want := map[string][2]uint8{"UDP": {17, 17}, "ICMP": {1, 58}, "TCP": {6, 6}}[protocol]
	switch b[0] >> 4 {
	case 4:
		ip := header.IPv4(b)
		tos, _ = ip.TOS()
		return ip.TTL(), tos, uint8(ip.Protocol()) == want[0]
	case 6:
		ip := header.IPv6(b)
		tos, _ = ip.TOS()
		isEcho := want[1] != 58 || len(ip.Payload()) > 0 && ip.Payload()[0] == 128
		return ip.HopLimit(), tos, ip.NextHeader() == want[1] && isEcho
	}
	return 0, 0, false
}

// The traffic class may change while a connection is open, as ssh changes it when somebody has logged in.
func TestE5ATrafficClassMayChangeWithinAConnection(t *testing.T) {
	if inNamespace(t) {
		return
	}
	r := newRouters(t)
	l := r.world.listen(theWorld + ":80")
	packets := r.world.sniff()
	b := newBench(t, setup{})
	b.Resolve()
	b.as(travel{hops: 10}) // which is that of the attempt, and not of the connection
	conn := b.Connect(at(theWorld + ":80"))
	host, err := l.AcceptTCP()
	require.NoError(t, err)
	defer host.Close()
	for _, class := range []uint8{0, 0x10, 0x48, 0} {
		packets()
		b.as(travel{hops: 64, tos: class | 2})
		conn.Send([]byte("x"))
		await(b, "the data arrives", func() []byte { return b.read(host, 1) })
		seen := false
		for _, ip := range packets() {
			if hops, tos, ok := headerOf(ip, "TCP"); ok && header.IPv4(ip).PayloadLength() > 32 {
				require.Equal(t, class, tos)
				require.EqualValues(t, 62, hops)
				seen = true
			}
		}
		require.True(t, seen)
	}
}
