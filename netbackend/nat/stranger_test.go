package nat_test

import (
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

// newFilterBench is a bench with two sockets of the host that the guest may send to, for a kind of filtering.
func newFilterBench(t *testing.T, f nat.Filtering, more ...func(*nat.Config)) (b, other *udpBench) {
	second := porttest.FreePort(t)
	b = newUDPBench(t, setup{config: func(c *nat.Config) {
		c.UDPFiltering = f
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_UDP, Port: second.Port()})
		for _, change := range more {
			change(c)
		}
	}})
	host, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(second))
	require.NoError(t, err)
	t.Cleanup(func() { _ = host.Close() })
	return b, &udpBench{bench: b.bench, host: host}
}

// A TFTP server answers from a port of its own for each transfer (RFC 1350 section 4).
func TestATFTPServerAnswersFromAnotherPort(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	world.link("near", []string{"198.18.1.2/24"}, []string{"198.18.1.9/24"})
	file := noise(5*512 + 100)
	world.serveTFTP("198.18.1.9:69", file)
	for f, works := range map[nat.Filtering]bool{
		nat.AddressAndPortDependent: false, nat.AddressDependent: true, nat.EndpointIndependent: true,
	} {
		t.Run(f.String(), func(t *testing.T) {
			b := newBench(t, setup{config: func(c *nat.Config) { c.UDPFiltering = f }})
			b.Resolve()
			client := netip.AddrPortFrom(b.IP, 2000)
			send := func(to netip.AddrPort, message []byte) {
				b.SendDatagram(porttest.Datagram{Src: client, Dst: to, Payload: message})
			}
			send(at("198.18.1.9:69"), []byte("\x00\x01f.bin\x00octet\x00"))
			if !works {
				b.Run(time.Second)
				require.Empty(t, b.Datagrams())
				return
			}
			var got []byte
			b.Until("the file is there", func() bool {
				for _, d := range b.Datagrams() {
					require.NotEqualValues(t, 69, d.Src.Port())
					require.EqualValues(t, len(got)/512+1, binary.BigEndian.Uint16(d.Payload[2:]))
					got = append(got, d.Payload[4:]...)
					send(d.Src, append([]byte{0, 4}, d.Payload[2:4]...))
				}
				return len(got) == len(file)
			})
			requireSame(t, file, got)
			require.EqualValues(t, 1, b.port.Counters().StrangersIn)
			require.EqualValues(t, 2, b.port.Counters().UDPFlows)
			require.Equal(t, 1, b.Sockets())
		})
	}
}

// serveTFTP starts a server there that sends one file, whatever its name.
func (e *elsewhere) serveTFTP(addr string, file []byte) {
	listen := func(addr string) (conn *net.UDPConn) {
		e.do(func() {
			var err error
			conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(at(addr)))
			require.NoError(e.t, err)
		})
		e.t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	server := listen(addr)
	ports := []*net.UDPConn{listen("198.18.1.9:0"), listen("198.18.1.9:0"), listen("198.18.1.9:0")}
	go func() {
		buf := make([]byte, 1000)
		for _, conn := range ports {
			_, client, err := server.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			for block := 0; block*512 <= len(file); block++ {
				data := []byte{0, 3, 0, byte(block + 1)}
				data = append(data, file[block*512:min(len(file), block*512+512)]...)
				_, _ = conn.WriteToUDPAddrPort(data, client)
				_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
				if _, _, err := conn.ReadFromUDPAddrPort(buf); err != nil {
					break // a guest that cannot hear it
				}
			}
		}
	}()
}

func TestWhoMayAnswerIsAsTheFilteringSays(t *testing.T) {
	if inNamespace(t) {
		return
	}
	world := newElsewhere(t)
	world.link("near", []string{"198.18.1.2/24"}, []string{"198.18.1.9/24", "198.18.1.10/24"})
	asked := world.echo("198.18.1.9:9")
	sockets := map[string]*net.UDPConn{"the same port": nil, "another port": nil, "another host": nil}
	for name, addr := range map[string]string{"another port": "198.18.1.9:10", "another host": "198.18.1.10:9"} {
		world.do(func() {
			conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at(addr)))
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			sockets[name] = conn
		})
	}
	for f, want := range map[nat.Filtering][]string{
		nat.AddressAndPortDependent: nil,
		nat.AddressDependent:        {"another port"},
		nat.EndpointIndependent:     {"another port", "another host"},
	} {
		t.Run(f.String(), func(t *testing.T) {
			b := newBench(t, setup{config: func(c *nat.Config) { c.UDPFiltering, c.EndpointIndependent = f, true }})
			b.Resolve()
			c := newCaller(b, "198.18.1.9:9")
			c.call()
			var heard []string
			for _, name := range []string{"another port", "another host"} {
				_, err := sockets[name].WriteToUDPAddrPort([]byte(name), asked.last())
				require.NoError(t, err)
				b.Run(time.Second)
				for _, d := range b.Datagrams() {
					require.Equal(t, sockets[name].LocalAddr().String(), d.Src.String())
					heard = append(heard, string(d.Payload))
				}
			}
			require.Equal(t, want, heard)
			require.EqualValues(t, len(want), b.port.Counters().StrangersIn)
			require.EqualValues(t, 2-len(want), b.port.Counters().Strangers)
		})
	}
}

