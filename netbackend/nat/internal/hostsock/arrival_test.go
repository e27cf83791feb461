package hostsock

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/netbackend/nat/internal/ipaddr"
	"github.com/vringnet/vring/virtqueue/guestmem"
)

// Not every host answers pings with the traffic class with which they came, so this is shown on datagrams.
func TestAPacketTellsItsTimeToLiveAndItsTrafficClass(t *testing.T) {
	for _, loopback := range []string{"127.0.0.1", "::1"} {
		t.Run(loopback, func(t *testing.T) {
			conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(loopback)})
			require.NoError(t, err)
			defer conn.Close()
			peer, err := net.DialUDP("udp", nil, conn.LocalAddr().(*net.UDPAddr))
			require.NoError(t, err)
			defer peer.Close()
			raw, err := peer.SyscallConn()
			require.NoError(t, err)
			require.NoError(t, raw.Control(func(fd uintptr) {
				if loopback == "::1" {
					require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_TCLASS, 0xba))
					require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, 17))
					return
				}
				require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TOS, 0xba))
				require.NoError(t, unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, 17))
			}))
			raw, err = conn.SyscallConn()
			require.NoError(t, err)
			require.NoError(t, raw.Control(func(fd uintptr) {
				a := ipaddr.From(conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr())
				WantArrivals(&a, int(fd))
				_, err := peer.Write([]byte("x"))
				require.NoError(t, err)
				var m Message
				var b [10]byte
				n, _, errno := m.ReceiveArrival(int32(fd), []guestmem.Iovec{guestmem.PieceOf(b[:])})
				require.Zero(t, errno)
				require.Equal(t, 1, n)
				require.Equal(t, Arrival{HopLimit: 16, TrafficClass: 0xba}, m.Arrived)
				_, _, errno = m.ReceiveArrival(int32(fd), []guestmem.Iovec{guestmem.PieceOf(b[:])})
				require.Equal(t, unix.EAGAIN, errno)
				require.Zero(t, m.Arrived, "what is not there has come by no way")
			}))
		})
	}
}
