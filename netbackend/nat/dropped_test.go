package nat_test

import (
	"encoding/binary"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/drops"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue/vnet"
)

// lastDrop is what the engine has kept of its last drop; its time was now.
func (b *bench) lastDrop() drops.Drop {
	b.t.Helper()
	all := b.port.Drops()
	require.NotEmpty(b.t, all)
	d := all[len(all)-1]
	require.Equal(b.t, b.Now(), d.Time)
	d.Time = 0
	return d
}

// What is dropped is kept with the name of the counter that has counted it, and what is known of it.
func TestWhatIsDroppedIsKeptWithItsReason(t *testing.T) {
	web := netip.MustParseAddrPort("192.0.2.1:443")
	from := func(b *bench, port uint16) netip.AddrPort { return netip.AddrPortFrom(b.IP, port) }
	for name, c := range map[string]struct {
		send func(b *bench)
		want func(b *bench) drops.Drop
	}{
		"a service of the host": {
			func(b *bench) {
				b.SendDatagram(porttest.Datagram{Src: from(b, 40000), Dst: netip.AddrPortFrom(b.Gateway, 9), Payload: noise(10)})
			},
			func(b *bench) drops.Drop {
				return drops.Drop{Reason: "denied", Detail: "opened by --allow-host udp:9", Frame: drops.Frame{EtherType: 0x0800, Proto: udp, Src: from(b, 40000), Dst: netip.AddrPortFrom(b.Gateway, 9)}}
			},
		},
		"a rule": {
			func(b *bench) {
				b.SendSegment(porttest.Segment{Src: from(b, 40000), Dst: web, Flags: porttest.SYN, Seq: 1})
			},
			func(b *bench) drops.Drop {
				return drops.Drop{Reason: "denied", Detail: "--deny 192.0.2.0/24; opened before it by --allow tcp:192.0.2.1:443", Frame: drops.Frame{EtherType: 0x0800, Proto: tcp, Src: from(b, 40000), Dst: web}}
			},
		},
		"link-local": {
			func(b *bench) {
				b.SendDatagram(porttest.Datagram{Src: from(b, 7), Dst: netip.MustParseAddrPort("169.254.169.254:80"), Payload: noise(10)})
			},
			func(b *bench) drops.Drop {
				return drops.Drop{Reason: "denied", Detail: "opened by --allow udp:169.254.169.254:80", Frame: drops.Frame{EtherType: 0x0800, Proto: udp, Src: from(b, 7), Dst: netip.MustParseAddrPort("169.254.169.254:80")}}
			},
		},
		"a frame that is too short": {
			func(b *bench) { b.SendFrame(make([]byte, 13)) },
			func(*bench) drops.Drop { return drops.Drop{Reason: "malformed", Frame: drops.Frame{Length: 13}} },
		},
		"a header that lies": {
			func(b *bench) {
				b.SendRaw(vnet.Header{GSOType: 77}, b.IPv4(udp, b.IP, b.Gateway, noise(40)))
			},
			func(b *bench) drops.Drop {
				payload := noise(40)
				src, dst := binary.BigEndian.Uint16(payload), binary.BigEndian.Uint16(payload[2:])
				return drops.Drop{Reason: "bad_header", Frame: drops.Frame{EtherType: 0x0800, Proto: udp, Src: from(b, src), Dst: netip.AddrPortFrom(b.Gateway, dst), Length: 14 + 20 + 40}}
			},
		},
		"another protocol": {
			func(b *bench) {
				f := make([]byte, 60)
				binary.BigEndian.PutUint16(f[12:], 0x88cc)
				b.SendFrame(f)
			},
			func(*bench) drops.Drop {
				return drops.Drop{Reason: "unsupported", Frame: drops.Frame{EtherType: 0x88cc, Length: 60}}
			},
		},
		"another protocol of IP": {
			func(b *bench) { b.SendFrame(b.IPv4(47, b.IP, web.Addr(), noise(20))) },
			func(b *bench) drops.Drop {
				return drops.Drop{Reason: "other_protocols", Frame: drops.Frame{EtherType: 0x0800, Proto: 47, Src: from(b, 0), Dst: netip.AddrPortFrom(web.Addr(), 0), Length: 54}}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{config: func(c *nat.Config) { flags(t, c, "-192.0.2.0/24") }})
			b.Resolve()
			before := len(b.port.Drops())
			c.send(b)
			b.Turn()
			require.Len(t, b.port.Drops(), before+1)
			require.Equal(t, c.want(b), b.lastDrop())
		})
	}
}