// Services of the host stay closed: what is not opened cannot begin to speak to the guest either.
func TestThePolicyIsAskedAboutStrangers(t *testing.T) {
	b, other := newFilterBench(t, nat.EndpointIndependent)
	b.hello()
	closed, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer closed.Close()
	_, err = closed.WriteToUDPAddrPort([]byte("closed"), b.from)
	require.NoError(t, err)
	b.Settle()
	require.Empty(t, b.Datagrams())
	require.EqualValues(t, 1, b.port.Counters().Strangers)

	_, err = other.host.WriteToUDPAddrPort([]byte("open"), b.from)
	require.NoError(t, err)
	other.guestGets([][]byte{[]byte("open")})

	d := b.datagram(3, 100)
	d.Dst = netip.AddrPortFrom(b.Gateway, addrPort(closed.LocalAddr()).Port())
	b.SendDatagram(d)
	require.EqualValues(t, 3, b.told().Code, "and the guest cannot answer it")
}

func TestStrangersAreBoundedAndTakeNoPlaceOfOthers(t *testing.T) {
	const flows = 64 // a quarter of them for each class
	var services []spec.HostService
	var sockets []*net.UDPConn
	for range 40 {
		conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		require.NoError(t, err)
		defer conn.Close()
		sockets = append(sockets, conn)
		services = append(services, spec.HostService{Proto: unix.IPPROTO_UDP, Port: addrPort(conn.LocalAddr()).Port()})
	}
	b, _ := newFilterBench(t, nat.EndpointIndependent, func(c *nat.Config) {
		c.MaxFlows = flows
		c.AllowHost = append(c.AllowHost, services...)
	})
	b.hello()
	for i, conn := range sockets {
		_, err := conn.WriteToUDPAddrPort([]byte("hello"), b.from)
		require.NoError(t, err)
		b.guestGets([][]byte{[]byte("hello")})
		require.LessOrEqual(t, len(b.port.Snapshot(b.Now()).Flows), 1+flows/4, "stranger %d", i)
	}
	c := b.port.Counters()
	require.EqualValues(t, 40-flows/4, c.StrangersEvicted)
	require.Zero(t, c.AssociationsEvicted)
	require.NotZero(t, c.StrangersIn)
	for i, conn := range sockets[40-flows/4:] { // whom the guest answers is a stranger no more
		d := b.datagram(i, 100)
		d.Dst = netip.AddrPortFrom(b.Gateway, addrPort(conn.LocalAddr()).Port())
		b.SendDatagram(d)
		b.Settle()
	}
	c = b.port.Counters()
	require.EqualValues(t, 1, c.AssociationsEvicted, "they take the places of associations, of which there was one")
	require.Len(t, b.port.Snapshot(b.Now()).Flows, flows/4)
}

// Strangers keep nothing alive: what the guest does not use ends by its silence.
func TestAStrangersFlowKeepsNoMapping(t *testing.T) {
	b, other := newFilterBench(t, nat.EndpointIndependent)
	before := b.Sockets()
	b.hello()
	say := func() {
		_, err := other.host.WriteToUDPAddrPort([]byte("hello"), b.from)
		require.NoError(t, err)
	}
	for i := range 17 {
		say()
		other.guestGets([][]byte{[]byte("hello")})
		b.Run(10 * time.Second)
		require.Equal(t, before+1, b.Sockets(), "after %d s", 10*(i+1))
	}
	require.Greater(t, b.port.Counters().StrangersIn, uint64(3), "it is judged again and again")
	b.Run(20 * time.Second)
	require.Equal(t, before, b.Sockets())
	b.Run(time.Minute)
	require.Empty(t, b.port.Snapshot(b.Now()).Flows)

	// A stranger that is answered is one no more, though nothing else is left of the mapping.
	b.hello()
	b.Run(170 * time.Second)
	say()
	other.guestGets([][]byte{[]byte("hello")})
	b.Run(20 * time.Second)
	require.Equal(t, before, b.Sockets(), "the mapping is gone, the stranger's flow not yet")
	d := b.datagram(7, 100)
	d.Dst = netip.AddrPortFrom(b.Gateway, addrPort(other.host.LocalAddr()).Port())
	b.SendDatagram(d)
	b.Settle()
	other.hostGets([][]byte{d.Payload})
	_, err := other.host.WriteToUDPAddrPort([]byte("answer"), other.from)
	require.NoError(t, err)
	other.guestGets([][]byte{[]byte("answer")})
	b.Run(100 * time.Second)
	require.Equal(t, before+1, b.Sockets())
}

// The queue pair that reads a mapping is not always the one that the guest answers by.
func TestStrangersAreLetInOnAllQueues(t *testing.T) {
	stranger, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	defer stranger.Close()
	port := addrPort(stranger.LocalAddr()).Port()
	p := newPeers(t, 4, 1, func(c *nat.Config) {
		c.UDPFiltering = nat.EndpointIndependent
		c.AllowHost = append(c.AllowHost, spec.HostService{Proto: unix.IPPROTO_UDP, Port: port})
	})
	ports := []uint16{3000, 3001, 3002, 3003}
	by := p.speak(ports...)
	buf := make([]byte, 100)
	for round := range 5 {
		for _, guest := range ports {
			_, err := stranger.WriteToUDPAddrPort(numbered(round, 50), by[guest])
			require.NoError(t, err)
			p.Until("the guest has it", func() bool {
				for _, d := range p.Datagrams() {
					require.Equal(t, guest, d.Dst.Port())
					p.SendDatagram(porttest.Datagram{Src: d.Dst, Dst: d.Src, Payload: d.Payload})
					return true
				}
				return false
			})
			var from netip.AddrPort
			p.Until("the stranger has the answer", func() bool {
				require.NoError(t, stranger.SetReadDeadline(time.Now().Add(time.Millisecond)))
				var err error
				_, from, err = stranger.ReadFromUDPAddrPort(buf)
				return err == nil
			})
			require.Equal(t, by[guest], from)
		}
	}
	require.NotZero(t, p.hopper.moved(), "the flows did hop")
}
