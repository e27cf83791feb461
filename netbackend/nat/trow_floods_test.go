package nat_test

import (
	"encoding/binary"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// flood is a kind of frames of which the engine answers only so many a second.
type flood struct {
	send    func(h *hostile, i int)
	budget  int
	dropped func(nat.Counters) uint64
}

func floods() map[string]flood {
	return map[string]flood{
		"ARP": {
			send:    func(h *hostile, _ int) { h.SendFrame(arpQuestion(h)) },
			budget:  256,
			dropped: func(c nat.Counters) uint64 { return c.ARPOverBudget },
		},
		"DHCP": {
			send:    func(h *hostile, _ int) { h.SendDatagram(discover(h)) },
			budget:  32,
			dropped: func(c nat.Counters) uint64 { return c.DHCPOverBudget },
		},
		"pings of the router": {
			send:    func(h *hostile, i int) { h.bench.echo(h.Gateway.String(), 1, uint16(i), []byte("ping")) },
			budget:  1000,
			dropped: func(c nat.Counters) uint64 { return c.EchoOverBudget },
		},
		"queries that no resolver can be asked": {
			send:    func(h *hostile, _ int) { h.SendDatagram(query(h, 5000)) },
			budget:  500,
			dropped: func(c nat.Counters) uint64 { return c.QueriesOverBudget },
		},
		"datagrams that lead nowhere": {
			send: func(h *hostile, _ int) {
				d := h.datagram([]byte("x"))
				d.Dst = netip.AddrPortFrom(h.Gateway, 9)
				h.SendDatagram(d)
			},
			budget:  1000,
			dropped: func(c nat.Counters) uint64 { return c.ErrorsOverBudget },
		},
	}
}

func arpQuestion(h *hostile) []byte {
	b := make([]byte, 42)
	copy(b, []byte{255, 255, 255, 255, 255, 255})
	copy(b[6:], h.MAC[:])
	copy(b[12:], []byte{8, 6, 0, 1, 8, 0, 6, 4, 0, 1})
	copy(b[22:], h.MAC[:])
	copy(b[28:], h.IP.AsSlice())
	copy(b[38:], h.Gateway.AsSlice())
	return b
}

// discover is a DHCPDISCOVER without any option that need not be.
func discover(h *hostile) porttest.Datagram {
	b := make([]byte, 236, 244)
	b[0], b[1], b[2] = 1, 1, 6
	copy(b[28:], h.MAC[:])
	return porttest.Datagram{
		Src: netip.MustParseAddrPort("0.0.0.0:68"), Dst: netip.MustParseAddrPort("255.255.255.255:67"),
		Payload: append(b, 99, 130, 83, 99, 53, 1, 1, 255),
	}
}

// query is a DNS query for the root's name servers.
func query(h *hostile, from uint16) porttest.Datagram {
	return porttest.Datagram{
		Src: netip.AddrPortFrom(h.IP, from), Dst: netip.MustParseAddrPort("10.0.2.3:53"),
		Payload: []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1},
	}
}

func TestAFloodOfEachKindIsAnsweredWithinItsBudget(t *testing.T) {
	const frames = 3000
	for name, f := range floods() {
		t.Run(name, func(t *testing.T) {
			h := newHostile(t, setup{})
			h.Advance(time.Second) // what was needed so far is forgotten
			h.Work()
			h.Frames()
			for i := range frames {
				f.send(h, i)
			}
			h.Work()
			require.Len(t, h.Frames(), f.budget, "answers")
			require.EqualValues(t, frames-f.budget, f.dropped(h.port.Counters()))
			for other, o := range floods() {
				if other != name {
					require.Zero(t, o.dropped(h.port.Counters()), "a flood of %s is none of %s", name, other)
				}
			}
			h.connect() // the good go on, and new ones begin

			h.Advance(time.Second)
			h.Frames()
			f.send(h, 0)
			h.Work()
			require.Len(t, h.Frames(), 1, "a second later it is answered as ever")
		})
	}
}

func TestTheUserIsToldOfAFloodOnceInAWhile(t *testing.T) {
	h := newHostile(t, setup{})
	f := floods()["ARP"]
	for range 20 {
		for i := range 400 {
			f.send(h, i)
		}
		h.Work()
		h.Advance(time.Second)
	}
	require.Len(t, h.Notices(), 2, "in 20 seconds")
	require.Equal(t, "the guest sends more ARP than is answered", h.Notices()[0].Message)
	require.Equal(t, "so_far", h.Notices()[1].Key)
}

// blackHole is a port of the host that answers no SYN, as the guest names it.
func blackHole(t *testing.T) (setup, netip.AddrPort) {
	_, port := fullListener(t)
	s := setup{config: func(c *nat.Config) {
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_TCP, Port: port})
	}}
	return s, netip.AddrPortFrom(nat.DefaultConfig().Gateway, port)
}

