package integration

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/integration/lab/guest/proto"
	"github.com/vringnet/vring/integration/lab/userland"
	"github.com/vringnet/vring/internal/control/api"
)

// The guests of the flood test, as they stand in vring's status.
const (
	loudGuest  = "10.0.2.15"
	quietGuest = "10.0.2.16"
)

// Where ports and the like stand in an IPv4 frame without options.
const (
	sourcePortAt      = 34
	destinationPortAt = 36
	echoSequenceAt    = 40
)

// deluge is a frame that one guest sends as fast as it can, and the counters that tell that it was too much.
type deluge struct {
	name     string
	frame    []byte
	number   int      // offset of what changes from frame to frame
	counters []string // one of them is more afterwards: which limit is met first depends on how fast the machine is
}

func deluges(holePort, silentPort int) []deluge {
	router, dns, all := []byte{10, 0, 2, 2}, []byte{10, 0, 2, 3}, []byte{255, 255, 255, 255}
	guest, nobody := []byte{10, 0, 2, 15}, []byte{0, 0, 0, 0}
	query := []byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1} // for the root's name servers
	return []deluge{
		{"SYNs", ipv4Frame(unix.IPPROTO_TCP, guest, router, syn(holePort)), sourcePortAt, []string{"connects_evicted", "new_flows_over_rate"}},
		{"datagrams from many ports", ipv4Frame(unix.IPPROTO_UDP, guest, router, udp(1, silentPort, []byte("x"))), sourcePortAt, []string{"associations_evicted", "new_flows_over_rate"}},
		{"datagrams to many ports", ipv4Frame(unix.IPPROTO_UDP, guest, router, udp(9, 9, []byte("x"))), destinationPortAt, []string{"errors_over_budget"}},
		{"ARP", arpFrame(guest, router), 20, []string{"arp_over_budget"}}, // the operation changes: few are requests
		{"DHCP", ipv4Frame(unix.IPPROTO_UDP, nobody, all, udp(68, 67, discover())), 46, []string{"dhcp_over_budget"}},
		{"DNS", ipv4Frame(unix.IPPROTO_UDP, guest, dns, udp(1, 53, query)), sourcePortAt, []string{"queries_over_budget"}},
		{"pings", ipv4Frame(unix.IPPROTO_ICMP, guest, router, []byte{8, 0, 0, 0, 0, 1, 0, 0}), echoSequenceAt, []string{"echo_over_budget"}},
	}
}

// ethernetFrame returns a frame to everybody.
func ethernetFrame(kind uint16, payload []byte) []byte {
	header := []byte{255, 255, 255, 255, 255, 255, 0x52, 0x54, 0, 0x77, 0x77, 0x77, byte(kind >> 8), byte(kind)}
	return append(header, payload...)
}

// ipv4Frame returns a frame with an IPv4 packet. vring does not look at checksums: no wire can have damaged a frame.
func ipv4Frame(proto byte, src, dst, payload []byte) []byte {
	n := 20 + len(payload)
	header := []byte{0x45, 0, byte(n >> 8), byte(n), 0, 0, 0, 0, 64, proto, 0, 0}
	return ethernetFrame(0x0800, slices.Concat(header, src, dst, payload))
}

func arpFrame(src, dst []byte) []byte {
	head := []byte{0, 1, 8, 0, 6, 4, 0, 1, 0x52, 0x54, 0, 0x77, 0x77, 0x77}
	return ethernetFrame(0x0806, slices.Concat(head, src, make([]byte, 6), dst))
}

func udp(from, to int, payload []byte) []byte {
	n := 8 + len(payload)
	return append([]byte{byte(from >> 8), byte(from), byte(to >> 8), byte(to), byte(n >> 8), byte(n), 0, 0}, payload...)
}

func syn(to int) []byte {
	b := make([]byte, 20)
	b[2], b[3], b[12], b[13], b[14] = byte(to>>8), byte(to), 5<<4, 2, 64
	return b
}

// discover is a DHCPDISCOVER; its transaction may change.
func discover() []byte {
	b := make([]byte, 236, 244)
	b[0], b[1], b[2] = 1, 1, 6
	copy(b[28:], []byte{0x52, 0x54, 0, 0x77, 0x77, 0x77})
	return append(b, 99, 130, 83, 99, 53, 1, 1, 255)
}

