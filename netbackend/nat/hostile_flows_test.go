package nat_test

import (
	"bytes"
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue"
	"github.com/vringnet/vring/virtqueue/vnet"
	"github.com/vringnet/vring/virtqueue/vqtest"
)

func TestS4AConnectionMayEndWhileItsSegmentsAreQueued(t *testing.T) {
	h := newHostile(t, setup{})
	for name, flags := range map[string]struct{ first, then porttest.Segment }{
		"data, then a reset":        {porttest.Segment{Flags: porttest.ACK}, porttest.Segment{Flags: porttest.RST}},
		"data, then another SYN":    {porttest.Segment{Flags: porttest.ACK}, porttest.Segment{Flags: porttest.SYN, Seq: 1 << 30}},
		"FIN, then a reset":         {porttest.Segment{Flags: porttest.ACK | porttest.FIN}, porttest.Segment{Flags: porttest.RST}},
		"FIN, then another SYN":     {porttest.Segment{Flags: porttest.ACK | porttest.FIN}, porttest.Segment{Flags: porttest.SYN, Seq: 1 << 30}},
		"FIN, and the same again":   {porttest.Segment{Flags: porttest.ACK | porttest.FIN}, porttest.Segment{Flags: porttest.ACK | porttest.FIN}},
		"a reset, then a late data": {porttest.Segment{Flags: porttest.RST}, porttest.Segment{Flags: porttest.ACK}},
	} {
		t.Run(name, func(t *testing.T) {
			c, host := h.connect()
			h.MayBreakRules, h.Deaf = true, false
			next := c.Segment(flags.first.Flags, noise(1000))
			c.Forget()
			for range 5 {
				h.SendSegment(next)
				next.Seq += 1000
			}
			next.Flags, next.Payload = flags.then.Flags, nil
			if flags.then.Seq != 0 {
				next.Seq = flags.then.Seq
			}
			h.SendSegment(next)
			h.SendSegment(next)
			h.Settle()
			require.NoError(t, host.Close())
			h.Run(5 * time.Minute) // the guest answers whatever is left by a reset
			require.Equal(t, h.sockets, h.Sockets())
		})
	}
}

// The engine has no helpers for applications: the ports where others rewrite what passes are like any other.
func TestS6S9WhatLooksLikeAnApplicationPassesUntouched(t *testing.T) {
	for port, text := range map[uint16]string{
		21:   "PORT 10,0,2,15,200,1\r\n227 Entering Passive Mode (10,0,2,15,200,1)\r\n",
		113:  "1234 , 5678 ",
		514:  "1022\x00",
		544:  "1022\x00",
		6667: "PRIVMSG a :\x01DCC CHAT chat 167772687 1024\x01 DCC SEND x 167772687 99999999999",
		6668: "\x01DCC MOVE x 10 1",
		7070: "\x00\x00\x50",
	} {
		t.Run(strconv.Itoa(int(port)), func(t *testing.T) {
			to := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 77}), port)
			l, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(to))
			if err != nil {
				t.Skipf("this port cannot be used here: %v", err)
			}
			defer l.Close()
			h := newHostile(t, setup{config: func(c *nat.Config) {
				c.AllowHost = append(c.AllowHost, spec.HostService{Proto: tcp, Addr: to.Addr(), Port: port})
			}})
			c := h.Connect(to)
			require.NoError(t, l.SetDeadline(time.Now().Add(time.Minute)))
			host, err := l.AcceptTCP()
			require.NoError(t, err)
			defer host.Close()
			want := bytes.Repeat([]byte(text), 70_000/len(text)) // more than any window, and without a line's end
			c.Send(want)
			requireSame(t, want, h.readSome(host, len(want)))
			_, err = host.Write(want[:len(want)/2])
			require.NoError(t, err)
			c.WaitFor(len(want) / 2)
			requireSame(t, want[:len(want)/2], c.Read())
			c.Reset()
			h.Settle()
		})
	}
}

func TestS15UrgentPointersFarBeyondTheDataHarmNothing(t *testing.T) {
	h := newHostile(t, setup{})
	inLine(t, h.host)
	var want []byte
	for i, pointer := range []uint16{0, 1, 99, 100, 101, 1000, 65535, 65535} {
		s := h.good.Segment(porttest.ACK|porttest.URG, noise(100+i))
		s.Urgent = pointer
		want = append(want, s.Payload...)
		h.good.SendNext(s)
	}
	requireSame(t, want, h.readSome(h.host, len(want)))
}

// ringWorker is a worker without an epoll set, for turns that need no sockets.
type ringWorker struct{ t *testing.T }

