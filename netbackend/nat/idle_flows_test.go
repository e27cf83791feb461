package nat_test

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat"
	"github.com/vringnet/vring/netbackend/nat/spec"
	"github.com/vringnet/vring/netbackend/porttest"
)

const (
	idleFlows = 6_000
	// What a flow may cost us, in bytes. What the kernel has of it is the kernel's.
	mostBytesTCP = 400
	mostBytesUDP = 250
	// farEnds is how many processes have the other ends, for each may have so many descriptors only.
	farEnds = 3
	// isFarEnd is set in the environment of a process that is such an end.
	isFarEnd = "VRING_TEST_FAR_END"
)

// farEnd accepts connections and receives datagrams, on one port of the loopback address that the environment names, and
// keeps them until its standard input ends.
func farEnd(t *testing.T, addr string) {
	l, err := net.Listen("tcp4", addr+":0")
	require.NoError(t, err)
	to := l.Addr().String()
	u, err := net.ListenPacket("udp4", to)
	require.NoError(t, err)
	fmt.Println("at", to)
	var kept []net.Conn
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			kept = append(kept, c) // what nobody holds is closed
		}
	}()
	go func() {
		for b := make([]byte, 100); ; {
			if _, _, err := u.ReadFrom(b); err != nil {
				return
			}
		}
	}()
	_, _ = os.Stdin.Read(make([]byte, 1))
}

// startFarEnds starts the processes with the other ends, and returns where they are.
func startFarEnds(t *testing.T) (ends []netip.AddrPort) {
	t.Helper()
	for i := range farEnds {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^"+t.Name()+"$")
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=127.0.0.%d", isFarEnd, i+2))
		in, err := cmd.StdinPipe()
		require.NoError(t, err)
		out, err := cmd.StdoutPipe()
		require.NoError(t, err)
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = in.Close()
			_ = cmd.Wait()
		})
		line, err := bufio.NewReader(out).ReadString('\n')
		require.NoError(t, err)
		ends = append(ends, netip.MustParseAddrPort(strings.TrimSpace(strings.TrimPrefix(line, "at "))))
	}
	return ends
}

// TestIdleFlowsCostLittle has so many flows that nobody uses, and one that is in use.
func TestIdleFlowsCostLittle(t *testing.T) {
	if addr := os.Getenv(isFarEnd); addr != "" {
		farEnd(t, addr)
		return
	}
	ends := startFarEnds(t)
	for name, c := range map[string]struct {
		most int64
		open func(b *bench, i int, to netip.AddrPort)
	}{
		"tcp": {mostBytesTCP, func(b *bench, i int, to netip.AddrPort) {
			b.Connect(to, porttest.TCPOptions{LocalPort: uint16(1024 + i)}).Forget()
		}},
		"udp": {mostBytesUDP, func(b *bench, i int, to netip.AddrPort) {
			b.SendDatagram(porttest.Datagram{
				Src: netip.AddrPortFrom(b.IP, uint16(1024+i)), Dst: to, Payload: []byte("hello"),
			})
			b.Turn()
		}},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, setup{config: func(c *nat.Config) {
				c.MaxFlows = 4*idleFlows + 4096 // of which associations may have a quarter
				for _, to := range ends {
					for _, proto := range []uint8{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
						c.AllowHost = append(c.AllowHost, spec.HostService{Proto: proto, Addr: to.Addr(), Port: to.Port()})
					}
				}
			}})
			busy, host := b.connect()
			alone := roundTrip(b, busy, host)
			before := liveHeap()
			for i := range idleFlows {
				c.open(b, i, ends[i%farEnds])
			}
			b.Settle()
			b.Frames()
			require.Equal(t, idleFlows+1, len(b.port.Snapshot(b.Now()).Flows))
			each := (liveHeap() - before) / idleFlows
			bound, among := 10*alone+time.Millisecond, roundTrip(b, busy, host)
			for begun := time.Now(); among >= bound && time.Since(begun) < time.Minute; { // the machine may be busy now and then
				among = min(among, roundTrip(b, busy, host))
			}
			t.Logf("%d bytes a flow; round trip alone %v, among %d idle flows %v", each, alone, idleFlows, among)
			require.LessOrEqual(t, each, c.most)
			require.Less(t, among, bound, "idle flows are not looked at")
		})
	}
}

// liveHeap returns the bytes in use.
func liveHeap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// roundTrip is the median time that a byte of the host takes to the guest and back.
func roundTrip(b *bench, c *porttest.TCP, host net.Conn) time.Duration {
	b.t.Helper()
	times := make([]time.Duration, 201)
	buf := make([]byte, 1)
	for i := range times {
		start := time.Now()
		_, err := host.Write(buf)
		require.NoError(b.t, err)
		c.WaitFor(1)
		c.Read()
		c.Send(buf)
		b.Turn()
		_, err = host.Read(buf)
		require.NoError(b.t, err)
		times[i] = time.Since(start)
	}
	slices.Sort(times)
	return times[len(times)/2]
}