// Of the frames of one turn, the one that was dropped is kept.
func TestTheFrameThatWasDroppedIsKeptAndNotItsNeighbour(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	for i := range uint16(5) {
		b.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(b.IP, 40000+i), Dst: b.server, Payload: noise(10)})
		f := make([]byte, 60)
		binary.BigEndian.PutUint16(f[12:], 0x8800+i)
		b.SendFrame(f)
	}
	b.Turn()
	all := b.port.Drops()
	require.Len(t, all, 5)
	for i, d := range all {
		require.Equal(t, drops.Frame{EtherType: 0x8800 + uint16(i), Length: 60}, d.Frame)
	}
}

// What does not get to the guest is kept as well.
func TestWhatDoesNotReachTheGuestIsKept(t *testing.T) {
	f := newUDPForward(t, netip.MustParseAddr("10.0.2.77"))
	_, err := f.client.Write([]byte("hello"))
	require.NoError(t, err)
	f.Until("the datagram is dropped", func() bool { return f.port.Counters().NoGuest == 1 })
	all := f.port.Drops()
	d := all[len(all)-1]
	require.Equal(t, "no_guest", d.Reason)
	require.True(t, d.ToGuest)
	require.Equal(t, "10.0.2.77", d.Frame.Dst.Addr().String())
}

// A limit is told by its text, and a flood by how many others there were.
func TestAFloodOfDropsIsKeptInPart(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.Advance(10 * time.Second)
	const sent = 1500
	for i := range uint16(sent) {
		b.echoTo("10.0.2.2", 7, i, nil)
		if i%50 == 0 {
			b.Settle()
			b.Frames()
		}
	}
	b.Settle()
	b.Frames()
	over := b.port.Counters().EchoOverBudget
	require.Greater(t, over, uint64(drops.PerSecond))
	all := b.port.Drops()
	require.Len(t, all, drops.PerSecond)
	require.Equal(t, "echo_over_budget", all[0].Reason)
	require.Equal(t, "the guest pings its router faster than is answered", all[0].Detail)
	require.Equal(t, "10.0.2.2", all[0].Frame.Dst.Addr().String())
	b.Advance(2 * time.Second)
	b.SendFrame(make([]byte, 60))
	b.Settle()
	require.Equal(t, over-drops.PerSecond, b.lastDrop().Left)
}

// A flow that had to go for another one is kept with its own ends, and fragments with the reason.
func TestWhatMakesRoomIsKeptWithItsReason(t *testing.T) {
	t.Run("an association", func(t *testing.T) {
		b := newBench(t, setup{config: func(c *nat.Config) { c.MaxFlows = 8 }})
		b.Resolve()
		first := netip.AddrPortFrom(b.IP, 10_000) // of the first one, which is idle longest
		b.datagrams(9)
		d := b.port.Drops()
		require.NotEmpty(t, d)
		d[0].Time = 0
		require.EqualValues(t, len(d), b.port.Counters().AssociationsEvicted)
		require.Equal(t, drops.Drop{
			Reason: "associations_evicted", Detail: d[0].Detail, Frame: drops.Frame{EtherType: 0x0800, Proto: udp, Src: first, Dst: b.server},
		}, d[0])
		require.NotEmpty(t, d[0].Detail)
	})
	t.Run("fragments", func(t *testing.T) {
		h := newHostile(t, setup{})
		for id := range uint32(17) {
			h.SendFragment(h.fragment(id, 0, 64, true))
		}
		h.Settle()
		last := h.lastDrop()
		require.Equal(t, drops.Drop{Reason: "fragments_evicted"}, last)
		h.SendFragment(h.fragment(16, 0, 64, true)) // which is there
		h.Settle()
		last = h.lastDrop()
		require.Equal(t, "fragment_overlaps", last.Reason)
		require.Equal(t, h.IP, last.Frame.Src.Addr())
		before := len(h.port.Drops())
		h.Advance(31 * time.Second)
		h.Settle()
		require.Greater(t, len(h.port.Drops()), before)
		last = h.port.Drops()[len(h.port.Drops())-1]
		require.Equal(t, "fragment_timeouts", last.Reason)
	})
}