func (ringWorker) Register(int, uint64) error      { return nil }
func (ringWorker) RegisterInput(int, uint64) error { return nil }
func (ringWorker) Rearm(int, uint64) error         { return nil }
func (ringWorker) Unregister(int)                  {}
func (ringWorker) Raise(netbackend.Notice)         {}
func (w ringWorker) Fault(err error)               { w.t.Errorf("fault in guest memory: %v", err) }

// bare returns an engine whose turns the test itself gives.
func bare(t *testing.T, features uint64) *nat.Port {
	cfg := nat.DefaultConfig()
	cfg.ResolvConf = ""
	port, err := nat.New(cfg)
	require.NoError(t, err)
	require.NoError(t, port.Start(features, ringWorker{t}))
	port.RingsChanged(netbackend.RingState{Connected: true, Transmit: true, Receive: true})
	t.Cleanup(func() { require.NoError(t, port.Close()) })
	return port
}

func queue(t *testing.T, d *vqtest.Driver, dir virtqueue.Direction) *virtqueue.Queue {
	cfg := d.Layout()
	cfg.Dir = dir
	q, err := virtqueue.New(d.Memory().Table(), cfg)
	require.NoError(t, err)
	return q
}

const ringFeatures = vnet.FeatureVersion1 | vnet.FeatureMrgRxBuf

func TestP3ChainsThatLieAreUsedUp(t *testing.T) {
	for _, c := range vqtest.Cases(virtqueue.FromGuest) {
		t.Run(c.Name, func(t *testing.T) {
			port := bare(t, ringFeatures)
			d := vqtest.NewCaseDriver(vqtest.Heap, vqtest.Options{Indirect: true})
			c.Place(d)
			d.Publish()
			chains := queue(t, d, virtqueue.FromGuest).Fetch(virtqueue.MaxBatch)
			require.NotEmpty(t, chains)
			done, next := port.Turn(1, chains, nil, &netbackend.RXWriter{})
			require.Equal(t, len(chains), done)
			require.Zero(t, next, "nothing is left to do")
			n := port.Counters()
			require.Equal(t, n.FramesIn, n.Malformed+n.Unsupported+n.BadHeader, "%+v", n)
			if c.Bad {
				require.EqualValues(t, len(chains), n.Malformed)
			}
		})
	}
}

// The engine's answer to a good frame meets a receive buffer that lies.
func TestP3ReceiveBuffersThatLieAreSurvived(t *testing.T) {
	for _, features := range []uint64{ringFeatures, vnet.FeatureVersion1, 0} {
		for _, c := range vqtest.Cases(virtqueue.ToGuest) {
			t.Run(c.Name, func(t *testing.T) {
				port := bare(t, features)
				d := vqtest.NewCaseDriver(vqtest.Heap, vqtest.Options{Indirect: true})
				c.Place(d)
				d.Publish()
				var rx netbackend.RXWriter
				rx.Attach(queue(t, d, virtqueue.ToGuest), vnet.HeaderLength(features), features&vnet.FeatureMrgRxBuf != 0)
				for now := range int64(3) {
					done, next := port.Turn(now+1, arpChain(t, features), nil, &rx)
					require.Equal(t, 1, done)
					require.Zero(t, next)
				}
				require.LessOrEqual(t, rx.Frames, uint64(1))
			})
		}
	}
}

// arpChain returns an ARP request for the gateway.
func arpChain(t *testing.T, features uint64) []virtqueue.Chain {
	frame := make([]byte, vnet.HeaderLength(features), 100)
	frame = append(frame, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1, 8, 6)
	frame = append(frame, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2)
	m := vqtest.NewMemory(1<<16, vqtest.Heap)
	t.Cleanup(m.Close)
	d := vqtest.NewDriver(m, vqtest.Options{Size: 8})
	gpa := m.Alloc(len(frame), 8)
	copy(m.Bytes(gpa, len(frame)), frame)
	d.Add(vqtest.Buf{GPA: gpa, Len: uint32(len(frame))})
	d.Publish()
	return queue(t, d, virtqueue.FromGuest).Fetch(1)
}

