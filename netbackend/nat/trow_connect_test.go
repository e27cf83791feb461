package nat_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

func TestT1ClosedPortRefusesWithAnAcknowledgingReset(t *testing.T) {
	b := newBench(t, setup{closed: true})
	c := b.Dial(b.server)
	b.Until("the connection is refused", func() bool { return c.State != porttest.SynSent })
	require.Equal(t, porttest.Refused, c.State)
	require.Len(t, c.Segments, 1)
	require.True(t, c.Segments[0].Has(porttest.RST|porttest.ACK), "Linux ignores a reset without ACK in SYN-SENT")
	require.Equal(t, c.ISS+1, c.Segments[0].Ack)
	require.Zero(t, b.port.Counters().SocketErrors)
}

func TestT2GuestIsAnsweredAfterTheHostHasConnected(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	require.Equal(t, porttest.Open, c.State)
	require.Len(t, c.Segments, 1, "one SYN-ACK")
	require.NotNil(t, host)

	full, port := fullListener(t)
	b = newBench(t, setup{config: func(c *nat.Config) {
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_TCP, Port: port})
	}})
	pending := b.Dial(netip.AddrPortFrom(b.server.Addr(), port))
	b.Settle()
	require.Empty(t, pending.Segments, "the host has not answered yet")
	_, _, err := unix.Accept(full) // the next one gets in now, when the kernel tries again
	require.NoError(t, err)
	b.Until("the host answers", func() bool { return pending.State == porttest.Open })
}

// fullListener returns a listening socket on the loopback that has as many connections waiting as it takes: the kernel
// does not answer more.
func fullListener(t *testing.T) (fd int, port uint16) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	require.NoError(t, unix.Listen(fd, 0))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	port = uint16(name.(*unix.SockaddrInet4).Port)
	first, err := net.Dial("tcp4", netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port).String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = first.Close() })
	return fd, port
}

func TestT6EverySYNThatIsLegalIsAccepted(t *testing.T) {
	syns := map[string]struct {
		flags   uint8
		options []byte
		payload string
	}{
		"ECN":                    {flags: uint8(porttest.ECE | porttest.CWR)},
		"no options":             {},
		"unknown option":         {options: []byte{250, 4, 1, 2, 1, 1, 1, 1}},
		"data":                   {payload: "early"},
		"urgent":                 {flags: uint8(porttest.URG)},
		"MSS of 0":               {options: []byte{2, 4, 0, 0}},
		"MSS of 1":               {options: []byte{2, 4, 0, 1}},
		"MSS of 65535":           {options: []byte{2, 4, 255, 255}},
		"scale of 255":           {options: []byte{3, 3, 255, 0}},
		"option longer than all": {options: []byte{2, 40, 5, 180}},
		"option of no length":    {options: []byte{2, 0, 5, 180}},
		"option code alone":      {options: []byte{1, 1, 1, 2}},
		"timestamps cut short":   {options: []byte{8, 9, 1, 2, 3, 4, 5, 6, 7, 0, 0, 0}},
	}
	for name, syn := range syns {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{})
			b.Resolve()
			b.Deaf = true
			s := porttest.Segment{
				Src: netip.AddrPortFrom(b.IP, 1024), Dst: b.server, Seq: 100, Window: 65535,
				Flags: porttest.SYN, Options: syn.options, Payload: []byte(syn.payload),
			}
			s.Flags |= header.TCPFlags(syn.flags)
			b.SendSegment(s)
			var answer *porttest.Segment
			b.Until("it is answered", func() bool {
				for _, f := range b.Frames() {
					answer = f.TCP
				}
				return answer != nil
			})
			require.True(t, answer.Has(porttest.SYN|porttest.ACK), "%v", answer)
			require.GreaterOrEqual(t, answer.Ack, uint32(101))
			require.False(t, header.ParseTCPOptions(answer.Options).TS, "nobody offered timestamps")

			host, err := b.listen.AcceptTCP()
			require.NoError(t, err)
			defer host.Close()
			_, err = host.Write([]byte("hello, guest"))
			require.NoError(t, err)
			s = porttest.Segment{
				Src: s.Src, Dst: s.Dst, Seq: answer.Ack, Ack: answer.Seq + 1, Flags: porttest.ACK, Window: 65535,
			}
			b.SendSegment(s)
			b.Until("data comes", func() bool {
				for _, f := range b.Frames() {
					if f.TCP != nil && len(f.TCP.Payload) > 0 {
						return true
					}
				}
				return false
			})
		})
	}
}

