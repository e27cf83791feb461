package main

import (
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/vringnet/vring/netbackend/porttest"
)

// askSOCKS asks for a connection, and returns the reply.
func askSOCKS(t *testing.T, at, name string) byte {
	t.Helper()
	c, err := net.Dial("tcp4", at)
	require.NoError(t, err)
	defer c.Close()
	require.NoError(t, c.SetDeadline(time.Now().Add(time.Minute)))
	_, err = io.WriteString(c, "\x05\x01\x00\x05\x01\x00\x03"+string([]byte{byte(len(name))})+name+"\x00\x16")
	require.NoError(t, err)
	answer, err := io.ReadAll(c)
	require.NoError(t, err)
	require.Len(t, answer, 2+10)
	return answer[3]
}

// From within the sandbox.
func TestClientsOfSOCKSAreToldWhyThereIsNoConnection(t *testing.T) {
	at := porttest.FreePort(t).String()
	c := startControlled(t, "--socks", at)
	for name, want := range map[string]byte{
		"10.0.2.15": 3, "10.0.2.16": 3, "fd00:10:0:2::16": 3, // no front end
		"10.0.2.17": 4, // one of two guests may have it, and none has leased it
		"10.0.2.2":  2, "192.0.2.1": 2, "vm0": 4,
	} {
		require.Equal(t, want, askSOCKS(t, at, name), name)
	}
	status, _, stderr := c.ctl("policy", "replace", "--allow-host", "tcp:"+portOf(at))
	require.Equal(t, exitUsage, status)
	require.Contains(t, stderr, "would lead from each guest into all others")
}

func portOf(at string) string {
	_, port, _ := net.SplitHostPort(at)
	return port
}

func TestThePortOfSOCKSIsOneOfTheLoopbackUnlessItIsSaid(t *testing.T) {
	c, err := natCommand().read([]string{"--socket-path", "/tmp/a", "--socks", "1080"})
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddrPort("127.0.0.1:1080"), c.SOCKS)
}
