package nat_test

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

func TestAForwardToAnAddressThatTheGuestDoesNotHaveIsToldOnce(t *testing.T) {
	for to, want := range map[string]string{
		"10.0.2.15":           "no answer from the guest at the address that a forward leads to",
		"[fd00:10:0:2::15]":   "no answer from the guest at the address that a forward leads to; it has this one only if it asks for it by DHCPv6",
		"[fd00:10:0:2::abcd]": "no answer from the guest at the address that a forward leads to",
	} {
		t.Run(to, func(t *testing.T) {
			host := porttest.FreePort(t).String()
			b := newBench(t, setup{config: withForward(t, host+":"+to+":80")})
			b.Resolve()
			b.Deaf = true
			for range 2 {
				conn, err := net.Dial("tcp4", host)
				require.NoError(t, err)
				defer conn.Close()
			}
			b.Skip("the calls are given up", func() bool { return b.port.Counters().Timeouts == 2 })
			require.Len(t, b.Notices(), 1)
			require.Equal(t, want, b.Notices()[0].Message)
			require.Equal(t, "address", b.Notices()[0].Key)
		})
	}
}