func TestT9ImpossibleAddressesAreDropped(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.Frames()
	guest, server := netip.AddrPortFrom(b.IP, 1024), b.server
	at := func(addr string, port uint16) netip.AddrPort {
		return netip.AddrPortFrom(netip.MustParseAddr(addr), port)
	}
	cases := map[string]struct{ src, dst netip.AddrPort }{
		"source port 0":           {netip.AddrPortFrom(b.IP, 0), server},
		"destination port 0":      {guest, netip.AddrPortFrom(server.Addr(), 0)},
		"source multicast":        {at("224.0.0.1", 1024), server},
		"source broadcast":        {at("255.255.255.255", 1024), server},
		"source unspecified":      {at("0.0.0.0", 1024), server},
		"source is the gateway":   {at("10.0.2.2", 1024), server},
		"destination multicast":   {guest, at("224.0.0.251", 5353)},
		"destination broadcast":   {guest, at("255.255.255.255", 80)},
		"network's broadcast":     {guest, at("10.0.2.255", 80)},
		"destination unspecified": {guest, at("0.0.0.0", 80)},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			b.SendSegment(porttest.Segment{Src: c.src, Dst: c.dst, Flags: porttest.SYN, Window: 1000})
			b.SendDatagram(porttest.Datagram{Src: c.src, Dst: c.dst, Payload: []byte("x")})
			before := b.port.Counters()
			b.Settle()
			after := b.port.Counters()
			require.Zero(t, after.TCPFlows-before.TCPFlows)
			require.Zero(t, after.UDPFlows-before.UDPFlows)
			dropped := func(c nat.Counters) uint64 { return c.BadAddress + c.Denied + c.Multicast + c.Broadcast }
			require.Equal(t, uint64(2), dropped(after)-dropped(before))
		})
	}
}

func TestT11RefusalByTheGuestIsAResetForTheClient(t *testing.T) {
	b, dial := newForward(t, setup{})
	r := b.readAll(dial())
	require.ErrorContains(t, r.err, "connection reset", "never an end of file")
}

func TestT15WhatTheClientDoesBeforeTheGuestAnswersIsKept(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	l.Mute = true
	client := dial()
	early := noise(100_000)
	_, err := client.Write(early)
	require.NoError(t, err)
	require.NoError(t, client.CloseWrite())
	b.Run(2500 * time.Millisecond)
	require.Empty(t, l.Pending())

	l.Mute = false
	b.Skip("the SYN is repeated", func() bool { return len(l.Pending()) == 1 })
	c := l.Accept()
	b.Until("the end comes", c.Ended)
	require.True(t, c.FinReceived)
	requireSame(t, early, c.Received())

	c.Send([]byte("late answer"))
	c.Close()
	r := b.readAll(client)
	require.NoError(t, r.err)
	require.Equal(t, "late answer", string(r.data))
}

func TestT15ClientThatResetsBeforeTheGuestAnswers(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	l.Mute = true
	client := dial()
	b.Settle()
	require.NoError(t, client.SetLinger(0))
	require.NoError(t, client.Close())
	b.Settle()
	l.Mute = false
	b.Run(10 * time.Second)
	for _, c := range l.Pending() {
		require.True(t, c.Ended(), "the guest must not be left with a connection to nobody")
	}
	require.Equal(t, 1, b.Sockets(), "only the listener is left")
}

func TestT16GuestSeesAMappedAddressAndTheClientsPort(t *testing.T) {
	b, dial := newForward(t, setup{})
	l := b.Listen(80)
	client := dial()
	c := l.Accept()
	require.Equal(t, b.Gateway, c.Remote.Addr(), "loopback is never shown to the guest")
	require.Equal(t, client.LocalAddr().(*net.TCPAddr).Port, int(c.Remote.Port()))
}

func TestT46GuestsResetIsOneForTheHost(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	c.Reset()
	r := b.readAll(host)
	require.ErrorContains(t, r.err, "connection reset")
	require.Zero(t, b.Sockets())
}

func TestT46ResetElsewhereInTheWindowIsQuestioned(t *testing.T) {
	b := newBench(t, setup{})
	c, host := b.connect()
	n := len(c.Segments)
	s := c.Segment(porttest.RST, nil)
	s.Seq += 100
	c.SendSegment(s)
	b.Settle()
	require.Len(t, c.Segments, n+1, "a challenge (RFC 5961)")
	require.Equal(t, c.SndNxt, lastSegment(c).Ack)

	s.Seq = c.SndNxt - 1
	c.SendSegment(s)
	s.Seq = c.SndNxt + 1<<30
	c.SendSegment(s)
	b.Settle()
	require.Len(t, c.Segments, n+1, "outside of the window it means nothing")

	c.Send([]byte("still here"))
	require.Equal(t, "still here", string(b.readSome(host, 10)))
}