// One guest floods vring with whatever is dear, while the other one connects to the host, again and again. All its
// connections succeed, and in time; the counters of the loud guest rise, and only its.
func TestAFloodOfOneGuestIsNotFeltByAnother(t *testing.T) {
	// On a quiet machine a flood is above all limits after its time, on a busy one after so many frames.
	const floodTime, floodFrames, connects = 1500 * time.Millisecond, 6000, 100
	hole, silent := fullPort(t), silentPort(t)
	echo := acceptAll(t, func(conn net.Conn) {
		_, _ = io.Copy(conn, conn)
		_ = conn.Close()
	})
	socket := filepath.Join(shortDir(t), "second.sock")
	loud := newLab(t, onUML(userland.Bookworm), "--socket-path", socket, "--dns", fmt.Sprintf("127.0.0.1:%d", silent),
		"--allow-host", fmt.Sprintf("tcp:%d", echo), "--allow-host", fmt.Sprintf("tcp:%d", hole),
		"--allow-host", fmt.Sprintf("udp:%d", silent))
	quiet := *loud
	quiet.guest = startGuest(quiet.ctx, t, onUML(userland.Bookworm), socket)
	require.Equal(t, quietGuest+"/24", quiet.boot().Address)

	quiet.connectsInTime("no flood", echo, connects)
	for _, d := range deluges(hole, silent) {
		before := loud.vring.counted(loudGuest, d.counters)
		flood := loud.guest.Start("flood", card, floodTime.Milliseconds(), hex.EncodeToString(d.frame), d.number, floodFrames)
		for !ended(flood) {
			quiet.connectsInTime(d.name, echo, connects)
		}
		var sent proto.Flood
		require.NoError(t, flood.Wait(loud.ctx, &sent))
		t.Logf("%s: %d frames", d.name, sent.Frames)
		require.GreaterOrEqual(t, sent.Frames, uint64(floodFrames))
		risen := func() bool { return loud.vring.counted(loudGuest, d.counters) > before } // counters are told a tenth of a second later
		require.True(t, assertEventually(risen), "the flood of %s was within bounds", d.name)
		require.Zero(t, quiet.vring.counted(quietGuest, d.counters), "the flood of %s was the other guest's", d.name)
	}

	require.Contains(t, loud.vring.Output(), "the guest sends more ARP than is answered")
	loud.requireNetwork()
	quiet.transferOut()
}

// inTime is far more than a connection takes beside a flood, on two busy processors, and no more than one takes whose SYN
// was lost.
const inTime = time.Second

// connectsInTime lets the guest connect to the echo server n times, and checks how long that takes.
func (l *lab) connectsInTime(beside string, port, n int) {
	l.t.Helper()
	var got proto.RoundTrips
	l.do(&got, "round-trips", viaGateway(port), n)
	require.Empty(l.t, got.Failed, "beside %s", beside)
	slices.Sort(got.Times)
	at := func(percent int) time.Duration { return got.Times[(len(got.Times)-1)*percent/100] }
	l.t.Logf("beside %s: %d connects, median %v, 99 %% below %v, longest %v", beside, n, at(50), at(99), at(100))
	require.Less(l.t, at(90), inTime, "beside %s", beside) // a busy machine may hold up a few
}

// counted is the sum of counters of a guest with one queue pair.
func (d *daemon) counted(guest string, names []string) (sum uint64) {
	d.t.Helper()
	var all []api.Counters
	require.NoError(d.t, json.Unmarshal([]byte(d.ctl("counters", guest, "--all", "-o", "json")), &all))
	require.Len(d.t, all, 1)
	for _, name := range names {
		n, found := all[0].Counters[name]
		require.True(d.t, found, "vring has no counter %q", name)
		sum += n
	}
	return sum
}

// fullPort returns a TCP port of the loopback that answers no SYN: its listener takes no more.
func fullPort(t *testing.T) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	port := bindLoopback(t, fd)
	require.NoError(t, unix.Listen(fd, 0))
	first, err := net.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", port))
	require.NoError(t, err)
	t.Cleanup(func() { _ = first.Close() })
	return port
}

// silentPort returns a UDP port of the loopback that takes datagrams and answers none.
func silentPort(t *testing.T) int {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return bindLoopback(t, fd)
}

func bindLoopback(t *testing.T, fd int) int {
	require.NoError(t, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	name, err := unix.Getsockname(fd)
	require.NoError(t, err)
	return name.(*unix.SockaddrInet4).Port
}
