package nat_test

import (
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/hostcaps"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
	"github.com/vringnet/vring/virtqueue"
)

// meter counts the allocations that happen while the engine has its turn.
type meter struct {
	*nat.Port
	allocs, frames uint64
	before, after  runtime.MemStats
}

func (m *meter) Turn(now int64, tx []virtqueue.Chain, events []netbackend.Event, rx *netbackend.RXWriter) (int, int64) {
	sent := rx.Frames
	runtime.ReadMemStats(&m.before)
	done, next := m.Port.Turn(now, tx, events, rx)
	runtime.ReadMemStats(&m.after)
	m.allocs += m.after.Mallocs - m.before.Mallocs
	m.frames += uint64(done) + rx.Frames - sent
	return done, next
}

// The data paths allocate nothing once a flow exists. Other goroutines may, so one of several rounds without an
// allocation is the proof; an allocation per packet would show in all.
func TestDataPathsAllocateNothing(t *testing.T) {
	const size = 256 << 10
	for _, c := range []struct {
		name       string
		peekOffset bool
		loopback   string
	}{
		{"peek offset", hostcaps.HasPeekOffset(), "127.0.0.1:0"},
		{"no peek offset", false, "127.0.0.1:0"},
		{"IPv6", hostcaps.HasPeekOffset(), "[::1]:0"},
	} {
		t.Run(c.name, func(t *testing.T) {
			listener, err := net.Listen("tcp", c.loopback)
			require.NoError(t, err)
			defer listener.Close()
			datagrams, err := net.ListenPacket("udp", c.loopback)
			require.NoError(t, err)
			defer datagrams.Close()
			tcpPort, udpPort := addrPort(listener.Addr()).Port(), addrPort(datagrams.LocalAddr()).Port()

			cfg := nat.DefaultConfig()
			cfg.PeekOffset = c.peekOffset
			cfg.AllowHost = []spec.HostService{{Proto: unix.IPPROTO_TCP, Port: tcpPort}, {Proto: unix.IPPROTO_UDP, Port: udpPort}}
			engine, err := nat.New(cfg)
			require.NoError(t, err)
			m := &meter{Port: engine}
			g := porttest.New(t, m, porttest.Options{})
			from, gateway := cfg.Guest, cfg.Gateway
			if addrPort(listener.Addr()).Addr().Is6() {
				from, gateway = cfg.Guest6, cfg.Gateway6
			}
			c := g.Connect(netip.AddrPortFrom(gateway, tcpPort))
			host, err := listener.Accept()
			require.NoError(t, err)
			defer host.Close()

			data, buf := make([]byte, size), make([]byte, size)
			rounds := map[string]func(){
				"guest to host by TCP": func() {
					c.Send(data)
					got := 0
					g.Until("the host has all", func() bool {
						require.NoError(t, host.SetReadDeadline(time.Now().Add(time.Millisecond)))
						n, _ := host.Read(buf)
						got += n
						return got == size
					})
				},
				"host to guest by TCP": func() {
					_, err := host.Write(data)
					require.NoError(t, err)
					c.WaitFor(size)
					c.Read()
				},
				"guest to host and back in fragments": func() {
					d := porttest.Datagram{
						Src: netip.AddrPortFrom(from, 5000), Dst: netip.AddrPortFrom(gateway, udpPort),
						Payload: data[:20_000],
					}
					for _, fragment := range d.Cut(1, 1448) {
						g.SendFragment(fragment)
					}
					g.Turn()
					require.NoError(t, datagrams.SetReadDeadline(time.Now().Add(time.Minute)))
					n, from, err := datagrams.ReadFrom(buf)
					require.NoError(t, err)
					_, err = datagrams.WriteTo(buf[:n], from)
					require.NoError(t, err)
					g.Until("the guest has it", func() bool { return len(g.Datagrams()) == 1 })
				},
				"guest to host and back by UDP": func() {
					to := netip.AddrPortFrom(gateway, udpPort)
					for range 20 {
						g.SendDatagram(porttest.Datagram{Src: netip.AddrPortFrom(from, 5000), Dst: to, Payload: data[:1000]})
					}
					for range 20 {
						require.NoError(t, datagrams.SetReadDeadline(time.Now().Add(time.Minute)))
						g.Turn()
						n, from, err := datagrams.ReadFrom(buf)
						require.NoError(t, err)
						_, err = datagrams.WriteTo(buf[:n], from)
						require.NoError(t, err)
					}
					got := 0
					g.Until("the guest has all", func() bool { got += len(g.Datagrams()); return got == 20 })
				},
			}
			for name, round := range rounds {
				t.Run(name, func(t *testing.T) {
					round() // grows what grows once
					least := uint64(1 << 62)
					for i := 0; i < 5 && least > 0; i++ {
						m.allocs, m.frames = 0, 0
						round()
						least = min(least, m.allocs)
						require.Positive(t, m.frames)
					}
					require.Zero(t, least, "allocations in the turns of a round")
				})
			}
		})
	}
}
