package main

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/vringnet/vring/internal/counting"
	"github.com/vringnet/vring/internal/daemon"
	"github.com/vringnet/vring/netbackend"
	"github.com/vringnet/vring/netbackend/nat"
)

func TestTheStatusIsAlignedText(t *testing.T) {
	ap := netip.MustParseAddrPort
	r := daemon.Report{
		Flows: []nat.FlowInfo{
			{
				Proto: unix.IPPROTO_TCP, Guest: ap("10.0.2.15:40000"), Host: ap("127.0.0.1:38412"), Target: ap("127.0.0.1:5201"),
				State: "open", FromGuest: 123456789, ToGuest: 42, Age: 61234 * time.Millisecond,
			},
			{
				Proto: unix.IPPROTO_UDP, Inbound: true, Guest: ap("10.0.2.15:53"), State: "associated", Age: time.Millisecond,
			},
		},
		Usage:    []nat.Usage{{Name: "flows", Used: 2, Most: 16384}, {Name: "sockets", Used: 1, Most: 960}},
		Counters: counting.NewValues([]string{"frames_in", "denied", "tcp_flows"}, []uint64{120, 0, 1}),
	}
	require.Equal(t, `guest 10.0.2.15: 2 flows
  PROTO  WAY  GUEST            HOST SOCKET      TARGET          STATE       FROM GUEST  TO GUEST  AGE
  tcp    out  10.0.2.15:40000  127.0.0.1:38412  127.0.0.1:5201  open        123456789   42        1m1s
  udp    in   10.0.2.15:53     -                -               associated  0           0         0s
  in use: 2 of 16384 flows, 1 of 960 sockets
    frames_in  120
    tcp_flows    1
`, formatReport("10.0.2.15", &r))
}

func TestOnlyCountersThatAreNotZeroAreLogged(t *testing.T) {
	require.Equal(t, []any{"tcp_out_of_order", uint64(1), "frames_in", uint64(7), "ended_by_guest", uint64(2)},
		nonZero(counting.All(nat.Counters{FramesIn: 7, TCPOutOfOrder: 1, Ends: nat.Ends{1: 2}})), "in the order of their groups")
}

func TestReceiveBuffersThatCouldCarryNothingAreShownByTheReason(t *testing.T) {
	r := daemon.Report{Counters: counting.ValuesOf(nat.Counters{}), Returned: netbackend.ReturnedBuffers{ReceiveBuffersOutsideMemory: 100}}
	require.Equal(t, []any{"receive_buffers_outside_memory", uint64(100)}, nonZero(r.All()))
	text := formatReport("a", &r)
	require.Regexp(t, `receive_buffers_outside_memory\s+100\n`, text)
	require.NotContains(t, text, "receive_buffers_empty", "those that are as they should be have no line")
}