// porttest fails if the engine asks for turns without a cause.
func TestP4DatagramsForAGuestWithoutReceiveBuffersWait(t *testing.T) {
	host := porttest.FreePort(t)
	b := newBench(t, setup{guest: porttest.Options{RingSize: 8}, config: func(c *nat.Config) {
		f, err := spec.ParseForward("udp:" + host.String() + ":7")
		require.NoError(t, err)
		c.Forwards = []spec.Forward{f}
	}})
	b.Resolve()
	b.Withhold = true
	client, err := net.Dial("udp4", host.String())
	require.NoError(t, err)
	defer client.Close()
	const sent = 50
	for i := range sent {
		_, err = client.Write([]byte{byte(i)})
		require.NoError(t, err)
	}
	b.Settle()
	turns := b.Turns()
	b.Run(time.Minute)
	require.Less(t, b.Turns()-turns, 5)
	b.Withhold = false
	b.Post(8)
	var got []*porttest.Datagram
	b.Until("all have arrived", func() bool { got = append(got, b.Datagrams()...); return len(got) == sent })
	for i, d := range got {
		require.Equal(t, []byte{byte(i)}, d.Payload)
	}
}

func TestP6EventsWithoutAFlowAreCounted(t *testing.T) {
	port := bare(t, ringFeatures)
	var events []netbackend.Event
	for _, token := range []uint64{0, 1, 255, 256, 1<<32 | 1, 0xffffff<<32 | 1<<31} {
		events = append(events, netbackend.Event{Token: token, Events: 0xffff})
	}
	_, next := port.Turn(1, nil, events, &netbackend.RXWriter{})
	require.Zero(t, next)
	require.EqualValues(t, len(events), port.Counters().StaleEvents)
}

// Associations end while others begin in the same turn, and records are used again at once.
func TestP6FlowsBeginWhileOthersEnd(t *testing.T) {
	const most = 300
	h := newHostile(t, setup{config: func(c *nat.Config) { c.MaxFlows = most }})
	for round := range 3 {
		for i := range 2 * most {
			d := h.datagram(noise(10))
			d.Src = netip.AddrPortFrom(h.IP, uint16(1+round*2*most+i))
			h.SendDatagram(d)
		}
		h.Settle()
		require.LessOrEqual(t, h.Sockets(), most)
		h.Advance(4 * time.Minute)
	}
	require.Positive(t, h.port.Counters().UDPExpired)
	require.Positive(t, h.port.Counters().AssociationsEvicted)
	h.Run(4 * time.Minute)
	require.Equal(t, h.sockets, h.Sockets())
}

func TestG3AHostThatDoesNotReadHoldsNobodyUp(t *testing.T) {
	h := newHostile(t, setup{})
	stuck, host := h.connect()
	stuck.Send(noise(32 << 20))
	h.Settle()
	turns := h.Turns()
	h.Run(time.Minute)
	require.Less(t, h.Turns()-turns, 2000, "only the guest's own probes are answered")
	h.goodGoesOn()
	require.NoError(t, host.Close())
	stuck.Reset()
	h.Settle()
}

func TestG4AResetDoesNotCompleteAHandshake(t *testing.T) {
	h := newHostile(t, setup{})
	c := h.Dial(h.server)
	h.Drop = func(d porttest.Direction, s *porttest.Segment) bool { // the guest's ACK
		return d == porttest.FromGuest && s.Src == c.Local
	}
	h.Until("the SYN is answered", func() bool { return len(c.Segments) > 0 })
	h.Drop = nil
	reset := c.Segment(porttest.RST|porttest.ACK, nil)
	c.Forget()
	h.SendSegment(reset)
	host, err := h.listen.AcceptTCP()
	require.NoError(t, err)
	defer host.Close()
	require.Error(t, h.readAll(host).err, "the host sees a reset, and no connection")
	require.Equal(t, h.sockets, h.Sockets())
}

// Nothing of the engine itself listens anywhere: neither towards the guest nor on the host.
func TestA1ThereIsNothingToControlTheEngineBy(t *testing.T) {
	h := newHostile(t, setup{})
	require.Equal(t, 1, h.Sockets(), "the good connection's")
	for _, to := range []string{"10.0.2.2:80", "10.0.2.2:7777", "10.0.2.3:80", "10.0.2.15:80"} {
		c := h.Dial(netip.MustParseAddrPort(to))
		h.Until("it is refused", func() bool { return c.State == porttest.Refused })
	}
}

func TestA2ForwardedTrafficDoesNotLookLikeTheGuestsOwn(t *testing.T) {
	b, dial := newForward(t, setup{})
	b.Listen(80)
	dial()
	var from netip.Addr
	b.Until("the guest gets a SYN", func() bool {
		for _, f := range b.Frames() {
			if f.TCP != nil {
				from = f.TCP.Src.Addr()
			}
		}
		return from.IsValid()
	})
	require.Equal(t, b.Gateway, from)
	h := newHostile(t, setup{})
	h.counted(1, badAddress, func() {
		h.SendDatagram(porttest.Datagram{Src: netip.MustParseAddrPort("127.0.0.1:5000"), Dst: h.echo, Payload: noise(9)})
	})
}
