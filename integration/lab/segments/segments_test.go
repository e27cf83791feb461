package segments

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARunComesBackWhole(t *testing.T) {
	server, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(t, err)
	const count, size = 40, 1200
	done := make(chan error, 1)
	go func() { done <- Answer(server, count, size) }()
	conn, err := net.DialUDP("udp4", nil, server.LocalAddr().(*net.UDPAddr))
	require.NoError(t, err)
	defer conn.Close()
	for number := range 3 {
		n, err := Ask(conn, Run{number, count, size})
		require.NoError(t, err)
		require.Equal(t, count, n)
	}
	require.NoError(t, server.Close())
	require.NoError(t, <-done)
}

func TestADatagramThatIsNotAsItWasSentIsNotCounted(t *testing.T) {
	run := Run{Number: 7, Count: 3, Size: 100}
	for name, change := range map[string]func(b []byte) []byte{
		"of another run": func(b []byte) []byte { b[3]++; return b },
		"beyond the run": func(b []byte) []byte { b[7] = 3; return b },
		"changed":        func(b []byte) []byte { b[99]++; return b },
		"cut":            func(b []byte) []byte { return b[:99] },
	} {
		came := make(collected)
		came.add(run, run.payload()[100:200])
		require.Len(t, came, 1)
		came.add(run, change(run.payload()[200:300]))
		require.Len(t, came, 1, name)
	}
}