// turnsToConnect returns how many turns a connection takes.
func (b *bench) turnsToConnect() int {
	before := b.Turns()
	b.connect()
	return b.Turns() - before
}

func TestT5AThousandBlackHolesDoNotDelayAGoodConnection(t *testing.T) {
	s, hole := blackHole(t)
	b := newBench(t, s)
	b.Resolve()
	alone := b.turnsToConnect()
	var lost []*porttest.TCP
	for range 1000 {
		lost = append(lost, b.Dial(hole))
	}
	b.Work()
	require.LessOrEqual(t, b.turnsToConnect(), alone+5, "turns, of which the kernel may make a few more")
	b.Run(3 * time.Second) // the guest repeats its SYNs
	require.Equal(t, 2+1000, b.Sockets(), "none is opened twice")
	for _, c := range lost {
		require.Equal(t, porttest.SynSent, c.State)
		c.Reset()
	}
	b.Settle()
	require.Equal(t, 2, b.Sockets(), "the guest has given up")
	require.Zero(t, b.port.Counters().ConnectsEvicted)
}

func TestT5TenThousandBlackHolesTakeTheirShareAndNoMore(t *testing.T) {
	const holes, most = 10_000, 16384 / 4
	s, hole := blackHole(t)
	b := newBench(t, s)
	b.Deaf = true
	good, host := b.connect()
	b.Frames()
	resets := 0
	for i := range holes {
		b.SendSegment(porttest.Segment{
			Src: netip.AddrPortFrom(b.IP, uint16(1024+i)), Dst: hole, Seq: uint32(i), Flags: porttest.SYN, Window: 65535,
		})
		if i%100 == 99 {
			b.Work()
			resets += countResets(t, b.Frames())
		}
	}
	require.Equal(t, holes-most, resets, "whoever is given up is told")
	require.EqualValues(t, holes-most, b.port.Counters().ConnectsEvicted)
	require.Equal(t, 1+most, b.Sockets())
	b.connect()
	good.Send([]byte("still here"))
	require.Equal(t, "still here", string(b.readSome(host, 10)))
}

// countResets requires that all frames are resets that a guest believes whose SYN they answer.
func countResets(t *testing.T, frames []*porttest.Frame) int {
	for _, f := range frames {
		require.NotNil(t, f.TCP, "%v", f)
		require.True(t, f.TCP.Has(porttest.RST|porttest.ACK), "%v", f.TCP)
		require.EqualValues(t, f.TCP.Dst.Port()-1024+1, f.TCP.Ack)
	}
	return len(frames)
}

// A flood of SYNs costs so much memory and no more, and another guest does not notice.
func TestT53ASYNFloodIsBoundedAndNotFeltByAnotherGuest(t *testing.T) {
	const syns, batch = 20_000, 500
	s, hole := blackHole(t)
	flooder, other := newBench(t, s), newBench(t, setup{})
	flooder.Deaf = true
	flooder.Resolve()
	other.Resolve()
	alone := other.turnsToConnect()

	syn := func(i int) {
		var isn [4]byte
		binary.BigEndian.PutUint32(isn[:], uint32(i)*2654435761)
		flooder.SendSegment(porttest.Segment{
			Src: netip.AddrPortFrom(flooder.IP, uint16(1+i%65535)), Dst: hole,
			Seq: binary.BigEndian.Uint32(isn[:]), Flags: porttest.SYN, Window: 65535,
		})
	}
	var full, most runtime.MemStats
	for i := range syns {
		syn(i)
		if (i+1)%batch != 0 {
			continue
		}
		flooder.Work()
		flooder.Frames()
		if i/batch%10 == 0 {
			require.LessOrEqual(t, other.turnsToConnect(), alone+5)
		}
		if i+1 == 20*batch {
			heap(&full) // the table is full
		}
	}
	heap(&most)
	require.Less(t, most.HeapAlloc, full.HeapAlloc+4<<20, "a full table grows no more")
	c := flooder.port.Counters()
	require.EqualValues(t, syns, c.TCPFlows+c.NewFlowsOverRate)
	require.GreaterOrEqual(t, c.TCPFlows, uint64(16384), "as many as a good guest may try at once")
	require.LessOrEqual(t, flooder.Sockets(), 16384/4)
	require.GreaterOrEqual(t, c.ConnectsEvicted, c.TCPFlows-16384/4)
	require.Len(t, flooder.Notices(), 2)
	require.Zero(t, other.port.Counters().ConnectsEvicted)
	require.Empty(t, other.Notices())
	flooder.connect() // not even the flooder is shut out
}

// heap reads the heap after a collection.
func heap(m *runtime.MemStats) {
	runtime.GC()
	runtime.ReadMemStats(m)
}