func TestT48SegmentWithoutAConnectionIsReset(t *testing.T) {
	b := newBench(t, setup{})
	b.Resolve()
	b.Deaf = true
	b.Frames()
	base := porttest.Segment{Src: netip.AddrPortFrom(b.IP, 1024), Dst: b.server, Seq: 1000, Ack: 5000, Window: 100}
	cases := map[string]struct {
		change   func(*porttest.Segment)
		seq, ack uint32
		flags    uint8
		silent   bool
	}{
		"ACK":     {change: func(s *porttest.Segment) { s.Flags = porttest.ACK }, seq: 5000, flags: 4},
		"data":    {change: func(s *porttest.Segment) { s.Flags, s.Payload = porttest.ACK|porttest.PSH, []byte("abc") }, seq: 5000, flags: 4},
		"SYN-ACK": {change: func(s *porttest.Segment) { s.Flags = porttest.SYN | porttest.ACK }, seq: 5000, flags: 4},
		"FIN":     {change: func(s *porttest.Segment) { s.Flags = porttest.FIN }, ack: 1001, flags: 4 | 16},
		"nothing": {change: func(s *porttest.Segment) { s.Flags, s.Payload = 0, []byte("abc") }, ack: 1003, flags: 4 | 16},
		"RST":     {change: func(s *porttest.Segment) { s.Flags = porttest.RST }, silent: true},
		"RST-ACK": {change: func(s *porttest.Segment) { s.Flags = porttest.RST | porttest.ACK }, silent: true},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := base
			c.change(&s)
			b.SendSegment(s)
			b.Settle()
			frames := b.Frames()
			if c.silent {
				require.Empty(t, frames, "never a reset for a reset")
				return
			}
			require.Len(t, frames, 1)
			r := frames[0].TCP
			require.Equal(t, header.TCPFlags(c.flags), r.Flags)
			require.Equal(t, c.seq, r.Seq)
			require.Equal(t, c.ack, r.Ack)
			require.Equal(t, s.Dst, r.Src)
			require.Equal(t, s.Src, r.Dst)
		})
	}
}

func TestT52SamePortsCanBeUsedAgainAtOnce(t *testing.T) {
	b := newBench(t, setup{})
	for i := range 50 {
		c, host := b.connect(porttest.TCPOptions{LocalPort: 2000, ISS: uint32(i+1) * 100_000})
		c.Send([]byte("x"))
		c.Close()
		r := b.readAll(host)
		require.NoError(t, r.err)
		require.Equal(t, "x", string(r.data))
		require.NoError(t, host.Close())
		b.Until("it is closed", func() bool { return c.FinReceived && c.FinAcked })
		b.Settle()
		c.Forget()
	}
	require.Zero(t, b.Sockets())
}

// A descriptor that is closed and used anew by another flow in the same turn must not get the events of the old one.
func TestT56EventsOfAnOldSocketReachNoNewFlow(t *testing.T) {
	b := newBench(t, setup{})
	for i := range 30 {
		port := uint16(3000 + i%2)
		c, host := b.connect(porttest.TCPOptions{LocalPort: port, ISS: uint32(i+1) * 100_000})
		_, err := host.Write([]byte("unread"))
		require.NoError(t, err)
		require.NoError(t, host.SetLinger(0))
		require.NoError(t, host.Close()) // the event is on its way,
		c.Forget()
		// while the guest begins another connection on the same ports, which ends the old one.
		d := b.Dial(b.server, porttest.TCPOptions{LocalPort: port, ISS: uint32(i+1)*100_000 + 50_000})
		b.Until("the new one is open", func() bool { return d.State != porttest.SynSent })
		require.Equal(t, porttest.Open, d.State)
		next, err := b.listen.AcceptTCP()
		require.NoError(t, err)
		_, err = next.Write([]byte("new"))
		require.NoError(t, err)
		d.WaitFor(3)
		require.Equal(t, "new", string(d.Received()))
		d.Reset()
		require.Error(t, b.readAll(next).err)
		require.NoError(t, next.Close())
	}
}
