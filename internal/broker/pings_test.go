package broker

import (
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

func TestTheBrokerOpensPingSockets(t *testing.T) {
	inNamespace(t)
	const rangeOfGroups = "/proc/sys/net/ipv4/ping_group_range"
	c := startBroker(t, Duties{Pings: true})
	_, err := c.OpenPing(false)
	require.ErrorContains(t, err, "socket: permission denied", "a new namespace permits nobody")
	require.NoError(t, os.WriteFile(rangeOfGroups, []byte("0 0"), 0))
	for v6, want := range map[bool]int{false: unix.IPPROTO_ICMP, true: unix.IPPROTO_ICMPV6} {
		fd, err := c.OpenPing(v6)
		require.NoError(t, err)
		protocol, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
		require.NoError(t, err)
		require.Equal(t, want, protocol)
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		require.NoError(t, err)
		require.NotZero(t, flags&unix.O_NONBLOCK)
		require.NoError(t, unix.Close(fd))
	}

	other := startBroker(t, Duties{Read: "/etc/hostname"})
	_, err = other.OpenPing(false)
	require.ErrorIs(t, err, unix.EACCES)
	_, err = other.ask(request{Verb: verbPing})
	require.ErrorContains(t, err, "nothing like that was named at the start")
}

func TestPingSocketsAreOpenedAtABoundedRate(t *testing.T) {
	pace, now := newPingPace(), time.Now()
	require.True(t, pace.AllowN(now, pingBurst))
	require.False(t, pace.AllowN(now, 1))
	require.True(t, pace.AllowN(now.Add(time.Second), pingRate))
	require.False(t, pace.AllowN(now.Add(time.Second), 1))
}
